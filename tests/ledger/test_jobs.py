"""The transition table by full enumeration, and what the fold makes of each event."""

from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from ledger.errors import IllegalTransition, StaleAttempt
from ledger.events import AnyEvent, Record, Submitted
from ledger.jobs import FINAL, TRANSITIONS, GivenUp, Job, State, check, fold

TIME = "2024-05-01T09:30:00.000000Z"
KINDS = [kind.__name__ for kind in get_args(AnyEvent)]

# Shortest ways into each state.
PATHS = {
    "CREATED": ["Submitted"],
    "QUEUED": ["Submitted", "Queued"],
    "RUNNING": ["Submitted", "Queued", "Started"],
    "PROCESSED": ["Submitted", "Queued", "Started", "Processed"],
    "COMPLETE": ["Submitted", "Queued", "Started", "Completed"],
    "FAILED": ["Submitted", "Queued", "Failed"],
    "KILLED": ["Submitted", "Queued", "Killed"],
}

LEGAL = {
    "CREATED": {"Queued", "Failed", "KillRequested", "Killed"},
    "QUEUED": {"Started", "Failed", "Requeued", "KillRequested", "Killed"},
    "RUNNING": {"Processed", "Completed", "Failed", "Requeued", "KillRequested", "Killed"},
    "PROCESSED": {"Completed", "Failed", "Requeued", "KillRequested", "Killed"},
    "COMPLETE": {"Purged", "Noted"},
    "FAILED": {"Purged", "Noted"},
    "KILLED": {"Purged", "Noted"},
}


def folded(sample: dict[str, AnyEvent], kinds: list[str]) -> Job:
    job: Job | None = None
    for seq, kind in enumerate(kinds, 1):
        job = fold(job, record(seq, sample[kind]))
    assert job is not None
    return job


def record(seq: int, event: AnyEvent) -> Record:
    return Record(seq, TIME, event, seq, "0" * 64)


def test_every_state_has_a_path() -> None:
    assert PATHS.keys() == LEGAL.keys() == set(State)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", State)
def test_every_event_in_every_state(sample: dict[str, AnyEvent], state: State, kind: str) -> None:
    job = folded(sample, PATHS[state])
    assert job.state == state
    before = msgspec.to_builtins(job)
    event = sample[kind]
    if kind in LEGAL[state]:
        after = fold(job, record(9, event))
        assert after.state == check(job, event) == TRANSITIONS[state, type(event)]
        assert after.records == (*job.records, 9)
    else:
        with pytest.raises(IllegalTransition, match=f"{kind} .*{job.id}.*{state}"):
            fold(job, record(9, event))
    assert msgspec.to_builtins(job) == before


@pytest.mark.parametrize("kind", KINDS)
def test_only_submitted_begins_a_job(sample: dict[str, AnyEvent], kind: str) -> None:
    if kind == "Submitted":
        assert fold(None, record(1, sample[kind])).state == State.CREATED
    else:
        with pytest.raises(IllegalTransition):
            fold(None, record(1, sample[kind]))


@pytest.mark.parametrize("state", [s for s in State if s not in FINAL])
@pytest.mark.parametrize("attempt", [0, 2, 99])
def test_another_attempt_is_stale(sample: dict[str, AnyEvent], state: State, attempt: int) -> None:
    job = folded(sample, PATHS[state])
    for kind in LEGAL[state]:
        event = sample[kind]
        if hasattr(event, "attempt"):
            other = msgspec.structs.replace(event, attempt=attempt)
            with pytest.raises(StaleAttempt, match=f"attempt {attempt} .*whose attempt is 1"):
                check(job, other)


def test_submission(sample: dict[str, AnyEvent]) -> None:
    event = sample["Submitted"]
    assert isinstance(event, Submitted)
    job = folded(sample, ["Submitted"])
    assert (job.id, job.name, job.model, job.by) == (event.job, event.name, "test", "ann")
    assert (job.source, job.drop, job.url, job.seq, job.created) == ("drop", "a.zip", None, 1, TIME)
    assert (job.attempt, job.starts, job.queued_seq, job.final) == (1, 0, None, False)


def test_requeue_is_the_next_attempt_in_the_old_place(sample: dict[str, AnyEvent]) -> None:
    job = folded(sample, [*PATHS["RUNNING"], "Requeued"])
    assert (job.state, job.attempt, job.starts, job.queued_seq) == (State.QUEUED, 2, 1, 2)
    assert (job.worker, job.instance, job.run_dir, job.started) == (None, None, None, None)
    assert job.reason == "its worker is lost"
    again = fold(job, record(5, msgspec.structs.replace(sample["Started"], attempt=2)))
    assert (again.state, again.starts, again.worker) == (State.RUNNING, 2, "w1")


def test_the_runs_that_were_given_up_are_kept(sample: dict[str, AnyEvent]) -> None:
    events = {
        "Started": ["09:00", "10:00", "12:00"],
        "Requeued": ["09:30", "10:30", "11:00"],  # the third try never started
    }
    job = folded(sample, PATHS["QUEUED"])
    order = ["Started", "Requeued", "Started", "Requeued", "Requeued", "Started"]
    for kind in order:
        event = msgspec.structs.replace(sample[kind], attempt=job.attempt)
        if kind == "Started":
            event = msgspec.structs.replace(event, worker=f"w{job.attempt}")
        seen = Record(9, f"2024-05-01T{events[kind].pop(0)}:00.000000Z", event, 9, "0" * 64)
        job = fold(job, seen)
    at = "2024-05-01T{}:00.000000Z".format
    assert job.given_up == (
        GivenUp(1, "w1", at("09:00"), at("09:30")),
        GivenUp(2, "w2", at("10:00"), at("10:30")),
    )
    assert (job.attempt, job.worker, job.started) == (4, "w4", at("12:00"))


def test_a_wanted_kill_is_a_flag_that_stays(sample: dict[str, AnyEvent]) -> None:
    job = folded(sample, [*PATHS["RUNNING"], "KillRequested", "Requeued"])
    assert (job.kill_by, job.kill_wanted, job.state) == ("bob", True, State.QUEUED)


def test_ends(sample: dict[str, AnyEvent]) -> None:
    complete = folded(sample, PATHS["COMPLETE"])
    assert complete.ended == TIME and complete.output and complete.log and complete.run
    failed = folded(sample, [*PATHS["RUNNING"], "Failed"])
    assert (failed.failure, failed.reason, failed.output) == ("model", "exit code 3", None)
    killed = folded(sample, [*PATHS["PROCESSED"], "Killed"])
    assert killed.confirmed and killed.run == folded(sample, PATHS["PROCESSED"]).run


def test_facts_after_the_end(sample: dict[str, AnyEvent]) -> None:
    job = folded(sample, [*PATHS["FAILED"], "Noted", "Purged", "Noted"])
    assert (job.state, job.purged, job.records) == (State.FAILED, True, (1, 2, 3, 4, 5, 6))
    assert job.ended == TIME
