"""The connections of one worker to its primary, and the watch over them.

A link is one SSH connection with one SFTP session, and belongs to one thread at
a time: nothing waits behind a gigabyte, since large transfers have links of
their own, and beats and claims have theirs. Every wait for the primary has an
end: the warden, a thread, shuts the connection of a link on which nothing moved
for ``patience`` seconds. It does so from outside, because paramiko's own
time-outs leave waits of a quarter of an hour and more.

After a dial that failed the next one has to wait: a pause that doubles, with
jitter, so that a hundred workers do not all come back in the same second.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from copy import copy
from typing import Literal

from spool.dial import Connection
from spool.errors import SpoolError, Unreachable
from spool.line import start
from spool.wire import Broken, Wire

# Links at most. Logs that flood a slow line must not hold up beats and claims, nor wait
# behind transfers.
Kind = Literal["short", "log", "transfer"]
ROOM: dict[Kind, int] = {"short": 4, "log": 2, "transfer": 4}
IDLE = 60.0  # seconds after which a link that nobody needs is closed; the last one stays
BACK_OFF = (0.5, 30.0)  # seconds: first and longest pause after a dial that failed
LOOK = 0.5  # seconds between the warden's looks
LOOK_THERE = "the log of its sshd says why (a chroot's parents must be root's alone)"


class Link:
    """One connection and its SFTP session. ``wire`` raises Broken when it ends."""

    def __init__(self, connection: Connection, patience: float) -> None:
        self._connection = connection
        self._patience = patience
        self.until: float | None = None  # when it is shut, if nothing moves before
        self.why = ""
        self.idle_since = 0.0

    def open(self) -> None:
        self.wire = Wire(self._connection.channel(), self.moved)

    def moved(self) -> None:
        """Something came or went: the wait begins anew."""
        self.until = time.monotonic() + self._patience

    def rest(self) -> None:
        """Nothing is awaited."""
        self.until = None
        self.idle_since = time.monotonic()

    def shut(self, why: str) -> None:
        """From any thread: whatever waits on it fails at once."""
        self.why = self.why or why
        self._connection.shut()

    @property
    def alive(self) -> bool:
        return not self.why and self._connection.alive


class Links:
    """A pool of links to one primary; ``dial`` makes a connection. Thread-safe."""

    def __init__(self, dial: Callable[[], Connection], name: str, patience: float) -> None:
        self._dial = dial
        self._name = name
        self._patience = patience
        self._room = {kind: threading.Semaphore(room) for kind, room in ROOM.items()}
        self._lock = threading.Lock()  # of what follows
        self._idle: list[Link] = []
        self._used: set[Link] = set()
        self._warden: threading.Thread | None = None
        self._dialing = threading.Lock()
        self._pause = BACK_OFF[0]
        self._not_before = self._failed_at = 0.0
        self._last: SpoolError | None = None
        self._closed = threading.Event()

    @contextlib.contextmanager
    def link(self, what: str, kind: Kind = "short") -> Iterator[Wire]:
        """A session for one verb. ``what`` it is about, for the error.

        Raises Unreachable if there is none, or if it breaks; Refused if the primary
        does not let us in. A transfer waits for its turn behind others, anything
        else ``patience`` seconds at most.
        """
        self._wait_for_room(what, kind)
        try:
            link = self._take()
            try:
                yield link.wire
            except Broken as e:
                link.shut(str(e))
                # Not of ``what``: it is the same for every verb that was on its way.
                raise Unreachable(f"the connection to {self._name} broke: {link.why}") from e
            finally:
                self._give_back(link)
        finally:
            self._room[kind].release()

    def close(self) -> None:
        """Shut everything down: every wait ends at once, and so does every verb from now on."""
        self._closed.set()
        with self._lock:
            links = [*self._idle, *self._used]
        for link in links:
            link.shut("closed")
        if self._warden is not None and self._warden is not threading.current_thread():
            self._warden.join()

    # --- inside --------------------------------------------------------------------

    def _wait_for_room(self, what: str, kind: Kind) -> None:
        while not self._room[kind].acquire(timeout=self._patience):
            if kind != "transfer" or self._closed.is_set():
                raise Unreachable(f"{what}: all connections to {self._name} are busy")

    def _take(self) -> Link:
        while True:
            with self._lock:
                link = self._idle.pop() if self._idle else None
                if link is not None and link.alive:
                    link.moved()
                    self._used.add(link)
                    return link
            if link is None:
                return self._new()
            link.shut("it had ended")

    def _new(self) -> Link:
        """One dial at a time: whoever waits behind one that fails need not try again."""
        asked = time.monotonic()
        if not self._dialing.acquire(timeout=self._patience):
            raise Unreachable(f"no connection to {self._name} within {self._patience:.0f} s")
        try:
            now = time.monotonic()
            if self._closed.is_set():
                raise Unreachable(f"the connection to {self._name} was closed")
            if self._last is not None and (now < self._not_before or asked < self._failed_at):
                raise copy(self._last)
            return self._dialed()
        finally:
            self._dialing.release()

    def _dialed(self) -> Link:
        try:
            link = Link(self._dial(), self._patience)
            try:
                self._watch(link)
                link.open()
            except BaseException as e:
                link.shut(str(e))
                self._give_back(link)
                raise
        except Broken as e:
            said = f"{self._name}: {e} before SFTP began; if it does so every time, {LOOK_THERE}"
            raise self._failed(Unreachable(said)) from e
        except SpoolError as e:
            self._failed(e)
            raise
        self._pause, self._last = BACK_OFF[0], None
        return link

    def _failed(self, error: SpoolError) -> SpoolError:
        self._failed_at = time.monotonic()
        self._not_before = self._failed_at + random.uniform(0.5, 1.0) * self._pause
        self._pause = min(2 * self._pause, BACK_OFF[1])
        self._last = error
        return error

    def _watch(self, link: Link) -> None:
        link.moved()
        with self._lock:
            self._used.add(link)
            if self._warden is None:
                warden = threading.Thread(target=self._guard, name="warden", daemon=True)
                start(warden)  # if it cannot be, this link is none: nothing would end its waits
                self._warden = warden
        if self._closed.is_set():
            link.shut("closed")

    def _give_back(self, link: Link) -> None:
        link.rest()
        with self._lock:
            self._used.discard(link)
            if link.alive and not self._closed.is_set():
                self._idle.append(link)
                return
        link.shut("it had ended")

    def _guard(self) -> None:
        while not self._closed.wait(LOOK):
            now = time.monotonic()
            with self._lock:
                stuck = [link for link in self._used if link.until and link.until < now]
                # The one used last lies last, and stays.
                old = [link for link in self._idle[:-1] if now - link.idle_since > IDLE]
                if stuck:
                    # Nor would these answer: else the next verb would wait as long again,
                    # and the one after it, a link each.
                    silent = min(link.until or now for link in stuck) - self._patience
                    old += [link for link in self._idle if link.idle_since <= silent]
                self._idle = [link for link in self._idle if link not in old]
            for link in stuck:
                link.shut(f"no answer for {self._patience:.0f} s")
            for link in old:
                link.shut("idle")
