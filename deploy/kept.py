"""The files of services that our own supervisor keeps.

<etc>/services/NAME.json    what to run, written by deploy (``units.Supervised``)
<logs>/NAME.log             what it says; NAME.log.1 is the part before
<logs>/NAME.lock            held by its keeper for life, with the keeper's number in it
<logs>/NAME.state           how it is, written by the keeper (``Condition``)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from collections import deque
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec
import psutil

from deploy.paths import SERVICES
from deploy.units import Supervised
from spool.errors import Refused

LOG_MOST = 5 << 20  # bytes of a log, until it becomes NAME.log.1
_TAIL = 64 << 10  # bytes that are read for the last lines
_WRITING = 2.0  # seconds for a keeper that has the lock to write its number

Active = Literal["active", "activating", "failed", "inactive"]


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """How a service is. ``child`` and ``born`` name one process for ever."""

    active: Active
    since: str  # ISO, UTC
    child: int = 0
    born: float = 0.0
    said: str = ""  # its own last status, or why it is not active


class Kept:
    """One service's files."""

    def __init__(self, name: str, etc: Path, logs: Path) -> None:
        self.name = name
        self._config = etc / "services" / f"{name}.json"
        self._lock = logs / f"{name}.lock"
        self._state = logs / f"{name}.state"
        self.log = logs / f"{name}.log"

    def config(self) -> Supervised:
        """Raises Refused."""
        try:
            return msgspec.json.decode(self._config.read_bytes(), type=Supervised)
        except FileNotFoundError as e:
            raise Refused(
                f"there is no service {self.name}: no {self._config}",
                "modelrunner deploy apply writes it",
            ) from e
        except (OSError, msgspec.MsgspecError) as e:
            raise Refused(f"{self._config}: {e}", "modelrunner deploy apply writes it anew") from e

    # --- the lock

    def take(self) -> int | None:
        """The lock, for the life of this process; None if another keeper has it. Raises OSError."""
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        if not _locked(fd):
            os.close(fd)
            return None
        return fd

    def sign(self, fd: int) -> None:
        """Writes our number into the lock that we hold."""
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)

    def keeper(self) -> int | None:
        """The process that keeps it, if one does."""
        until = time.monotonic() + _WRITING
        while time.monotonic() < until:
            try:
                fd = os.open(self._lock, os.O_RDWR | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                if _locked(fd):
                    return None
                text = os.pread(fd, 32, 0)
            finally:
                os.close(fd)
            if text.strip().isdigit():
                return int(text)
            time.sleep(0.02)  # it has just begun
        return None

    # --- how it is

    def condition(self) -> Condition:
        """As its keeper wrote it last; inactive where there is none."""
        try:
            return msgspec.json.decode(self._state.read_bytes(), type=Condition)
        except (OSError, msgspec.MsgspecError):
            return Condition(active="inactive", since="")

    def write(self, condition: Condition) -> None:
        """A full disk keeps no service from running."""
        half = self._state.with_suffix(".half")
        with contextlib.suppress(OSError):
            half.write_bytes(msgspec.json.encode(condition))
            half.rename(self._state)

    def child(self) -> psutil.Process | None:
        """The service's living process, whether or not anybody keeps it."""
        condition = self.condition()
        if not condition.child:
            return None
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(condition.child)
            same = abs(process.create_time() - condition.born) < 0.01
            if same and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    # --- its log

    def trim(self) -> None:
        """Moves a log that has grown too long aside, though its writers have it open."""
        with contextlib.suppress(OSError):
            if self.log.stat().st_size <= LOG_MOST:
                return
            try:
                shutil.copyfile(self.log, self.log.with_suffix(".log.1"))
            finally:  # a full disk is no reason to fill it further
                os.truncate(self.log, 0)

    def last_lines(self, number: int) -> list[str]:
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL))
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return list(deque(text.splitlines(), maxlen=number))


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def known(etc: Path) -> list[str]:
    """The services that deploy has written, in the order in which they start."""
    found = {path.stem for path in (etc / "services").glob("*.json")}
    return [name for name in SERVICES if name in found] + sorted(found - set(SERVICES))


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
