"""Reports become events: all states x reports x kill x holder x attempts left, by enumeration.

The expectation is written here a second time, from DESIGN 4, as a table of kinds.
"""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from ledger.events import AnyEvent, Completed, Failed, Killed, Noted, Requeued, Started
from ledger.jobs import FINAL, Job, State
from primary.rules import Ignore, accept, believable, give_up, ticket_of
from spool.names import Claim, ReportName, Ticket
from spool.reports import (
    AnyReport,
    FileFact,
    FinalReport,
    ProcessedReport,
    RunReport,
    StartedReport,
)
from tests.primary.ledgered import ID, MINE, OTHER, claim, folded, jobs, name_of, ticket

RUN = RunReport(exit_code=0, wall_seconds=2.0, cpu_seconds=1.0, peak_memory=9, ended=("sh (1)",))
FILE = FileFact(5, "cd" * 32)
ALL = list(jobs())
ALIVE = [job for job in ALL if job.state not in FINAL and job.state is not State.CREATED]


def facts(job: Job, instance: str = MINE) -> dict[str, Any]:
    return {"claim": str(claim(job, instance)), "instance": instance, "host": "here"}


def reports(job: Job) -> dict[str, AnyReport]:
    said = facts(job)
    return {
        "started": StartedReport(**said),
        "processed": ProcessedReport(**said, run=RUN),
        "ok": FinalReport(**said, end="ok", run=RUN, log=FILE, output=FILE),
        "ok without a run": FinalReport(**said, end="ok", log=FILE, output=FILE),
        "ok without log": FinalReport(**said, end="ok", run=RUN, output=FILE),
        "ok without output": FinalReport(**said, end="ok", run=RUN, log=FILE),
        "failed": FinalReport(**said, end="failed", failure="model", reason="code 3", run=RUN),
        "failed before it ran": FinalReport(**said, end="failed", failure="input", reason="bad"),
        "failed without a class": FinalReport(**said, end="failed", reason="?"),
        "killed": FinalReport(**said, end="killed", run=RUN, log=FILE),
        "lost": FinalReport(**said, end="lost", reason="its runner died"),
    }


KINDS = list(reports(ALIVE[0]))


def expected(job: Job, kind: str, attempts: int) -> list[str] | None:
    """The kinds of the events that DESIGN 4 asks for; None where the report is ignored."""
    begun = ["Started"] if job.state is State.QUEUED else []
    starts = job.starts + len(begun)
    kill = job.kill_wanted
    if kind == "started":
        return begun or None
    if kind == "processed":
        if job.state is State.PROCESSED:
            return None
        return [*begun, "Killed" if kill else "Processed"]
    if kind in ("ok", "ok without a run"):
        processed = [] if job.state is State.PROCESSED else ["Processed"]
        return [*begun, *processed, "Completed", *(["Noted"] if kill else [])]
    if kind.startswith("ok"):
        return None
    if kind.startswith("failed"):
        return [*begun, "Failed", *(["Noted"] if kill else [])]
    if kind == "killed":
        if kill:
            return [*begun, "Killed"]
        return [*begun, "Failed" if starts >= attempts else "Requeued"]
    assert kind == "lost"
    if kill:
        return ["Killed"]
    return ["Failed" if job.starts >= attempts else "Requeued"]


CASES = list(itertools.product(ALIVE, KINDS, (1, 2, 3, 4)))


def test_the_enumeration_covers_what_it_says() -> None:
    assert {job.state for job in ALL} == set(State)
    assert {(j.state, j.kill_wanted) for j in ALIVE} == set(
        itertools.product((State.QUEUED, State.RUNNING, State.PROCESSED), (True, False))
    )
    assert len(CASES) == 4 * 3 * 2 * len(KINDS) * 4


@pytest.mark.parametrize("job", ALIVE, ids=name_of)
@pytest.mark.parametrize("kind", KINDS)
def test_each_report_in_each_state(job: Job, kind: str) -> None:
    for attempts in (1, 2, 3, 4):
        events = accept(job, "w1", reports(job)[kind], attempts)
        wanted = expected(job, kind, attempts)
        if wanted is None:
            assert isinstance(events, Ignore)
            assert events.reason
            assert events.bad == kind.startswith("ok")
        else:
            assert not isinstance(events, Ignore)
            assert [type(event).__name__ for event in events] == wanted


def test_whatever_is_accepted_is_legal_and_of_this_attempt() -> None:
    """The ledger would refuse anything else: IllegalTransition, StaleAttempt."""
    for job, kind, attempts in CASES:
        events = accept(job, "w1", reports(job)[kind], attempts)
        if isinstance(events, Ignore):
            continue
        after = folded(events, job)
        if isinstance(reports(job)[kind], FinalReport):
            assert after.final or after.attempt == job.attempt + 1
            assert after.starts <= max(attempts, job.starts + 1)
        if after.kill_wanted and after.final:
            assert after.state is State.KILLED or isinstance(events[-1], Noted)


def test_the_same_report_twice_changes_nothing() -> None:
    """After a crash between the append and the retirement it lies there still."""
    for job, kind, attempts in CASES:
        report = reports(job)[kind]
        events = accept(job, "w1", report, attempts)
        if isinstance(events, Ignore):
            continue
        after = folded(events, job)
        name = ReportName(ID, job.attempt, str(report.__struct_config__.tag))
        doubted = believable(after, "w1", name, report, [claim(job)])
        if doubted is None:
            assert isinstance(accept(after, "w1", report, attempts), Ignore)
        else:
            assert not doubted.bad, "what was true is not called a lie later"


def test_what_a_run_measured_comes_into_the_ledger() -> None:
    job = ALIVE[0]
    for kind in ("ok", "failed", "processed"):
        events = accept(job, "w1", reports(job)[kind], 3)
        assert not isinstance(events, Ignore)
        after = folded(events, job)
        assert after.run is not None
        for field in ("exit_code", "signal", "wall_seconds", "cpu_seconds", "peak_memory"):
            assert getattr(after.run, field) == getattr(RUN, field)
        assert (after.run.ended, after.host, after.worker) == (("sh (1)",), "here", "w1")


def test_failures_keep_their_class_and_default_to_ours() -> None:
    job = ALIVE[0]
    classes = {"failed": "model", "failed before it ran": "input", "failed without a class": None}
    for kind, failure in classes.items():
        events = accept(job, "w1", reports(job)[kind], 3)
        assert not isinstance(events, Ignore)
        failed = next(e for e in events if isinstance(e, Failed))
        assert failed.failure == (failure or "system")


def test_digests_are_those_of_the_report() -> None:
    job = ALIVE[0]
    for kind, event in (("ok", Completed), ("killed", Killed)):
        wanted = next(j for j in ALIVE if j.kill_wanted) if kind == "killed" else job
        events = accept(wanted, "w1", reports(wanted)[kind], 3)
        assert not isinstance(events, Ignore)
        found = next(e for e in events if isinstance(e, event))
        assert isinstance(found, Completed | Killed)
        assert found.log is not None
        assert (found.log.size, found.log.sha256) == (FILE.size, FILE.sha256)


# --- giving up ---------------------------------------------------------------------------


def test_giving_up_by_enumeration() -> None:
    for job, attempts, confirmed in itertools.product(ALIVE, (1, 2, 3, 4), (True, False)):
        event = give_up(job, "because", attempts, confirmed=confirmed)
        if job.kill_wanted:
            assert isinstance(event, Killed)
            assert event.confirmed is confirmed
        elif job.starts >= attempts:
            assert isinstance(event, Failed)
            assert event.failure == "lost"
            assert f"{job.starts} started attempts" in event.reason
        else:
            assert isinstance(event, Requeued)
        assert "because" in event.reason
        folded([event], job)


def test_attempts_that_never_started_do_not_count() -> None:
    job = ALIVE[0]
    for _ in range(50):
        event = give_up(job, "given back", 1, confirmed=True)
        assert isinstance(event, Requeued)
        job = folded([event], job)
    assert (job.attempt, job.starts) == (51, 0)


# --- believing ---------------------------------------------------------------------------


def doubt(job: Job | None, report: AnyReport, **changed: Any) -> Ignore | None:
    of = job or ALIVE[0]
    said: dict[str, Any] = {
        "worker": "w1",
        "name": ReportName(ID, of.attempt, "final"),
        "held": [claim(of)],
    }
    said |= changed
    return believable(job, said["worker"], said["name"], report, said["held"])


@pytest.mark.parametrize("job", ALIVE, ids=name_of)
def test_the_holder_is_believed_and_nobody_else(job: Job) -> None:
    mine = reports(job)["ok"]
    assert doubt(job, mine) is None
    lies = {
        "no claim": doubt(job, mine, held=[]),
        "another one's claim": doubt(job, mine, held=[claim(job, OTHER)]),
        "another attempt's claim": doubt(job, mine, held=[claim(job, attempt=job.attempt + 1)]),
        "another input": doubt(
            job, mine, held=[Claim(ticket(job)._replace(sha256="00" * 32), MINE)]
        ),
        "another place in the queue": doubt(
            job, mine, held=[Claim(ticket(job)._replace(seq=99), MINE)]
        ),
        "a future attempt": doubt(job, mine, name=ReportName(ID, job.attempt + 1, "final")),
        "another instance": doubt(
            job, FinalReport(claim=str(claim(job)), instance=OTHER, end="lost")
        ),
        "a claim that is not in the ledger": doubt(
            job, FinalReport(claim="x", instance=MINE, end="lost")
        ),
    }
    for lie, answer in lies.items():
        assert answer is not None and answer.bad and answer.reason, lie


@pytest.mark.parametrize("job", ALIVE, ids=name_of)
def test_once_started_that_claim_alone_is_believed(job: Job) -> None:
    """A second worker that holds the same ticket: a copy, or an operator's hand."""
    other = FinalReport(claim=str(claim(job, OTHER)), instance=OTHER, end="lost")
    answer = doubt(job, other, worker="w2", held=[claim(job, OTHER)])
    same_name = doubt(job, other, worker="w1", held=[claim(job), claim(job, OTHER)])
    if job.state is State.QUEUED:
        assert answer is None and same_name is None
    else:
        for found in (answer, same_name):
            assert found is not None and not found.bad
            assert "was started by w1" in found.reason


def test_what_is_over_is_ignored_without_blame() -> None:
    for job in ALL:
        if job.state is State.CREATED:
            continue
        if job.final:
            answer = doubt(job, reports(job)["ok"])
            assert answer is not None and not answer.bad
        if job.attempt > 1:
            answer = doubt(job, reports(job)["ok"], name=ReportName(ID, 1, "final"))
            assert answer is not None and not answer.bad


def test_jobs_that_the_ledger_does_not_know() -> None:
    answer = doubt(None, reports(ALIVE[0])["ok"])
    assert answer is not None and answer.bad and ID in answer.reason


def test_a_created_job_has_no_ticket_and_no_report_of_it_is_believed() -> None:
    created = next(job for job in ALL if job.state is State.CREATED)
    assert ticket_of(created) is None
    report = FinalReport(claim=str(claim(created)), instance=MINE, end="lost")
    answer = doubt(created, report)
    assert answer is not None and answer.bad


def test_the_ticket_is_derived_from_the_ledger_alone() -> None:
    for job in ALIVE:
        assert ticket_of(job) == Ticket(2, job.attempt, ID, "ab" * 32)


@pytest.mark.parametrize("kind", ["started", "processed", "final"])
def test_a_report_under_another_kind_s_name_is_a_lie(kind: str) -> None:
    """Else a started report that is called final is looked into for ever, and never refused."""
    job = ALIVE[0]
    for report in reports(job).values():
        tag = report.__struct_config__.tag
        answer = doubt(job, report, name=ReportName(ID, job.attempt, kind))
        if tag != kind:
            assert answer is not None and answer.bad


def accepted(job: Job, kind: str) -> tuple[AnyEvent, ...]:
    events = accept(job, "w1", reports(job)[kind], 3)
    assert not isinstance(events, Ignore)
    return events


def test_started_records_who_will_be_believed() -> None:
    (event,) = accepted(ALIVE[0], "started")
    assert isinstance(event, Started)
    assert (event.worker, event.instance, event.attempt) == ("w1", MINE, 1)


@pytest.mark.parametrize(("ran", "starts"), [(True, 1), (False, 0)])
def test_a_lost_run_counts_as_a_start_though_nobody_heard_of_its_start(
    ran: bool, starts: int
) -> None:
    """Else a model that takes its runner with it would be tried again without end."""
    waiting = (job for job in ALIVE if job.state is State.QUEUED and not job.kill_wanted)
    job = next(job for job in waiting if job.starts == 0)
    report = FinalReport(**facts(job), end="lost", run=RunReport() if ran else None)
    events = accept(job, "w1", report, attempts=1)
    assert not isinstance(events, Ignore)
    assert [type(event) for event in events] == ([Started, Failed] if ran else [Requeued])
    assert sum(isinstance(event, Started) for event in events) == starts
