"""The few system calls by which the ledger changes a disk, so that tests can fail each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` last."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sync_file(path: Path) -> None:
    """Make what was written to ``path``, by whomever, last."""
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fdatasync(fd)
    finally:
        os.close(fd)


def create(path: Path) -> int:
    """A new file, open for appending; raises FileExistsError rather than open an old one."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(path, flags, 0o640)


@dataclass(frozen=True)
class Disk:
    """What the ledger asks of a disk; all raise OSError."""

    create: Callable[[Path], int] = create
    write: Callable[[int, bytes | memoryview], int] = os.write
    sync: Callable[[int], None] = os.fdatasync
    sync_folder: Callable[[Path], None] = sync_folder
    truncate: Callable[[int, int], None] = os.ftruncate
