"""Opening a file that a peer wrote, believing nothing about it.

A worker owns its folder: it may put a link, a FIFO, a directory or an 8 TiB
hole where a report should be, and swap it while we look. So a file is opened
without following links, looked at through its descriptor, and copied while
hashing; what is compared and kept is the copy.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from spool.errors import Gone, SpoolError, Unbelievable
from spool.local import translating

CHUNK = 1024 * 1024  # bytes


def open_believed(folder: Path, name: str, limit: int | None) -> BinaryIO:
    """``folder/name`` opened for reading, if it may be believed to be a plain file.

    It is a regular file with one link, of the folder's own owner, and at most
    ``limit`` bytes long. Raises Unbelievable with the reason, Gone, or
    Unreachable.
    """
    with translating(f"{folder.name}/{name}"):
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            info = os.lstat(name, dir_fd=at)
            if not stat.S_ISREG(info.st_mode):
                raise Unbelievable(f"{name}: not a regular file")
            fd = _open(name, at)
            owner = os.fstat(at).st_uid
        finally:
            os.close(at)
    try:
        _examine(os.fstat(fd), name, owner, limit)
    except SpoolError:
        os.close(fd)
        raise
    return os.fdopen(fd, "rb")


def read_believed(folder: Path, name: str, limit: int) -> bytes:
    """The bytes of a small file. Raises as ``open_believed`` does.

    It may grow while it is read: the limit holds for what was read.
    """
    with open_believed(folder, name, limit) as file, translating(f"{folder.name}/{name}"):
        data = file.read(limit + 1)
    if len(data) > limit:
        raise Unbelievable(f"{name}: it grows beyond {limit} bytes while it is read")
    return data


def copy_believed(source: BinaryIO, target: Path, limit: int) -> tuple[int, str]:
    """Copy to ``target``; (size in bytes, SHA-256 in hex) of the copy.

    Raises Unbelievable if it grows beyond ``limit`` bytes meanwhile, NoSpace
    when the own disk is full; then nothing is left of the copy.
    """
    digest, size = hashlib.sha256(), 0
    try:
        with translating(str(target)), target.open("wb") as out:
            while data := source.read(CHUNK):
                size += len(data)
                if size > limit:
                    raise Unbelievable(f"{target.name}: longer than the report said")
                digest.update(data)
                out.write(data)
    except BaseException:
        target.unlink(missing_ok=True)  # a full disk needs the room
        raise
    return size, digest.hexdigest()


def _open(name: str, at: int) -> int:
    try:
        # NONBLOCK: what was a file a moment ago may be a FIFO now.
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
    except OSError as e:
        # Not ours to read, or a link or a socket by now: its writer's doing, not the disk's.
        if e.errno in (errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO):
            raise Unbelievable(f"{name}: {e.strerror}") from None
        raise


def _examine(info: os.stat_result, name: str, owner: int, limit: int | None) -> None:
    if not stat.S_ISREG(info.st_mode):
        raise Unbelievable(f"{name}: not a regular file")
    if info.st_nlink == 0:
        raise Gone(f"{name}: it was replaced while it was opened")
    if info.st_nlink != 1:
        raise Unbelievable(f"{name}: has {info.st_nlink} links instead of one")
    if info.st_uid != owner:
        raise Unbelievable(f"{name}: belongs to user {info.st_uid} instead of {owner}")
    if limit is not None and info.st_size > limit:
        raise Unbelievable(f"{name}: {info.st_size} bytes, more than {limit}")
