"""``start``, ``stop`` and ``restart`` as plans. Pure.

A runner owns the runs: ``restart`` leaves it alone, and ``stop`` ends it last.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from deploy import services
from deploy.desired import manager_of, paths_of, services_of
from deploy.fleet import Host
from deploy.found import Found
from deploy.paths import PRIMARY, RUNNER, Service
from deploy.steps import HostPlan, Phase, Step

SECONDS = 900.0  # a primary may have to read its whole ledger

_SAID = {"start": "started", "stop": "stopped", "restart": "started anew"}


def command_all(
    verb: str, hosts: Sequence[Host], found: Mapping[str, Found]
) -> dict[str, HostPlan]:
    """By host. ``verb`` is start, stop or restart."""
    return {
        host.name: HostPlan(host=host.name, steps=tuple(_steps(verb, host, found[host.name])))
        for host in hosts
    }


def _steps(verb: str, host: Host, here: Found) -> Iterator[Step]:
    names = [name for name in services_of(host) if name in here.services]
    if verb == "restart":
        names = [name for name in names if name != RUNNER]
    if verb == "stop":  # the agent before its runner, the primary last
        names.sort(key=lambda name: (name == PRIMARY, name == RUNNER))
    act = {"start": services.start, "stop": services.stop, "restart": services.restart}[verb]
    for name in names:
        yield Step(
            phase=_phase(verb, name),
            mark="~",
            sentence=f"{name.removeprefix('modelrunner-')} {_SAID[verb]}",
            commands=(act(manager_of(here), paths_of(here), name),),
            hint="modelrunner deploy logs shows more",
            seconds=SECONDS,
        )


def _phase(verb: str, name: Service) -> Phase:
    """The primary starts first of all, and stops last."""
    if (name == PRIMARY) == (verb != "stop"):
        return Phase.PRIMARY
    return Phase.WORKERS
