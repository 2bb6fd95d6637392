"""How long a worker may be silent."""

from __future__ import annotations

from pathlib import Path

import pytest

from ledger.jobs import FINAL, Job, State
from primary.nodes import DEFAULT_LEASE
from primary.rules import PROCESSED_LEASE, UNREACHABLE_AFTER, judge, lease_of
from spool.manifest import Model
from tests.primary.ledgered import jobs, name_of

ALIVE = [job for job in jobs() if job.state not in FINAL]


@pytest.mark.parametrize(
    ("silence", "lease", "called"),
    [
        (0.0, 900.0, "alive"),
        (29.9, 900.0, "alive"),
        (30.0, 900.0, "unreachable"),
        (899.9, 900.0, "unreachable"),
        (900.0, 900.0, "lost"),
        (1e9, 900.0, "lost"),
        (9.9, 10.0, "alive"),  # a lease below the first threshold
        (10.0, 10.0, "lost"),
        (0.0, None, "alive"),
        (1e9, None, "unreachable"),  # never lost, but shown
        (-5.0, 900.0, "alive"),  # beaten after the tick began
    ],
)
def test_judging_by_silence_alone(silence: float, lease: float | None, called: str) -> None:
    assert judge(silence, lease) == called


def test_a_longer_silence_is_never_judged_better() -> None:
    order = ["alive", "unreachable", "lost"]
    for lease in (None, 0.1, 10.0, 30.0, 900.0):
        ranks = [order.index(judge(n * 5.0, lease)) for n in range(300)]
        assert ranks == sorted(ranks)


@pytest.mark.parametrize("job", ALIVE, ids=name_of)
def test_results_that_exist_are_waited_for_longer_never_shorter(job: Job) -> None:
    assert lease_of(job, None) is None
    for lease in (60.0, 900.0, 10 * PROCESSED_LEASE):
        processed = max(lease, PROCESSED_LEASE)
        assert lease_of(job, lease) == (processed if job.state is State.PROCESSED else lease)


def test_the_figures_of_the_design() -> None:
    assert UNREACHABLE_AFTER == 30.0
    assert PROCESSED_LEASE == 24 * 3600.0
    model = Model(name="x", title="", description="", command=("x",), folder=Path())
    assert model.lease == DEFAULT_LEASE == 900.0
