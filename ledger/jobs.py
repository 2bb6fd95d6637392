"""A job's states, and the only way from one to the next.

Pure. The fold has no policy, no clock and no disk: the same records give the
same jobs for ever. ``TRANSITIONS`` is the table of ARCHITECTURE.md; a test
holds the two against each other.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ledger.errors import IllegalTransition, StaleAttempt
from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
    Failed,
    Failure,
    Killed,
    KillRequested,
    Noted,
    Processed,
    Purged,
    Queued,
    Record,
    Requeued,
    RunFacts,
    Source,
    Started,
    Submitted,
)


class State(StrEnum):
    """The names of the API; they do not change."""

    CREATED = "CREATED"
    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    PROCESSED = "PROCESSED"
    COMPLETE = "COMPLETE"
    FAILED = "FAILED"
    KILLED = "KILLED"


FINAL = frozenset({State.COMPLETE, State.FAILED, State.KILLED})

_C, _Q, _R, _P = State.CREATED, State.QUEUED, State.RUNNING, State.PROCESSED

TRANSITIONS: dict[tuple[State | None, type[AnyEvent]], State] = {
    (None, Submitted): _C,
    (_C, Queued): _Q,
    (_C, Failed): State.FAILED,
    (_C, KillRequested): _C,
    (_C, Killed): State.KILLED,
    (_Q, Started): _R,
    (_Q, Failed): State.FAILED,
    (_Q, Requeued): _Q,
    (_Q, KillRequested): _Q,
    (_Q, Killed): State.KILLED,
    (_R, Processed): _P,
    (_R, Completed): State.COMPLETE,
    (_R, Failed): State.FAILED,
    (_R, Requeued): _Q,
    (_R, KillRequested): _R,
    (_R, Killed): State.KILLED,
    (_P, Completed): State.COMPLETE,
    (_P, Failed): State.FAILED,
    (_P, Requeued): _Q,
    (_P, KillRequested): _P,
    (_P, Killed): State.KILLED,
    **{(end, fact): end for end in sorted(FINAL) for fact in (Purged, Noted)},
}


class GivenUp(msgspec.Struct, frozen=True):
    """A run that was given up, and its job tried again: which attempt, where, from when to when."""

    attempt: int
    worker: str
    started: str
    ended: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One job as the fold left it. Times are UTC, RFC 3339.

    ``seq`` is the sequence of Submitted (its place in lists), ``queued_seq``
    that of Queued (its place in the queue, kept when it is requeued),
    ``records`` those of all its records. ``starts`` counts the attempts that
    started. ``loose`` says that an attempt was given up while nobody could tell
    whether it still ran. ``worker`` to ``run_dir`` say where the current or last attempt
    runs; they are None while no worker has it. ``given_up`` are the runs of the
    attempts before, as many as its model allows starts.
    """

    id: str
    name: str
    model: str
    state: State
    by: str
    source: Source
    seq: int
    created: str
    updated: str
    url: str | None = None
    drop: str | None = None
    rerun_of: str | None = None
    attempt: int = 1
    starts: int = 0
    loose: bool = False
    kill_by: str | None = None
    queued_seq: int | None = None
    input: Digest | None = None
    worker: str | None = None
    instance: str | None = None
    host: str | None = None
    node_url: str | None = None
    run_dir: str | None = None
    started: str | None = None
    ended: str | None = None
    failure: Failure | None = None
    reason: str | None = None
    confirmed: bool = True
    run: RunFacts | None = None
    log: Digest | None = None
    output: Digest | None = None
    purged: bool = False
    given_up: tuple[GivenUp, ...] = ()
    records: tuple[int, ...] = ()

    @property
    def final(self) -> bool:
        return self.state in FINAL

    @property
    def kill_wanted(self) -> bool:
        return self.kill_by is not None


def check(job: Job | None, event: AnyEvent) -> State:
    """The state that ``event`` leads to.

    Raises IllegalTransition, or StaleAttempt for another attempt's event.
    """
    state = job.state if job else None
    to = TRANSITIONS.get((state, type(event)))
    if to is None:
        raise IllegalTransition(
            f"{type(event).__name__} is not legal for job {event.job} in state {state}"
        )
    attempt = getattr(event, "attempt", None)
    if job is not None and attempt is not None and attempt != job.attempt:
        raise StaleAttempt(
            f"{type(event).__name__} of attempt {attempt} for job {job.id}, "
            f"whose attempt is {job.attempt}"
        )
    return to


def fold(job: Job | None, record: Record) -> Job:
    """The job after ``record``. Raises as ``check`` does; ``job`` is never changed."""
    event = record.event
    state = check(job, event)
    if job is None:
        assert isinstance(event, Submitted)
        return Job(
            id=event.job,
            name=event.name,
            model=event.model,
            state=state,
            by=event.by,
            source=event.source,
            url=event.url,
            drop=event.drop,
            rerun_of=event.rerun_of,
            seq=record.seq,
            created=record.time,
            updated=record.time,
            records=(record.seq,),
        )
    changes: dict[str, object] = {
        "state": state,
        "updated": record.time,
        "records": (*job.records, record.seq),
    }
    if state in FINAL and job.state not in FINAL:
        changes["ended"] = record.time
    changes.update(_fields(job, record))
    return msgspec.structs.replace(job, **changes)


def _fields(job: Job, record: Record) -> dict[str, object]:
    """What ``record`` says about the job besides its state."""
    match record.event:
        case Queued(input=digest):
            return {"input": digest, "queued_seq": record.seq}
        case Started() as e:
            return {
                "worker": e.worker,
                "instance": e.instance,
                "host": e.host,
                "node_url": e.node_url,
                "run_dir": e.run_dir,
                "started": record.time,
                "starts": job.starts + 1,
            }
        case Processed(run=run):
            return {"run": run}
        case Completed() as e:
            # Why an earlier attempt was given up is history now.
            return {"run": e.run, "log": e.log, "output": e.output, "reason": None}
        case Failed() as e:
            return {
                "failure": e.failure,
                "reason": e.reason,
                "run": e.run or job.run,
                "log": e.log,
                "output": e.output,
            }
        case Killed() as e:
            return {
                "reason": e.reason,
                "confirmed": e.confirmed,
                "run": e.run or job.run,
                "log": e.log,
                "output": e.output,
            }
        case Requeued(reason=reason, confirmed=confirmed):
            gone = ("worker", "instance", "host", "node_url", "run_dir", "started", "run")
            return {
                **dict.fromkeys(gone),
                "attempt": job.attempt + 1,
                "reason": reason,
                "loose": job.loose or not confirmed,
                "given_up": _with_run(job, record.time),
            }
        case KillRequested(by=by):
            return {"kill_by": by}
        case Purged():
            return {"purged": True}
        case _:
            return {}


def _with_run(job: Job, ended: str) -> tuple[GivenUp, ...]:
    """The runs given up, with that of the current attempt if it had one."""
    if job.worker is None or job.started is None:
        return job.given_up
    return (*job.given_up, GivenUp(job.attempt, job.worker, job.started, ended))
