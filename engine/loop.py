"""The runner's loop: orders from the agent, runs for the inits, news back.

One thread. It takes lines from its agent on a Unix socket in the state
directory, hands each run to an init (forked ahead of time, so that nobody waits
for forks), and tells the agent what became of it.

Lines from the agent: ``begin KEY``, ``stop KEY``, ``bye``, ``bye stop``.
Lines to the agent: ``hello VERSION``, ``begun KEY``, ``refused KEY WHY``, ``started KEY``,
``ended KEY``, ``replaced``, ``ending`` (after TERM). All but the answers to ``begin`` are
hints: what has happened to a run stands in its directory before a line about it is sent.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine import init, procs, sandbox
from engine.address import ENDING, RUNS, SOCKET, Lines, is_key
from engine.contract import Exit
from engine.inits import Init, fork_init
from engine.lost import write_lost
from engine.rundir import RunDir
from engine.sandbox import Sandbox
from engine.unpacking import Unpack
from spool import notify

LINGER = 10.0  # seconds that a runner with no agent and no runs stays
PAUSE = 0.1  # seconds after a mistake of ours, so that a lasting one does not spin
SPARES = 4  # inits that are kept waiting after their runs have ended
REFILL_DELAY = 0.02  # seconds; forking the next init at once would slow the run just begun
ORPHAN_SECONDS = 5.0  # for what a dead init of a process tree left to us, to die of KILL


class Runner:
    """The loop. ``stay``: it does not leave when idle."""

    def __init__(
        self,
        state: Path,
        listener: socket.socket,
        box: Sandbox,
        unpack: Unpack,
        home: str,
        stay: bool,
        version: str = "",
    ) -> None:
        self._runs_dir, self._socket_file = state / RUNS, state / SOCKET
        self._listener, self._box, self._unpack = listener, box, unpack
        self._home, self._stay, self._version = home, stay, version
        self._me = procs.identity(box.containment)
        self._selector = selectors.DefaultSelector()
        self._wake = _catch_signals()
        self._selector.register(listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._wake, selectors.EVENT_READ, self._signalled)
        self._agent: Lines | None = None
        self._inits: dict[int, Init] = {}  # by pid: those with a run, and the spare ones
        self._runs: dict[str, Init] = {}
        self._spares: list[Init] = []
        self._refill_at = 0.0
        self._idle_since = time.monotonic()
        self._dismissed = False  # the agent needs no runner any more
        self._ending = False  # SIGTERM

    def loop(self) -> None:
        """Serve until there is nothing to stay for."""
        sandbox.adopt_orphans()
        while (wait := self._patience()) > 0:
            for key, _ in self._selector.select(wait):
                # One that was closed earlier in this round is not asked, even if its
                # number is another's by now.
                if self._selector.get_map().get(key.fd) is key:
                    self._guarded(key.data)
            if not self._spares and not self._ending and time.monotonic() >= self._refill_at:
                self._refill()
        # No new agent may come in now: it finds no socket, and starts the next runner.
        self._socket_file.unlink(missing_ok=True)

    def _guarded(self, step: Callable[[], None]) -> None:
        """A mistake of ours about one run must not end the others, which die with us."""
        try:
            step()
        except Exception:  # noqa: BLE001  said in our log
            traceback.print_exc()
            sys.stderr.flush()
            time.sleep(PAUSE)

    def _patience(self) -> float:
        """Seconds to wait for something to happen; 0 when it is time to leave."""
        now = time.monotonic()
        if not self._runs and (self._ending or self._dismissed):
            return 0.0
        if self._runs or self._agent is not None:
            self._idle_since = now
        waits = [3600.0]
        if not self._stay:
            waits.append(self._idle_since + LINGER - now)
        if not self._spares and not self._ending:
            waits.append(max(self._refill_at - now, 0.0005))
        return max(min(waits), 0.0)

    # --- the agent -----------------------------------------------------------------

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:  # gone again
            return
        sock.setblocking(False)
        if self._agent is not None:  # the newest wins: the older is a dead agent's, or should be
            self._tell("replaced")
            self._drop_agent()
        self._agent, self._dismissed = Lines(sock), False
        self._selector.register(sock, selectors.EVENT_READ, self._read_agent)
        self._tell("hello", self._version)
        if self._ending:
            self._tell("ending")
        for one in self._runs.values():
            # Its marker may have been written by an agent that died before it said so.
            if one.run is not None and one.run.stop_reason() is not None:
                one.stop()

    def _read_agent(self) -> None:
        if self._agent is None:
            return
        lines = self._agent.read()
        if lines is None:
            self._drop_agent()
        for line in lines or ():
            verb, _, rest = line.partition(" ")
            if verb == "bye":
                self._dismissed = rest == "stop"
                if self._dismissed and not self._runs:
                    return  # the connection ends with this process, so the agent sees us gone
                self._drop_agent()
            elif verb in ("begin", "stop") and is_key(rest):
                (self._begin if verb == "begin" else self._stop)(rest)

    def _tell(self, *words: str) -> None:
        if self._agent is not None and not self._agent.write(*words):
            self._drop_agent()  # it dials again, and looks at the files

    def _drop_agent(self) -> None:
        if self._agent is not None:
            self._selector.unregister(self._agent.sock)
            self._agent.close()
            self._agent = None

    def _begin(self, key: str) -> None:
        run = RunDir(self._runs_dir / key)
        if self._ending:
            self._tell("refused", key, ENDING)
            return
        try:
            if not run.was_begun():
                self._start(run)
        except (OSError, msgspec.MsgspecError) as e:
            self._tell("refused", key, f"run {key}: {e}")
            return
        self._tell("begun", key)
        if run.has_ended():
            self._tell("ended", key)

    def _stop(self, key: str) -> None:
        run = RunDir(self._runs_dir / key)
        if key in self._runs:
            self._runs[key].stop()
            return
        with contextlib.suppress(OSError):  # the marker stands: begin() will meet it
            if not run.was_begun() and run.stop_reason() is not None:
                self._end_unstarted(run)
        if run.has_ended():
            self._tell("ended", key)

    # --- the runs ------------------------------------------------------------------

    def _start(self, run: RunDir) -> None:
        """Raises OSError, msgspec.MsgspecError: nothing has happened, begin may be tried again."""
        if run.stop_reason() is not None:
            self._end_unstarted(run)
            return
        order = run.read_order()
        if order.key != run.key:
            raise OSError(f"order.json is about {order.key}")
        # From here on the attempt counts as begun: if we die, it is lost.
        run.reserve(self._me)
        try:
            one = self._take_init(run)
        except OSError as e:
            reason = f"the worker could not start a process: {e}"
            run.write_exit(Exit(ending="not-started", reason=reason))
            return
        self._runs[run.key] = one

    def _end_unstarted(self, run: RunDir) -> None:
        """A stop came before the start. Raises OSError."""
        reason = f"{run.stop_reason()} (before the model was started)"
        if run.reserve(self._me):
            run.write_exit(Exit(ending="stopped", reason=reason, containment=self._box.containment))

    def _take_init(self, run: RunDir) -> Init:
        """An init that has taken ``run``. Raises OSError."""
        self._refill_at = time.monotonic() + REFILL_DELAY
        while self._spares:
            one = self._spares.pop()  # the last one is the warmest
            try:
                one.begin(run)
                return one
            except OSError:  # it died waiting; its SIGCHLD is on its way
                pass
        one = self._fork()
        one.begin(run)
        return one

    def _refill(self) -> None:
        try:
            self._spares.append(self._fork())
        except OSError as e:
            print(f"no spare init: {e}", file=sys.stderr, flush=True)
            self._refill_at = time.monotonic() + 1.0

    def _fork(self) -> Init:
        one = fork_init(self._box, self._unpack, self._home)
        self._inits[one.pid] = one
        self._selector.register(one.control, selectors.EVENT_READ, lambda: self._hear(one))
        return one

    def _hear(self, one: Init) -> None:
        message = one.hear()
        if not message:
            self._forget_control(one)
        elif one.run is not None and message == init.STARTED:
            self._tell("started", one.run.key)
        elif one.run is not None and message in (init.ENDED, init.ENDED_LAST):
            self._tell("ended", one.run.key)
            del self._runs[one.run.key]
            one.run = None
            if message == init.ENDED and len(self._spares) < SPARES and not self._ending:
                self._spares.append(one)
            else:
                self._forget_control(one)  # it ends

    def _forget_control(self, one: Init) -> None:
        if one.control.fileno() >= 0:
            self._selector.unregister(one.control)
            one.close()

    # --- signals -------------------------------------------------------------------

    def _signalled(self) -> None:
        numbers = os.read(self._wake, 4096)
        if (signal.SIGTERM in numbers or signal.SIGINT in numbers) and not self._ending:
            self._ending = True
            notify.stopping()
            self._tell("ending")
            for one in self._runs.values():
                one.runner_ends()
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in self._inits:
                self._ended(self._inits.pop(pid), status)

    def _ended(self, one: Init, status: int) -> None:
        """An init is dead; normally its run has its exit by now."""
        self._forget_control(one)
        if one in self._spares:
            self._spares.remove(one)
            self._refill_at = time.monotonic() + 1.0  # if they die at once, not in a frenzy
        if one.run is None:
            return
        del self._runs[one.run.key]
        if not one.run.has_ended():
            self._lose(one.run, status)
        self._tell("ended", one.run.key)

    def _lose(self, run: RunDir, status: int) -> None:
        """Its init died before its run's end was written: somebody killed it, or it failed."""
        code = os.waitstatus_to_exitcode(status)
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        deadline = time.monotonic() + ORPHAN_SECONDS
        while sandbox.kill_below(procs.own_pid(), frozenset(self._inits)):
            if time.monotonic() > deadline:
                break
            time.sleep(0.002)  # this loop has nothing better to do, and it is over soon
        try:
            write_lost(run, f"the run's init ended by {how}; see the runner's log on the worker")
        except OSError as e:
            print(f"run {run.key}: no exit.json: {e}", file=sys.stderr, flush=True)


def _catch_signals() -> int:
    """A descriptor that each signal writes its number to."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return reading
