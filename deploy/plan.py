"""What has to be done on each host: what it shall be, less what was found there. Pure.

The order of a host's steps is the order in which they are needed; ``steps.Phase`` says what
waits for other hosts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deploy import admitting, checking, fronting, modelfolders, nginx, switching
from deploy.desired import PACKAGES, Desired, Wanted, desired
from deploy.found import Entry, Found
from deploy.install import install_command
from deploy.steps import Bundle, Command, HostPlan, Phase, Put, Step
from deploy.writing import written
from spool.errors import Refused

INSTALL = 900.0  # seconds for a version: a slow disk compiles for minutes
PACKAGE = 900.0  # seconds for Debian's packages

# The spool may lie beside the data, with a link to it. A worker with an account of its own gets
# its folders when it is let in: until then they are root's. What it wrote is read by it, too,
# and nobody else comes through its folders. Claims are links of inputs, which are the primary's.
_GIVE = """\
owner=$1 folder=$2
shift 2
chown -R -h "$owner" "$folder" || exit
[ ! -L "$folder/spool" ] || chown -R -h "$owner" "$folder/spool/" || exit
for worker; do
    [ -d "$folder/spool/workers/$worker" ] || continue
    find "$folder/spool/workers/$worker" -type d -exec chown -h root:root {} + &&
        find "$folder/spool/workers/$worker" -type f -links 1 ! -path '*/cur/*' \\
            -exec chmod o+rw {} + || exit
done"""

# The half of a key that a power cut left is no key, and ssh-keygen would ask.
_KEYGEN = """\
rm -f "$1" "$1.pub" && ssh-keygen -q -t ed25519 -N '' -C "$2" -f "$1" && sync"""


def plan(
    wanted: Wanted, found: Mapping[str, Found], granted: Mapping[str, bool]
) -> dict[str, HostPlan]:
    """The plan of every host by its name; ``granted``: which workers are let in as they shall be.

    Raises Refused where a host cannot be what it shall be: which, why, what to do.
    """
    fleet = wanted.fleet
    plans = {}
    for host in fleet.hosts:
        here = found[host.name]
        try:
            shall = desired(wanted, host, found)
            _check(shall, here, offline=wanted.offline)
        except Refused as e:
            raise Refused(f"{host.name}: {e}") from e
        steps = [
            *_prepare(wanted, shall, here),
            *switching.steps(shall, here),
            *fronting.steps(shall, here),
            *admitting.steps(fleet, host, found, granted),
        ]
        notes = (*_notes(shall, here), *admitting.notes(fleet, host, here))
        plans[host.name] = HostPlan(host=host.name, steps=tuple(steps), notes=notes)
    return checking.added(wanted, found, plans)


def plan_upgrade(wanted: Wanted, found: Mapping[str, Found]) -> dict[str, HostPlan]:
    """The new version beside the old, and the switch: nothing else. Raises Refused."""
    plans = {}
    for host in wanted.fleet.hosts:
        here = found[host.name]
        shall = desired(wanted, host, found)
        if here.version is None:
            raise Refused(
                f"{host.name}: there is no version that could be upgraded",
                "modelrunner deploy apply installs it",
            )
        steps = [*_version(shall, here), *switching.steps(shall, here)]
        plans[host.name] = HostPlan(host=host.name, steps=tuple(steps))
    return checking.added(wanted, found, plans)


def plan_model(wanted: Wanted, name: str, found: Mapping[str, Found]) -> dict[str, HostPlan]:
    """One model, on all hosts that have it. Raises Refused."""
    plans = {}
    for host in wanted.fleet.hosts:
        here, shall = found[host.name], desired(wanted, host, found)
        if here.version is None:
            raise Refused(f"{host.name} is not set up yet", "modelrunner deploy apply does that")
        steps = [*_models(shall, here, only=name)]
        plans[host.name] = HostPlan(host=host.name, steps=tuple(steps))
    return plans


# --- parts -------------------------------------------------------------------------


def _check(shall: Desired, here: Found, *, offline: bool) -> None:
    """Raises Refused for what no step of ours can put right."""
    if here.problems:
        raise Refused("; ".join(here.problems))
    lacking = [name for name in shall.programs if name not in here.programs]
    packages = " ".join(PACKAGES[name] for name in lacking)
    if lacking and (offline or not here.debian or shall.paths.mode == "user"):
        why = (
            "--offline installs no packages" if offline else "only Debian's we can install, as root"
        )
        raise Refused(
            f"there is no {' and no '.join(lacking)} ({why})",
            f"install it there first: on Debian, apt-get install {packages}",
        )


def _prepare(wanted: Wanted, shall: Desired, here: Found) -> Iterator[Step]:
    yield from _packages(shall, here)
    yield from _account(shall, here)
    yield from _given(wanted, shall, here)
    yield from _folders(shall, here)
    yield from _version(shall, here)
    yield from _models(shall, here)
    yield from _key(shall, here)
    yield from (step for put in shall.files for step in written(put, here.entries.get(put.path)))
    if shall.host.primary is not None:
        yield from _admin_key(shall, here, wanted.new_key)


def _packages(shall: Desired, here: Found) -> Iterator[Step]:
    lacking = sorted(PACKAGES[name] for name in shall.programs if name not in here.programs)
    if lacking:
        environment = ("env", "DEBIAN_FRONTEND=noninteractive")
        patient = ("-o", "DPkg::Lock::Timeout=300")  # a fresh machine updates itself
        install = ("apt-get", *patient, "install", "-y", "-qq", "--no-install-recommends", *lacking)
        yield Step(
            phase=Phase.PREPARE,
            sentence=f"Debian's {', '.join(lacking)} installed",
            commands=((*environment, "apt-get", "update", "-qq"), (*environment, *install)),
            hint=f"apt-get install {' '.join(lacking)} by hand on that host shows what is wrong",
            seconds=PACKAGE,
        )


def _account(shall: Desired, here: Found) -> Iterator[Step]:
    where = shall.paths
    if where.mode == "user":
        return
    name = where.account
    if name not in here.accounts:
        # A removal that was cut off may have left the group.
        group = ("--gid", name) if name in here.groups else ("--user-group",)
        new = ("useradd", "--system", *group, "--no-create-home", "--home-dir", where.var)
        more = ("--shell", "/usr/sbin/nologin", "--comment", "Model Runner", name)
        yield Step(
            phase=Phase.PREPARE,
            sentence=f"account {name} made: no shell, no password",
            commands=((*new, *more),),
        )


def _given(wanted: Wanted, shall: Desired, here: Found) -> Iterator[Step]:
    """Data that a removal has left is root's, for an account's number may become another's."""
    where, name = shall.paths, shall.paths.account
    if where.mode == "user":
        return
    workers = [host.worker_name for host in admitting.remote_workers(wanted.fleet)]
    for path, role in ((where.data, shall.host.primary), (where.state, shall.host.worker)):
        entry = here.entries.get(path)
        if role is None or entry is None or entry.owner == f"{name}:{name}":
            continue
        yield Step(
            phase=Phase.PREPARE,
            sentence=f"{path}, which was there already, given to {name}",
            commands=(("sh", "-c", _GIVE, "sh", f"{name}:{name}", path, *workers),),
            seconds=INSTALL,
        )


def _folders(shall: Desired, here: Found) -> Iterator[Step]:
    lacking = [
        f for f in shall.folders if not _is_folder(here.entries.get(f.path), f.owner, f.mode)
    ]
    commands: list[Command] = []
    for folder in lacking:
        owner = folder.owner.split(":") if folder.owner else []
        who = ("-o", owner[0], "-g", owner[1]) if owner else ()
        commands.append(("install", "-d", "-m", f"{folder.mode:04o}", *who, folder.path))
    if commands:
        names = ", ".join(folder.path for folder in lacking)
        yield Step(phase=Phase.PREPARE, sentence=f"folders made: {names}", commands=tuple(commands))


def _is_folder(entry: Entry | None, owner: str, mode: int) -> bool:
    if entry is None or entry.kind != "folder":
        return False
    return entry.mode == mode and (not owner or entry.owner == owner)


def _version(shall: Desired, here: Found) -> Iterator[Step]:
    if shall.version not in here.versions:
        yield Step(
            phase=Phase.PREPARE,
            sentence=f"version {shall.version} installed in {shall.paths.version(shall.version)}",
            commands=(install_command(here.python, shall.paths, shall.version),),
            input=Bundle("release", shall.host.name),
            seconds=INSTALL,
            atomic=True,
        )


def _models(shall: Desired, here: Found, only: str | None = None) -> Iterator[Step]:
    where = shall.paths
    for name, version in sorted(shall.models.items()):
        if only not in (None, name) or here.models.get(name) == version:
            continue
        yield Step(
            phase=Phase.PREPARE,
            sentence=f"model {name} installed, version {version}",
            commands=(modelfolders.install_command(here.python, where, name, version),),
            input=Bundle("model", name),
            hint=f"the model there is as it was; put {name} right and try again",
            seconds=modelfolders.SETUP_SECONDS + 300,
            atomic=True,
        )
    gone = sorted(set(here.models) - set(shall.models)) if only is None else []
    if gone:
        command, source = modelfolders.prune_command(here.python, where, gone)
        yield Step(
            phase=Phase.CHECK,
            mark="-",
            sentence=f"models taken away: {', '.join(gone)}",
            commands=(command,),
            input=source,
        )


def _notes(shall: Desired, here: Found) -> Iterator[str]:
    role = shall.host.primary
    if role is not None and role.nginx and here.version is None:
        yield from nginx.notes(role, shall.host.address)
    if shall.manager != "none":
        return
    yield (
        f"no systemd keeps services for {here.user} here, so a small process of ours does; "
        f"this, by an administrator, changes it: loginctl enable-linger {here.user}"
    )
    if "crontab" not in here.programs:
        yield "there is no crontab: after a boot, start it by: modelrunner deploy start"


def _key(shall: Desired, here: Found) -> Iterator[Step]:
    """The worker's own key, which never leaves its host.

    Its folder is the account's, so the account makes it: root would follow links there.
    """
    where = shall.paths
    file = f"{where.ssh}/id_ed25519"
    public = here.entries.get(f"{file}.pub")
    if not shall.remote_worker or (file in here.entries and public is not None and public.text):
        return
    command: Command = ("sh", "-c", _KEYGEN, "sh", file)
    if where.mode == "system":
        command = ("runuser", "-u", where.account, "--", *command)
    comment = f"modelrunner worker {shall.host.worker_name}"
    yield Step(phase=Phase.PREPARE, sentence=f"key {file} made", commands=((*command, comment),))


def _admin_key(shall: Desired, here: Found, key: str) -> Iterator[Step]:
    """Made once, and never changed by us: browsers are signed in with it."""
    path = shall.paths.primary_env
    if here.entries.get(path) is None:
        text = f"MODELRUNNER_ADMIN_KEY={key}\n"
        owner = "root:root" if shall.paths.mode == "system" else ""
        put = Put(path=path, text=text, owner=owner, mode=0o600, secret=True)
        yield from written(put, None)
