"""Ledgers to be torn and damaged: sealed lines of every kind of event, in files as asked for."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Sequence
from pathlib import Path

from ledger.codec import GENESIS, hash_of, seal
from ledger.disk import Disk
from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
    Failed,
    Killed,
    KillRequested,
    Noted,
    Processed,
    Purged,
    Queued,
    Requeued,
    RunFacts,
    Started,
    Submitted,
)
from ledger.reading import segment_name
from ledger.segments import Segments

TIME = "2024-05-01T09:30:00.000000Z"
# What is tried is what the files say, not how they got there: syncs would only cost time.
QUICK = Disk(sync=lambda _fd: None, sync_folder=lambda _folder: None)
_FILE = Digest(3, "ab" * 32)
_RUN = RunFacts(exit_code=0, wall_seconds=1.5, peak_memory=4096)


def events(number: int) -> list[AnyEvent]:
    """Whole lives of jobs, one after the other; the first 18 events are of every kind."""
    found: list[AnyEvent] = []
    for n in itertools.count():
        if len(found) >= number:
            return found[:number]
        found += _life(str(uuid.UUID(int=n)), n % 3)
    raise AssertionError


def sealed(sizes: Sequence[int], *, time: str = TIME) -> list[bytes]:
    """The lines of batches of these sizes."""
    lines: list[bytes] = []
    previous, waiting = GENESIS, iter(events(sum(sizes)))
    for size in sizes:
        first = len(lines) + 1
        for _ in range(size):
            lines.append(seal(len(lines) + 1, time, next(waiting), first, previous))
            previous = hash_of(lines[-1])
    return lines


def lay(folder: Path, lines: Sequence[bytes], firsts: Sequence[int] = (1,)) -> list[Path]:
    """``lines`` as segments in ``folder`` that begin with these records; their files."""
    paths = []
    for first, after in zip(firsts, [*firsts[1:], len(lines) + 1], strict=True):
        paths.append(folder / segment_name(first))
        paths[-1].write_bytes(b"".join(lines[first - 1 : after - 1]))
    return paths


def recover(folder: Path, applied: int) -> tuple[int, str | None]:
    """The number of records that a start finds, and what it says of a torn end."""
    segments = Segments.open(folder, disk=QUICK)
    try:
        return len(list(segments.recover(0, GENESIS, applied))), segments.torn
    finally:
        segments.close()


def _life(job: str, fate: int) -> list[AnyEvent]:
    begun: list[AnyEvent] = [
        Submitted(job=job, name="Größe \n 1", model="test", by="ann", source="upload"),
        Queued(job=job, input=_FILE),
        Started(job=job, attempt=1, worker="w1", instance="i1", host="h", run_dir="/r"),
    ]
    if fate == 0:
        return [
            *begun,
            Processed(job=job, attempt=1, run=_RUN),
            Completed(job=job, attempt=1, run=_RUN, log=_FILE, output=_FILE),
            Noted(job=job, text="the kill came too late"),
            Purged(job=job, by="retention", reason="older than 30 days"),
        ]
    if fate == 1:
        return [
            *begun,
            Requeued(job=job, attempt=1, reason="its worker is lost"),
            Started(job=job, attempt=2, worker="w2", instance="i2"),
            Failed(job=job, attempt=2, failure="model", reason="exit code 3", log=_FILE),
        ]
    return [
        *begun,
        KillRequested(job=job, by="bob"),
        Killed(job=job, attempt=1, confirmed=True, reason="killed by bob"),
    ]
