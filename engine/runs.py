"""The agent's side of the engine: begin, stop and follow runs.

All that is known about a run is read from its directory; what the runner says
over the socket only makes somebody look sooner. So an agent may die at any
moment: the next one makes an ``Engine`` on the same state and goes on.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from engine import address
from engine.backoff import Backoff
from engine.contract import Containment, Exit, Stage
from engine.errors import EngineError, NoRunner
from engine.link import Link, find, reach
from engine.rundir import RunDir
from engine.version import installed

ANSWER_SECONDS = 30.0  # for the runner's answer to begin
LOOK_SECONDS = 1.0  # a waiter looks at the files at least this often
SETTLE_SECONDS = 15.0  # for a runner to end what is left of a lost run, and to write its exit
LEAVE_SECONDS = 5.0  # for an idle runner that was dismissed, to be gone
# Seconds between two tries to have a runner of another version leave: one that was started in
# its place may be of another version still, if an upgrade was not finished.
RENEW = (1.0, 300.0)

Keeper = Literal["own", "unit"]
"""own: the runner is started when it is needed, and dismissed. unit: somebody else keeps it,
such as a unit of systemd, and starts it again whenever it ends."""


class Engine:
    """The runs of one state directory. All methods may be called from any thread.

    ``containment`` forces what a runner started by us uses; None is the best there is.
    """

    def __init__(
        self,
        state: Path,
        *,
        containment: Containment | None = None,
        keeper: Keeper = "own",
    ) -> None:
        self.keeper = keeper
        self._version = installed()
        self._state = state.absolute()
        self._runs = self._state / address.RUNS
        self._containment = containment
        self._link: Link | None = None
        self._linking = threading.Lock()
        self._news = threading.Condition()
        self._answers: dict[str, str | None] = {}  # to begin: why it was refused, or None
        self._woken: set[str] = set()
        self._lost_since: dict[str, float] = {}  # monotonic; runs without an exit
        self._replaced = False
        self._runner_version: str | None = None  # what it has told; None: nothing so far
        self._runner_ends = False  # it was told to: nothing is begun any more
        self._beginnings = 0  # that wait for the runner's answer
        self._renewing = False
        self._renew_at = 0.0  # monotonic
        self._renewals = Backoff(*RENEW, str(self._state))

    def connect(self) -> None:
        """Be connected to the state's runner; start one if none lives and that is for us to do.

        Called again by the other methods whenever the connection is gone. Raises
        EngineError; NoRunner if it is for somebody else to start one.
        """
        with self._linking:
            if self._link is not None and self._link.up:
                return
            if self._replaced:
                raise EngineError(f"another agent has taken over the runner of {self._state}")
            if self._link is not None:
                self._link.close()
                self._link = None
            try:
                self._runs.mkdir(exist_ok=True)
            except OSError as e:
                raise EngineError(f"the state directory {self._state} cannot be used: {e}") from e
            if self.keeper == "unit":
                sock = find(self._state)
            else:
                sock = reach(self._state, self._containment)
            self._runner_version, self._runner_ends = None, False
            self._link = Link(sock, self._heard, self._notify)

    def begin(self, key: str) -> None:
        """Start the run that lies in ``key``'s directory, or end it if a stop is wanted.

        An attempt is never started twice: if it was begun before, by whomever,
        nothing happens. Raises EngineError; then it was not begun, or will be
        found lost. NoRunner: it can be begun as soon as a runner is there.
        """
        run = self._directory(key)
        if run.was_begun():
            return
        self.renew()
        with self._beginning(key):
            self._begin(key, run)

    def _begin(self, key: str, run: RunDir) -> None:
        for _ in range(2):  # the second time, with a new runner in place of one that died
            self._send("begin", key)
            if self._answered(key):
                why = self._answers.pop(key)
                if why == address.ENDING:
                    raise NoRunner(why)
                if why is not None:
                    raise EngineError(f"the runner refused to begin: {why}")
                return
            if run.was_begun():
                return
        raise EngineError(f"run {key}: the runner of {self._state} does not answer; see its log")

    @contextlib.contextmanager
    def _beginning(self, key: str) -> Iterator[None]:
        """While this lasts no runner is asked to leave."""
        with self._news:
            self._news.wait_for(lambda: not self._renewing, ANSWER_SECONDS)
            self._beginnings += 1
            self._answers.pop(key, None)
        try:
            yield
        finally:
            with self._news:
                self._beginnings -= 1

    def lacking(self) -> str:
        """Why nothing can be begun at present; "" if it can, or a runner is started for it."""
        try:
            if self.keeper == "unit":
                self.connect()
            self.renew()
        except EngineError as e:
            return str(e)
        link = self._link
        return address.ENDING if self._runner_ends and link is not None and link.up else ""

    def renew(self) -> None:
        """Have the runner leave if it is of another version than we are, and nothing runs.

        What runs goes on in it, and what is begun meanwhile as well: the contract is the
        same. Raises EngineError if the next one could not be started.
        """
        with self._news:
            same = self._runner_version in (None, self._version)
            if same or self._renewing or self._beginnings or time.monotonic() < self._renew_at:
                return
            self._renewing = True  # from here on nothing is begun
        try:
            # A run that the runner is just done with does not keep it either: it leaves then.
            if any(self.stage(key) == "running" for key in self.keys()):
                return
            self._renew_at = time.monotonic() + self._renewals.next()
            self.close(stop_runner_if_idle=True)
            if self.keeper == "own":
                self.connect()
        finally:
            with self._news:
                self._renewing = False
                self._news.notify_all()

    def stop(self, key: str, reason: str) -> None:
        """Have the run end as ``stopped``: at once, or before it starts.

        The marker that it leaves holds even if no runner can be told now, which
        raises EngineError.
        """
        run = self._directory(key)
        try:
            run.want_stop(reason)
        except OSError as e:
            raise EngineError(f"run {key}: the stop marker could not be written: {e}") from e
        self._send("stop", key)

    def stage(self, key: str) -> Stage | None:
        """Where the run stands; None if it has no directory."""
        return RunDir(self._runs / key).stage()

    def exit(self, key: str) -> Exit | None:
        """How the run ended, None before. Raises EngineError if that cannot be read."""
        run = RunDir(self._runs / key)
        try:
            return run.read_exit()
        except msgspec.MsgspecError as e:
            # A power cut tore it: it will never say more. The run died with the machine.
            return Exit(ending="lost", reason=f"its exit.json is damaged: {e}")
        except OSError as e:
            raise EngineError(f"run {key}: exit.json cannot be read: {e}") from e

    def keys(self) -> list[str]:
        """The runs that have a directory."""
        try:
            return sorted(entry.name for entry in self._runs.iterdir() if entry.is_dir())
        except FileNotFoundError:
            return []

    def wait(self, key: str, timeout: float) -> bool:
        """Wait until the run has ended or is lost (True), ``timeout`` seconds, or ``wake``.

        One that is lost is waited for until the runner has ended what was left of it
        and written so; if that does not happen, it is lost without an exit.
        """
        run = RunDir(self._runs / key)
        deadline = time.monotonic() + timeout
        while not self._is_over(run):
            self._mend()
            with self._news:
                # has_ended under the lock: news cannot slip in between looking and waiting.
                left = deadline - time.monotonic()
                if key in self._woken or left <= 0 or run.has_ended():
                    break
                self._news.wait(min(left, LOOK_SECONDS))
        with self._news:
            self._woken.discard(key)
        return self._is_over(run)

    def wake(self, key: str) -> None:
        """Make a ``wait`` for ``key`` return: the one that goes on, or else the next."""
        with self._news:
            self._woken.add(key)
            self._news.notify_all()

    def forget(self, key: str) -> None:
        """The run is nobody's any more: keep nothing of it in memory."""
        with self._news:
            self._woken.discard(key)
            self._answers.pop(key, None)
            self._lost_since.pop(key, None)

    def close(self, *, stop_runner_if_idle: bool) -> None:
        """Say goodbye. Runs go on; an idle runner leaves at once if ``stop_runner_if_idle``."""
        with self._linking:
            if self._link is None:
                return
            if stop_runner_if_idle:
                self._link.send("bye", "stop")
            else:
                self._link.send("bye")
            self._link.close(LEAVE_SECONDS)
            self._link = None

    # --- the connection ------------------------------------------------------------

    def _directory(self, key: str) -> RunDir:
        run = RunDir(self._runs / key)
        if not address.is_key(key) or not run.path.is_dir():
            raise EngineError(f"{key!r}: no run directory {run.path}")
        return run

    def _send(self, *words: str) -> None:
        """Raises EngineError."""
        for _ in range(2):
            self.connect()
            link = self._link
            if link is not None and link.send(*words):
                return
            self._wait_down(link)
        raise EngineError(f"the runner of {self._state} ends as soon as it is reached")

    def _wait_down(self, link: Link | None) -> None:
        """Until the listening thread has seen that ``link`` is gone."""
        with self._news:
            self._news.wait_for(lambda: link is None or not link.up, ANSWER_SECONDS)

    def _answered(self, key: str) -> bool:
        """Wait for the answer to begin; False if the connection broke before."""
        with self._news:
            link = self._link
            self._news.wait_for(
                lambda: key in self._answers or link is None or not link.up, ANSWER_SECONDS
            )
            return key in self._answers

    def _is_over(self, run: RunDir) -> bool:
        stage = run.stage()
        if stage == "lost":
            now = time.monotonic()
            return now > self._lost_since.setdefault(run.key, now) + SETTLE_SECONDS
        self._lost_since.pop(run.key, None)
        return stage == "ended"

    def _mend(self) -> None:
        """Reconnect if the runner died: its successor settles the runs that died with it."""
        link = self._link
        if link is not None and not link.up and not self._replaced:
            with contextlib.suppress(EngineError):  # the files go on telling the truth
                self.connect()

    def _heard(self, line: str) -> None:
        """In the listening thread: one line from the runner."""
        verb, _, rest = line.partition(" ")
        key, _, why = rest.partition(" ")
        with self._news:
            if verb == "hello":
                self._runner_version = rest  # "" of one that does not tell
            elif verb == "ending":
                self._runner_ends = True
            elif verb == "begun":
                self._answers[key] = None
            elif verb == "refused":
                self._answers[key] = why
            elif verb == "replaced":
                self._replaced = True
            self._news.notify_all()

    def _notify(self) -> None:
        with self._news:
            self._news.notify_all()
