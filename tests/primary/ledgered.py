"""Jobs in every state, made the way the ledger makes them: by folding events."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
    Failed,
    Killed,
    KillRequested,
    Processed,
    Queued,
    Record,
    Requeued,
    RunFacts,
    Started,
    Submitted,
)
from ledger.jobs import Job, fold
from spool.names import Claim, Ticket

ID = "0b6f3c1e-5b0a-4b62-9d7f-0123456789ab"
SHA = "ab" * 32
MINE, OTHER = "1" * 16, "2" * 16  # instances
TIME = "2024-05-01T09:30:00.000000Z"
RUN = RunFacts(exit_code=0)


def folded(events: Iterable[AnyEvent], job: Job | None = None) -> Job:
    """Raises IllegalTransition or StaleAttempt, as the ledger would."""
    first = job.records[-1] + 1 if job else 1
    for seq, event in enumerate(events, first):
        job = fold(job, Record(seq, TIME, event, seq, ""))
    assert job is not None
    return job


def submitted() -> list[AnyEvent]:
    return [Submitted(job=ID, name="x", model="test", by="ann", source="upload")]


def queued(attempt: int = 1, starts: int = 0) -> list[AnyEvent]:
    """Waiting for its ``attempt``-th try, of which the first ``starts`` have started."""
    events = [*submitted(), Queued(job=ID, input=Digest(3, SHA))]
    for n in range(1, attempt):
        if n <= starts:
            events.append(started(n, f"old{n}", f"{n}" * 16))
        events.append(Requeued(job=ID, attempt=n, reason="lost"))
    return events


def started(attempt: int = 1, worker: str = "w1", instance: str = MINE) -> Started:
    return Started(job=ID, attempt=attempt, worker=worker, instance=instance)


def histories(attempt: int = 1, starts: int = 0) -> dict[str, list[AnyEvent]]:
    """The events that lead to each state, by its name."""
    waits = queued(attempt, starts)
    runs = [*waits, started(attempt)]
    processed = [*runs, Processed(job=ID, attempt=attempt, run=RUN)]
    file = Digest(3, SHA)
    ends: dict[str, AnyEvent] = {
        "COMPLETE": Completed(job=ID, attempt=attempt, run=RUN, log=file, output=file),
        "FAILED": Failed(job=ID, attempt=attempt, failure="model", reason="exit code 3"),
        "KILLED": Killed(job=ID, attempt=attempt, confirmed=True, reason="killed"),
    }
    open_ = {"CREATED": submitted(), "QUEUED": waits, "RUNNING": runs, "PROCESSED": processed}
    return open_ | {state: [*runs, event] for state, event in ends.items()}


def jobs() -> Iterator[Job]:
    """Every state x a kill wanted or not x the first or a later attempt, started or not."""
    ways = ((1, 0), (3, 0), (3, 1), (3, 2))
    for (attempt, starts), kill in itertools.product(ways, (False, True)):
        for state, events in histories(attempt, starts).items():
            if state == "CREATED" and attempt > 1:
                continue
            job = folded(events)
            if kill and not job.final:
                job = folded([KillRequested(job=ID, by="bob")], job)
            elif kill:
                continue
            yield job


def name_of(job: Job) -> str:
    kill = "-kill" if job.kill_wanted else ""
    return f"{job.state}-attempt{job.attempt}-starts{job.starts}{kill}"


def ticket(job: Job, attempt: int | None = None) -> Ticket:
    return Ticket(job.queued_seq or 0, attempt or job.attempt, job.id, SHA)


def claim(job: Job, instance: str = MINE, attempt: int | None = None) -> Claim:
    return Claim(ticket(job, attempt), instance)
