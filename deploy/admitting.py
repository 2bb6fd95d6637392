"""Letting the workers' keys in, on the primary's host. Pure.

With root each worker gets an account of its own (``modelrunner spool grant``, run there);
without, its key is let into the primary's own account, for SFTP and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploy.desired import mode_of, paths_of
from deploy.fleet import Fleet, Host
from deploy.found import Found
from deploy.paths import PRIMARY
from deploy.services import restart
from deploy.steps import Command, FileOf, Phase, Step

_LINE = 'restrict,command="internal-sftp" '

# $1: ~/.ssh, $2: the worker. Of what another host says only a key goes in, and it takes the
# place of the one that the worker had before.
_ADD = """\
umask 077
IFS=' ' read -r type blob _ || :
case $type$blob in *[!A-Za-z0-9+/=@.-]*) blob= ;; esac
[ -n "$blob" ] || { echo 'that is no public key' >&2; exit 1; }
mkdir -p "$1" || exit 1
file=$(readlink -f "$1/authorized_keys") || exit 1
new=$file.new
trap 'rm -f "$new"' EXIT
: >"$new" || exit 1
own=$(printf '%s' "$2" | sed 's/[.]/[.]/g')
if [ -e "$file" ]; then
    cp -p "$file" "$new" || exit 1
    grep -v "^LINE.* modelrunner worker $own\\$" "$file" >"$new"
    [ $? -lt 2 ] || exit 1
fi
printf '%s\\n' "LINE$type $blob modelrunner worker $2" >>"$new" && sync && mv -f "$new" "$file"\
""".replace("LINE", _LINE.replace('"', '\\"'))


def remote_workers(fleet: Fleet) -> tuple[Host, ...]:
    """The hosts whose workers reach the primary over SSH."""
    return tuple(host for host in fleet.workers if host.primary is None)


def public_key(host: Host, found: Mapping[str, Found]) -> str | None:
    """The public key of a host's worker, if it has one."""
    here = found[host.name]
    entry = here.entries.get(f"{paths_of(here).ssh}/id_ed25519.pub")
    return entry.text.strip() if entry is not None and entry.text else None


def is_listed(key: str, authorized: str) -> bool:
    """Whether authorized_keys has a line for ``key`` that lets in for SFTP alone."""
    wanted = key.split()[:2]
    return any(
        line.startswith(_LINE) and line.removeprefix(_LINE).split()[:2] == wanted
        for line in authorized.splitlines()
    )


def grant_command(fleet: Fleet, host: Host, there: Found, *, dry_run: bool = False) -> Command:
    """What lets the worker of ``host`` in, on the primary's machine; its key on stdin."""
    where = paths_of(there)
    models = [word for name in fleet.runs(host) for word in ("--model", name)]
    argv = [f"{where.current}/bin/modelrunner", "spool", "grant", host.worker_name]
    argv += ["--key", "/dev/stdin", "--data", where.data, *models]
    return (*argv, *(("--dry-run",) if dry_run else ()))


def notes(fleet: Fleet, host: Host, here: Found) -> Iterator[str]:
    """Who is let in on the primary's machine, though hosts.toml does not name it (any more).

    It may have been granted by hand, so nothing is taken away.
    """
    if host.primary is None:
        return
    named = {other.worker_name for other in remote_workers(fleet)}
    where = paths_of(here)
    for name in here.let_in:
        if name in named:
            continue
        if mode_of(here) == "system":
            away = f"{where.current}/bin/modelrunner spool revoke {name}"
        else:
            away = f"remove its line from {here.home}/.ssh/authorized_keys"
        yield (
            f"worker {name} is let in here, and hosts.toml has no such worker; "
            f"this takes it away: {away}"
        )


def steps(
    fleet: Fleet, host: Host, found: Mapping[str, Found], granted: Mapping[str, bool]
) -> Iterator[Step]:
    """What ``host`` needs, if it is the primary's. ``granted``: by the workers' hosts."""
    if host.primary is None:
        return
    here = found[host.name]
    with_root, changed = mode_of(here) == "system", False
    for other in remote_workers(fleet):
        if granted.get(other.name):
            continue
        key = FileOf(other.name, f"{paths_of(found[other.name]).ssh}/id_ed25519.pub")
        if with_root:
            command: Command = grant_command(fleet, other, here)
            what = f"worker {other.worker_name} let in: account, folders, key (spool grant)"
        else:
            command = ("sh", "-c", _ADD, "sh", f"{here.home}/.ssh", other.worker_name)
            what = f"worker {other.worker_name} let in: its key may do SFTP as {here.user}"
        yield Step(phase=Phase.GRANT, sentence=what, commands=(command,), input=key)
        changed = True
    if changed and with_root:
        yield Step(
            phase=Phase.GRANT,
            sentence="primary restarted: its account has new groups",
            commands=(restart(here.manager, paths_of(here), PRIMARY),),
        )
