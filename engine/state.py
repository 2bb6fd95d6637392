"""A worker's state directory: who it is, and that it is alone.

The *instance* belongs to the directory and survives restarts; the lock, held
for the agent's whole life, means that the agent lives.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import time
from pathlib import Path

from engine.errors import EngineError

LOCK = "agent.lock"
LOCK_TRIES = 10  # 50 ms apart


class State:
    """A state directory, taken by this process. Raises EngineError if it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)  # inputs lie in it
            (path / "runs").mkdir(exist_ok=True)
            self._lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as e:
            raise EngineError(
                f"cannot write to the state directory {path}: {e.strerror}; "
                "choose another one with --state"
            ) from e
        if path.stat().st_uid != os.geteuid():
            os.close(self._lock)
            raise EngineError(
                f"the state directory {path} belongs to user {path.stat().st_uid}, and this is "
                f"user {os.geteuid()}; start the worker as its owner, or choose another --state"
            )
        if not _taken(self._lock):
            os.close(self._lock)
            raise EngineError(
                f"another worker (process {holder(path) or '?'}) uses the state directory {path}; "
                "give each worker its own name or --state"
            )
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, b"%d\n" % os.getpid(), 0)
        self.instance = self._instance()

    def run_folder(self, key: str) -> Path:
        return self.path / "runs" / key

    def exists(self) -> bool:
        """False once somebody removed the directory: then nothing can be kept."""
        return (self.path / LOCK).exists()

    def free(self) -> int:
        """Bytes free for us on its disk."""
        info = os.statvfs(self.path)
        return info.f_bavail * info.f_frsize

    def release(self) -> None:
        os.close(self._lock)

    def _instance(self) -> str:
        instance = instance_of(self.path)
        if not instance:
            instance = secrets.token_hex(8)
            file = self.path / "instance"
            half = file.with_name("instance.half")
            half.write_text(instance + "\n")
            half.rename(file)
        return instance


def instance_of(path: Path) -> str:
    """The instance that belongs to a state directory; "" if it has none yet."""
    try:
        instance = (path / "instance").read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return ""
    return instance if len(instance) == 16 else ""


def _taken(lock: int) -> bool:
    """Whether the lock is ours now; asked more than once, for ``holder`` looks through it."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return True
    return False


def holder(path: Path) -> int | None:
    """The process that holds a state directory; None if nobody does."""
    try:
        fd = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(fd, 32).strip()
            return int(text) if text.isdigit() else -1
        return None
    finally:
        os.close(fd)
