"""What must hold between the tables of ``hosts.toml``. Pure."""

from __future__ import annotations

import difflib
import ipaddress
from collections.abc import Iterable, Iterator

from deploy.fleet import Host, Primary
from deploy.grants.layout import default_account, is_account, model_group
from deploy.grants.planning import LOCAL
from deploy.hostkeys import listen
from spool.names import is_plain
from spool.tomlplaces import Keys

PRIVILEGED = 1024  # ports below are root's, and the primary never is root

Broken = tuple[Keys, str]  # where it stands in the file, and what is wrong


def broken(hosts: tuple[Host, ...]) -> Iterator[Broken]:
    """Everything that does not hold."""
    yield from _roles(hosts)
    yield from _machines(hosts)
    yield from _workers(hosts)
    for host in hosts:
        if host.primary is not None:
            yield from _primary(host, host.primary)


def bad_name(name: str) -> str:
    """What is wrong with a host's name, its table in the file; else ""."""
    if is_plain(name):
        return ""
    return "a host is called by 1 to 64 of a-z 0-9 _ . - that begin with a letter or digit"


def meant(name: str, known: Iterable[str]) -> str:
    """What was probably meant by ``name``."""
    all_of_them = sorted(known)
    if close := difflib.get_close_matches(name, all_of_them, n=1, cutoff=0.6):
        return f"did you mean {close[0]!r}?"
    return f"it has {', '.join(all_of_them) or 'none'}"


def of_models(names: Iterable[str]) -> Iterator[str]:
    """What is wrong with models that are on one primary together."""
    by_group: dict[str, str] = {}
    for name in sorted(names):
        other = by_group.setdefault(model_group(name), name)
        if other != name:
            yield f"the models {other} and {name} would share a group of accounts: rename one"


def _roles(hosts: tuple[Host, ...]) -> Iterator[Broken]:
    primaries = [host.name for host in hosts if host.primary is not None]
    if not primaries:
        yield (), "no primary; one host needs a table such as [hosts.alpha.primary]"
    for name in primaries[1:]:
        yield ("hosts", name, "primary"), f"there is one primary only, and {primaries[0]} is it"
    if all(host.worker is None for host in hosts):
        yield (), "no worker; at least one host needs a table such as [hosts.beta.worker]"
    for host in hosts:
        if host.primary is None and host.worker is None:
            table = f"hosts.{host.name}"
            said = f"it has no role; give it a table [{table}.worker] or [{table}.primary]"
            yield ("hosts", host.name), said
        for key in ("reach", "reach_port"):
            if host.primary is None and getattr(host, key) is not None:
                said = "it says where workers reach the primary, and belongs to that host"
                yield ("hosts", host.name, key), said


def _machines(hosts: tuple[Host, ...]) -> Iterator[Broken]:
    """No login twice: a machine is one table, whatever its roles."""
    first: dict[tuple[str, str | None, int], str] = {}
    for host in hosts:
        login = (host.address.lower(), host.user, host.port or 22)
        other = first.setdefault(login, host.name)
        if other != host.name:
            said = f"the same login as {other}, {host.shown}: one table can have both roles"
            yield ("hosts", host.name), said


def _workers(hosts: tuple[Host, ...]) -> Iterator[Broken]:
    first: dict[str, str] = {}
    accounts = not any(host.primary is not None and _is_rootless(host) for host in hosts)
    for host in hosts:
        if host.worker is None:
            continue
        name = host.worker_name
        keys: Keys = ("hosts", host.name, "worker", *(("name",) if host.worker.name else ()))
        other = first.setdefault(name, host.name)
        if other != host.name:
            yield keys, f"{other}'s worker is called {name}, too; give this one another name"
        if name == LOCAL:
            said = f"a worker cannot be called {LOCAL}: serve --slots keeps one of that name"
            yield keys, f"{said}; give it a name"
        elif accounts and host.primary is None and not is_account(default_account(name)):
            account = default_account(name)
            said = f"its account on the primary would be {account}, and those are at most 32 of"
            yield keys, f"{said} a-z 0-9 _ -; give it a shorter name, without dots"


def _primary(host: Host, role: Primary) -> Iterator[Broken]:
    keys = ("hosts", host.name, "primary")
    address, port = listen(role.listen)
    if port < PRIVILEGED:
        said = f"the primary never runs as root, and cannot have a port below {PRIVILEGED}"
        yield (*keys, "listen"), f"{said}; nginx = true answers on 80 and 443"
    if role.nginx and not _is_loopback(address):
        said = f"behind nginx it must not be reached past it, as on {address or 'every address'}"
        yield (*keys, "listen"), f"{said}: expected 127.0.0.1:PORT"
    if role.nginx and _is_rootless(host):
        said = f"nginx needs root, and {host.user} is not; sudo = true says that sudo may be used"
        yield (*keys, "nginx"), said
    for key in ("certificate", "certificate_key"):
        if getattr(role, key) is None:
            continue
        other = "certificate_key" if key == "certificate" else "certificate"
        if getattr(role, other) is None:
            yield (*keys, key), f"{other} must be given, too"
        if not (role.nginx and role.tls):
            yield (*keys, key), "nginx is what has a certificate: set nginx = true, tls = true"


def _is_rootless(host: Host) -> bool:
    """Whether it surely is set up without root; no user given: ~/.ssh/config may say root."""
    return host.user not in (None, "root") and not host.sudo


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
