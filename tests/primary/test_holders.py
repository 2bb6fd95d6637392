"""Silent and stopped workers that hold jobs: what is said of them, and until when."""

from __future__ import annotations

import pytest

from ledger.jobs import Job
from primary.holders import NAMED, Holder, about
from tests.primary.hand import MODEL, Hand, Worker, running

CALM = "claims nothing"


def findings(hand: Hand) -> list[str]:
    return [f for f in hand.primary.findings() if f.startswith("worker ")]


def holder(hand: Hand, job: Job) -> Holder:
    found = hand.primary.holder(hand.job(job))
    assert found is not None
    return found


def test_nobody_has_a_job_that_waits_or_has_ended(hand: Hand, w1: Worker) -> None:
    job = hand.submit()
    assert hand.primary.holder(hand.job(job)) is None
    hand.tick()
    claim = w1.claim()
    w1.beat(claim)
    hand.tick()
    assert (holder(hand, job).worker, holder(hand, job).liveness) == ("w1", "alive")
    assert holder(hand, job).remark == ""
    w1.started(claim)
    w1.final(claim)
    hand.tick()
    assert hand.state(job) == "COMPLETE" and hand.primary.holder(hand.job(job)) is None


def test_a_silent_worker_is_named_with_its_jobs_and_the_end_of_its_lease(
    hand: Hand, w1: Worker
) -> None:
    job, _ = running(hand, w1)
    assert findings(hand) == []
    hand.pass_time(60)
    found = holder(hand, job)
    assert (found.liveness, found.silence, found.left) == ("unreachable", 60.0, 840.0)
    assert found.remark == (
        "its worker w1 has been silent for 60 s; unless that answers, it runs elsewhere in 14 min"
    )
    assert findings(hand) == [
        f"worker w1 is unreachable, silent for 60 s, and holds 1 job: {job.id}; "
        "it is given up in 14 min"
    ]


def test_a_stopped_worker_that_holds_jobs_is_a_finding_and_another_is_none(
    hand: Hand, w1: Worker
) -> None:
    job, claim = running(hand, w1)
    w1.beat(claim, stopped=True, paused=CALM)
    hand.worker("idle", "3" * 16).beat(stopped=True, paused=CALM)
    hand.tick()
    (line,) = findings(hand)
    assert line.startswith("worker w1 is stopped") and job.id in line and "in 15 min" in line
    assert holder(hand, job).liveness == "stopped"
    assert "its worker w1 is stopped; unless that answers" in holder(hand, job).remark
    assert [node.paused for node in hand.primary.nodes()[1:]] == ["", ""]


def test_what_comes_of_it_is_what_the_loop_will_do(hand: Hand, w1: Worker) -> None:
    hand.add_model("once", "attempts = 1\n" + MODEL)
    hand.add_model("patient", 'lease = "never"\n' + MODEL)
    hand.tick()
    jobs = {model: hand.submit(model=model) for model in ("once", "patient", "test")}
    hand.tick()
    claims = [w1.claim(model) for model in jobs]
    w1.beat(*claims)
    for claim in claims:
        w1.started(claim)
    hand.tick()
    hand.primary.kill(jobs["test"].id, "ann")
    hand.pass_time(120)
    remarks = {model: holder(hand, job).remark for model, job in jobs.items()}
    assert "it has no attempt left and FAILS in 13 min" in remarks["once"]
    assert "without end, since its model's lease is never" in remarks["patient"]
    assert "it is KILLED, not confirmed, in 13 min" in remarks["test"]
    (line,) = findings(hand)
    assert "holds 3 jobs" in line and line.endswith("the first is given up in 13 min")
    hand.pass_time(800)
    assert hand.state(jobs["once"]) == "FAILED" and hand.state(jobs["test"]) == "KILLED"
    (line,) = findings(hand)
    assert line.endswith("it is never given up") and "holds 1 job:" in line


def test_a_claim_without_a_start_is_held_too(hand: Hand, w1: Worker) -> None:
    job = hand.submit()
    hand.tick()
    claim = w1.claim()
    w1.beat(claim)
    hand.tick()
    hand.pass_time(45)
    assert holder(hand, job).remark.startswith("worker w1, which has claimed it, has been silent")


def test_many_jobs_are_counted_and_some_named(hand: Hand, w1: Worker) -> None:
    for _ in range(NAMED + 2):
        hand.submit()
    hand.tick()
    w1.beat(*[w1.claim() for _ in range(NAMED + 2)])
    hand.tick()
    hand.pass_time(40)
    (line,) = findings(hand)
    assert f"holds {NAMED + 2} jobs: " in line and "and 2 more; they are given up in" in line


def test_an_old_error_is_no_reason_for_the_silence(hand: Hand, w1: Worker) -> None:
    w1.beat(error="no route (3 min ago)", paused=CALM)
    hand.tick()
    assert findings(hand) == [f"worker w1 claims nothing: {CALM}"]
    hand.pass_time(50)
    assert findings(hand) == [
        "worker w1 is unreachable, silent for 50 s; "
        "the last error it told of, before that: no route (3 min ago)"
    ]


def test_a_beat_that_is_not_believed_is_the_reason(hand: Hand, w1: Worker) -> None:
    w1.beat(error="old")
    hand.tick()
    (w1.home / "reports/beat.json").write_bytes(b"{")
    hand.pass_time(50)
    (line,) = findings(hand)
    assert "its beat is not believed" in line and "old" not in line


def test_a_worker_that_is_not_started_yet_is_no_alarm_until_it_claims(hand: Hand) -> None:
    new = hand.worker("new", "3" * 16)
    hand.pass_time(100)
    node = hand.primary.nodes()[1]
    assert (node.liveness, node.last_seen, node.error) == ("new", None, "")
    assert findings(hand) == []
    job = hand.submit()
    hand.tick()
    new.claim()
    hand.tick()
    assert hand.primary.nodes()[1].liveness == "alive" and findings(hand) == []
    hand.pass_time(50)
    (line,) = findings(hand)
    assert line.startswith("worker new is unreachable, silent for 50 s, and holds 1 job")
    assert job.id in line


def test_an_instance_before_the_present_one(hand: Hand, w1: Worker) -> None:
    job, _ = running(hand, w1)
    again = hand.worker("w1", "9" * 16)
    hand.pass_time(60, again.beat)
    (line,) = findings(hand)
    assert line.startswith("worker w1 is alive, but an instance of it before this one is silent")
    assert job.id in line and holder(hand, job).liveness == "unreachable"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7200, "2 h"), (86400, "24 h"), (2e5, "2 days")],
)
def test_lengths_of_time(seconds: float, text: str) -> None:
    assert about(seconds) == text
