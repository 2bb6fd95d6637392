"""The explorer must find each race again when the rule against it is taken out.

Every case takes one rule out of the code (two where either is enough), and
names the scenario in which the explorer then finds a broken promise. The same
scenario is played with all rules in place by ``test_explorer``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import engine.agent
import ledger.jobs
import primary.loop
import primary.nodes
import primary.rules
from ledger.events import Queued, Requeued
from primary.intake import Intake
from primary.loop import Loop
from primary.rules import Ignore, Unlink, accept
from primary.submission import Submissions
from spool import names
from spool.claims import Claims
from spool.dispatch import Dispatch, Sighting
from spool.reports import FinalReport
from tests.protocol import scenarios
from tests.protocol.scenarios import Scenario
from tests.protocol.search import explore
from tests.protocol.world import Stage

Patch = pytest.MonkeyPatch


def same_attempt_again(patch: Patch) -> None:
    """A lost job is published again under the attempt that was lost."""
    real = ledger.jobs._fields

    def fields(job: Any, record: Any) -> dict[str, object]:
        changes = real(job, record)
        if isinstance(record.event, Requeued):
            changes["attempt"] = job.attempt
        return changes

    patch.setattr(ledger.jobs, "_fields", fields)


def reports_before_the_claim(patch: Patch) -> None:
    """Retiring removes the reports first: the worker sees its claim still there, and delivers."""

    def retire(self: Dispatch, worker: str, key: str, claims: Any) -> None:
        self.tidy(worker, key)
        for claim in claims:
            self._transport.drop(f"{names.worker_folder(worker)}/{names.CUR}/{claim}")

    patch.setattr(Dispatch, "retire", retire)


def one_beat_is_enough(patch: Patch) -> None:
    """A single beat without the claim gives it back."""
    patch.setattr(primary.nodes, "BEATS_WITHOUT", 1)


def beats_before_the_first_look(patch: Patch) -> None:
    """An agent that was restarted beats while it has not yet looked at what it holds."""

    def run(self: Any) -> None:
        self._catalog.reload()
        self._beats.start()
        for _ in range(3):  # the look takes a while
            self.stopping.wait(1)
        while not self.stopping.is_set():
            self._look()
            self._wait()

    patch.setattr(engine.agent.Agent, "run", run)


def claims_before_tickets(patch: Patch) -> None:
    """A scan lists every cur/ first, and new/ last."""
    real = Dispatch.scan

    def scan(self: Dispatch, models: Any, workers: Any) -> Sighting:
        seen = real(self, (), workers)
        return seen._replace(tickets=real(self, models, ()).tickets)

    patch.setattr(Dispatch, "scan", scan)


def one_scan_is_enough(patch: Patch) -> None:
    """What one scan misses is gone."""
    real = Loop._miss

    def miss(self: Loop, job: Any) -> None:
        if self._scans >= 2:
            self._missed[job.id] = 1
        real(self, job)

    patch.setattr(Loop, "_miss", miss)


def claims_first_and_one_scan(patch: Patch) -> None:
    """Both together."""
    claims_before_tickets(patch)
    one_scan_is_enough(patch)


def killed_with_its_ticket_there(patch: Patch) -> None:
    """The kill of a waiting job is entered first, and its ticket unlinked then."""
    real = Loop._act

    def act(self: Loop, action: Any, job: Any, held: Any) -> None:
        if isinstance(action, Unlink) and action.then_kill and job is not None:
            self._kill_waiting(job)
            action = action._replace(then_kill=False)
        real(self, action, job, held)

    patch.setattr(Loop, "_act", act)


def _believable(*checked: str) -> Callable[..., Ignore | None]:
    """``rules.believable`` with only those of its checks that are named."""

    def believable(job: Any, _worker: str, name: Any, report: Any, held: Any) -> Ignore | None:
        if job is None or name.attempt != job.attempt or job.final:
            return Ignore("not about the current attempt")
        ticket = primary.rules.ticket_of(job)
        mine = [c for c in held if c.ticket == ticket and str(c) == report.claim]
        if "claim" in checked and not mine:
            return Ignore("no claim", bad=True)
        if "holder" in checked and job.instance not in (None, report.instance):
            return Ignore("started by another")
        return None

    return believable


def any_claim_is_believed(patch: Patch) -> None:
    """Whose claim Started named is not looked at."""
    patch.setattr(primary.rules, "_is_holder", lambda *_: True)
    patch.setattr("primary.intake.believable", _believable("claim"))


def no_claim_is_needed(patch: Patch) -> None:
    """A report is believed without a claim in its worker's own cur/."""
    patch.setattr(primary.rules, "_is_holder", lambda *_: True)
    patch.setattr("primary.intake.believable", _believable())


def accepted_before_adopted(patch: Patch) -> None:
    """The end is entered into the ledger before its files are on our disk."""

    def take(self: Any, worker: str, name: Any, _: bytes, report: Any, claims: Any) -> None:
        self._ledger.append(lambda lookup: _events(accept(lookup(name.job), worker, report, 3)))
        if isinstance(report, FinalReport):
            self._adopt(worker, name, report, late=None)
            self._dispatch.retire(worker, name.key, (c for c in claims if c.key == name.key))

    patch.setattr(Intake, "_accept", take)


def _events(events: Any) -> Any:
    return () if isinstance(events, Ignore) else events


def entered_before_kept(patch: Patch) -> None:
    """A job is entered into the ledger before its input is on our disk."""

    def enter(self: Any, submitted: Any, upload: Any) -> Any:
        queued = Queued(job=submitted.job, input=upload.digest)
        self._ledger.append(lambda _: (submitted, queued))
        self._keep(upload, submitted.job)
        self._files.accepted(submitted.job)
        return self._job(submitted.job)

    patch.setattr(Submissions, "enter", enter)


def reports_written_in_place(patch: Patch) -> None:
    """A report grows under its own name, in place of a rename."""

    def put(self: Any, source: Any, _name: str, target: str) -> None:
        self._transport.store(source, f"{self._home}/{target}")

    patch.setattr(Claims, "_put", put)


def published_beside_its_claim(patch: Patch) -> None:
    """The window is filled without a look at what is claimed already."""
    real = Loop._publish
    patch.setattr(Loop, "_publish", lambda self, job, _busy: real(self, job, set()))


def log_kept_under_its_retired_claim(patch: Patch) -> None:
    """What a worker still sends after its claim was retired is nobody's."""
    real = Dispatch.scan
    patch.setattr(Dispatch, "scan", lambda self, *args: real(self, *args)._replace(rests=set()))


ENOUGH = 1000
"""Schedules with more than one deviation: each case is found long before."""

CASES: list[tuple[Callable[[Patch], None], Scenario]] = [
    (same_attempt_again, scenarios.LOST),
    (reports_before_the_claim, scenarios.RETIRING),
    (one_beat_is_enough, scenarios.BEATS),
    (beats_before_the_first_look, scenarios.RESTARTS),
    (claims_first_and_one_scan, scenarios.SCANS),
    (killed_with_its_ticket_there, scenarios.KILLS),
    (any_claim_is_believed, scenarios.LIES),
    (no_claim_is_needed, scenarios.LIES),
    (accepted_before_adopted, scenarios.RESTARTS),
    (entered_before_kept, scenarios.SUBMISSION),
    (reports_written_in_place, scenarios.CLAIMS),
    (published_beside_its_claim, scenarios.AWAY),
    (log_kept_under_its_retired_claim, scenarios.LOST),
]


@pytest.mark.parametrize(("bug", "scenario"), CASES, ids=[bug.__name__ for bug, _ in CASES])
def test_a_missing_rule_is_found(
    stage: Stage, bug: Callable[[Patch], None], scenario: Scenario, monkeypatch: Patch
) -> None:
    bug(monkeypatch)
    explored = explore(stage, scenario, ENOUGH)
    assert explored.found, f"{bug.__doc__} Nothing was found in {explored}"


@pytest.mark.parametrize("bug", [claims_before_tickets, one_scan_is_enough])
def test_of_two_rules_one_is_enough(
    stage: Stage, bug: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    """A ticket moves once, from new/ to a cur/: to miss it twice, both rules must be out.

    Either is kept all the same: the order of a listing is not ours to promise
    on every file system, and a folder may be unreadable for a moment.
    """
    bug(monkeypatch)
    explored = explore(stage, scenarios.SCANS, scenarios.COUNT)
    if explored.found:
        pytest.fail(str(explored.found[0]), pytrace=False)


def test_the_cases_are_rules_of_their_own() -> None:
    assert len({bug.__name__ for bug, _ in CASES}) == len(CASES) >= 8
