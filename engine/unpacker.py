"""The child that opens a stranger's zip: limited, and told about in one message.

It is forked ahead of time with its init and waits for one run directory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from engine import limits
from engine.endings import Wish, signal_name
from engine.rehearsal import rehearse_unpacking
from engine.rundir import RunDir
from engine.sandbox import call_me, die_with_parent, keep_open
from engine.unpacking import Answer, Unpack, attempt

_MAX_MESSAGE = 1 << 17  # bytes; the kernel's buffers take more


class Unpacker:
    """The init's side."""

    def __init__(self, unpack: Unpack) -> None:
        """Fork the child. Raises OSError."""
        self._sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if self.pid == 0:
            _child(theirs, unpack)
        theirs.close()

    def fileno(self) -> int:
        return self._sock.fileno()

    def order(self, run: RunDir, required: Sequence[str]) -> None:
        """Have ``run``'s input unpacked. Raises OSError if the order is too long."""
        if self._sock.fileno() < 0:
            return  # it died a moment ago, and was heard to, but its status is not here yet
        with contextlib.suppress(ConnectionError):  # it is dead: its status says why
            self._sock.send(b"\0".join(os.fsencode(part) for part in (str(run.path), *required)))

    def answer(self) -> Answer | None:
        """What it says; None if it died without a word. Waits."""
        with contextlib.suppress(ConnectionError):
            if data := self._sock.recv(_MAX_MESSAGE):
                return msgspec.json.decode(data, type=Answer)
        return None

    def kill(self) -> None:
        """End it. Only before it was reaped."""
        os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """A child that still waits ends."""
        self._sock.close()


def by_death(status: int) -> Wish:
    """What it means that the child died without a word, by its wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGXCPU:
        seconds = limits.UNPACK_CPU
        return Wish("bad-input", f"the input zip: it takes more than {seconds} s to unpack")
    how = signal_name(-code) if code < 0 else f"exit code {code}"
    return Wish("not-started", f"unpacking the input was cut off by {how}; see the runner's log")


def _child(sock: socket.socket, unpack: Unpack) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)  # its number may be an unpacked file's soon
        keep_open(sock.fileno())
        call_me("mr-unpack")
        die_with_parent()
        limits.limit_unpacking()
        rehearse_unpacking(unpack)
        if data := sock.recv(_MAX_MESSAGE):
            path, *required = map(os.fsdecode, data.split(b"\0"))
            sock.send(msgspec.json.encode(attempt(RunDir(Path(path)), required, unpack)))
        os._exit(0)
    finally:
        os._exit(1)
