"""What a host shall be, from hosts.toml and from what was found on all hosts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import quote

import msgspec

from deploy import units
from deploy.fleet import Fleet, Host
from deploy.found import Found, Manager
from deploy.grants.layout import default_account
from deploy.modelfolders import on_host
from deploy.paths import PRIMARY, RUNNER, WORKER, Mode, Paths, Service, paths
from deploy.steps import Put
from spool.errors import Refused

KNOWN_AS = "modelrunner-primary"  # the primary in the workers' known_hosts, wherever it is
LOGIN = "primary"  # the primary in the workers' ssh config

# A program that is needed, and the Debian package that has it.
PACKAGES = {"nginx": "nginx-light", "ssh-keygen": "openssh-client", "tar": "tar"}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What the keeper brings. ``models``: their versions by name; ``new_key``: for a primary
    that has no admin key yet."""

    fleet: Fleet
    version: str
    models: Mapping[str, str]
    new_key: str
    offline: bool = False


class Folder(msgspec.Struct, frozen=True):
    """A folder that shall be there; ``owner`` is USER:GROUP, "" whoever logs in."""

    path: str
    owner: str
    mode: int


class Desired(msgspec.Struct, frozen=True, kw_only=True):
    """One host as it shall be."""

    host: Host
    paths: Paths
    manager: Manager
    programs: tuple[str, ...]
    folders: tuple[Folder, ...]
    version: str
    models: Mapping[str, str]  # name: version
    files: tuple[Put, ...]  # configuration, but for units, and for what is kept if it is there
    units: Mapping[Service, Put]
    services: tuple[Service, ...]
    remote_worker: bool  # it reaches the primary over SSH, with a key of its own


def mode_of(found: Found) -> Mode:
    """With root or without."""
    return "system" if found.root else "user"


def paths_of(found: Found) -> Paths:
    """Where everything lies on a host."""
    return paths(mode_of(found), found.home, found.user)


def manager_of(found: Found) -> Manager:
    """Who will keep its services. Raises Refused where root was given, and there is no systemd."""
    if found.root:
        if found.manager != "system":
            raise Refused(
                "this machine has no systemd, and with root its services are kept by that",
                "leave sudo out of hosts.toml and log in as a user: then we keep them ourselves",
            )
        return "system"
    return "user" if found.manager == "user" and found.linger else "none"


def desired(wanted: Wanted, host: Host, found: Mapping[str, Found]) -> Desired:
    """Raises Refused where the host cannot be that."""
    here, fleet = found[host.name], wanted.fleet
    where = paths_of(here)
    services = services_of(host)
    remote = host.worker is not None and host.primary is None
    if host.primary is not None and host.primary.nginx and where.mode == "user":
        raise Refused(
            "nginx can only be set up with root",
            "log in as root, or set sudo = true, or leave nginx out of hosts.toml",
        )
    files = [*_worker_files(fleet, host, found)] if remote else []
    return Desired(
        host=host,
        paths=where,
        manager=manager_of(here),
        programs=_programs(host, remote=remote),
        folders=_folders(where, host, manager_of(here), remote=remote),
        version=wanted.version,
        models=on_host(fleet, host, wanted.models),
        files=tuple(files),
        units={name: _unit(name, where, fleet, host, found) for name in services},
        services=services,
        remote_worker=remote,
    )


def services_of(host: Host) -> tuple[Service, ...]:
    """In the order in which they start."""
    primary: tuple[Service, ...] = (PRIMARY,) if host.primary is not None else ()
    worker: tuple[Service, ...] = (RUNNER, WORKER) if host.worker is not None else ()
    return (*primary, *worker)


def spool_of(fleet: Fleet, host: Host, found: Mapping[str, Found]) -> str:
    """What the worker of ``host`` gets as --primary."""
    data = paths_of(found[fleet.primary.name]).data
    if host.primary is not None:
        return f"{data}/spool"
    if mode_of(found[fleet.primary.name]) == "system":
        return f"sftp://{LOGIN}/"  # its account is shut into the spool
    return f"sftp://{LOGIN}{quote(data)}/spool"


def login_of(fleet: Fleet, host: Host, found: Mapping[str, Found]) -> str:
    """The account on the primary's machine that the worker of ``host`` logs in as."""
    primary = found[fleet.primary.name]
    return default_account(host.worker_name) if mode_of(primary) == "system" else primary.user


# --- parts -------------------------------------------------------------------------


def _programs(host: Host, *, remote: bool) -> tuple[str, ...]:
    needed = ["tar"]
    if remote:
        needed.append("ssh-keygen")
    if host.primary is not None and host.primary.nginx:
        needed.append("nginx")
    return tuple(needed)


def _folders(where: Paths, host: Host, manager: Manager, *, remote: bool) -> tuple[Folder, ...]:
    """The data's parent is root's: sshd wants that of all folders above a chroot."""
    root, own = ("root:root", f"{where.account}:{where.account}")
    if where.mode == "user":
        root = own = ""
    wanted = [
        Folder(where.base, root, 0o755),
        Folder(where.versions, root, 0o755),
        Folder(where.models, root, 0o755),
        Folder(where.model_versions, root, 0o755),
        Folder(where.etc, root, 0o755),
        Folder(where.var, root, 0o755),
    ]
    if host.primary is not None:
        wanted.append(Folder(where.data, own, 0o750))
    if host.worker is not None:
        wanted.append(Folder(where.state, own, 0o700))
    if remote:
        wanted.append(Folder(where.ssh, own, 0o700))
    if manager == "user":
        wanted.append(Folder(where.units, "", 0o755))
    if manager == "none":
        wanted.append(Folder(f"{where.etc}/services", "", 0o755))
    return tuple(wanted)


def _worker_files(fleet: Fleet, host: Host, found: Mapping[str, Found]) -> Sequence[Put]:
    """How this worker's agent reaches the primary, and whom it believes there."""
    where, primary = paths_of(found[host.name]), fleet.primary
    there = found[primary.name]
    own = f"{where.account}:{where.account}" if where.mode == "system" else ""
    lines = [
        f"Host {LOGIN}",
        f"    HostName {primary.reach or primary.address}",
        f"    Port {primary.reach_port or there.port}",
        f"    User {login_of(fleet, host, found)}",
        f'    IdentityFile "{where.ssh}/id_ed25519"',
        "    IdentitiesOnly yes",
        f'    UserKnownHostsFile "{where.ssh}/known_hosts"',
        f"    HostKeyAlias {KNOWN_AS}",
    ]
    known = "".join(f"{KNOWN_AS} {key}\n" for key in there.host_keys)
    return [
        Put(path=f"{where.ssh}/config", text="\n".join(lines) + "\n", owner=own, mode=0o600),
        Put(path=f"{where.ssh}/known_hosts", text=known, owner=own, mode=0o600),
    ]


def _unit(
    service: Service, where: Paths, fleet: Fleet, host: Host, found: Mapping[str, Found]
) -> Put:
    spool = spool_of(fleet, host, found) if host.worker is not None else ""
    argv = units.argv_of(service, where, host, spool)
    if manager_of(found[host.name]) == "none":
        path = f"{where.etc}/services/{service}.json"
        return Put(path=path, text=units.supervised(service, where, argv))
    owner = "root:root" if where.mode == "system" else ""
    return Put(
        path=f"{where.units}/{service}.service",
        text=units.unit(service, where, argv, local=host.primary is not None),
        owner=owner,
    )
