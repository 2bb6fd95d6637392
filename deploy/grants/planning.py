"""What a grant needs, from names and facts. Pure.

The order of the steps is the order of safety: groups and account, then folders
that are closed, then sshd's configuration, and last the key that lets in.
"""

from __future__ import annotations

import shlex

from deploy.grants import admission, home, layout
from deploy.grants.admission import Grant
from deploy.grants.facts import Machine, Spool
from deploy.grants.folders import Folders
from deploy.grants.steps import Plan
from spool import names
from spool.errors import BadName, Refused

LOCAL = "local"  # the name of the worker that serve --slots keeps


def plan(grant: Grant, machine: Machine, spool: Spool) -> Plan:
    """Raises Refused or BadName, before anything is done."""
    _check_machine(machine)
    _check_spool(spool)
    models = _models(grant, spool)
    account = _account(grant, machine, spool)
    if grant.drop is None:
        _check_worker(grant.name, account, machine, spool)
    # First: where the spool could move to is no question if it is not the one.
    admission.check_only(machine, home.candidates(spool, grant.spool_home))
    chroot = home.choose(spool, grant.spool_home)
    groups = admission.groups_for(grant, models)
    folders = Folders(machine, spool, chroot, groups)
    steps = [*admission.members(grant, account, groups, machine, spool)]
    beyond = [*admission.beyond(machine)]
    if (moved := home.move(spool, chroot)) is not None:
        steps.append(moved)
        beyond.insert(
            0, f"the spool moves from {spool.path} to {chroot}; {spool.link} becomes a link to it"
        )
    steps += folders.base()
    if grant.drop is None:
        found = machine.accounts.get(account)
        steps += folders.worker(grant.name, account, found.group if found else account)
    steps += admission.sshd(grant, account, chroot, machine, spool)
    steps += admission.key(grant, account, machine)
    return Plan(
        account=account,
        steps=tuple(steps),
        notes=tuple(admission.notes(grant, account, groups, machine, spool, chroot)),
        beyond=tuple(beyond),
        models=models,
        before=_before(grant, account, models, machine, spool),
        chroot=chroot,
    )


def _check_machine(machine: Machine) -> None:
    if not machine.sshd:
        raise Refused("there is no sshd on this machine", "apt-get install openssh-server")
    if not machine.included:
        raise Refused(
            f"{layout.SSHD_CONFIG} does not read the files beside it",
            "add as its first line: Include /etc/ssh/sshd_config.d/*.conf",
        )


def _check_spool(spool: Spool) -> None:
    """It is one that its primary has laid out."""
    kinds = {names.BELL: "file", names.MODELS: "folder", names.WORKERS: "folder"}
    for path, kind in kinds.items():
        entry = spool.entries.get(path)
        if entry is None or entry.kind != kind:
            raise Refused(
                f"{spool.path} is no spool that a primary has laid out: its {path} is missing",
                f"start the primary once: modelrunner serve --data {spool.data} …",
            )
    if spool.entries[names.BELL].owner != spool.owner.name:
        owner = spool.entries[names.BELL].owner
        raise Refused(
            f"the bell in {spool.path} belongs to {owner}, the data to {spool.owner.name}",
            "the spool must be that of the account that runs the primary",
        )


def _models(grant: Grant, spool: Spool) -> tuple[str, ...]:
    wanted = (grant.drop,) if grant.drop is not None else grant.models or spool.models
    for model in wanted:
        names.plain(model, "model")
        if model not in spool.models:
            has = ", ".join(spool.models) or "none"
            raise Refused(f"the spool has no model {model!r}", f"it has: {has}")
    if not wanted:
        raise Refused("the spool has no model yet", "give the primary one, then grant")
    by_group: dict[str, str] = {}
    for model in spool.models:
        other = by_group.setdefault(layout.model_group(model), model)
        if other != model:
            raise Refused(f"the models {other} and {model} would share a group", "rename one")
    return tuple(sorted(set(wanted)))


def _before(
    grant: Grant, account: str, models: tuple[str, ...], machine: Machine, spool: Spool
) -> tuple[str, ...]:
    """The models that an earlier grant has given, and this one does not name."""
    if grant.drop is not None:
        return ()
    others = (model for model in spool.models if model not in models)
    return tuple(m for m in others if machine.is_in(account, layout.model_group(m)))


def _account(grant: Grant, machine: Machine, spool: Spool) -> str:
    """The account's name: as given, as granted before, or made from the name."""
    what = "worker" if grant.drop is None else "colleague"
    names.plain(grant.name, what)
    if grant.drop is None and grant.name == LOCAL:
        raise Refused(f"a worker cannot be called {LOCAL}", "serve --slots keeps one of that name")
    before = machine.by_comment(grant.comment)
    if before is not None and grant.account not in (None, before.name):
        raise Refused(
            f"{what} {grant.name} has the account {before.name} already",
            "leave --account out, or choose another name",
        )
    account = grant.account or (before.name if before else layout.default_account(grant.name))
    if not layout.is_account(account):
        raise BadName(
            f"{account!r} cannot be the name of an account: expected 1 to 32 of a-z 0-9 _ - that "
            "begin with a letter, and none of our groups' names; choose one with --account"
        )
    if before is None and account in machine.accounts:
        comment = machine.accounts[account].comment
        who = f"is that of {comment!r}" if layout.is_ours(comment) else "was not made by a grant"
        hint = "choose another name, or another account with --account"
        raise Refused(f"the account {account} exists and {who}", hint)
    if before is None and account in machine.groups:
        raise Refused(f"a group {account} exists, but no such account", "choose an --account")
    if before is None and grant.key is None:
        raise Refused(f"{what} {grant.name} is new and needs a key", "give --key FILE.pub")
    if account == spool.owner.name:
        raise Refused(f"{account} runs the primary", "choose another --account")
    return account


def _check_worker(name: str, account: str, machine: Machine, spool: Spool) -> None:
    """The folder is nobody else's, such as a worker's under the primary's own account."""
    cur = spool.entries.get(f"{names.worker_folder(name)}/{names.CUR}")
    free = {account}
    if spool.owner.name != "root":
        free.add("root")  # a deployment that was removed leaves it so: no worker of now has it
    if cur is not None and cur.owner not in free and cur.owner in machine.accounts:
        folder = f"{spool.path}/{names.worker_folder(name)}"
        raise Refused(
            f"{folder} is that of a worker under the account {cur.owner}",
            "choose another name; or end that worker and remove the folder, which goes on only if "
            "nothing in it is left to deliver or to run: "
            f"rmdir {_quoted(folder, names.OUT)} && rmdir {_quoted(folder, names.CUR)} && "
            f"rm -r {shlex.quote(folder)}",
        )


def _quoted(folder: str, name: str) -> str:
    return shlex.quote(f"{folder}/{name}")
