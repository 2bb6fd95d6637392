"""Every schedule of every scenario keeps the promises, as far as there is time to look."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.protocol import scenarios
from tests.protocol.scenarios import Scenario
from tests.protocol.search import explore
from tests.protocol.world import Stage


@pytest.mark.parametrize("scenario", scenarios.ALL, ids=[s.name for s in scenarios.ALL])
def test_every_schedule_keeps_the_promises(
    stage: Stage, scenario: Scenario, record_property: Callable[[str, object], None]
) -> None:
    explored = explore(stage, scenario, scenarios.COUNT)
    record_property("schedules", str(explored))
    print(f"{scenario.name}: {explored}")
    if explored.found:
        pytest.fail(str(explored.found[0]), pytrace=False)


def test_a_confirmed_kill_is_true_of_older_attempts_too(stage: Stage) -> None:
    """A worker comes back after its attempt was given up, and the next one is killed elsewhere."""
    explored = explore(stage, scenarios.GHOSTS, 1000, ghosts=True)
    if explored.found:
        pytest.fail(str(explored.found[0]), pytrace=False)
