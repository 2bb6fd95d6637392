"""Small files of the data directory that are nobody else's business: whole, synced, 0600."""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.disk import sync_folder
from spool.errors import Refused

MODE = 0o600
MOST = 1024 * 1024  # bytes of one file
SECRET = 32  # bytes


def read(path: Path) -> bytes | None:
    """What it holds; None where there is no such file. Raises OSError; a link is one."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(fd, "rb") as file:
        return file.read(MOST)


def write(path: Path, data: bytes) -> None:
    """Put ``data`` in the place of what was there, whole or not at all. Raises OSError."""
    half = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(half, flags, MODE)
    try:
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        half.rename(path)
    except BaseException:
        half.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def secret(path: Path) -> bytes:
    """``SECRET`` random bytes that stay the same: made when they are asked for first.

    Raises OSError.
    """
    with locked(path.parent):
        found = read(path)
        if found is not None and len(found) == SECRET:
            return found
        made = secrets.token_bytes(SECRET)
        write(path, made)
        return made


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else changes such files in ``folder`` meanwhile. Raises OSError."""
    # the folder itself: there is no file that a crash could leave
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """As the user whom ``folder`` belongs to; root becomes that user. Raises Refused, OSError.

    So what root makes there can be read by the primary, and a link that the primary's account
    put there leads root nowhere.
    """
    info, me = folder.stat(), os.geteuid()
    if info.st_uid == me:
        yield
        return
    if me != 0:
        raise Refused(
            f"{folder} belongs to user {info.st_uid}, and this is user {me}",
            "do it as its owner, with sudo -u, or as root",
        )
    group, groups = os.getegid(), os.getgroups()
    try:
        os.setgroups([])
        os.setegid(info.st_gid)
        os.seteuid(info.st_uid)
        yield
    finally:
        os.seteuid(me)
        os.setegid(group)
        os.setgroups(groups)
