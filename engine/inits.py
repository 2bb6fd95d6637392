"""The runner's side of an init: forking one, giving it its run, hearing from it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import traceback
from typing import NoReturn

from engine import init, sandbox
from engine.rundir import RunDir
from engine.sandbox import Sandbox
from engine.unpacking import Unpack

_FORK_SECONDS = 10.0  # until a fork that says nothing has failed


class Init:
    """A living init; ``run`` is None while it waits for one."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        self.pid, self.control = pid, control
        self.run: RunDir | None = None

    def begin(self, run: RunDir) -> None:
        """Hand it its run. Raises OSError if it is dead."""
        self.control.send(init.RUN + os.fsencode(run.path))
        self.run = run

    def stop(self) -> None:
        self._send(init.STOP)

    def runner_ends(self) -> None:
        self._send(init.RUNNER_ENDS)

    def hear(self) -> bytes:
        """Its next message (STARTED, ENDED); empty when it is dead."""
        try:
            return self.control.recv(4096)
        except ConnectionError:
            return b""

    def close(self) -> None:
        """One that still has no run ends."""
        self.control.close()

    def _send(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # it is dying: its end is told by SIGCHLD
            self.control.send(message)


def fork_init(box: Sandbox, unpack: Unpack, home: str) -> Init:
    """Fork an init that waits for its run. Raises OSError.

    In a PID namespace init must be the first child after the namespace was made,
    so a process in between makes it and dies; init comes to us, as the subreaper.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            if box.containment == "pid-namespace":
                _go_between(box, theirs)
            init.serve(box, theirs, unpack, home)
        theirs.close()
        if box.containment == "pid-namespace":
            pid = _await_init(pid, ours)
        ours.send(init.ADOPTED)
    except OSError:
        ours.close()
        theirs.close()
        raise
    return Init(pid, ours)


def _go_between(box: Sandbox, control: socket.socket) -> None:
    """Make the namespace; returns in its init only."""
    try:
        sandbox.enter(box)
        pid = os.fork()
        if pid == 0:
            return
        control.send(str(pid).encode())
        os._exit(0)
    except BaseException:  # noqa: BLE001  this process has no caller
        traceback.print_exc()
        _quit()


def _quit() -> NoReturn:
    sys.stderr.flush()
    os._exit(1)


def _await_init(go_between: int, ours: socket.socket) -> int:
    """The init's pid, once it is our child."""
    ours.settimeout(_FORK_SECONDS)
    try:
        said = ours.recv(64)
    except TimeoutError:
        os.kill(go_between, signal.SIGKILL)
        said = b""
    ours.settimeout(None)
    os.waitpid(go_between, 0)
    if not said:
        raise OSError("the namespace of a run could not be made; see the runner's log")
    return int(said)
