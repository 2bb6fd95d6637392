"""What takes a deployment away again, and leaves the data. Pure.

A run that goes on is ended by it; results that were not yet delivered stay with the data. The data
is given to root: the number of an account that is gone may become another's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploy import fronting, nginx, services
from deploy.desired import manager_of, paths_of, services_of
from deploy.fleet import Fleet, Host
from deploy.found import Found
from deploy.grants import layout
from deploy.paths import PRIMARY, RUNNER, SERVICES, Paths
from deploy.steps import HostPlan, Phase, Step

# userdel refuses while a process of the account lives, be it for a moment.
_LEAVE = """\
n=0; while pkill -KILL -u "$name" && [ $n -lt 50 ]; do sleep 0.1; n=$((n+1)); done"""

# The account of all services: what a setup script left in the background ends, too.
_DISMISS = f'name=$1\n{_LEAVE}\nuserdel "$name"'

# The accounts of workers and colleagues, and the groups of models: grants made them, or we.
_ACCOUNTS = """\
getent passwd | awk -F: '$5 ~ /^Model Runner (worker|drop) / {print $1}' | while read -r name; do
    LEAVE
    userdel "$name" || exit 1
done || exit 1
getent group | cut -d: -f1 | grep -E '^mr-(workers|drops|model-|drop-)' | while read -r name; do
    groupdel "$name" || exit 1
done""".replace("LEAVE", _LEAVE)

_UNLIST = """\
[ -f "$1" ] || exit 0
file=$(readlink -f "$1") || exit 1
cp -p "$file" "$file.new" || exit 1
grep -v '^restrict,command="internal-sftp" .* modelrunner worker ' "$file" >"$file.new"
[ $? -lt 2 ] || { rm -f "$file.new"; exit 1; }
sync && mv -f "$file.new" "$file" || exit 1
[ -s "$file" ] || rm -f "$file\""""

# What a worker did not deliver yet is data; its locks and logs are not.
_STATE = """\
[ -d "$1" ] || exit 0
[ -n "$(ls -A "$1/runs" 2>/dev/null)" ] || rm -rf "$1\""""

# userdel leaves the group where nginx's account is in it, too.
_UNGROUP = 'if getent group "$1" >/dev/null; then groupdel "$1"; fi'

# Links in it (to the spool) are not followed.
_GIVE = '[ ! -d "$1" ] || chown -R -h root:root "$1"'

_EMPTY = """\
for folder; do rmdir "$folder" 2>/dev/null || :; done"""


def plan_removal(fleet: Fleet, found: Mapping[str, Found]) -> dict[str, HostPlan]:
    """The steps of each host, workers first; none where nothing of ours is."""
    return {
        host.name: HostPlan(host=host.name, steps=tuple(_steps(host, found[host.name])))
        for host in fleet.hosts
    }


def _steps(host: Host, here: Found) -> Iterator[Step]:
    where = paths_of(here)
    # The account goes last: a removal that was cut off goes on until there.
    account = where.mode == "system" and where.account in here.accounts
    if where.base not in here.entries and where.etc not in here.entries and not account:
        return
    phase = Phase.PRIMARY if host.primary is None else Phase.WORKERS
    yield from _services(host, here, where, phase)
    if where.mode == "system":
        yield from _root(host, here, where, phase)
    else:
        yield from _user(host, here, where, phase)


def _services(host: Host, here: Found, where: Paths, phase: Phase) -> Iterator[Step]:
    manager = manager_of(here)
    names = [n for n in SERVICES if n in services_of(host) or n in here.services]
    # A worker's agent ends before its runner, the primary last.
    ordered = sorted(names, key=lambda name: (name == PRIMARY, name == RUNNER))
    yield Step(
        phase=phase,
        mark="-",
        sentence=f"services ended, and forgotten: {', '.join(ordered)}",
        commands=(
            *(services.end(manager, where, name) for name in ordered),
            ("rm", "-f", *(f"{where.units}/{name}.service" for name in SERVICES)),
            *services.reload_units(manager, where),
        ),
        seconds=300,
    )


def _root(host: Host, here: Found, where: Paths, phase: Phase) -> Iterator[Step]:
    if nginx.FILE in here.entries:
        yield Step(
            phase=phase,
            mark="-",
            sentence=f"{nginx.FILE} removed, and nginx told",
            commands=(("rm", "-f", nginx.FILE), fronting.RELOAD),
        )
    if host.primary is not None:
        reload = "systemctl try-reload-or-restart ssh || systemctl try-reload-or-restart sshd"
        yield Step(
            phase=phase,
            mark="-",
            sentence="workers and colleagues shut out: sshd's file, keys, accounts and groups",
            commands=(
                ("rm", "-rf", layout.SSHD_FILE, layout.KEYS),
                ("sh", "-c", reload),
                ("sh", "-c", _ACCOUNTS),
            ),
        )
    yield _folders(where, phase)
    data = f"{where.var} given to root: only the data is left"
    yield Step(
        phase=phase, mark="~", sentence=data, commands=(("sh", "-c", _GIVE, "sh", where.var),)
    )
    if where.account in here.accounts:
        yield Step(
            phase=phase,
            mark="-",
            sentence=f"account and group {where.account} removed",
            commands=(
                ("sh", "-c", _DISMISS, "sh", where.account),
                ("sh", "-c", _UNGROUP, "sh", where.account),
            ),
        )


def _user(host: Host, here: Found, where: Paths, phase: Phase) -> Iterator[Step]:
    if here.reboot_line:
        yield Step(
            phase=phase,
            mark="-",
            sentence="the @reboot line taken out of the crontab",
            commands=(services.forget_reboot(where),),
        )
    keys = f"{here.home}/.ssh/authorized_keys"
    if host.primary is not None and keys in here.entries:
        yield Step(
            phase=phase,
            mark="-",
            sentence=f"workers shut out: their lines taken out of {keys}",
            commands=(("sh", "-c", _UNLIST, "sh", keys),),
        )
    yield _folders(where, phase)


def _folders(where: Paths, phase: Phase) -> Step:
    """The services' own logs go with them."""
    return Step(
        phase=phase,
        mark="-",
        sentence=f"{where.base} and {where.etc} removed",
        commands=(
            ("sh", "-c", _STATE, "sh", where.state),
            ("rm", "-rf", where.base, where.etc, where.logs),
            ("sh", "-c", _EMPTY, "sh", *_parents(where)),
        ),
    )


def _parents(where: Paths) -> tuple[str, ...]:
    """Folders that we may have made, the deepest first; they go if nothing is in them."""
    if where.mode == "system":
        return ()
    home = where.base.rsplit("/", 3)[0]
    own = (where.units, where.base.rsplit("/", 1)[0], where.etc.rsplit("/", 1)[0])
    enabled = f"{home}/.config/systemd/user"
    links = (f"{enabled}/default.target.wants", enabled, f"{home}/.config/systemd")
    return (*own, where.units.rsplit("/", 1)[0], *links, f"{home}/.config")
