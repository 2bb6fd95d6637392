"""``modelrunner-worker --check``: everything that a worker needs, tried one by one.

It changes nothing that lasts and claims nothing, so it may run beside the real
worker. First comes what is here, then the way to the primary, then the spool.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from engine import sandbox
from engine.agent import VERSION
from engine.beats import NAMESAKE, is_another, who
from engine.command import fault
from engine.contract import Order
from engine.entrance import Entrance, RemoteEntrance, entrance_to, require_bell
from engine.fetching import RESERVE
from engine.state import holder, instance_of
from engine.trial import Finding, Trial, failed, plain
from spool import names
from spool.claims import Claims
from spool.dial import dial
from spool.errors import Gone, Refused, SpoolError
from spool.manifest import Model, load_all
from spool.sftp import RENAME
from spool.transport import Transport

GLANCE = 1.0  # seconds between looks at the beat of another agent of this name
GRANT = "the primary's keeper grants it with: modelrunner spool grant"
MIB = 1024 * 1024


def examine(
    primary: str, models: Path, name: str, state: Callable[[str], Path], ssh: Path | None = None
) -> Iterator[Finding]:
    """All findings, each as soon as it is made. ``state`` is the state directory by spool."""
    yield Finding("ok", f"version {VERSION}, Python {sys.version.split()[0]}")
    yield _contained()  # before anything here has threads: it forks
    found, findings = _models(models)
    yield from findings
    try:
        names.plain(name, "the worker's name")
        entrance = entrance_to(primary, ssh)
    except SpoolError as e:
        yield failed("the options", e)
        return
    yield Finding("ok", f"the spool is {entrance.shown}")
    home = state(entrance.mark).absolute()
    yield from _state(home)
    try:
        if isinstance(entrance, RemoteEntrance):
            try:
                yield from _reach(entrance)
            except SpoolError as e:
                yield failed("the way to the primary", e)
                return
        yield from _spool(entrance, name, instance_of(home), found)
    finally:
        entrance.close()


# --- here ------------------------------------------------------------------------------


def _contained() -> Finding:
    box = sandbox.probe(None)
    if box.containment == "pid-namespace":
        how = "a PID namespace" + (" in a user namespace" if box.user_namespace else "")
        return Finding("ok", f"runs are contained by {how}")
    return Finding(
        "note",
        "runs are contained by following their process tree: this machine allows no PID namespace",
        "it suffices; where you may, allow user namespaces (sysctl user.max_user_namespaces)",
    )


def _models(root: Path) -> tuple[dict[str, Model], list[Finding]]:
    try:
        models, errors = load_all(root.absolute())
    except (SpoolError, OSError) as e:
        return {}, [failed("models", e)]
    findings = [Finding("FAILED", f"model {name}: {why}") for name, why in errors.items()]
    for name, model in sorted(models.items()):
        wrong = fault(_order(model))
        if wrong:
            findings.append(Finding("FAILED", f"model {name}: {wrong}"))
        else:
            findings.append(Finding("ok", f"model {name}: {model.command[0]}"))
    if not models and not errors:
        findings.append(Finding("FAILED", f"{root}: no models", "each is a folder with model.toml"))
    return models, findings


def _order(model: Model) -> Order:
    return Order(
        key="",
        job="",
        attempt=1,
        model=model.name,
        argv=model.command,
        cwd=str(model.folder),
        env=model.env,
        timeout=None,
        grace=0.0,
    )


def _state(home: Path) -> Iterator[Finding]:
    there = home
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        yield Finding("FAILED", f"the state directory {home}: cannot be written", "give --state")
        return
    owner = there.stat().st_uid
    if there == home and owner != os.geteuid():
        what = f"the state directory {home} belongs to user {owner}, and this is {os.geteuid()}"
        yield Finding("FAILED", what, "check as the user as whom the worker runs, or give --state")
        return
    yield Finding("ok", f"the state directory {home}" + ("" if there == home else " can be made"))
    pid = holder(home) if there == home else None
    if pid is not None:
        yield Finding("note", f"this worker is running now, as process {pid}")
    yield _room(f"free at {there}", shutil.disk_usage(there).free)


def _room(where: str, free: int) -> Finding:
    what = f"{free // MIB} MiB {where}"
    if free < RESERVE:
        return Finding("FAILED", what, f"with less than {RESERVE // MIB} MiB nothing is claimed")
    return Finding("ok", what)


# --- the way there ---------------------------------------------------------------------


def _reach(entrance: RemoteEntrance) -> Iterator[Finding]:
    """Name, port, host key, login: an error says itself which of them it was."""
    connection = dial(entrance.address, entrance.ssh)
    connection.shut()
    yield Finding("ok", f"{connection.host}, port {connection.port}, can be reached")
    yield Finding("ok", "its host key is known")
    yield Finding("ok", f"logged in as {connection.user}")


# --- the spool -------------------------------------------------------------------------


def _spool(
    entrance: Entrance, name: str, instance: str, models: dict[str, Model]
) -> Iterator[Finding]:
    transport = entrance.transport
    try:
        require_bell(transport, entrance.shown)
    except SpoolError as e:
        yield failed("the spool", e)
        return
    yield Finding("ok", "the spool is there (bell)")
    if isinstance(entrance, RemoteEntrance):
        yield from _server(entrance)
    trial = Trial(transport, name)
    yield from trial.findings()
    yield from _namesake(transport, name, instance)
    yield from _queues([_claimable(transport, model, trial) for model in sorted(models)])


def _server(entrance: RemoteEntrance) -> Iterator[Finding]:
    try:
        announced = RENAME in entrance.remote.extensions()
        free = entrance.remote.free()
    except SpoolError as e:
        yield failed("the SFTP server", e)
        return
    if not announced:
        yield Finding(
            "FAILED",
            f"the SFTP server does not announce {RENAME}",
            "claiming needs it: use OpenSSH, and allow posix-rename where -P or -p limits it",
        )
    if free is None:
        yield Finding("note", "the server does not say how much room the primary has")
    else:
        yield _room("free at the primary", free)


def _namesake(transport: Transport, name: str, instance: str) -> Iterator[Finding]:
    claims = Claims(transport, name, instance)
    try:
        first = claims.last_beat()
        if first is None or first.stopped:
            yield Finding("ok", f"nobody works under the name {name!r}")
            return
        if first.instance == instance:
            yield Finding("ok", f"the name {name!r} is this worker's own")
            return
        until = time.monotonic() + NAMESAKE
        while time.monotonic() < until:
            time.sleep(GLANCE)
            beat = claims.last_beat()
            if is_another(beat, instance) and beat != first:
                what = f"{who(beat)} is working under the name {name!r}"
                yield Finding("FAILED", what, "give this worker a name of its own with --name")
                return
    except SpoolError as e:
        yield failed("the last beat of this name", e)
        return
    yield Finding(
        "note",
        f"{first.host} worked under the name {name!r} and is silent",
        "this worker will take the name over",
    )


def _queues(found: list[Finding]) -> list[Finding]:
    """What is not granted is left alone by the worker: no fault, unless nothing is left."""
    if all(finding.verdict != "ok" for finding in found):
        return found
    return [f._replace(verdict="note") if f.hint.startswith(GRANT) else f for f in found]


def _claimable(transport: Transport, model: str, trial: Trial) -> Finding:
    folder = names.new_folder(model)
    try:
        transport.names(folder)
    except Gone:
        return Finding("note", f"model {model}: the primary does not have it")
    except SpoolError as e:
        return _not_granted(model, e)
    try:
        trial.pass_through(folder)  # hidden: it is no ticket, and nobody's business
    except SpoolError as e:
        return _not_granted(model, e)
    return Finding("ok", f"model {model}: its jobs can be claimed")


def _not_granted(model: str, error: SpoolError) -> Finding:
    if not isinstance(error, Refused):
        return failed(f"model {model}: its queue", error)
    return Finding(
        "FAILED",
        f"model {model}: this account may not claim its jobs: {plain(error)}",
        f"{GRANT}; or take {model} out of this worker's models",
    )
