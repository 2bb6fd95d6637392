"""What shuts an account out again. Pure."""

from __future__ import annotations

from deploy import layout
from deploy.facts import Account, Machine
from deploy.steps import Plan, Step
from spool import names
from spool.errors import Refused


def revocation(name: str, drop: bool, account: str | None, machine: Machine) -> Plan:
    """Shut an account out: its key goes, and its groups. Raises Refused if there is none."""
    found = _granted(name, drop, account, machine)
    path = f"{layout.KEYS}/{found.name}"
    steps = []
    if path in machine.files:
        steps.append(Step(f"key {path} removed: no new sessions", (("rm", "-f", path),)))
    if any(found.name in members for members in machine.groups.values()):
        command = ("usermod", "-G", "", found.name)
        steps.append(Step(f"account {found.name} taken out of all its groups", (command,)))
    notes = [f"sessions that are open go on; this ends them: pkill -KILL -u {found.name}"]
    if not drop:
        notes.append(
            "its claims stay until the lease is over, then other workers run those jobs; "
            "its account and folders stay, for a grant to come"
        )
    return Plan(account=found.name, steps=tuple(steps), notes=tuple(notes))


def _granted(name: str, drop: bool, account: str | None, machine: Machine) -> Account:
    """The account that a grant has made for ``name``."""
    names.plain(name, "colleague" if drop else "worker")
    found = [
        a
        for a in machine.accounts.values()
        if (
            a.comment.startswith("Model Runner drop ") and a.comment.split(" ")[4:] == [name]
            if drop
            else a.comment == layout.worker_comment(name)
        )
        and account in (None, a.name)
    ]
    if not found:
        what = "colleague" if drop else "worker"
        raise Refused(f"no account was granted to a {what} {name}", "getent passwd shows them")
    if len(found) > 1:
        which = ", ".join(a.name for a in found)
        raise Refused(f"{name} has several accounts: {which}", "choose one with --account")
    return found[0]
