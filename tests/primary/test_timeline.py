"""Which worker ran what: held against the records of the same ledger."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
    Failed,
    Killed,
    Processed,
    Purged,
    Queued,
    Requeued,
    RunFacts,
    Started,
    Submitted,
)
from ledger.log import Ledger
from ledger.times import stamp
from primary import timeline as module
from primary.timeline import Run, Timeline, timeline
from tests.primary.hand import Hand, Worker, running

START = datetime(2024, 5, 1, tzinfo=UTC)
FILE = Digest(3, "ab" * 32)
OK = RunFacts(exit_code=0)
STEP = timedelta(minutes=10)  # between two records


class Days:
    """A ledger in which a record is made every ten minutes."""

    def __init__(self, folder: Path) -> None:
        self.now = START
        self.ledger = Ledger.open(folder / "ledger", folder / "board", clock=lambda: self.now)

    def at(self, *events: AnyEvent) -> str:
        self.now += STEP
        self.ledger.append(lambda _: events)
        return stamp(self.now)

    def submitted(self, name: str = "a job") -> str:
        job = str(uuid.uuid4())
        told = Submitted(job=job, name=name, model="test", by="ann", source="upload")
        self.at(told, Queued(job=job, input=FILE))
        return job

    def started(self, job: str, worker: str, attempt: int = 1) -> str:
        return self.at(Started(job=job, attempt=attempt, worker=worker, instance="1" * 16))

    def ended(self, job: str, end: str, attempt: int = 1) -> str:
        ends: dict[str, AnyEvent] = {
            "COMPLETE": Completed(job=job, attempt=attempt, run=OK, log=FILE, output=FILE),
            "FAILED": Failed(job=job, attempt=attempt, failure="model", reason="exit code 3"),
            "LOST": Failed(job=job, attempt=attempt, failure="lost", reason="silent"),
            "KILLED": Killed(job=job, attempt=attempt, confirmed=True, reason="killed"),
            "requeued": Requeued(job=job, attempt=attempt, reason="silent"),
            "PROCESSED": Processed(job=job, attempt=attempt, run=OK),
            "purged": Purged(job=job, by="age", reason="old"),
        }
        return self.at(ends[end])

    def timeline(self, hours: float = 24) -> Timeline:
        return timeline(self.ledger.board, self.now, hours)


@pytest.fixture
def days(tmp_path: Path) -> Iterator[Days]:
    made = Days(tmp_path)
    with closing(made.ledger):
        yield made


def test_every_end_of_a_run(days: Days) -> None:
    expected = []
    for end in ("COMPLETE", "FAILED", "KILLED", "LOST"):
        job = days.submitted(end)
        times = days.started(job, "w1"), days.ended(job, end)
        expected.append(Run("w1", job, end, "test", 1, *times, end))
    purged = expected[0].job
    days.ended(purged, "purged")
    found = days.timeline()
    assert found.runs == tuple(reversed(expected)), "the newest first, and the purged one too"
    assert not found.cut
    assert (found.since, found.until) == (stamp(days.now - timedelta(days=1)), stamp(days.now))


def test_what_runs_has_no_end(days: Days) -> None:
    first, second = days.submitted(), days.submitted()
    times = days.started(first, "w1"), days.started(second, "w2")
    days.ended(second, "PROCESSED")
    days.submitted("waits")
    assert [(run.worker, run.started, run.ended, run.end) for run in days.timeline().runs] == [
        ("w2", times[1], None, "RUNNING"),
        ("w1", times[0], None, "RUNNING"),
    ]


def test_runs_that_were_given_up_are_lost(days: Days) -> None:
    job = days.submitted()
    first = days.started(job, "w1"), days.ended(job, "requeued")
    days.ended(job, "requeued", 2)  # never started: no run
    second = days.started(job, "w2", 3), days.ended(job, "requeued", 3)
    waiting = [(r.worker, r.attempt, r.started, r.ended, r.end) for r in days.timeline().runs]
    lost = [("w2", 3, *second, "LOST"), ("w1", 1, *first, "LOST")]
    assert waiting == lost
    third = days.started(job, "w1", 4), days.ended(job, "COMPLETE", 4)
    done = [(r.worker, r.attempt, r.started, r.ended, r.end) for r in days.timeline().runs]
    assert done == [("w1", 4, *third, "COMPLETE"), *lost]


def test_killed_while_it_waited_again_ran_only_before(days: Days) -> None:
    job = days.submitted()
    days.started(job, "w1")
    days.ended(job, "requeued")
    days.ended(job, "KILLED", 2)
    never = days.submitted()
    days.ended(never, "KILLED")
    assert [(run.attempt, run.end) for run in days.timeline().runs] == [(1, "LOST")]


def test_only_what_was_under_way_in_the_period(days: Days) -> None:
    old, long_, lost = days.submitted("old"), days.submitted("long"), days.submitted("lost")
    for job in (old, long_, lost):
        days.started(job, "w1")
    days.ended(old, "COMPLETE")
    days.ended(lost, "requeued")
    days.now += timedelta(hours=25)
    days.ended(long_, "COMPLETE")
    assert [run.name for run in days.timeline().runs] == ["long"], "it began before"
    assert len(days.timeline(48).runs) == 3
    days.started(lost, "w2", 2)
    days.ended(lost, "requeued", 2)
    assert [(run.name, run.attempt) for run in days.timeline().runs] == [("lost", 2), ("long", 1)]


@pytest.mark.parametrize("most", range(1, 9))
def test_what_is_cut_is_the_oldest_and_it_is_said(
    days: Days, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    for number in range(5):
        job = days.submitted(str(number))
        days.started(job, "w1")
        if number % 2:
            days.ended(job, "requeued")
            days.started(job, "w2", 2)
        days.ended(job, "COMPLETE", 1 + number % 2)
    runs_now = days.submitted("now")
    days.started(runs_now, "w1")
    whole = days.timeline()
    assert (len(whole.runs), whole.cut) == (8, False)
    monkeypatch.setattr(module, "MOST", most)
    found = days.timeline()
    assert found.runs == whole.runs[:most]
    assert found.cut == (most < 8)
    if found.cut:
        assert found.since == (whole.runs[most].ended or ""), "from there on, all are shown"


def test_the_primary_s_own(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    (run,) = hand.primary.timeline().runs
    assert (run.worker, run.job, run.ended, run.end) == ("w1", job.id, None, "RUNNING")
    w1.final(claim)
    hand.tick(2)
    (run,) = hand.primary.timeline().runs
    assert run.end == "COMPLETE" and run.ended is not None and run.ended >= run.started
    assert hand.primary.timeline(hours=0).runs == ()
