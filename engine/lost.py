"""Runs whose runner died: what is left of them is ended, then they are told as lost."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from pathlib import Path

from engine import procs
from engine.command import output_mark
from engine.contract import Exit, Running
from engine.rundir import RunDir

_INIT_SECONDS = 2.0  # for a process tree's init, to end its run by itself
_END_SECONDS = 5.0  # for processes to die of KILL
_LOOK_AGAIN = 0.01


def settle(runs: Path) -> None:
    """Give every run that was begun and has no end its exit. Only for the lock's holder."""
    for name in sorted(os.listdir(runs)):
        run = RunDir(runs / name)
        if run.was_begun() and not run.has_ended():
            try:
                _settle(run)
            except OSError as e:
                print(f"run {name}: lost, but its exit.json was not written: {e}", file=sys.stderr)


def write_lost(run: RunDir, reason: str, ended: tuple[str, ...] = ()) -> None:
    """Raises OSError."""
    running = run.read_running()
    containment = running.containment if running is not None else "process-tree"
    run.write_exit(Exit(ending="lost", reason=reason, containment=containment, ended=ended))


def _settle(run: RunDir) -> None:
    running = run.read_running()
    if running is not None:
        _end_init(running)
    if run.has_ended():
        return  # its init was just writing it
    ended = _end_marked(output_mark(run))
    reason = "its runner died" if running is not None else "its runner died before the model ran"
    write_lost(run, reason, ended)


def _end_init(running: Running) -> None:
    """Wait for the init of a dead runner to be gone, and help."""
    if not procs.alive(running.pid, running.start_time, running.boot_id):
        return
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(running.pid)
        try:
            if not procs.alive(running.pid, running.start_time, running.boot_id):
                return
            end = select.poll()
            end.register(fd, select.POLLIN)
            # With a namespace's init its run dies at once; a tree's knows its processes.
            if running.containment == "process-tree" and end.poll(_INIT_SECONDS * 1000):
                return
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            end.poll(_END_SECONDS * 1000)
        finally:
            os.close(fd)


def _end_marked(mark: str) -> tuple[str, ...]:
    """KILL everything that carries ``mark``. Raises OSError if it will not die."""
    deadline = time.monotonic() + _END_SECONDS
    ended: list[str] = []
    while found := procs.carrying(mark):
        if time.monotonic() > deadline:
            raise OSError(f"still alive after KILL: {', '.join(map(str, found))}")
        ended += [str(process) for process in found if str(process) not in ended]
        for process in found:
            procs.send(process, signal.SIGKILL)
        time.sleep(_LOOK_AGAIN)
    return tuple(ended)
