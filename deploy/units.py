"""The three services: how each is started, its unit, and the order for our own supervisor. Pure.

All writing services have ONE path to write to, the common parent of everything: two would be two
mounts, and links and renames between them would fail. ``StateDirectory=`` is not used: it gives
the folder to the account, and then sshd refuses it as the parent of a chroot.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import msgspec

from deploy.fleet import Host
from deploy.nginx import FINISHED
from deploy.paths import PRIMARY, RUNNER, WORKER, Paths, Service
from spool.errors import Refused

START_SECONDS = 300  # until ready; a primary that reads its ledger anew asks for more by itself
WATCHDOG_SECONDS = 300  # without a sign of life, a primary or an agent is started again
STOP_SECONDS = {PRIMARY: 60, RUNNER: 90, WORKER: 30}  # from TERM to KILL
_RESTART_SECONDS = {PRIMARY: 2, RUNNER: 1, WORKER: 5}

_TITLES = {
    PRIMARY: "Model Runner: the primary",
    RUNNER: "Model Runner: the runner, which owns the runs of this worker",
    WORKER: "Model Runner: the worker's agent",
}

_HEAD = """\
# Written by modelrunner deploy, which writes it anew: changes here do not last.
# What you want otherwise goes beside it: systemctl {user}edit {service}
"""

# Given to the service whole: what no program in Python that serves or dials out needs.
_SHUT_IN = """
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
RestrictNamespaces=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallErrorNumber=EPERM
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
"""

_SHUT_IN_BY_ROOT = """
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ReadWritePaths={var}
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
ProtectProc=invisible
"""

# Of the runner. Models are arbitrary programs, and each run is in namespaces of its own:
# - the kernel lets a user namespace mount a /proc only where the one around it is whole, so none
#   of ProtectKernelTunables, ProtectKernelLogs, ProtectHostname, ProtectProc, ProcSubset;
# - no RestrictNamespaces, PrivateUsers, SystemCallFilter, MemoryDenyWriteExecute;
# - models may need devices (GPUs), 32-bit programs, personality(2) (debuggers, some Lisps).
# Homes can be read, as far as their owners allow: many a model's interpreter lies in one.
_RUNNER_BY_ROOT = """
Environment={home}
NoNewPrivileges=yes
RestrictSUIDSGID=yes
RestrictRealtime=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ReadWritePaths={var}
ProtectHome=read-only
PrivateTmp=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
"""

# The largest process goes first when memory runs out, and that is a model; the runner tells it.
_RUNNER = """
OOMPolicy=continue
OOMScoreAdjust=500
CPUWeight=50
IOWeight=50
"""

_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@+=:,./-]+\Z", re.ASCII)


class Supervised(msgspec.Struct, frozen=True, kw_only=True):
    """A service as ``deploy.supervise`` is told of it, in a file of its own."""

    argv: tuple[str, ...]
    env_file: str = ""  # NAME=VALUE lines; it may be absent
    start_seconds: float = START_SECONDS
    stop_seconds: float = 30.0
    watchdog_seconds: float | None = None


def argv_of(service: Service, where: Paths, host: Host, spool: str) -> tuple[str, ...]:
    """The command of a service. ``spool``: what a worker gets as --primary."""
    if service == PRIMARY:
        return _primary(where, host)
    if service == RUNNER:
        module = (f"{where.current}/bin/python", "-I", "-m", "engine.runner")
        return (*module, "--state", where.state, "--stay")
    assert host.worker is not None
    argv = [f"{where.current}/bin/modelrunner-worker", "--primary", spool]
    argv += ["--models", where.models, "--name", host.worker_name]
    argv += ["--slots", str(host.worker.slots), "--state", where.state]
    if host.primary is None:
        argv += ["--ssh", where.ssh]
    elif host.worker.models:  # the primary's folder holds those of all workers
        argv += [word for name in sorted(host.worker.models) for word in ("--only", name)]
    return (*argv, "--runner", "unit")


def unit(service: Service, where: Paths, argv: Sequence[str], *, local: bool = False) -> str:
    """The unit file. ``local``: the primary is on the same machine.

    Raises Refused for a word that systemd cannot take.
    """
    system = where.mode == "system"
    head = _HEAD.format(user="" if system else "--user ", service=service)
    parts = [head, _unit_section(service, system=system, local=local)]
    parts.append(_service_section(service, where, argv))
    parts.append(f"[Install]\nWantedBy={'multi-user' if system else 'default'}.target\n")
    return "\n".join(parts)


def supervised(service: Service, where: Paths, argv: Sequence[str]) -> str:
    """The file for ``deploy.supervise``."""
    told = Supervised(
        argv=tuple(argv),
        env_file=where.primary_env if service == PRIMARY else "",
        stop_seconds=STOP_SECONDS[service],
        watchdog_seconds=None if service == RUNNER else WATCHDOG_SECONDS,
    )
    return json.dumps(msgspec.to_builtins(told), indent=2) + "\n"


# --- parts -------------------------------------------------------------------------


def _primary(where: Paths, host: Host) -> tuple[str, ...]:
    role = host.primary
    assert role is not None
    argv = [f"{where.current}/bin/modelrunner", "serve", "--data", where.data]
    argv += ["--listen", role.listen, "--models", where.models]
    for name in dict.fromkeys((*role.names, host.address.strip("[]"))):
        argv += ["--host", name]
    for name in role.allow_urls:
        argv += ["--allow-url", name]
    if role.anonymous:
        argv += ["--anonymous", role.anonymous]
    if role.nginx:
        argv += ["--behind-proxy", "--accel", FINISHED]
    return tuple(argv)


def _unit_section(service: Service, *, system: bool, local: bool) -> str:
    lines = ["[Unit]", f"Description={_TITLES[service]}"]
    if system and service != RUNNER:
        lines += ["Wants=network-online.target", "After=network-online.target"]
    if service == WORKER:
        # Wanted, not required: a runner is never ended because an agent is.
        lines.append(f"Wants={RUNNER}.service")
        if local:
            lines += [f"After={PRIMARY}.service"]
    if service == RUNNER:
        # So at shutdown it ends first, and the agent tells the primary that its runs are lost.
        lines.append(f"After={WORKER}.service")
    lines.append("StartLimitIntervalSec=0")  # it tries on, however often it failed
    return "\n".join(lines) + "\n"


def _service_section(service: Service, where: Paths, argv: Sequence[str]) -> str:
    system = where.mode == "system"
    lines = ["[Service]", "Type=notify", "NotifyAccess=main", f"ExecStart={_command(where, argv)}"]
    if service == PRIMARY:
        path = where.primary_env.replace("%", "%%")  # not a list: systemd takes the line as it is
        lines.append(f"EnvironmentFile=-{path}")
    if system:
        lines += [f"User={where.account}", f"Group={where.account}", "WorkingDirectory=/"]
    lines += [f"SyslogIdentifier={service}", "UMask=0027"]
    lines += ["Restart=always", f"RestartSec={_RESTART_SECONDS[service]}"]
    lines += [f"TimeoutStartSec={START_SECONDS}", f"TimeoutStopSec={STOP_SECONDS[service]}"]
    # An agent's end ends nothing but the agent; a runner ends its runs, and who is left is killed.
    lines.append(f"KillMode={'process' if service == WORKER else 'mixed'}")
    if service == RUNNER:
        more = _RUNNER + (_RUNNER_BY_ROOT if system else "")
    else:
        # A model inherits the runner's limits, and programs that use select(2) break above 1024.
        lines += [f"WatchdogSec={WATCHDOG_SECONDS}", "LimitNOFILE=65536"]
        more = _SHUT_IN + (_SHUT_IN_BY_ROOT if system else "")
    lines += [line for line in more.format(var=where.var, home=_home(where)).splitlines() if line]
    return "\n".join(lines) + "\n"


def _home(where: Paths) -> str:
    """The models' HOME, as a word of a unit file: the account's own belongs to root."""
    return _quoted(f"HOME={where.state}")


def _command(where: Paths, argv: Sequence[str]) -> str:
    """``argv`` for ExecStart.

    A program of ours is started by the true name of its version: Python looks for its modules
    beside the path that it was called by, and what a process loads later must come from the same
    version, although ``current`` leads elsewhere by then. (The console scripts name their version
    in their first line.)
    """
    if argv[0] != f"{where.current}/bin/python":
        return " ".join(_quoted(word) for word in argv)
    script = 'exec "$(readlink -f "$0")/bin/python" "$@"'
    return " ".join(_quoted(word) for word in ("/bin/sh", "-c", script, where.current, *argv[1:]))


def _quoted(word: str) -> str:
    """A word of ExecStart, as systemd reads it: quotes, % and $ mean something to it."""
    if not word.isprintable():
        raise Refused(f"{word!r} cannot stand in a unit file", "use printable characters only")
    escaped = word.replace("%", "%%")
    if _PLAIN_WORD.match(word):
        return escaped
    for char, instead in (("\\", "\\\\"), ('"', '\\"'), ("$", "$$")):
        escaped = escaped.replace(char, instead)
    return f'"{escaped}"'
