"""The child that opens a stranger's zip: limited, and told about in one message.

It is forked ahead of time with its init and waits for one run directory.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import msgspec

from engine import limits
from engine.contract import Ending
from engine.endings import Wish, signal_name
from engine.rundir import RunDir
from engine.sandbox import call_me, die_with_parent, keep_open
from spool import archive
from spool.entrynames import missing
from spool.errors import BadZip

Unpack = Callable[[Path, Path, Sequence[str]], None]
"""(zip, target directory, required files); raises BadZip, OSError."""

_MAX_MESSAGE = 16384


def unpack_zip(source: Path, target: Path, required: Sequence[str]) -> None:
    """Unpack ``source``, if it holds ``required``. Raises BadZip, OSError."""
    if required:
        names = [entry.name for entry in archive.listing(source, archive.CAPS)]
        if lacking := missing(required, names):
            raise BadZip(lacking)
    archive.unpack(source, target)


class Answer(msgspec.Struct, frozen=True):
    """``ending`` is None if the input lies unpacked."""

    ending: Ending | None = None
    reason: str = ""


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
        with contextlib.suppress(ConnectionError):  # it is dead: its status says why
            self._sock.send(msgspec.json.encode([str(run.path), list(required)]))

    def answer(self) -> Answer | None:
        """What it says; None if it died without a word. Waits."""
        with contextlib.suppress(ConnectionError):
            if data := self._sock.recv(_MAX_MESSAGE):
                return msgspec.json.decode(data, type=Answer)
        return None

    def close(self) -> None:
        """A child that still waits ends."""
        self._sock.close()


def by_death(status: int) -> Wish:
    """What it means that the child died without a word, by its wait status."""
    code = os.waitstatus_to_exitcode(status)
    if code == -24:  # SIGXCPU
        reason = f"unpacking it takes more than {limits.UNPACK_CPU} seconds of processor time"
        return Wish("bad-input", reason)
    how = signal_name(-code) if code < 0 else f"exit code {code}"
    return Wish("not-started", f"unpacking the input was cut off by {how}; see runner.log")


def _child(sock: socket.socket, unpack: Unpack) -> NoReturn:
    try:
        keep_open(sock.fileno())
        call_me("mr-unpack")
        die_with_parent()
        limits.limit_unpacking()
        if data := sock.recv(1 << 20):
            path, required = msgspec.json.decode(data, type=tuple[str, list[str]])
            run = RunDir(Path(path))
            sock.send(msgspec.json.encode(_attempt(run, required, unpack)))
        os._exit(0)
    finally:
        os._exit(1)


def _attempt(run: RunDir, required: Sequence[str], unpack: Unpack) -> Answer:
    try:
        unpack(run.input_zip, run.input, required)
    except BadZip as e:
        return Answer("bad-input", f"the input zip: {e}"[:4000])
    except MemoryError:
        reason = f"the input zip: it takes more than {limits.UNPACK_MEMORY >> 20} MiB to unpack"
        return Answer("bad-input", reason)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            return Answer("not-started", f"no disk space on the worker to unpack the input ({e})")
        return Answer("not-started", f"the input could not be unpacked: {e}"[:4000])
    except Exception as e:  # noqa: BLE001  said in the exit, instead of dying without a word
        return Answer("not-started", f"unpacking failed: {type(e).__name__}: {e}"[:4000])
    return Answer()
