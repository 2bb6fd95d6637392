"""Units, and the switch from one version to the next with the way back. Pure.

A switch is one shell script on the host: it goes on, and goes back if need be, also when the
keeper's line breaks meanwhile. A runner is started where none runs and never restarted: it
owns the runs. It leaves by itself, once idle, when its agent is of another version.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from datetime import datetime

import msgspec

from deploy import services
from deploy.desired import Desired
from deploy.found import Found
from deploy.health import primary_command
from deploy.install import prune_command
from deploy.paths import PRIMARY, RUNNER, WORKER, Service
from deploy.steps import Command, Phase, Step
from deploy.writing import is_so, written

HEALTHY = 120.0  # seconds for a service to be well after its start
CLOCKS = 2.0  # seconds within which a file's time and a service's cannot be compared
START = 900.0  # seconds for a start in all: a primary may have to read its whole ledger

_PHASES: dict[Service, Phase] = {
    PRIMARY: Phase.PRIMARY,
    RUNNER: Phase.WORKERS,
    WORKER: Phase.WORKERS,
}

# $1: base, $2: the version to be. go: starts it and waits until it is well.
_SCRIPT = """\
trap '' HUP PIPE
cd {base} || exit 1
old=$(readlink current || :)
turn() {{ ln -sfn "$1" .current.new && mv -fT .current.new current; }}
go() {{
{go}
}}
if turn versions/{version} && go {version}; then exit 0; fi
{say}
if [ "$old" = versions/{version} ]; then exit 1; fi
if [ -z "$old" ]; then
    {stop}
    rm -f current
    echo 'It was stopped again: there is no earlier version.'
    exit 1
fi
if turn "$old" && go "${{old#versions/}}"; then
    echo "The version before, ${{old#versions/}}, is back, and is well."
else
    echo "The version before, ${{old#versions/}}, is back, and is not well either."
fi
exit 1
"""


def steps(shall: Desired, here: Found) -> Iterator[Step]:
    """What makes the services run, in the version and as their files say."""
    for phase in (Phase.PRIMARY, Phase.WORKERS):
        names = [name for name in shall.services if _PHASES[name] == phase]
        if names:
            yield from _phase(phase, names, shall, here)
    others = set(here.versions) - {shall.version, here.version}
    if others and here.version != shall.version:
        keep = [version for version in (shall.version, here.version) if version]
        yield Step(
            phase=Phase.CHECK,
            mark="-",
            sentence="versions that nothing uses any more removed",
            commands=(prune_command(shall.paths, keep),),
        )


def back(shall: Desired, here: Found) -> Iterator[Step]:
    """To the version and the files that were found, whatever was changed since."""
    assert here.version is not None
    for put in shall.units.values():
        entry = here.entries.get(put.path)
        if entry is not None and entry.text is not None and entry.text != put.text:
            before = msgspec.structs.replace(put, text=entry.text)
            after = services.reload_units(shall.manager, shall.paths)
            yield from written(before, None, after=after)
    for phase in (Phase.PRIMARY, Phase.WORKERS):
        names = [name for name in shall.services if _PHASES[name] == phase]
        if names:
            yield Step(
                phase=phase,
                mark="~",
                sentence=f"{_shown(names)}: back to version {here.version}",
                commands=(_switch(shall, here, names, here.version),),
                seconds=START,
                atomic=True,
            )


def _phase(phase: Phase, names: Sequence[Service], shall: Desired, here: Found) -> Iterator[Step]:
    yield from _units(phase, names, shall, here)
    running = all(_runs(shall, here, name) for name in names)
    changed = [name for name in names if not _is_so(shall, here, name)]
    if here.version == shall.version and running and not changed:
        return
    if here.version is None:
        what = f"{_shown(names)} started, version {shall.version}"
    elif here.version != shall.version:
        what = f"{_shown(names)} switched from version {here.version} to {shall.version}"
    else:
        what = f"{_shown(names)} {'started' if not running else 'restarted'}"
    yield Step(
        phase=phase,
        mark="+" if here.version is None else "~",
        sentence=what,
        commands=(_switch(shall, here, names, shall.version),),
        hint="modelrunner deploy logs shows more",
        seconds=START,
        atomic=True,
    )


def _runs(shall: Desired, here: Found, name: Service) -> bool:
    """Whether it runs, and comes back after a boot."""
    state = here.services.get(name)
    if state is None or not (state.enabled or not _returns(shall, here)):
        return False
    # A runner that made way for one of the new version is on its way back.
    return state.active == "active" or (name == RUNNER and state.active == "activating")


def _units(phase: Phase, names: Sequence[Service], shall: Desired, here: Found) -> Iterator[Step]:
    """The services' files, right before the switch: a boot in between must not mix versions."""
    for name in names:
        put = shall.units[name]
        after = services.reload_units(shall.manager, shall.paths)
        yield from written(put, here.entries.get(put.path), phase=phase, after=after)


def _is_so(shall: Desired, here: Found, name: Service) -> bool:
    """Whether what the service reads at its start is so, and was when it started."""
    puts = [shall.units[name]]
    if name == WORKER:
        puts += shall.files
    if not all(is_so(put, here.entries.get(put.path)) for put in puts):
        return False
    return name == RUNNER or not any(_is_newer(here, name, put.path) for put in puts)


def _is_newer(here: Found, name: Service, path: str) -> bool:
    """Whether the file was written since the service started: an apply was cut off in between."""
    state = here.services.get(name)
    if state is None or not state.since:
        return False
    since = datetime.fromisoformat(state.since).timestamp()
    return here.entries[path].changed > since + CLOCKS


def _returns(shall: Desired, here: Found) -> bool:
    """Whether somebody there can start the services after a boot: systemd, or cron."""
    return shall.manager != "none" or "crontab" in here.programs


def _switch(shall: Desired, here: Found, names: Sequence[Service], version: str) -> Command:
    where, manager = shall.paths, shall.manager
    go: list[str] = []
    for name in names:
        if _returns(shall, here):
            go.append(_line(services.enable(manager, where, name)))
        verb = services.start if name == RUNNER else services.restart
        go.append(_line(verb(manager, where, name)))
    if PRIMARY in names:
        role = shall.host.primary
        assert role is not None
        words = _line(primary_command(where, role.listen, "VERSION", HEALTHY))
        go.append(words.replace("VERSION", '"$1"'))
    main = names[-1]
    script = _SCRIPT.format(
        base=shlex.quote(where.base),
        version=version,
        go=" &&\n".join(f"    {line}" for line in go),
        say=f"{_line(services.last_lines(manager, where, main, 20))} || :",
        stop=f"{_line(services.stop(manager, where, main))} || :",
    )
    return ("sh", "-c", script)


def _line(command: Command) -> str:
    return shlex.join(command) if command else ":"


def _shown(names: Sequence[Service]) -> str:
    return " and ".join(name.removeprefix("modelrunner-") for name in names)
