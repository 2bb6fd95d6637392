"""``modelrunner spool grant`` and ``revoke``.

Exit codes: 0 done, nothing to do, or (without root) the script printed; 1 refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from deploy.grants.accounts import machine
from deploy.grants.admission import Grant
from deploy.grants.apply import apply
from deploy.grants.facts import Machine, Spool
from deploy.grants.keys import LONGEST, PublicKey, fingerprint_of, parse_public_key
from deploy.grants.places import look
from deploy.grants.planning import plan
from deploy.grants.revoke import revocation
from deploy.grants.steps import Plan, script
from spool.errors import Refused, SpoolError

P = ParamSpec("P")


def say(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print, as long as somebody reads: no closed pipe may leave a grant half done."""
    try:
        click.echo(text, err=err, nl=nl)
    except BrokenPipeError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, (sys.stderr if err else sys.stdout).fileno())
        os.close(null)


def refusals(command: Callable[P, None]) -> Callable[P, None]:
    """What cannot be done is one line on stderr and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **named: P.kwargs) -> None:
        try:
            command(*args, **named)
        except (SpoolError, OSError) as e:
            say(f"Error:  {e}", err=True)
            sys.exit(1)

    return run


@click.group()
def spool() -> None:
    """Let workers on other machines in, and colleagues who drop zips; shut them out."""


_account = click.option(
    "--account", metavar="NAME", help="What the account is called; else mr-NAME."
)
_dry_run = click.option(
    "--dry-run", is_flag=True, help="Change nothing: print the script that would do it."
)


@spool.command()
@click.argument("name")
@click.option(
    "--key", type=click.Path(readable=False, path_type=Path), metavar="FILE",
    help="The public key (.pub) to let in; may be left out when granting again.",
)  # fmt: skip
@click.option(
    "--data", required=True, type=click.Path(readable=False, path_type=Path), metavar="DIR",
    help="The primary's data directory.",
)  # fmt: skip
@click.option(
    "--model", "models", multiple=True, metavar="MODEL",
    help="A model that the worker may run; else all that there are.",
)  # fmt: skip
@click.option(
    "--drop", metavar="MODEL",
    help="No worker, but a colleague: the drop folder of MODEL and nothing else.",
)  # fmt: skip
@_account
@click.option(
    "--spool-home", type=click.Path(readable=False, path_type=Path), metavar="DIR",
    help="Where the spool is to lie if it has to move; else beside the data directory.",
)  # fmt: skip
@click.option("--host", metavar="NAME", help="What other machines call this one.")
@_dry_run
@refusals
def grant(
    name: str,
    key: Path | None,
    data: Path,
    models: tuple[str, ...],
    drop: str | None,
    account: str | None,
    spool_home: Path | None,
    host: str | None,
    dry_run: bool,
) -> None:
    """Make what the worker NAME on another machine needs: account, folders, key, sshd's file.

    Needs root, and does it at once (--dry-run prints what it would do); without root it
    prints the script that an administrator must run. What is so already is left out, so
    it can be repeated. Beyond the account it may move the spool, and it writes a file for
    sshd, with MaxStartups for all logins.
    """
    if drop is not None and models:
        raise click.UsageError("--drop MODEL and --model exclude each other")
    wanted = Grant(
        name=name,
        key=_read_key(key) if key is not None else None,
        drop=drop,
        models=models,
        account=account,
        spool_home=str(spool_home.absolute()) if spool_home is not None else None,
    )
    found = machine(host)
    seen = look(data, None if drop is not None else name, spool_home)
    planned = plan(wanted, found, seen)
    title = f"modelrunner spool grant: {wanted.who}"
    _carry_out(planned, title, [*_without_root(wanted, found, seen)], dry_run)
    for line in _farewell(wanted, planned, found):
        say(line, err=_prints_script(dry_run) and bool(planned.steps))


@spool.command()
@click.argument("name")
@click.option("--drop", is_flag=True, help="No worker, but a colleague.")
@click.option(
    "--model", "models", multiple=True, metavar="MODEL",
    help="Take this model from the worker, and leave it the rest.",
)  # fmt: skip
@click.option("--now", is_flag=True, help="End the sessions that are open, too.")
@_account
@_dry_run
@refusals
def revoke(
    name: str,
    drop: bool,
    models: tuple[str, ...],
    now: bool,
    account: str | None,
    dry_run: bool,
) -> None:
    """Shut the worker NAME out: its key goes, and its rights to the models.

    Needs root, and does it at once (--dry-run prints what it would do); without root it
    prints the script that an administrator must run.
    """
    if drop and models:
        raise click.UsageError("--drop and --model exclude each other")
    planned = revocation(name, drop, account, machine(), models, now)
    why = ["This needs root."]
    _carry_out(planned, f"modelrunner spool revoke {name}", why, dry_run)


# --- inside ------------------------------------------------------------------------


def _prints_script(dry_run: bool) -> bool:
    return dry_run or os.geteuid() != 0


def _carry_out(planned: Plan, title: str, why: list[str], dry_run: bool) -> None:
    """Do it and say so, a line each; or print the script, and all else on stderr."""
    beyond = [f"beyond the account: {line}" for line in planned.beyond]
    if not planned.steps:
        say(f"nothing to do: the account {planned.account} is as it should be")
    elif _prints_script(dry_run):
        why = beyond if os.geteuid() == 0 else [*why, *(["", *beyond] if beyond else [])]
        say(script(title, why, planned.steps), nl=False)
        say("Nothing was changed: the script above does it, run by root.", err=True)
    else:
        for line in beyond:
            say(line)
        apply(planned.steps, say)
    for note in planned.notes:
        say(f"note: {note}", err=_prints_script(dry_run) and bool(planned.steps))


def _without_root(wanted: Grant, found: Machine, seen: Spool) -> Iterator[str]:
    """Why there is a script, and what can be done without root."""
    yield "This needs root: accounts, groups and sshd's configuration are the administrator's."
    yield "Look through it, and run it as root on this machine: sh FILE"
    if wanted.drop is not None:
        return
    owner = seen.owner.name
    port = "" if found.port == 22 else f":{found.port}"
    yield ""
    yield "Without root, a group that trusts each other can share one account: let the worker log"
    yield f"in as {owner}, who runs the primary. On the worker's machine:"
    yield f"    ssh-copy-id {owner}@{found.host}"
    yield f"    modelrunner-worker --primary sftp://{owner}@{found.host}{port}{seen.link} …"
    yield "What that gives up: any such worker can read, change and delete everything of the"
    yield f"primary (the ledger, all inputs and results), and run commands as {owner}."


def _farewell(wanted: Grant, planned: Plan, found: Machine) -> Iterator[str]:
    """What has to be told to whoever was let in."""
    port = "" if found.port == 22 else f":{found.port}"
    yield ""
    if wanted.drop is None:
        yield f"The worker {wanted.name} may run: {_models(wanted, planned)}.  On its machine:"
        address = f"sftp://{planned.account}@{found.host}{port}/"
        yield f"    modelrunner-worker --primary {address} --models DIR --name {wanted.name}"
    else:
        option = "" if found.port == 22 else f"-P {found.port} "
        yield f"{wanted.name} copies zips to {wanted.drop} and takes the results out with:"
        yield f"    sftp {option}{planned.account}@{found.host}"
        yield "(WinSCP, FileZilla: SFTP, that host and user, the key.)  NAME.zip leaves when it"
        yield "was taken; NAME.job.json, NAME.log.txt and NAME.output.zip appear in its place."
    keys = sorted(found.host_keys, key=lambda line: not line.startswith("ssh-ed25519 "))
    if keys:
        name = found.host if found.port == 22 else f"[{found.host}]:{found.port}"
        yield f"This machine's host key, for known_hosts there ({fingerprint_of(keys[0])}):"
        yield f"    {name} {keys[0]}"


def _models(wanted: Grant, planned: Plan) -> str:
    """All that the account may run, whatever this grant has named."""
    may = ", ".join(sorted((*planned.models, *planned.before)))
    if not planned.before:
        return may
    options = "".join(f" --model {model}" for model in planned.before)
    away = "them" if len(planned.before) > 1 else "it"
    return (
        f"{may} ({', '.join(planned.before)} from before; "
        f"`modelrunner spool revoke {wanted.name}{options}` takes {away} away)"
    )


def _read_key(path: Path) -> PublicKey:
    try:
        with path.open("rb") as file:
            return parse_public_key(file.read(LONGEST), str(path))
    except OSError as e:
        raise Refused(f"{path}: {e.strerror}", "--key names a file that ends in .pub") from e
