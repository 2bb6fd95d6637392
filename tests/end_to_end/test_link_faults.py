"""The link fails while a job is claimed, fetched, run, logged, put and reported.

Every worker is in a network namespace of its own, and all their faults happen at
the same time: the 30 s until a silent connection is given up are waited for once.
``bench/faults.py`` goes through every phase and every fault.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults import (
    Outcome,
    check_ledger,
    check_nothing_strange,
    completed,
    run_sheet,
    verify_ledger,
)
from tests.stations import PHASES, stations
from tests.system import System

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("iproute2"),
    pytest.mark.needs("openssh-server"),
    pytest.mark.timeout(600),  # seconds; the first test waits for all of them
]

LONG = {"claim": "gone", "run": "back", "put": "back", "report": "gone"}
SHEET = {phase: ("cut-5", "killed", "frozen", LONG.get(phase, "cut-60")) for phase in PHASES}
CASES = [(phase, fault) for phase, faults in SHEET.items() for fault in faults]


class Field:
    """The system after everything on the sheet has happened to it."""

    def __init__(self, system: System, outcomes: dict[tuple[str, str], Outcome]) -> None:
        self.system, self.outcomes = system, outcomes


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    system = System(tmp_path_factory.mktemp("field"))
    try:
        system.start()
        with stations(system, PHASES) as made:
            yield Field(system, run_sheet(made, SHEET))
    finally:
        system.end()


@pytest.mark.parametrize(("phase", "fault"), CASES)
def test_a_job_outlives_the_fault(field: Field, phase: str, fault: str) -> None:
    outcome = field.outcomes[phase, fault]
    if outcome.wrong:
        pytest.fail(outcome.wrong, pytrace=False)
    print(f"{phase} {fault}: ended after {outcome.seconds:.1f} s, quiet for {outcome.quiet:.1f} s")


def test_the_ledger_tells_each_end_once(field: Field) -> None:
    jobs = [job["uuid"] for job in field.system.client.jobs()]
    assert len(jobs) == len(CASES)
    check_ledger(field.system, jobs)
    assert sorted(completed(field.system)) == sorted(jobs)
    verify_ledger(field.system)


def test_nothing_strange_is_left(field: Field) -> None:
    check_nothing_strange(field.system)
