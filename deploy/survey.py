"""What there is on all hosts: asked of all at a time, and strictly decoded.

Each host runs ``probe``, by its own Python. Whether it is set up with root is known only
there, so both questions are sent, and the login's home and name stand as {home} and {user}.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from deploy import crontab, nginx, probe, services
from deploy.fleet import Fleet, Host
from deploy.found import Found
from deploy.interpreter import NONE, python
from deploy.paths import ACCOUNT, SERVICES, Mode, Paths, paths
from deploy.remote import Remote, shown
from spool.errors import Refused, SpoolError
from spool.line import clean

SECONDS = 120.0  # for a host to look at itself
AT_ONCE = 32  # hosts
PROGRAMS = (
    *("nginx", "ssh-keygen", "tar", "crontab", "systemctl", "journalctl", "loginctl"),
    *("useradd", "usermod", "runuser", "setpriv", "pkill", "sshd", "ufw", "nft"),
)


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What a host is asked about. ``texts``: of ``looks``, those whose text is wanted."""

    base: str
    etc: str
    var: str
    looks: tuple[str, ...]
    texts: tuple[str, ...]
    programs: tuple[str, ...]
    accounts: tuple[str, ...]
    groups: tuple[str, ...]
    services: tuple[str, ...]
    status: tuple[str, ...]  # the command that asks for the services we keep ourselves


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """``system`` is asked where the probe runs as root, else ``user``."""

    now: float  # our clock
    port: int
    reboot_mark: str
    system: Ask
    user: Ask


class Trouble(msgspec.Struct, frozen=True):
    """A host that could not be looked at."""

    host: str
    what: str
    hint: str = ""


def survey(fleet: Fleet, open: Callable[[Host], Remote]) -> dict[str, Found | Trouble]:
    """Every host by its name, in the order of ``fleet``. ``open`` gives its connection."""
    pool = ThreadPoolExecutor(min(AT_ONCE, len(fleet.hosts)), "survey")
    try:
        asked = {host.name: pool.submit(_try, open, host) for host in fleet.hosts}
        return {name: future.result() for name, future in asked.items()}
    finally:
        # Where the keeper gave up, nobody waits for hosts that hang: close them.
        pool.shutdown(wait=False, cancel_futures=True)


def _try(open: Callable[[Host], Remote], host: Host) -> Found | Trouble:
    try:
        return look(open(host))
    except Refused as e:
        return Trouble(host.name, str(e).removesuffix(f" ({e.hint})"), e.hint)
    except SpoolError as e:
        return Trouble(host.name, str(e), f"try: ssh {host.shown}")


def look(remote: Remote) -> Found:
    """One host. Raises Unreachable or Refused."""
    host = remote.host
    program = program_for(request(host, remote.login.port))
    command = python("-")
    ended = remote.run(command, input=program, root=remote.rooted, seconds=SECONDS)
    said = clean((ended.err or ended.out)[-300:].decode(errors="replace"))
    if ended.code == NONE:
        raise Refused(f"{host.name}: {said}", "install Python 3.11 or newer there")
    _, mark, answer = ended.out.rpartition(probe.MARK.encode())
    if ended.code or not mark:
        raise Refused(
            f"{host.name}: its Python could not look around: {said or f'code {ended.code}'}",
            f"try there: {shown(('python3', '-I', '-c', 'print(1)'))}",
        )
    try:
        return msgspec.json.decode(answer, type=Found)
    except (msgspec.DecodeError, UnicodeDecodeError) as e:
        raise Refused(
            f"{host.name}: what it says of itself cannot be believed: {e}",
            "does its login print something of its own?",
        ) from None


def request(host: Host, port: int) -> Request:
    """``port``: of the sshd through which the host was reached."""
    return Request(
        now=time.time(),
        port=port,
        reboot_mark=crontab.MARK,
        system=_ask(host, "system"),
        user=_ask(host, "user"),
    )


def program_for(asked: Request) -> bytes:
    """What a Python gets on its standard input."""
    source = Path(probe.__file__).read_bytes()
    text = msgspec.json.encode(asked).decode()
    return source + f"\nmain(json.loads({text!a}))\n".encode()


def _ask(host: Host, mode: Mode) -> Ask:
    where = paths(mode, "{home}", "{user}")
    texts = tuple(_texts(host, where))
    folders = (where.base, where.versions, where.current, where.models, where.model_versions)
    more = (where.var, where.data, where.state, where.logs, where.units, where.ssh)
    others = (where.etc, f"{where.etc}/services", *more)
    secret = (where.primary_env, f"{where.ssh}/id_ed25519", nginx.certificate_key(where))
    return Ask(
        base=where.base,
        etc=where.etc,
        var=where.var,
        looks=(*folders, *others, *secret, *texts),
        texts=texts,
        programs=PROGRAMS,
        accounts=(ACCOUNT, *nginx.ACCOUNTS),
        groups=(ACCOUNT,),
        services=(*SERVICES, "nginx") if mode == "system" else SERVICES,
        status=(*services.status("none", where, ()), "--json"),
    )


def _texts(host: Host, where: Paths) -> Iterable[str]:
    """The files that a plan compares, or reads."""
    for service in SERVICES:
        yield f"{where.units}/{service}.service"
        yield f"{where.etc}/services/{service}.json"
    yield from (f"{where.ssh}/{name}" for name in ("config", "known_hosts", "id_ed25519.pub"))
    if where.mode == "user":
        yield "{home}/.ssh/authorized_keys"
        return
    yield from (nginx.FILE, nginx.certificate(where))
    if host.primary is not None and host.primary.certificate is not None:
        yield host.primary.certificate
