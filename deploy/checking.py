"""The last phase: each worker is seen by the primary, in its version. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from deploy.desired import Wanted, paths_of
from deploy.fleet import Fleet
from deploy.found import Found
from deploy.health import worker_command
from deploy.steps import HostPlan, Phase, Step

PATIENCE = 90.0  # seconds for a worker to be heard


def added(
    wanted: Wanted, found: Mapping[str, Found], plans: Mapping[str, HostPlan]
) -> dict[str, HostPlan]:
    """The plans, and the primary's look at each worker that anything was done for."""
    fleet = wanted.fleet
    name = fleet.primary.name
    looks = tuple(
        _look(fleet, worker, found[name], wanted.version)
        for worker in (host.worker_name for host in fleet.workers if _touched(plans, host.name))
    )
    primary = plans[name]
    steps = (*primary.steps, *looks)
    return {**plans, name: msgspec.structs.replace(primary, steps=steps)}


def _touched(plans: Mapping[str, HostPlan], name: str) -> bool:
    return any(step.phase in (Phase.GRANT, Phase.WORKERS) for step in plans[name].steps)


def _look(fleet: Fleet, worker: str, there: Found, version: str) -> Step:
    role = fleet.primary.primary
    assert role is not None
    where = paths_of(there)
    return Step(
        phase=Phase.CHECK,
        sentence=f"worker {worker} is seen by the primary, in version {version}",
        commands=(worker_command(where, role, worker, version, PATIENCE),),
        hint=f"modelrunner deploy logs shows what worker {worker} says",
        seconds=PATIENCE + 30,
    )
