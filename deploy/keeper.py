"""A service's keeper: a small process that starts it, listens to it, and starts it again.

It stands for systemd where there is none: the service finds NOTIFY_SOCKET, is ended when it
gives no sign of life in its time, and its messages go to a log of limited size. A keeper that
was killed is followed by one that finds the service running and keeps it, so nothing is lost.
Between two lives of the service the keeper makes way for that of the version in use.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from deploy.hearing import Ear
from deploy.kept import Active, Condition, Kept, now
from deploy.life import Life, launch, true_command
from deploy.units import Supervised

READY = "ready"  # the answer to who waits for the start; any other says what is wrong

_FIRST, _LONGEST = 1.0, 30.0  # seconds until the next start; doubled each time
_STEADY = 60.0  # seconds of life after which the next pause is the first one again
_TURN = 10.0  # seconds between two looks at the log's size, and at the watchdog
_GLANCE = 0.2  # seconds between two looks where something is awaited
_TRIAL = 60.0  # seconds for the new version to show that it can be loaded


class Keeper:
    """``lock`` is held; ``tell`` is a descriptor for whoever waits for the start, or None.

    ``again`` are the arguments of Python that make a process such a keeper.
    """

    def __init__(self, kept: Kept, lock: int, tell: int | None, again: Sequence[str]) -> None:
        self._kept, self._lock, self._tell, self._again = kept, lock, tell, again
        self._stopping = False
        self._wake = _catch_signals()
        self._ear = Ear()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)

    def keep(self) -> None:
        """Until it is told to end. Raises Refused where there is nothing to keep."""
        self._kept.sign(self._lock)
        pause = _FIRST
        found = self._kept.child()
        life = Life(found) if found is not None else None
        while not self._stopping:
            config = self._kept.config()
            began = time.monotonic()
            try:
                life = life or self._start(config)
                self._watch(life, config)
            except OSError as e:
                self._failed(f"cannot be started: {e}")
            life = None
            if time.monotonic() - began > _STEADY:
                pause = _FIRST
            self._pass(pause)
            pause = min(2 * pause, _LONGEST)
            self._make_way(config)
        self._is("inactive")

    # --- one life

    def _start(self, config: Supervised) -> Life:
        """Raises OSError."""
        self._kept.trim()
        self._ear.forget()
        life = launch(config, self._kept.log, self._ear.address)
        self._is("activating", life)
        return life

    def _watch(self, life: Life, config: Supervised) -> None:
        """Until its end."""
        ready = life.adopted
        if ready:
            self._ready(life)
        start = heard = time.monotonic()
        patience, kill_by = config.start_seconds, 0.0
        turn = min(_TURN, (config.watchdog_seconds or _TURN) / 2)
        while not (how := life.ended()):
            hurry = life.adopted or not ready or kill_by
            words = self._hear(life, _GLANCE if hurry else turn)
            at = time.monotonic()
            if words.get("EXTEND_TIMEOUT_USEC", "").isdigit():
                patience = at - start + int(words["EXTEND_TIMEOUT_USEC"]) / 1e6
            if words.get("WATCHDOG") == "1":
                heard = at
            if words.get("READY") == "1" and not ready:
                ready, heard = True, at
                self._ready(life)
            if kill_by:
                if at > kill_by:
                    life.send(signal.SIGKILL)
            elif self._stopping:
                kill_by = at + config.stop_seconds
                life.send(signal.SIGTERM)
            elif wrong := _silence(
                life, config, ready=ready, quiet=at - heard, late=at - start - patience
            ):
                kill_by = at + config.stop_seconds
                self._note(wrong)
                life.send(signal.SIGABRT if ready else signal.SIGTERM)
        if not self._stopping:
            self._failed(how if ready else f"{how} before it was ready")

    def _hear(self, life: Life, seconds: float) -> dict[str, str]:
        """What the service said, at once or within ``seconds``."""
        self._select(seconds)
        self._kept.trim()
        words = self._ear.words(life.process.pid)
        if "STATUS" in words:
            self._is(self._kept.condition().active, life, words["STATUS"])
        return words

    def _select(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            if key.fd == self._wake:
                numbers = os.read(self._wake, 4096)
                self._stopping |= signal.SIGTERM in numbers or signal.SIGINT in numbers

    def _pass(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            self._select(left)
            self._ear.forget()

    def _make_way(self, config: Supervised) -> None:
        """Becomes the keeper of the version in use, where that is another and can be loaded."""
        folder = os.path.dirname(config.argv[0])
        python = true_command((f"{folder}/python",))[0]
        same = os.path.dirname(python) == os.path.dirname(sys.executable)
        if self._stopping or same or not os.path.exists(python):
            return
        try:
            trial = [python, "-I", "-c", "import deploy.supervise"]
            subprocess.run(trial, check=True, capture_output=True, timeout=_TRIAL)
        except (OSError, subprocess.SubprocessError):
            return
        more = ["--lock", str(self._lock)]
        os.set_inheritable(self._lock, True)
        if self._tell is not None:
            more += ["--tell", str(self._tell)]
            os.set_inheritable(self._tell, True)
        os.execv(python, [python, *self._again, *more])

    # --- telling

    def _ready(self, life: Life) -> None:
        self._is("active", life, self._kept.condition().said)
        self._answer(READY)

    def _failed(self, how: str) -> None:
        self._note(how)
        self._is("failed", None, how)
        self._answer(how)

    def _is(self, active: Active, life: Life | None = None, said: str = "") -> None:
        before = self._kept.condition()
        child = life.process.pid if life is not None else 0
        same = before.active == active and before.child == child
        self._kept.write(
            Condition(
                active=active,
                since=before.since if same else now(),
                child=child,
                born=life.process.create_time() if life is not None else 0.0,
                said=said,
            )
        )

    def _note(self, text: str) -> None:
        with contextlib.suppress(OSError), self._kept.log.open("a") as log:
            log.write(f"{now()} keeper of {self._kept.name}: it {text}\n")

    def _answer(self, text: str) -> None:
        if self._tell is not None:
            with contextlib.suppress(BrokenPipeError):  # nobody waits any more
                os.write(self._tell, text.encode())
            os.close(self._tell)
            self._tell = None


def _silence(life: Life, config: Supervised, *, ready: bool, quiet: float, late: float) -> str:
    """Why a service that says nothing has to be ended, or ""."""
    if not ready:
        return "was not ready in time: ended" if late > 0 else ""
    limit = config.watchdog_seconds
    if limit is None or life.adopted or quiet <= limit:
        return ""
    return f"gave no sign of life for {limit:.0f} s: ended"


def _catch_signals() -> int:
    """A descriptor that each signal writes its number to. A login's end is none of our business."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return reading
