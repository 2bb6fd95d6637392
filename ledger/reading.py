"""Finding records in a ledger's files. No index: lines are sorted by sequence number.

Nothing here locks or writes, so it works beside a primary that appends.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ledger.codec import seq_of
from ledger.errors import LedgerDamaged

_NAME = re.compile(r"(\d{20})\.jsonl")
_NEAR = 4096
"""Bytes: within this distance lines are looked at one by one."""


class Segment(NamedTuple):
    """One ledger file and the sequence number it is named by, that of its first record."""

    first: int
    path: Path


def segment_name(first: int) -> str:
    return f"{first:020d}.jsonl"


def listing(folder: Path) -> list[Segment]:
    """The ledger's segments in order; other files are not ours and are left alone."""
    found = ((_NAME.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted(Segment(int(match[1]), path) for match, path in found if match)


def locate(file: BinaryIO, seq: int) -> tuple[int, bytes] | None:
    """Where the line of record ``seq`` begins in ``file``, and the line; None if it is not there.

    A line that cannot be read counts as later than any, as in a torn end.
    """
    low, high = 0, file.seek(0, 2)
    while high - low > _NEAR:  # the line begins in [low, high), and low begins a line
        middle = (low + high) // 2
        file.seek(middle)
        file.readline()
        start = file.tell()
        found = seq_of(file.read(32))
        if start < high and found is not None and found <= seq:
            low = start
        else:
            high = middle + 1
    file.seek(low)
    while low < high:
        line = file.readline()
        found = seq_of(line)
        if found is None or found >= seq:
            return (low, line) if found == seq else None
        low += len(line)
    return None


def holding(segments: list[Segment], seq: int) -> Segment | None:
    """The one of ``segments`` (in order) in which record ``seq`` stands, or would stand."""
    at = bisect_right(segments, seq, key=lambda segment: segment.first)
    return segments[at - 1] if at else None


def lines(folder: Path, after: int = 0) -> Iterator[bytes]:
    """The whole lines after record ``after``, as they stand: their hashes are not checked.

    Ends with the last newline there is, so a line that is being written is
    left for the next time. Raises LedgerDamaged where the way is lost.
    """
    while True:
        segments = listing(folder)
        segment = holding(segments, after + 1)
        if segment is None:
            return
        before = after
        with segment.path.open("rb") as file:
            if after >= segment.first:
                found = locate(file, after)
                if found is None:
                    raise LedgerDamaged(
                        str(segment.path),
                        after - segment.first + 1,
                        f"record {after} is not where it should be",
                    )
                file.seek(found[0] + len(found[1]))
            for line in file:
                if not line.endswith(b"\n"):
                    break
                after += 1
                yield line
        # Once more: this segment may have grown, and another may have begun since.
        if after == before:
            if segment is not segments[-1]:
                raise LedgerDamaged(str(segment.path), 0, f"record {after + 1} is missing")
            return
