"""Reading a ledger that nobody vouches for: what is good, what is torn, what is damaged.

The end of a ledger may be torn by a crash in the middle of a write. It is cut
off if, and only if, nothing of it can have been acknowledged: a batch is
written after the one before it was synced, so a readable record of a *later*
batch than the first bad record's proves that the bad one was synced once, and
then this is no torn end but damage. What is cut off is kept beside.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ledger.codec import BadLine, unseal
from ledger.disk import Disk
from ledger.errors import LedgerDamaged, LedgerError
from ledger.events import Record
from ledger.reading import Segment, holding, listing, locate

RESTORE = "restore the ledger from a backup; the files in jobs/ are untouched"


class TornEnd(LedgerError):
    """From ``offset`` of ``segment`` on nothing can be read, and nothing was acknowledged.

    ``seq`` is the sequence number of the first record that is not there.
    """

    def __init__(self, segment: Segment, offset: int, seq: int, reason: str) -> None:
        self.segment, self.offset, self.seq, self.reason = segment, offset, seq, reason
        super().__init__(f"{segment.path.name} is torn at record {seq}: {reason}")


@dataclass
class _Place:
    """How far the check has come: all before ``seq`` is good, ``previous`` is its last hash."""

    seq: int
    previous: str


def check(folder: Path, after: int, previous: str, applied: int = 0) -> Iterator[Record]:
    """The records after ``after`` (whose hash is ``previous``), each checked against the chain.

    ``applied`` is the sequence number of the last record that is known to have
    been acknowledged. Raises TornEnd after the last good record where the end
    is torn, and LedgerDamaged for everything else that is wrong, a ledger that
    ends before ``applied`` included. May be used while a primary appends.
    """
    place = _Place(after + 1, previous)
    segment, offset = _start(folder, after)
    while segment is not None:
        try:
            yield from _check_segment(segment, offset, place)
        except TornEnd as torn:
            if torn.seq > applied:
                raise
            raise _damaged(
                segment, torn.seq, f"{torn.reason}; the board has applied up to record {applied}"
            ) from torn
        offset = 0
        last, segment = segment, _following(segment)
        if segment is not None and segment.first != place.seq:
            raise _damaged(
                last, place.seq, f"record {place.seq} is missing; {segment.path.name} follows"
            )
    if place.seq <= applied:
        raise LedgerDamaged(
            str(folder),
            0,
            f"the ledger ends with record {place.seq - 1}, but the board has applied up to "
            f"record {applied}",
            f"{RESTORE}; or delete the board if the records between are to be given up",
        )


def cut(torn: TornEnd, disk: Disk) -> str:
    """Cut a torn end off and keep it beside; a sentence for the operator.

    Raises OSError; what was cut is on disk under its new name before the
    segment is shortened, so a crash in between only cuts again.
    """
    path, folder = torn.segment.path, torn.segment.path.parent
    with path.open("rb") as source:
        source.seek(torn.offset)
        rest = source.read()
    kept = _keep(folder, f"{path.stem}.{torn.offset}", rest, disk)
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        disk.truncate(fd, torn.offset)
        disk.sync(fd)
    finally:
        os.close(fd)
    return (
        f"The end of {path.name} was torn ({torn.reason}): {len(rest)} bytes from record "
        f"{torn.seq} on, never acknowledged, were moved to {kept.name}."
    )


def _start(folder: Path, after: int) -> tuple[Segment | None, int]:
    """The segment and offset at which the record after ``after`` begins."""
    segments = listing(folder)
    if segments and segments[0].first != 1:
        raise LedgerDamaged(
            str(segments[0].path), 0, "the segments before this one are missing", RESTORE
        )
    if after == 0:
        return (segments[0] if segments else None), 0
    segment = holding(segments, after)
    if segment is None:
        raise LedgerDamaged(str(folder), 0, f"record {after} is missing", RESTORE)
    with segment.path.open("rb") as file:
        found = locate(file, after)
    if found is None:
        raise _damaged(segment, after, f"record {after} is not where it should be")
    return segment, found[0] + len(found[1])


def _following(segment: Segment) -> Segment | None:
    later = (s for s in listing(segment.path.parent) if s.first > segment.first)
    return min(later, default=None)


def _check_segment(segment: Segment, offset: int, place: _Place) -> Iterator[Record]:
    """The good records of one segment from ``offset`` on; moves ``place`` on."""
    whole = False  # nothing is added to this segment any more
    with segment.path.open("rb") as file:
        file.seek(offset)
        while True:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                yield _next(segment, offset, line, place)
                offset += len(line)
            else:
                line = b""
            if not whole and _following(segment) is not None:
                # A primary may have gone on here, before it began the next segment.
                whole = True
                file.seek(offset)
                continue
            if line and whole:
                raise _damaged(segment, place.seq, "the newline at the end is missing")
            if line:  # valid but for its newline: kept
                yield _next(segment, offset, line + b"\n", place)
            return


def _next(segment: Segment, offset: int, line: bytes, place: _Place) -> Record:
    """The record on ``line``, which must be the next one."""
    try:
        record = unseal(line, place.previous)
        if record.seq != place.seq:
            raise BadLine(f"record {record.seq} stands where {place.seq} should")
    except BadLine as bad:
        raise _judge(segment, offset, place.seq, str(bad)) from None
    place.seq += 1
    place.previous = record.hash
    return record


def _judge(segment: Segment, offset: int, seq: int, reason: str) -> TornEnd | LedgerDamaged:
    """Whether the end from ``offset`` on, where record ``seq`` should be, is torn or damaged."""
    if _following(segment) is not None:  # begun after all of this one was synced
        return _damaged(segment, seq, reason)
    with segment.path.open("rb") as file:
        file.seek(offset)
        for later in _readable(file):
            if later.batch > seq or later.seq < seq:
                return _damaged(
                    segment,
                    seq,
                    f"{reason}; record {later.seq} after it was written later than this one",
                )
    return TornEnd(segment, offset, seq, reason)


def _readable(file: BinaryIO) -> Iterator[Record]:
    for line in file:
        try:
            yield unseal(line if line.endswith(b"\n") else line + b"\n", None)
        except BadLine:
            continue


def _damaged(segment: Segment, seq: int, reason: str) -> LedgerDamaged:
    return LedgerDamaged(str(segment.path), seq - segment.first + 1, reason, RESTORE)


def _keep(folder: Path, stem: str, rest: bytes, disk: Disk) -> Path:
    """``rest`` under a new name in ``folder``, synced."""
    number = 1
    while True:
        path = folder / (f"{stem}.torn" if number == 1 else f"{stem}.{number}.torn")
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
            break
        except FileExistsError:
            number += 1
    try:
        left = memoryview(rest)
        while left:
            left = left[disk.write(fd, left) :]
        disk.sync(fd)
    finally:
        os.close(fd)
    disk.sync_folder(folder)
    return path
