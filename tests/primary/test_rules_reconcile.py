"""Ledger and files, row by row: all jobs x all small combinations of files.

What must hold is written here a second time, as properties of the file table
(DESIGN 5), and each row has its example.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TypeVar

import pytest

from ledger.jobs import FINAL, Job, State
from primary.rules import (
    Action,
    Late,
    Missing,
    Retire,
    Seen,
    Stop,
    Strange,
    Take,
    Unlink,
    reconcile,
)
from spool.names import Claim, ReportName, Ticket
from tests.primary.ledgered import ID, MINE, OTHER, claim, jobs, name_of, ticket

T = TypeVar("T")

ALL = list(jobs())
WAITING = [j for j in ALL if j.state is State.QUEUED]
HELD = [j for j in ALL if j.state in (State.RUNNING, State.PROCESSED)]
ENDED = [j for j in ALL if j.state in FINAL]
CREATED = [j for j in ALL if j.state is State.CREATED]


def report(job: Job, kind: str, attempt: int | None = None) -> ReportName:
    return ReportName(ID, attempt or job.attempt, kind)


def sightings(job: Job) -> Iterator[Seen]:
    """Every choice of: tickets, claims, reports and stops of this, the last and the next try."""
    attempts = [n for n in (job.attempt - 1, job.attempt, job.attempt + 1) if n > 0]
    tickets = [("test", ticket(job, n)) for n in attempts] + [("other", ticket(job))]
    claims = [("w1", claim(job, MINE, n)) for n in attempts]
    claims += [("w2", claim(job, OTHER)), ("w1", claim(job, OTHER))]
    reports = [("w1", report(job, "started")), ("w1", report(job, "processed"))]
    reports += [("w1", report(job, "final", n)) for n in attempts] + [("w2", report(job, "final"))]
    stops = [frozenset[tuple[str, str]](), frozenset({("w1", claim(job).key)})]
    # One folder never holds one attempt twice: a ticket is one file, renamed once.
    choices = [c for c in some(claims, 2) if len({(w, held.key) for w, held in c}) == len(c)]
    for t, c, r, s in itertools.product(some(tickets, 2), choices, some(reports, 2), stops):
        yield Seen(t, c, r, s)


def some(all_: list[T], most: int) -> list[tuple[T, ...]]:
    return [c for n in range(most + 1) for c in itertools.combinations(all_, n)]


def of(actions: list[Action], kind: type) -> list[Action]:
    return [a for a in actions if isinstance(a, kind)]


def is_holder(job: Job, worker: str, found: Claim) -> bool:
    if found.ticket != ticket(job):
        return False
    return job.instance is None or (worker, found.instance) == (job.worker, job.instance)


@pytest.mark.parametrize("job", [*WAITING, *HELD, *ENDED], ids=name_of)
def test_every_combination_of_files(job: Job) -> None:
    for seen in sightings(job):
        check(job, seen, reconcile(job, seen))


def check(job: Job, seen: Seen, actions: list[Action]) -> None:
    current = ticket(job)
    waits = job.state is State.QUEUED and ("test", current) in seen.tickets
    holders = [(w, c) for w, c in seen.claims if is_holder(job, w, c)]
    finals = {(w, n.key) for w, n in seen.reports if n.kind == "final"}
    assert len(actions) == len(set(actions)), "nothing is done twice"

    # F9 and F1: missing if and only if no ticket and no believed claim was seen.
    missing = not job.final and not waits and not holders
    assert bool(of(actions, Missing)) is missing

    # No claim of an attempt to come is touched: an operator's hand, or a bug.
    for action in actions:
        if isinstance(action, Retire | Late):
            assert job.final or all(c.ticket.attempt <= job.attempt for c in action.claims)

    # The claim of who is believed is never retired, taken for late, or left without its stop.
    for worker, held in holders:
        if job.final:
            continue
        assert not any(
            isinstance(a, Retire | Late) and (a.worker, held) in [(worker, c) for c in a.claims]
            for a in actions
        )
        wanted = job.kill_wanted and (worker, held.key) not in finals
        asked = (worker, held.key) in {(a.worker, a.key) for a in actions if isinstance(a, Stop)}
        asked = asked or (worker, held.key) in seen.stops
        if wanted:
            assert asked, "F3, F4: kill wanted, so it is stopped"

    # A ticket that workers could claim is taken back as soon as it should not be claimed.
    for model, waiting in seen.tickets:
        unlinks = [a for a in actions if isinstance(a, Unlink)]
        unlinked = [a for a in unlinks if (a.model, a.ticket) == (model, waiting)]
        right = waits and (model, waiting) == ("test", current)
        if right:
            assert bool(unlinked) is job.kill_wanted  # F2
            assert all(a.then_kill for a in unlinked)
        else:
            assert unlinked, "F6, F8; what a worker renamed takes no room in the window"
            assert not any(a.then_kill for a in unlinked)

    # F8: whoever holds an older try is stopped, or has answered.
    for worker, held in seen.claims:
        if job.final or held.ticket.attempt >= job.attempt:
            continue
        place = (worker, held.key)
        late = [a for a in actions if isinstance(a, Late) and (a.worker, a.name.key) == place]
        stop = [a for a in actions if isinstance(a, Stop) and (a.worker, a.key) == place]
        if place in finals:
            assert late and not stop
        else:
            assert not late and (stop or place in seen.stops)

    # F5: the end that the believed holder reports is looked into, always.
    for worker, held in holders:
        if not job.final and (worker, held.key) in finals:
            assert Take(worker, report(job, "final")) in actions

    # F6: of a finished job everything that was seen leaves.
    if job.final:
        retired = {(a.worker, a.key) for a in actions if isinstance(a, Retire)}
        assert retired == {
            *((w, c.key) for w, c in seen.claims),
            *((w, n.key) for w, n in seen.reports),
            *seen.stops,
        }
        gone = {(a.worker, c) for a in actions if isinstance(a, Retire) for c in a.claims}
        assert gone == set(seen.claims)
        assert all(isinstance(a, Retire | Unlink) for a in actions)


# --- an example of each row --------------------------------------------------------------


@pytest.mark.parametrize("job", CREATED, ids=name_of)
def test_f0_created(job: Job) -> None:
    assert reconcile(job, Seen()) == []
    seen = Seen(tickets=(("test", Ticket(5, 1, ID, "ab" * 32)),))
    assert of(reconcile(job, seen), Strange)
    assert not of(reconcile(job, seen), Missing)


@pytest.mark.parametrize("job", WAITING, ids=name_of)
def test_f1_and_f9_nothing_was_seen(job: Job) -> None:
    assert reconcile(job, Seen()) == [Missing()]


@pytest.mark.parametrize("job", WAITING, ids=name_of)
def test_f2_in_new(job: Job) -> None:
    wanted = [Unlink("test", ticket(job), then_kill=True)] if job.kill_wanted else []
    assert reconcile(job, Seen(tickets=(("test", ticket(job)),))) == wanted


@pytest.mark.parametrize("job", [*WAITING, *HELD], ids=name_of)
def test_f3_f4_in_cur(job: Job) -> None:
    seen = Seen(claims=(("w1", claim(job)),))
    actions = reconcile(job, seen)
    assert [type(a) for a in actions] == ([Stop] if job.kill_wanted else [])
    asked = seen._replace(stops=frozenset({("w1", claim(job).key)}))
    assert reconcile(job, asked) == [], "asked once"


@pytest.mark.parametrize("job", [*WAITING, *HELD], ids=name_of)
@pytest.mark.parametrize("kind", ["started", "processed", "final"])
def test_f5_a_report_is_looked_into_while_it_is_news(job: Job, kind: str) -> None:
    seen = Seen(claims=(("w1", claim(job)),), reports=(("w1", report(job, kind)),))
    news = {
        "started": job.state is State.QUEUED,
        "processed": job.state is not State.PROCESSED,
        "final": True,
    }
    assert bool(of(reconcile(job, seen), Take)) is news[kind]


@pytest.mark.parametrize("job", [*WAITING, *HELD], ids=name_of)
def test_f5_a_final_report_stands_for_those_before_it(job: Job) -> None:
    said = tuple(("w1", report(job, kind)) for kind in ("final", "processed", "started"))
    seen = Seen(claims=(("w1", claim(job)),), reports=said)
    assert of(reconcile(job, seen), Take) == [Take("w1", report(job, "final"))]


@pytest.mark.parametrize("job", [*WAITING, *HELD], ids=name_of)
def test_f5_a_report_without_a_claim_is_looked_into_to_be_refused(job: Job) -> None:
    seen = Seen(reports=(("w1", report(job, "final")),))
    assert reconcile(job, seen) == [Take("w1", report(job, "final")), Missing()]


@pytest.mark.parametrize("job", ENDED, ids=name_of)
def test_f6_the_end(job: Job) -> None:
    assert reconcile(job, Seen()) == []  # F7
    seen = Seen(claims=(("w1", claim(job)),), reports=(("w1", report(job, "final")),))
    assert reconcile(job, seen) == [Retire("w1", claim(job).key, (claim(job),))]


@pytest.mark.parametrize("job", [j for j in [*WAITING, *HELD] if j.attempt > 1], ids=name_of)
def test_f8_an_attempt_that_is_over(job: Job) -> None:
    old = claim(job, OTHER, job.attempt - 1)
    (stop,) = of(reconcile(job, Seen(claims=(("w2", old),))), Stop)
    assert isinstance(stop, Stop) and (stop.worker, stop.key) == ("w2", old.key)
    answered = Seen(
        claims=(("w2", old),),
        reports=(("w2", report(job, "final", job.attempt - 1)),),
        stops=frozenset({("w2", old.key)}),
    )
    assert of(reconcile(job, answered), Late) == [
        Late("w2", report(job, "final", job.attempt - 1), (old,))
    ]
    without_claim = Seen(reports=(("w2", report(job, "started", job.attempt - 1)),))
    assert of(reconcile(job, without_claim), Retire) == [Retire("w2", old.key, ())]


@pytest.mark.parametrize("job", HELD, ids=name_of)
def test_a_running_job_s_ticket_that_came_back_is_taken_away(job: Job) -> None:
    """Else a second worker would run the same attempt."""
    seen = Seen(tickets=(("test", ticket(job)),), claims=(("w1", claim(job)),))
    assert Unlink("test", ticket(job)) in reconcile(job, seen)


@pytest.mark.parametrize("job", HELD, ids=name_of)
def test_a_second_claim_of_the_same_attempt_is_stopped(job: Job) -> None:
    seen = Seen(claims=(("w1", claim(job)), ("w2", claim(job, OTHER))))
    assert [a.worker for a in reconcile(job, seen) if isinstance(a, Stop)] == (
        ["w1", "w2"] if job.kill_wanted else ["w2"]
    )


@pytest.mark.parametrize("job", [*WAITING, *HELD], ids=name_of)
def test_a_ticket_of_another_model_or_input_is_not_this_job_s(job: Job) -> None:
    elsewhere = reconcile(job, Seen(tickets=(("other", ticket(job)),)))
    assert of(elsewhere, Missing)
    forged = ticket(job)._replace(sha256="00" * 32)
    assert [type(a) for a in reconcile(job, Seen(tickets=(("test", forged),)))] == [
        Unlink,
        Missing,
    ]


def test_what_the_ledger_does_not_know_is_shown_and_its_reports_are_refused() -> None:
    of_none = ticket(WAITING[0])
    seen = Seen(
        tickets=(("test", of_none),),
        claims=(("w1", Claim(of_none, MINE)),),
        reports=(("w1", ReportName(ID, 1, "final")),),
        stops=frozenset({("w1", of_none.key)}),
    )
    actions = reconcile(None, seen)
    assert [type(a) for a in actions] == [Strange, Strange, Take]
    assert "models/test/new/" in str(actions[0]) and "workers/w1/cur/" in str(actions[1])
