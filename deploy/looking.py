"""How the hosts stand now: services, and workers as the primary sees them; and their logs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from deploy import nginx, services
from deploy.desired import manager_of, paths_of, services_of
from deploy.fleet import Fleet, Host
from deploy.found import Found
from deploy.remote import Remote
from deploy.showing import plain
from deploy.steps import Command
from deploy.survey import Trouble
from spool.errors import SpoolError
from spool.line import clean

ASK = 60.0  # seconds for the primary to say how its workers stand
READ = 120.0  # seconds for the last lines of a host's logs
ABSENT = "not set up"

Write = Callable[[str], None]  # one line


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as the primary sees it; a part of what GET /status tells."""

    name: str
    node_type: str
    liveness: str
    version: str
    slots: int
    jobs: tuple[str, ...]
    last_seen: float | None = None  # seconds ago
    paused: str = ""
    error: str = ""

    @property
    def well(self) -> bool:
        return self.liveness == "alive" and not self.paused


class Service(msgspec.Struct, frozen=True, kw_only=True):
    """``state`` is systemd's word, or ABSENT. ``since``: ISO, "" unknown."""

    name: str
    state: str
    since: str = ""
    enabled: bool = False

    @property
    def well(self) -> bool:
        return self.state == "active" and self.enabled


class Stand(msgspec.Struct, frozen=True, kw_only=True):
    """One host. ``worker``: None where it is none, or the primary does not know it."""

    host: str
    address: str
    trouble: str = ""  # why it could not be looked at
    hint: str = ""
    version: str | None = None
    models: Mapping[str, str] = {}
    services: tuple[Service, ...] = ()
    worker: Node | None = None
    is_worker: bool = False

    @property
    def well(self) -> bool:
        """Whether all that shall run here does."""
        seen = not self.is_worker or (self.worker is not None and self.worker.well)
        return not self.trouble and all(s.well for s in self.services) and seen


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """All hosts. ``unasked``: why the primary could not be asked for its workers, or ""."""

    hosts: tuple[Stand, ...]
    unasked: str = ""

    @property
    def well(self) -> bool:
        return not self.unasked and all(stand.well for stand in self.hosts)


def standing(
    fleet: Fleet, found: Mapping[str, Found | Trouble], remotes: Mapping[str, Remote]
) -> Standing:
    """How all hosts stand; ``found`` is a fresh look at them."""
    nodes, unasked = _asked(fleet, found, remotes)
    return Standing(
        hosts=tuple(_stand(host, found[host.name], nodes) for host in fleet.hosts),
        unasked=unasked,
    )


def table(shown: Standing) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Heads and rows: one row for each service; what is said of a host stands in its first."""
    heads = ("host", "service", "state", "since", "version", "seen by the primary")
    rows: list[tuple[str, ...]] = []
    for stand in shown.hosts:
        if stand.trouble:
            rows.append((stand.host, "", "off", "", "", f"{stand.trouble} {stand.hint}".strip()))
        for number, service in enumerate(stand.services):
            first, is_worker = number == 0, service.name == "modelrunner-worker"
            state = service.state
            if state != ABSENT and not service.enabled:
                state += ", not enabled"
            rows.append(
                (
                    stand.host if first else "",
                    service.name,
                    state,
                    service.since,
                    (stand.version or "") if first else "",
                    _seen(stand, shown.unasked) if is_worker else "",
                )
            )
    return heads, rows


def logs(
    fleet: Fleet,
    found: Mapping[str, Found | Trouble],
    remotes: Mapping[str, Remote],
    wanted: Sequence[str],
    *,
    lines: int,
    follow: bool,
    write: Write,
) -> list[Trouble]:
    """``write`` gets the last ``lines`` of each host in ``wanted``, and then what comes.

    With several hosts each line begins with its host's. Ends when all have, or at Ctrl-C, which
    it passes on; then nothing is followed any more. Returns the hosts that could not be read.
    """
    hosts = [host for host in fleet.hosts if host.name in wanted]
    lock = threading.Lock()

    def told(text: str) -> None:
        with lock:
            write(text)

    def read(host: Host) -> Trouble | None:
        here = found[host.name]
        if isinstance(here, Trouble):
            return here
        prefix = f"{host.name} | " if len(hosts) > 1 else ""
        return _read(host, here, remotes[host.name], _Cut(prefix, told), lines, follow)

    pool = ThreadPoolExecutor(len(hosts) or 1, "logs")
    try:
        ended = list(pool.map(read, hosts))
    except BaseException:
        for host in hosts:
            if host.name in remotes:
                remotes[host.name].close()
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [trouble for trouble in ended if trouble is not None]


# In its environment, not among its words, which everybody on that machine can see.
_WITH_KEY = """\
MODELRUNNER_KEY=$(sed -n 's/^MODELRUNNER_ADMIN_KEY=//p' "$1" | tail -n 1 | tr -d \\"\\')
export MODELRUNNER_KEY
shift
exec "$@"
"""

# --- one host ----------------------------------------------------------------------


def _asked(
    fleet: Fleet, found: Mapping[str, Found | Trouble], remotes: Mapping[str, Remote]
) -> tuple[dict[str, Node], str]:
    """The workers as the primary tells them, by name, or why it does not."""
    host = fleet.primary
    here, role = found[host.name], host.primary
    assert role is not None
    if isinstance(here, Trouble):
        return {}, f"{host.name} could not be looked at"
    if here.version is None:
        return {}, f"{host.name} is {ABSENT}"
    server = f"http://{nginx.upstream(role.listen)}"
    where, remote = paths_of(here), remotes[host.name]
    command: Command = (f"{where.current}/bin/modelrunner", "status", "--json", "--server", server)
    keyed = role.anonymous == "none"
    if keyed:
        command = ("sh", "-c", _WITH_KEY, "sh", where.primary_env, *command)
    try:
        ended = remote.run(command, root=keyed and remote.rooted, seconds=ASK)
        if ended.code:
            said = clean(ended.err.decode(errors="replace")).removeprefix("Error:").strip()
            # what follows is for whoever sits at that machine
            return {}, said.partition("; ")[
                0
            ] or f"the primary does not answer (exit code {ended.code})"
        nodes = msgspec.json.decode(ended.out, type=list[Node])
    except (SpoolError, msgspec.DecodeError) as e:
        return {}, clean(e)
    return {node.name: node for node in nodes if node.node_type == "WORKER"}, ""


def _stand(host: Host, here: Found | Trouble, nodes: Mapping[str, Node]) -> Stand:
    if isinstance(here, Trouble):
        return Stand(
            host=host.name,
            address=host.shown,
            trouble=here.what.removeprefix(f"{host.name}: "),
            hint=here.hint,
            is_worker=host.worker is not None,
        )
    names: list[str] = [*services_of(host)]
    if host.primary is not None and host.primary.nginx:
        names.append("nginx")
    return Stand(
        host=host.name,
        address=host.shown,
        version=here.version,
        models=here.models,
        services=tuple(_service(name, here) for name in names),
        worker=nodes.get(host.worker_name) if host.worker is not None else None,
        is_worker=host.worker is not None,
    )


def _service(name: str, here: Found) -> Service:
    state = here.services.get(name)
    if state is None:
        return Service(name=name, state=ABSENT)
    return Service(name=name, state=state.active, since=state.since, enabled=state.enabled)


def _seen(stand: Stand, unasked: str) -> str:
    """How the primary sees the worker of a host."""
    node = stand.worker
    if unasked:
        return f"unknown: {unasked}"
    if node is None:
        return "not let in"
    said = [f"{node.liveness}, {len(node.jobs)}/{node.slots} slots"]
    if node.liveness not in ("alive", "stopped") and node.last_seen is not None:
        said.append(f"silent for {node.last_seen:.0f} s")
    if node.version and stand.version and node.version != stand.version:
        said.append(f"runs version {node.version}")
    if node.paused or node.error:
        said.append(f"paused: {node.paused}" if node.paused else node.error)
    return "; ".join(said)


def _read(
    host: Host, here: Found, remote: Remote, cut: _Cut, lines: int, follow: bool
) -> Trouble | None:
    where = paths_of(here)
    if here.version is None:
        return Trouble(host.name, f"{host.name} is {ABSENT}", "modelrunner deploy apply does that")
    try:
        command = services.logs(manager_of(here), where, services_of(host), lines, follow=follow)
        seconds = math.inf if follow else READ
        ended = remote.run(command, root=remote.rooted, seconds=seconds, each=cut.feed)
    except SpoolError as e:
        return Trouble(host.name, str(e))
    finally:
        cut.end()
    if ended.code:
        said = clean(ended.err.decode(errors="replace")) or f"exit code {ended.code}"
        return Trouble(host.name, f"{host.name}: its logs cannot be read: {said}")
    return None


class _Cut:
    """Cuts bytes into lines, and puts ``prefix`` before each."""

    def __init__(self, prefix: str, write: Write) -> None:
        self._prefix, self._write = prefix, write
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *whole, self._rest = (self._rest + data).split(b"\n")
        for line in whole:
            self._write(self._prefix + plain(line.decode(errors="replace").rstrip("\r")))

    def end(self) -> None:
        if self._rest:
            self.feed(b"\n")
