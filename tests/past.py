"""A data directory with a past: thousands of jobs of one day in the ledger, for measurements.

The jobs have ended, and have no files; only the last one has, so that its page has
something to show. Nothing was ever run: the events are those of a busy day.
"""

from __future__ import annotations

import io
import random
import uuid
import zipfile
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
    Failed,
    Killed,
    KillRequested,
    Queued,
    Requeued,
    RunFacts,
    Started,
    Submitted,
)
from ledger.log import Ledger

MODELS = ("grid", "heat", "ports", "rivers", "storage")
WORKERS = 8
BATCH = timedelta(seconds=30)  # events of so long share an append, and their time
LOG = b"".join(b"iteration %d: the gap is %.4f\n" % (n, 1 / (n + 1)) for n in range(2000))

Timed = tuple[datetime, AnyEvent]


def write(data: Path, jobs: int, hours: float = 24.0, seed: int = 1) -> str:
    """Writes ``jobs`` ended jobs of the last ``hours`` into ``data``; the id of the last one."""
    chance = random.Random(seed)
    now = datetime.now(UTC)
    begin = now - timedelta(hours=hours)
    step = timedelta(hours=hours) / (jobs + 1)
    events: list[Timed] = []
    for n in range(jobs - 1):
        events += _job(chance, n, begin + n * step, now)
    last = _id(chance)
    events += _last(last, data / "jobs" / last, now - timedelta(seconds=20))
    events.sort(key=lambda timed: timed[0])  # stable: a job's own order stays
    clock = [begin]
    data.mkdir(parents=True, exist_ok=True)
    ledger = Ledger.open(data / "ledger", data / "board.sqlite", clock=lambda: clock[0])
    try:
        for slot, batch in groupby(events, lambda timed: (timed[0] - begin) // BATCH):
            clock[0] = begin + (slot + 1) * BATCH
            together = tuple(event for _, event in batch)
            ledger.append(_all(together))
    finally:
        ledger.close()
    return last


def _all(events: Sequence[AnyEvent]) -> Callable[[object], Sequence[AnyEvent]]:
    return lambda _: events


def zipped(**files: bytes) -> bytes:
    """A zip that holds ``files``."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def _id(chance: random.Random) -> str:
    return str(uuid.UUID(int=chance.getrandbits(128), version=4))


def _digest(data: bytes) -> Digest:
    return Digest(len(data), sha256(data).hexdigest())


def _job(chance: random.Random, n: int, at: datetime, now: datetime) -> Iterator[Timed]:
    id, model = _id(chance), MODELS[n % len(MODELS)]
    size = Digest(1000 + n, sha256(id.encode()).hexdigest())
    name = f"{model} scenario {n}: {chance.choice(('base', 'high', 'low'))} case"
    yield at, Submitted(job=id, name=name, model=model, by="10.0.0.7", source="upload")
    yield at, Queued(job=id, input=size)
    kind = chance.random()
    attempt = 1
    at = min(at + timedelta(seconds=chance.uniform(0, 60)), now)
    if kind < 0.01:
        yield at, _started(chance, id, attempt)
        at = min(at + timedelta(seconds=900), now)
        yield at, Requeued(job=id, attempt=1, reason="its worker was silent for 15 min")
        attempt = 2
    yield at, _started(chance, id, attempt)
    seconds = chance.expovariate(1 / 5)
    at = min(at + timedelta(seconds=seconds), now)
    run = RunFacts(exit_code=0, wall_seconds=seconds, cpu_seconds=seconds, peak_memory=50_000_000)
    if kind < 0.05:
        failed = RunFacts(exit_code=1, wall_seconds=seconds, cpu_seconds=seconds, peak_memory=1)
        reason = "the model ended with exit code 1; its last line: no such column: year"
        yield (
            at,
            Failed(job=id, attempt=attempt, failure="model", reason=reason, run=failed, log=size),
        )
    elif kind < 0.07:
        yield at, KillRequested(job=id, by="admin@10.0.0.7")
        yield at, Killed(job=id, attempt=attempt, confirmed=True, reason="killed by admin@10.0.0.7")
    else:
        yield at, Completed(job=id, attempt=attempt, run=run, log=size, output=size)


def _started(chance: random.Random, id: str, attempt: int) -> Started:
    worker = f"node-{chance.randrange(WORKERS)}"
    return Started(job=id, attempt=attempt, worker=worker, instance="0" * 16, host=worker)


def _last(id: str, folder: Path, at: datetime) -> Iterator[Timed]:
    """The newest job, with files."""
    folder.mkdir(parents=True)
    files = {
        "input.zip": zipped(**{"data.csv": b"year,load\n2030,1\n"}),
        "job_log.txt": LOG,
        "output.zip": zipped(
            **{f"table-{n:03}.csv": b"hour,load\n" + b"1,2\n" * 500 for n in range(200)}
        ),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    run = RunFacts(exit_code=0, wall_seconds=12.0, cpu_seconds=11.0, peak_memory=80_000_000)
    yield at, Submitted(job=id, name="the last one", model="grid", by="::1", source="upload")
    yield at, Queued(job=id, input=_digest(files["input.zip"]))
    yield at, Started(job=id, attempt=1, worker="node-0", instance="0" * 16, host="node-0")
    yield (
        at,
        Completed(
            job=id,
            attempt=1,
            run=run,
            log=_digest(files["job_log.txt"]),
            output=_digest(files["output.zip"]),
        ),
    )
