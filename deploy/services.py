"""The commands that start, stop and show services, for whoever keeps them on a host. Pure.

*system*: systemd; *user*: the login's own systemd; *none*: ``deploy.supervise``, out of the
version in use. A command of no words has nothing to do there.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from deploy.crontab import MARK
from deploy.found import Manager
from deploy.paths import Paths
from deploy.steps import Command

# A login over SSH may have no XDG_RUNTIME_DIR (without pam_systemd): then it is where it always is.
_AS_USER = 'XDG_RUNTIME_DIR="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}"; export XDG_RUNTIME_DIR; '

# Of a service that is not there, nothing has to be ended.
_END = """\
{systemctl} cat "$1" >/dev/null 2>&1 || exit 0
{systemctl} disable --now "$1" || exit 1
{systemctl} reset-failed "$1" 2>/dev/null || :"""

_SUPERVISED_END = """\
[ -x "$1" ] || exit 0
exec "$@\""""

# Our line alone is taken out; a table that was ours alone goes with it.
_FORGET = """\
command -v crontab >/dev/null || exit 0
table=$(crontab -l 2>/dev/null) || exit 0
rest=$(printf '%s\\n' "$table" | grep -v {mark})
if [ -n "$rest" ]; then printf '%s\\n' "$rest" | crontab -; else crontab -r; fi"""


def reload_units(manager: Manager, where: Paths) -> tuple[Command, ...]:
    """After a unit file was written."""
    del where
    return () if manager == "none" else (_systemctl(manager, "daemon-reload"),)


def start(manager: Manager, where: Paths, service: str) -> Command:
    """Returns once it is ready; fails if it is not in time. One that runs goes on."""
    return _verb("start", manager, where, service)


def stop(manager: Manager, where: Paths, service: str) -> Command:
    return _verb("stop", manager, where, service)


def restart(manager: Manager, where: Paths, service: str) -> Command:
    return _verb("restart", manager, where, service)


def enable(manager: Manager, where: Paths, service: str) -> Command:
    """It comes back after a reboot."""
    return _verb("enable", manager, where, service)


def disable(manager: Manager, where: Paths, service: str) -> Command:
    return _verb("disable", manager, where, service)


def end(manager: Manager, where: Paths, service: str) -> Command:
    """Stopped, and not started again; well where it is not there at all."""
    if manager == "none":
        return ("sh", "-c", _SUPERVISED_END, "sh", *_supervise(where, "stop", service))
    prefix = "" if manager == "system" else _AS_USER
    script = prefix + _END.format(systemctl=" ".join(_SYSTEMCTL[manager]))
    return ("sh", "-c", script, "sh", service)


def forget_reboot(where: Paths) -> Command:
    """Takes our @reboot line out of the crontab."""
    del where
    return ("sh", "-c", _FORGET.format(mark=shlex.quote(f"{MARK}$")))


def status(manager: Manager, where: Paths, services: Sequence[str]) -> Command:
    """For people; its exit code says nothing of use."""
    if manager == "none":
        return _supervise(where, "status", *services)
    return _systemctl(manager, "status", "--no-pager", "--lines=0", *services)


def logs(
    manager: Manager, where: Paths, services: Sequence[str], lines: int, *, follow: bool = False
) -> Command:
    """The last lines of their messages, oldest first; then what comes, until it is ended."""
    more = ("--follow",) if follow else ()
    if manager == "none":
        return _supervise(where, "logs", "--lines", str(lines), *more, *services)
    option = "--unit" if manager == "system" else "--user-unit"
    units = tuple(f"{option}={service}" for service in services)
    return (
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=short-iso",
        f"--lines={lines}",
        *more,
        *units,
    )


def last_lines(manager: Manager, where: Paths, service: str, lines: int) -> Command:
    """What a service that does not start has said."""
    return logs(manager, where, (service,), lines)


def linger(user: str) -> Command:
    """The user's services live without a login. Some machines allow it to root alone."""
    return ("loginctl", "enable-linger", user)


_SYSTEMCTL: dict[Manager, Command] = {
    "system": ("systemctl",),
    "user": ("systemctl", "--user"),
}


def _verb(verb: str, manager: Manager, where: Paths, service: str) -> Command:
    if manager == "none":
        return _supervise(where, verb, service)
    return _systemctl(manager, verb, service)


def _systemctl(manager: Manager, *words: str) -> Command:
    command = (*_SYSTEMCTL[manager], *words)
    if manager == "system":
        return command
    return ("sh", "-c", f'{_AS_USER}exec "$@"', "sh", *command)


def _supervise(where: Paths, verb: str, *words: str) -> Command:
    python = f"{where.current}/bin/python"
    module = (python, "-I", "-m", "deploy.supervise", verb)
    return (*module, "--etc", where.etc, "--logs", where.logs, *words)
