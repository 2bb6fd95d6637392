"""Whether a ticket or a claim is what its name says: the very input of its job.

Names are public: whoever may write in a ``cur/`` or a ``new/`` can make a file
with the name of any claim. But nobody except the primary can make a link of
``jobs/<job>/input.zip``, so the inode tells. Where tickets are copies (links
are not to be had, or a backup was restored), the primary's own single copy
whose content has the hash in its name is believed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from spool.errors import Gone
from spool.local import CHUNK, translated
from spool.names import Ticket

REMEMBERED = 4096  # hashes of copies


class _Content(NamedTuple):
    """What stays the same while a file is renamed, and changes when it is written."""

    device: int
    inode: int
    size: int
    mtime_ns: int


class Genuine:
    """Judges files by the inputs beneath ``jobs``. It belongs to one thread."""

    def __init__(self, jobs: Path) -> None:
        self._jobs = f"{jobs}/"
        self._me = os.geteuid()
        self._hashes: dict[_Content, str] = {}  # of copies; the oldest goes first

    def why_not(self, path: str, ticket: Ticket) -> str | None:
        """None if the file at ``path`` is the ticket's input, else why it is not.

        Follows no link. Costs two looks at inodes; a copy is read once. Raises
        Gone, and Unreachable where the disk fails.
        """
        try:
            info = os.lstat(path)
            if not stat.S_ISREG(info.st_mode):
                return "it is not a regular file"
            own = self._input(ticket.job)
            if own is not None and os.path.samestat(own, info):
                return None
            if info.st_uid != self._me:
                return f"it belongs to user {info.st_uid}"
            if info.st_nlink != 1 or (own is not None and own.st_size != info.st_size):
                return "it is the input of another job"
            if self._hash(path, info) != ticket.sha256:
                return "its content is not that of its name"
        except OSError as e:
            raise translated(e, path) from e
        return None

    def copied(self, path: Path, sha256: str) -> None:
        """A copy that we have just made of a file whose hash is known. Raises OSError."""
        self._remember(_content(os.lstat(path)), sha256)

    def _input(self, job: str) -> os.stat_result | None:
        try:
            return os.lstat(f"{self._jobs}{job}/input.zip")
        except (FileNotFoundError, NotADirectoryError):
            return None  # purged: what is left of it is ours all the same

    def _hash(self, path: str, info: os.stat_result) -> str:
        known = self._hashes.get(_content(info))
        if known is not None:
            return known
        digest = hashlib.sha256()
        # NONBLOCK: what was a file a moment ago may be a FIFO now.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not os.path.samestat(os.fstat(fd), info):
                raise Gone(f"{path}: swapped while it was looked at")
            while data := os.read(fd, CHUNK):
                digest.update(data)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        if _content(after) == _content(info):
            self._remember(_content(info), digest.hexdigest())
        return digest.hexdigest()

    def _remember(self, content: _Content, sha256: str) -> None:
        while len(self._hashes) >= REMEMBERED:
            del self._hashes[next(iter(self._hashes))]
        self._hashes[content] = sha256


def _content(info: os.stat_result) -> _Content:
    return _Content(info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns)
