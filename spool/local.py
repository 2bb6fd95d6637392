"""The spool as a directory of this machine."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spool import names
from spool.errors import Gone, NoSpace, Refused, SpoolError, Unbelievable, Unreachable

CHUNK = 1024 * 1024  # bytes copied at once

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})
_NOT_LET = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def translated(error: OSError, what: str) -> SpoolError:
    """The spool's error for an error of the operating system."""
    reason = f"{what}: {error.strerror or error}"
    if error.errno in _GONE:
        return Gone(reason)
    if error.errno in _FULL:
        return NoSpace(reason)
    if error.errno in _NOT_LET:
        return Refused(reason, "check who owns the folder and its mode")
    return Unreachable(reason)


@contextmanager
def translating(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise translated(e, what) from e


class LocalTransport:
    """The eight verbs on a directory. See ``spool.transport.Transport``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._prefix = f"{root}/"

    def names(self, folder: str) -> list[str]:
        with translating(folder):
            found = os.listdir(self._prefix + folder)
        return [name for name in found if not name.startswith(".") and is_utf8(name)]

    def read(self, path: str, limit: int) -> bytes:
        with translating(path):
            # NONBLOCK: a FIFO in a file's place must not hold us up.
            fd = os.open(self._prefix + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            try:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise Unbelievable(f"{path}: not a regular file")
                data = os.read(fd, limit + 1)
            finally:
                os.close(fd)
        if len(data) > limit:
            raise Unbelievable(f"{path}: longer than {limit} bytes")
        return data

    def fetch(self, path: str, target: Path) -> None:
        with translating(path):
            source = os.open(self._prefix + path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            with open(source, "rb") as file:
                if not stat.S_ISREG(os.fstat(source).st_mode):
                    raise Unbelievable(f"{path}: not a regular file")
                with target.open("wb") as out:
                    shutil.copyfileobj(file, out, CHUNK)

    def store(self, source: Path | bytes, path: str, *, go_on: bool = False) -> None:
        del go_on  # here it is as fast to write all of it again
        full = self._prefix + path
        with translating(path):
            fd = _create(full)
            try:
                if isinstance(source, bytes):
                    _write_all(fd, source, 0)
                else:
                    with source.open("rb") as file, open(fd, "wb", closefd=False) as out:
                        shutil.copyfileobj(file, out, CHUNK)
            except OSError:
                os.unlink(full)  # a full disk needs the room
                raise
            finally:
                os.close(fd)

    def append(self, path: str, offset: int, data: bytes) -> None:
        with translating(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(self._prefix + path, flags, 0o640)
            try:
                _write_all(fd, data, offset)
            finally:
                os.close(fd)

    def move(self, old: str, new: str) -> None:
        with translating(f"{old} to {new}"):
            os.rename(self._prefix + old, self._prefix + new)

    def drop(self, path: str) -> bool:
        try:
            os.unlink(self._prefix + path)
        except FileNotFoundError:
            return False
        except OSError as e:
            raise translated(e, path) from e
        return True

    def check(self, path: str) -> int | None:
        try:
            return os.lstat(self._prefix + path).st_size
        except FileNotFoundError:
            return None
        except OSError as e:
            raise translated(e, path) from e


def require_spool(root: Path) -> None:
    """Raises Refused if ``root`` is no spool."""
    if not (root / names.MODELS).is_dir() or not (root / names.BELL).is_file():
        raise Refused(
            f"{root}: not a spool",
            "give the 'spool' folder of the primary's data directory, and start the primary first",
        )


def make_worker_folder(root: Path, worker: str) -> None:
    """What a worker on this machine needs in the spool. Raises Refused if ``root`` is no spool."""
    require_spool(root)
    with translating(f"{root}: folder of worker {worker}"):
        for folder in names.WORKER_FOLDERS:
            path = root / names.worker_folder(worker) / folder
            path.mkdir(mode=0o750, parents=True, exist_ok=True)


def _create(path: str) -> int:
    """A new file, open for writing. What lies there is removed, never written through.

    It may be left from a crash, or have been put there by a worker in whose folder
    the primary writes: a FIFO, or a link to a file that is not the worker's.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        return os.open(path, flags, 0o640)
    except FileExistsError:
        os.unlink(path)
        return os.open(path, flags, 0o640)


def _write_all(fd: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def is_utf8(name: str) -> bool:
    """Whether a name of a listing is text; the system hands out other bytes as surrogates."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
