"""The ledger's files as their one writer holds them.

A segment is begun in this order: create, sync the file, sync the folder, then
append; and only after everything before it was synced. So only the last
segment can have a torn end.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from ledger.codec import GENESIS, BadLine, hash_of, seq_of, unseal
from ledger.disk import Disk, sync_folder
from ledger.errors import (
    LedgerDamaged,
    LedgerFull,
    LedgerLocked,
    LedgerStopped,
    NoSuchRecord,
)
from ledger.events import Record
from ledger.reading import Segment, holding, lines, listing, locate, segment_name
from ledger.recovery import TornEnd, check, cut

SEGMENT_SIZE = 64 * 1024 * 1024
"""Bytes from which on the next batch begins a new segment."""

_LAST = 64 * 1024
"""Bytes at a segment's end in which to look for its last line."""

LOCK = "LOCK"

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_OURS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
"""Errors that say nothing about the disk."""


def lock(folder: Path) -> int:
    """Take the one writer's lock on ``folder``; closing the descriptor gives it back.

    The file is never deleted: a lock on a deleted file keeps nobody out.
    Raises LedgerLocked.
    """
    fd = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        by = f" (process {pid})" if pid.isdigit() else ""
        raise LedgerLocked(
            f"The ledger in {folder} is in use by another primary{by}; "
            "stop that one first, or use another data directory"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"%d\n" % os.getpid(), 0)
    return fd


class Segments:
    """The files of one ledger, locked and open for appending. Not thread-safe but for reads.

    ``end`` is the sequence number of the last record on disk, ``hash`` its
    hash; both hold once ``recover`` was read to its end.
    """

    def __init__(self, folder: Path, lock_fd: int, segment_size: int, disk: Disk) -> None:
        self.folder = folder
        self.end, self.hash = 0, GENESIS
        self._lock_fd: int | None = lock_fd
        self._limit, self._disk = segment_size, disk
        self._segments = listing(folder)
        self._fd: int | None = None
        self._size = 0  # bytes of the last segment that hold good records
        self._before = (0, GENESIS, 0)  # end, hash and size before the last append
        self._stopped = ""
        self.torn: str | None = None

    @classmethod
    def open(
        cls, folder: Path, *, segment_size: int = SEGMENT_SIZE, disk: Disk | None = None
    ) -> Segments:
        """Lock ``folder``, which is made if it is missing; ``recover`` must follow.

        Raises LedgerLocked, LedgerStopped and OSError.
        """
        if not folder.is_dir():
            folder.mkdir(mode=0o750)
            sync_folder(folder.parent)
        segments = cls(folder, lock(folder), segment_size, disk or Disk())
        try:
            segments._settle()
        except BaseException:
            segments.close()
            raise
        return segments

    def recover(self, after: int, previous: str, applied: int) -> Iterator[Record]:
        """The records after ``after``, checked; at the end the ledger is ready for ``append``.

        A torn end is cut off, which ``torn`` then says. Raises LedgerDamaged
        as ``recovery.check`` does, LedgerFull where a torn end cannot be kept
        beside for want of room, and OSError.
        """
        self.end, self.hash = after, previous
        try:
            for record in check(self.folder, after, previous, applied):
                self.end, self.hash = record.seq, record.hash
                yield record
        except TornEnd as torn:
            try:
                self.torn = cut(torn, self._disk)
            except OSError as e:
                raise LedgerFull(
                    f"{torn}; the torn end could not be kept beside it ({e}), so nothing was "
                    f"changed: make room in {self.folder} and start again"
                ) from e
        self._resume()

    def append(self, sealed: Sequence[bytes]) -> None:
        """Write and sync ``sealed``, the records after ``end``, as one.

        Raises LedgerFull when they were taken back whole, and LedgerStopped
        when nobody can say what is on disk: then, and ever after.
        """
        if self._stopped:
            raise LedgerStopped(self._stopped)
        fd = self._writable()
        data = b"".join(sealed)
        try:
            written = self._disk.write(fd, data)
        except OSError as e:
            self._cut_back(self._size)
            if e.errno not in _NO_ROOM:
                raise self._stop(f"A write to the ledger in {self.folder} failed", e) from e
            raise self._full(str(e)) from e
        if written != len(data):
            self._cut_back(self._size)
            raise self._full(f"only {written} of {len(data)} bytes could be written")
        self._sync(fd)
        self._before = (self.end, self.hash, self._size)
        self._size += written
        self.end += len(sealed)
        self.hash = hash_of(sealed[-1])

    def take_back(self) -> None:
        """Undo the last append, of which nobody was told. Raises LedgerStopped."""
        end, digest, size = self._before
        self._cut_back(size)
        self.end, self.hash, self._size = end, digest, size

    def read(self, seq: int) -> bytes:
        """The line of record ``seq``. Raises NoSuchRecord, LedgerDamaged and OSError."""
        line = self._find(seq) if 1 <= seq <= self.end else None
        if line is not None:
            return line
        if seq > self.end or seq < 1:
            raise NoSuchRecord(f"The ledger in {self.folder} has no record {seq}")
        raise LedgerDamaged(str(self.folder), 0, f"record {seq} is not where it should be")

    def checked(self, seq: int) -> Record | None:
        """Record ``seq`` if it is there and its hash is right; also before ``recover``."""
        before = self._find(seq - 1) if seq > 1 else b""
        line = self._find(seq)
        if before is None or line is None:
            return None
        try:
            previous = unseal(before, None).hash if before else GENESIS
            return unseal(line, previous)
        except BadLine:
            return None

    def newest(self) -> int:
        """The sequence number of the last line that has one; also before ``recover``."""
        for segment in reversed(self._segments):
            with segment.path.open("rb") as file:
                file.seek(max(0, file.seek(0, 2) - _LAST))
                found = [seq for seq in map(seq_of, file) if seq is not None]
            if found:
                return found[-1]
        return 0

    def iterate(self, after: int) -> Iterator[bytes]:
        """The lines after record ``after``, in order, up to ``end``. Raises as ``read`` does."""
        if after < self.end:
            yield from islice(lines(self.folder, after), self.end - after)

    def gone(self) -> str:
        """Why the ledger's folder cannot be written any more, or is another one; "" if it can.

        Nothing is written to find out, so it may be asked every second.
        """
        if self._lock_fd is None:
            return ""
        try:
            fd = os.open(self.folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                same = os.path.sameopenfile(fd, self._lock_fd)
            finally:
                os.close(fd)
        except OSError as e:
            return "" if e.errno in _OURS else str(e.strerror)
        return "" if same else "another folder lies in its place"

    def close(self) -> None:
        """Give the lock back. Idempotent."""
        self._stopped = self._stopped or "The ledger is closed"
        for fd in (self._fd, self._lock_fd):
            if fd is not None:
                os.close(fd)
        self._fd = self._lock_fd = None

    def _find(self, seq: int) -> bytes | None:
        segment = holding(self._segments, seq)
        if segment is None:
            return None
        with segment.path.open("rb", buffering=1024) as file:
            found = locate(file, seq)
        return found[1] if found else None

    def _settle(self) -> None:
        """Make what can be read the same as what is on disk, before it is read.

        A killed primary may have left a write that nothing synced: it must not
        be believed before it is. And after a failed sync the page cache may
        show what the disk never got: it must be dropped.
        """
        if self._segments:
            last = self._segments[-1].path
            fd = os.open(last, os.O_RDWR | os.O_CLOEXEC)
            try:
                self._disk.sync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                self._disk.sync_folder(self.folder)
            except OSError as e:
                raise self._stop(f"{last} could not be synced", e) from e
            finally:
                os.close(fd)

    def _resume(self) -> None:
        """Open the last segment where its good records end."""
        if not self._segments:
            return
        path = self._segments[-1].path
        self._fd = fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        self._size = os.fstat(fd).st_size
        if self._size and os.pread(fd, 1, self._size - 1) != b"\n":
            # The last record was valid but for its newline.
            try:
                self._disk.write(fd, b"\n")
            except OSError as e:
                raise self._full(f"{path}: {e}") from e
            self._sync(fd)
            self._size += 1

    def _writable(self) -> int:
        """The descriptor to append to; begins a new segment where the last one is full."""
        if self._fd is not None and self._size < self._limit:
            return self._fd
        path = self.folder / segment_name(self.end + 1)
        try:
            fd = self._disk.create(path)
        except OSError as e:
            raise self._full(f"{path} could not be made: {e}") from e
        if self._fd is not None:
            os.close(self._fd)
        self._fd, self._size = fd, 0
        self._sync(fd)
        try:
            self._disk.sync_folder(self.folder)
        except OSError as e:
            raise self._stop(f"{self.folder} could not be synced", e) from e
        self._segments = [*self._segments, Segment(self.end + 1, path)]
        return fd

    def _sync(self, fd: int) -> None:
        try:
            self._disk.sync(fd)
        except OSError as e:
            raise self._stop(f"The ledger in {self.folder} could not be synced", e) from e

    def _cut_back(self, size: int) -> None:
        """Shorten the segment to its good records: durably, for what is refused must stay away."""
        assert self._fd is not None
        try:
            self._disk.truncate(self._fd, size)
        except OSError as e:
            raise self._stop(
                f"A half-written record in {self.folder} could not be taken back", e
            ) from e
        self._sync(self._fd)

    def _full(self, reason: str) -> LedgerFull:
        return LedgerFull(
            f"There is no room for the ledger in {self.folder}: {reason}. Nothing was recorded; "
            "make room, and it goes on by itself"
        )

    def _stop(self, what: str, error: OSError) -> LedgerStopped:
        self._stopped = (
            f"{what} ({error}). What is on disk is not known, so this process must end; "
            "a restart finds out"
        )
        return LedgerStopped(self._stopped)
