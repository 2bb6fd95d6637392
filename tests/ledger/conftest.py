"""Events to append, ledgers to append them to, and files full of records."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from ledger.codec import GENESIS, hash_of, seal
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
from ledger.log import Ledger

TIME = "2024-05-01T09:30:00.000000Z"


@pytest.fixture
def sample() -> dict[str, AnyEvent]:
    """One event of each kind, all of the same job and its first attempt."""
    job = str(uuid.uuid4())
    file = Digest(3, "ab" * 32)
    run = RunFacts(exit_code=0, wall_seconds=1.5, peak_memory=4096, ended=("sleep",))
    events: list[AnyEvent] = [
        Submitted(job=job, name="Größe \n 1", model="test", by="ann", source="drop", drop="a.zip"),
        Queued(job=job, input=file),
        Started(job=job, attempt=1, worker="w1", instance="i1", host="h", run_dir="/r"),
        Processed(job=job, attempt=1, run=run),
        Completed(job=job, attempt=1, run=run, log=file, output=file),
        Failed(job=job, attempt=1, failure="model", reason="exit code 3", run=run, log=file),
        Requeued(job=job, attempt=1, reason="its worker is lost"),
        KillRequested(job=job, by="bob"),
        Killed(job=job, attempt=1, confirmed=True, reason="killed by bob", output=file),
        Purged(job=job, by="retention", reason="older than 30 days"),
        Noted(job=job, text="the kill came too late"),
    ]
    return {type(event).__name__: event for event in events}


@pytest.fixture
def life() -> Callable[..., list[AnyEvent]]:
    """The events of one job from its submission to its end, as a worker's luck has it."""

    def make(job: str = "", model: str = "test", name: str = "a job") -> list[AnyEvent]:
        job = job or str(uuid.uuid4())
        file = Digest(3, "ab" * 32)
        return [
            Submitted(job=job, name=name, model=model, by="ann", source="upload"),
            Queued(job=job, input=file),
            Started(job=job, attempt=1, worker="w1", instance="i1"),
            Completed(job=job, attempt=1, run=RunFacts(exit_code=0), log=file, output=file),
        ]

    return make


@pytest.fixture
def batches(life: Callable[..., list[AnyEvent]]) -> Callable[[Sequence[int]], list[bytes]]:
    """The sealed lines of batches of the given sizes, each line a record of some job's life."""

    def make(sizes: Sequence[int]) -> list[bytes]:
        events: list[AnyEvent] = []
        while len(events) < sum(sizes):
            events += life(str(uuid.UUID(int=len(events))))
        lines: list[bytes] = []
        previous = GENESIS
        for size in sizes:
            first = len(lines) + 1
            for _ in range(size):
                seq = len(lines) + 1
                lines.append(seal(seq, TIME, events[seq - 1], first, previous))
                previous = hash_of(lines[-1])
        return lines

    return make


@pytest.fixture
def open_ledger(tmp_path: Path) -> Iterator[Callable[..., Ledger]]:
    """Opens the ledger of ``tmp_path`` (again); what is still open at the end is closed."""
    opened: list[Ledger] = []

    def open_(**options: Any) -> Ledger:
        for ledger in opened:
            ledger.close()
        opened.append(Ledger.open(tmp_path / "ledger", tmp_path / "board.sqlite", **options))
        return opened[-1]

    yield open_
    for ledger in opened:
        ledger.close()
