"""nginx in front of the primary: certificate, rights to finished jobs' files, site. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deploy import nginx
from deploy.certificate import make_command
from deploy.desired import Desired
from deploy.found import Found
from deploy.steps import Command, Phase, Put, Step
from deploy.writing import is_so, written

RELOAD: Command = ("systemctl", "reload-or-restart", "nginx")


def steps(shall: Desired, here: Found) -> Iterator[Step]:
    """After the primary's start: it makes the folder that nginx reads."""
    role, where = shall.host.primary, shall.paths
    if role is None or not role.nginx:
        return
    if role.tls and role.certificate is None:
        file = nginx.certificate(where)
        if file not in here.entries:
            names = nginx.names(role, shall.host.address)
            yield Step(
                phase=Phase.PRIMARY,
                sentence=f"certificate {file} made, signed by itself",
                commands=(make_command(where, names),),
            )
    account = nginx.account(here)
    if account not in here.groups.get(where.account, ()):
        yield Step(
            phase=Phase.PRIMARY,
            sentence=f"account {account} put into {where.account}: nginx sends finished files",
            commands=(("usermod", "-a", "-G", where.account, account),),
        )
    put = site(shall)
    entry = here.entries.get(put.path)
    # What nginx refuses to read is put back: with it, it would not start again after a boot.
    checks: tuple[Command, ...] = (("nginx", "-t"), ("systemctl", "enable", "nginx"), RELOAD)
    if is_so(put, entry) and not _runs(here):
        yield Step(phase=Phase.PRIMARY, sentence="nginx started", commands=checks)
    yield from written(put, entry, phase=Phase.PRIMARY, after=checks)


def site(shall: Desired) -> Put:
    """nginx's file for the primary."""
    role = shall.host.primary
    assert role is not None
    text = nginx.site(role, shall.host.address, shall.paths)
    return Put(path=nginx.FILE, text=text, owner="root:root")


def _runs(here: Found) -> bool:
    state = here.services.get("nginx")
    return state is not None and state.active == "active"
