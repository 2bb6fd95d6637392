"""Where an agent and its runner meet: the state directory's files, and lines on a socket.

A Unix socket's path holds 108 bytes at most, and a state directory may lie
deeper: both sides go through an open descriptor of the directory.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

LOCK = "runner.lock"
SOCKET = "runner.sock"
LOG = "runner.log"
RUNS = "runs"
ENDING = "the runner is ending"  # why a begin is refused, if that is so

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}\Z", re.ASCII)
_MAX_LINE = 65536  # bytes


def is_key(text: str) -> bool:
    """True if ``text`` can name a run: one plain file name, without blanks."""
    return _KEY.match(text) is not None


@contextlib.contextmanager
def _short(state: Path) -> Iterator[str]:
    """A short path of the socket in ``state``, good while the block lasts."""
    fd = os.open(state, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET}"
    finally:
        os.close(fd)


def listen(state: Path) -> socket.socket:
    """The runner's listening socket, for this account only. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    (state / SOCKET).unlink(missing_ok=True)  # a dead runner's; we hold the lock
    mask = os.umask(0o177)
    try:
        with _short(state) as path:
            sock.bind(path)
        sock.listen(8)
    except OSError:
        sock.close()
        raise
    finally:
        os.umask(mask)
    return sock


def dial(state: Path) -> socket.socket:
    """Connect to the runner of ``state``. Raises OSError: FileNotFoundError and
    ConnectionRefusedError mean that none listens."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short(state) as path:
            sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


class Lines:
    """Lines of text over a connected socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""

    def read(self) -> list[str] | None:
        """What has arrived, at least a piece of it; None at the end of the connection.

        Waits if the socket does and nothing is there.
        """
        try:
            data = self.sock.recv(_MAX_LINE)
        except BlockingIOError:
            return []
        except OSError:
            return None
        if not data or len(self._rest) > _MAX_LINE:
            return None
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [line.decode("utf-8", "replace") for line in whole]

    def write(self, *words: str) -> bool:
        """Send one line; False if the other side is gone or does not listen."""
        line = " ".join(words).replace("\n", " ").encode("utf-8", "replace") + b"\n"
        try:
            return self.sock.send(line) == len(line)
        except OSError:
            return False

    def close(self) -> None:
        self.sock.close()
