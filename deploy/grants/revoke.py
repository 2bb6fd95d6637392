"""What shuts an account out again, wholly or from some models. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from deploy.grants import layout
from deploy.grants.facts import Account, Machine
from deploy.grants.steps import Command, Plan, Step, unless
from spool import names
from spool.errors import Refused


def revocation(
    name: str,
    drop: bool,
    account: str | None,
    machine: Machine,
    models: Sequence[str] = (),
    now: bool = False,
) -> Plan:
    """Shut an account out: its key goes, and its groups; or out of ``models`` alone.

    ``now``: end its sessions too. Raises Refused if there is no such account or model.
    """
    found = _granted(name, drop, account, machine)
    steps = [*(_models(found, models, machine) if models else _all(found, machine))]
    kill: Command = ("pkill", "-KILL", "-u", found.name)
    notes = []
    if now:
        # 1: there was none
        steps.append(Step(f"open sessions of {found.name} ended", (_but_for(1, kill),)))
    else:
        notes.append(
            "sessions that are open go on with the rights they had; --now ends them, as does: "
            + shlex.join(kill)
        )
    if not drop and not models:
        notes.append(
            "its claims stay until the lease is over, then other workers run those jobs; "
            "its account and folders stay, for a grant to come"
        )
    return Plan(account=found.name, steps=tuple(steps), notes=tuple(notes))


def _all(found: Account, machine: Machine) -> Iterator[Step]:
    path = f"{layout.KEYS}/{found.name}"
    if path in machine.files:
        yield Step(f"key {path} removed: no new sessions", (("rm", "-f", path),))
    if any(found.name in members for members in machine.groups.values()):
        command = ("usermod", "-G", "", found.name)
        yield Step(f"account {found.name} taken out of all its groups", (command,))


def _models(found: Account, models: Sequence[str], machine: Machine) -> Iterator[Step]:
    groups = []
    for model in sorted({*models}):
        names.plain(model, "model")
        groups.append(layout.model_group(model))
        if groups[-1] not in machine.groups:
            has = [group for group in sorted(machine.groups) if machine.is_in(found.name, group)]
            hint = f"the groups of {found.name} are: {', '.join(has)}"
            raise Refused(f"no worker was granted a model {model!r}", hint)
    for group in groups:
        if found.name in machine.groups[group]:
            # gpasswd fails for who is not in it any more
            done = f"! id -nG {shlex.quote(found.name)} | tr ' ' '\\n' | grep -Fqx {group}"
            command = unless(done, ("gpasswd", "-d", found.name, group))
            yield Step(f"account {found.name} taken out of {group}", (command,))


def _but_for(code: int, command: Command) -> Command:
    """The command; that exit code of it is no failure."""
    return ("sh", "-c", f"{shlex.join(command)} || test $? -eq {code}")


def _granted(name: str, drop: bool, account: str | None, machine: Machine) -> Account:
    """The account that a grant has made for ``name``."""
    names.plain(name, "colleague" if drop else "worker")
    accounts = [a for a in machine.accounts.values() if account in (None, a.name)]
    found = [a for a in accounts if _is(a, name, drop)]
    if not found:
        what, other = ("colleague", "worker") if drop else ("worker", "colleague")
        hint = "getent passwd shows them"
        if any(_is(a, name, not drop) for a in accounts):
            option = "" if drop else " --drop"
            hint = f"there is a {other} of that name: modelrunner spool revoke {name}{option}"
        raise Refused(f"no account was granted to a {what} {name}", hint)
    if len(found) > 1:
        which = ", ".join(a.name for a in found)
        raise Refused(f"{name} has several accounts: {which}", "choose one with --account")
    return found[0]


def _is(account: Account, name: str, drop: bool) -> bool:
    if not drop:
        return account.comment == layout.worker_comment(name)
    ours = account.comment.startswith("Model Runner drop ")
    return ours and account.comment.split(" ")[4:] == [name]
