"""The init of a run: it unpacks, starts, waits, ends, tells, and waits for the next.

Inits are forked by the runner ahead of time and wait for their run, so that
nobody waits for the forks; one at a time, and in its turn each serves many. A
run ends when no process but its init is left in the namespace, so the next one
meets nothing of it; an init whose mounts a model has changed serves no other.
In a PID namespace it is PID 1; in a process tree it is the subreaper.
Everything it does is driven by three descriptors: the runner's control socket,
the unpacker's socket, and a pipe that signals (SIGCHLD above all) are written
to. Nothing is polled.

If the runner dies, the control socket ends and so does the run, without an
exit.json: the next runner writes that the run was lost.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from engine import command, limits, procs, sandbox
from engine.contract import Exit, Order
from engine.endings import Wish, judge, timeout_wish
from engine.rehearsal import rehearse_run
from engine.rundir import RunDir
from engine.sandbox import Sandbox
from engine.unpacker import Unpacker, by_death
from engine.unpacking import Answer, Unpack

KILL_AGAIN = 0.05  # seconds until KILL is sent again to what is still there
MOST_RUNS = 1000  # that one init serves; whatever it may leak stays small
NEXT_UNPACKER = 0.01  # seconds; forking it at once would slow those who wait for the results

# What runner and init say to each other, one message each.
ADOPTED, RUN, STOP, RUNNER_ENDS = b"adopted", b"run ", b"stop", b"runner-ends"
STARTED, ENDED, ENDED_LAST = b"started", b"ended", b"ended-last"

RUNNER_ENDED = Wish("lost", "the runner was ended while this run was going on")


class RunnerGone(Exception):
    """The runner is dead; the run dies with it."""


def serve(box: Sandbox, control: socket.socket, unpack: Unpack, home: str) -> NoReturn:
    """Be an init until the runner closes ``control``. In a fresh fork; does not return."""
    code = 1
    init = None
    try:
        init = _Init(box, control, unpack, home)
        init.serve()
        code = 0
    except RunnerGone:
        if init is not None:
            init.kill_all()
    except BaseException:  # noqa: BLE001  this process has no caller: tell, and leave nothing
        traceback.print_exc()
        if init is not None:
            init.kill_all()
    finally:
        sys.stderr.flush()
        os._exit(code)


class _Init:
    def __init__(self, box: Sandbox, control: socket.socket, unpack: Unpack, home: str) -> None:
        self._box, self._control, self._home = box, control, home
        sandbox.keep_open(control.fileno())
        sandbox.call_me("mr-init")
        self._wake = _catch_signals()
        self._me = procs.identity(box.containment)  # before another /proc hides the host's
        if box.containment == "process-tree":
            sandbox.adopt_orphans()
        else:
            try:
                sandbox.own_proc()
            except OSError as e:
                print(f"init: no /proc of its own, the host's stays: {e}", file=sys.stderr)
        self._unpack = unpack
        self._bearing = sandbox.bearing()
        self._group_events = limits.group_events()
        self._poll = select.poll()
        for fd in (control.fileno(), self._wake):
            self._poll.register(fd, select.POLLIN)
        self._wish: Wish | None = None
        self._forget_run()
        self._hire_unpacker()

    def _forget_run(self) -> None:
        """What is remembered of one run only."""
        self._run: RunDir | None = None
        self._answer: Answer | None = None
        self._unpack_status: int | None = None
        self._main = 0
        self._main_status: int | None = None
        self._began = self._stopped = 0.0  # monotonic times of the command's start and end
        self._childless = False
        self._cpu = 0.0
        self._peak = 0
        self._ended: list[procs.Process] = []

    def _hire_unpacker(self) -> None:
        self._unpacker = Unpacker(self._unpack)
        self._poll.register(self._unpacker.fileno(), select.POLLIN)

    def _replace_unpacker(self) -> None:
        """The one that we had is dead."""
        self._unpack_status = None
        with contextlib.suppress(KeyError, ValueError):  # unless its end was heard
            self._poll.unregister(self._unpacker)
            self._unpacker.close()
        self._hire_unpacker()

    def serve(self) -> None:
        """Serve one run after the other. Raises RunnerGone."""
        rehearse_run(self._me, self._group_events)
        for left in range(MOST_RUNS - 1, -1, -1):
            while self._run is None:
                self._turn()
            if self._unpack_status is not None:  # it died waiting, of somebody else's hand
                self._replace_unpacker()
            exit_ = self._whole_run(self._run)
            self._turn(0.0)  # a run whose runner is gone is lost, whatever its end was
            self._run.write_exit(exit_)
            again = left > 0 and self._may_serve_again(exit_)
            with contextlib.suppress(ConnectionError):
                self._control.send(ENDED if again else ENDED_LAST)
            if not again:
                return
            self._forget_run()
            self._turn(time.monotonic() + NEXT_UNPACKER)
            self._hire_unpacker()

    def _may_serve_again(self, exit_: Exit) -> bool:
        """Nothing of the run is left: no process (``_whole_run`` saw to that), no mount, no limit,
        no wish that was about us rather than the run. One that could not start a run is not
        tried again: it may be the reason."""
        ours = self._wish is None or self._wish.ending == "stopped"
        if not ours or exit_.ending == "not-started":
            return False
        os.chdir("/")  # no model's folder is held while we wait
        return sandbox.bearing() == self._bearing

    def kill_all(self) -> None:
        """KILL until nothing is left; for when nobody is there to be told."""
        self._poll = select.poll()
        self._poll.register(self._wake, select.POLLIN)
        self._reap()
        while not self._childless:
            sandbox.kill(self._box)
            self._turn(time.monotonic() + KILL_AGAIN)

    # --- the parts of a run --------------------------------------------------------

    def _whole_run(self, run: RunDir) -> Exit:
        order = run.read_order()
        # While the child unpacks, the rest is made ready.
        self._unpacker.order(run, order.required)
        before = limits.OomKills.read(self._group_events)
        try:
            run.output.mkdir()
            run.tmp.mkdir()
            # Its disk space is taken before the start, so that a model never runs untold.
            run.prepare_running(self._me)
            if (kept := self._await_input(run, order.required)) is not None:
                return self._unstarted(kept)
            self._began = time.monotonic()
            self._main = command.start(order, run, self._home)
        except (command.CannotStart, OSError) as e:
            reason = f"the command could not be started: {e}"
            _add_line(run, reason)
            return self._unstarted(Wish("not-started", reason))
        run.publish_running()
        with contextlib.suppress(ConnectionError):  # the next turn meets the runner's end
            self._control.send(STARTED)
        return self._execute(order, before)

    def _unstarted(self, why: Wish) -> Exit:
        if self._unpack_status is None:
            self._unpacker.kill()
        self._see_unpacker_off()
        return Exit(ending=why.ending, reason=why.reason, containment=self._box.containment)

    def _await_input(self, run: RunDir, required: Sequence[str]) -> Wish | None:
        """Wait until the input lies unpacked; what keeps the model from starting, or None."""
        again = False
        while self._answer is None:
            if self._wish is not None:
                break
            if self._unpack_status is not None:
                self._turn(0.0)
                if self._answer is not None:
                    break  # its last word lay there still
                if again or os.waitstatus_to_exitcode(self._unpack_status) == -signal.SIGXCPU:
                    return by_death(self._unpack_status)
                # Ended from outside, perhaps while it still waited: once more.
                again = True
                shutil.rmtree(run.input, ignore_errors=True)
                self._replace_unpacker()
                self._unpacker.order(run, required)
            self._turn()
        self._turn(0.0)  # the last look before the start
        if self._wish is not None:
            return Wish(self._wish.ending, f"{self._wish.reason} (before the model was started)")
        if self._answer is not None and self._answer.ending is not None:
            return Wish(self._answer.ending, self._answer.reason)
        return None

    def _see_unpacker_off(self) -> None:
        """It is no part of the run; it has answered or was killed, and is on its way out."""
        while self._unpack_status is None:
            self._turn()

    def _execute(self, order: Order, before: limits.OomKills) -> Exit:
        """Wait for the command's end, or bring it about; then leave nothing behind."""
        deadline = None if order.timeout is None else self._began + order.timeout
        while self._main_status is None and self._wish is None:
            if deadline is not None and time.monotonic() >= deadline:
                self._wish = timeout_wish(order.timeout or 0.0)
            else:
                self._turn(deadline)
        # One that had ended before we signalled it keeps its end.
        wish = self._wish if self._main_status is None else None
        self._see_unpacker_off()
        if not self._childless:
            self._end_all(limits.LEFTOVER_GRACE if wish is None else order.grace)
        assert self._main_status is not None
        verdict = judge(self._main_status, wish, self._oom(before))
        return Exit(
            ending=verdict.ending,
            reason=verdict.reason,
            exit_code=verdict.exit_code,
            signal=verdict.signal,
            wall_seconds=round(self._stopped - self._began, 6),
            cpu_seconds=round(self._cpu, 6),
            peak_memory=self._peak,
            containment=self._box.containment,
            ended=tuple(str(process) for process in self._ended),
        )

    def _oom(self, before: limits.OomKills) -> str:
        if self._main_status and os.waitstatus_to_exitcode(self._main_status) in (-9, 128 + 9):
            return limits.OomKills.read(self._group_events).blame(before)
        return ""

    def _end_all(self, grace: float) -> None:
        """TERM to all, ``grace`` seconds, then KILL until nothing is left."""
        self._ended = sandbox.members()
        sandbox.terminate(self._box)
        deadline = time.monotonic() + grace
        while not self._childless:
            if time.monotonic() >= deadline:
                sandbox.kill(self._box)
                deadline = time.monotonic() + KILL_AGAIN
            self._turn(deadline)

    # --- what happens to us --------------------------------------------------------

    def _turn(self, deadline: float | None = None) -> None:
        """Sleep until something happens, or ``deadline`` (monotonic); then take it in.

        Raises RunnerGone.
        """
        wait = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = {fd for fd, _ in self._poll.poll(wait)}
        if self._wake in ready and signal.SIGTERM in os.read(self._wake, 4096):
            self._wish = self._wish or RUNNER_ENDED
        # The children before the runner: one that ended before a stop arrived keeps its end.
        self._reap()
        if self._unpacker.fileno() in ready:
            self._poll.unregister(self._unpacker)
            self._answer = self._unpacker.answer()
            self._unpacker.close()
        if self._control.fileno() in ready:
            self._hear()

    def _hear(self) -> None:
        try:
            message = self._control.recv(65536)
        except ConnectionError:
            message = b""
        if not message:
            raise RunnerGone
        if message == ADOPTED:
            # Until now its parent was the short-lived process that made the namespace.
            if self._box.containment == "pid-namespace":
                sandbox.die_with_parent()
        elif message.startswith(RUN):
            self._wish = None  # a stop that came late was about the run before
            self._run = RunDir(Path(os.fsdecode(message.removeprefix(RUN))))
        elif message == STOP:
            reason = self._run.stop_reason() if self._run is not None else None
            self._wish = self._wish or Wish("stopped", reason or "a stop was wanted")
        elif message == RUNNER_ENDS:
            self._wish = self._wish or RUNNER_ENDED

    def _reap(self) -> None:
        """Take in every child that has ended, the adopted ones as well.

        The kernel counts a process's peak as the most memory that was resident at
        one time, and an exec inherits the figure of the process that started it: a
        peak below this init's own size (some 15 MB) cannot be told. The times of
        children whose parents ignore SIGCHLD are counted by nobody.
        """
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                self._childless = False
                return
            if pid == self._unpacker.pid:
                self._unpack_status = status
                continue
            if pid == self._main:
                self._main_status, self._stopped = status, time.monotonic()
            self._cpu += usage.ru_utime + usage.ru_stime
            self._peak = max(self._peak, usage.ru_maxrss * 1024)


def _catch_signals() -> int:
    """A descriptor that each signal writes its number to; it is the only waker needed."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return reading


def _add_line(run: RunDir, text: str) -> None:
    """Say it in the log as well, where the modeller looks first."""
    with contextlib.suppress(OSError):
        log = command.open_log(run)
        try:
            os.write(log, f"model runner: {text}\n".encode("utf-8", "replace"))
        finally:
            os.close(log)
