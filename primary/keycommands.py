"""``modelrunner key``: make access keys, list them, take them back.

Works on the data directory itself, whether the primary runs or not; where it runs, it knows
within a second. Exit codes: 0 done, 1 refused.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import ParamSpec

import click

from primary import accesskeys, private
from primary.roles import KEY_ROLES, KeyRole
from spool.errors import SpoolError

P = ParamSpec("P")


def _refusals(command: Callable[P, None]) -> Callable[P, None]:
    """What cannot be done is one line on stderr and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **named: P.kwargs) -> None:
        try:
            command(*args, **named)
        except SpoolError as e:
            click.echo(f"Error:  {e}", err=True)
            sys.exit(1)
        except OSError as e:
            click.echo(f"Error:  {e.filename}: {e.strerror}" if e.filename else str(e), err=True)
            sys.exit(1)

    return run


@click.group()
def key() -> None:
    """Make access keys, list them, take them back."""


_data = click.option(
    "--data", required=True, type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR", help="The primary's data directory.",
)  # fmt: skip


@key.command()
@click.argument("name")
@click.option(
    "--role", required=True, type=click.Choice(KEY_ROLES),
    help="read: look. submit: also submit, run again, and kill what this key has submitted. "
    "admin: everything.",
)  # fmt: skip
@click.option(
    "--data", required=True, type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="The primary's data directory; made if it is not there.",
)  # fmt: skip
@_refusals
def add(name: str, role: KeyRole, data: Path) -> None:
    """Make the key NAME, and print it: this once, for only its hash is kept.

    NAME is what the ledger has of whoever shows the key. A primary that runs lets it in at once.
    """
    data.mkdir(parents=True, exist_ok=True)
    text = accesskeys.add(data, name, role)
    click.echo(
        f"The key {name!r} (role {role}) is made. It is shown this once; give it to whom it is "
        "for by a way that others do not read:",
        err=True,
    )
    click.echo(text)


@key.command("list")
@_data
@_refusals
def list_(data: Path) -> None:
    """Show the keys' names, roles and days, a line each."""
    with private.as_owner(data):
        keys = accesskeys.read(data)
    if not keys:
        click.echo("There are no keys; 'modelrunner key add' makes one.", err=True)
    wide = max((len(each.name) for each in keys), default=0)
    for each in sorted(keys, key=lambda each: each.name):
        click.echo(f"{each.name:{wide}}  {each.role:6}  {each.created}".rstrip())


@key.command()
@click.argument("name")
@_data
@_refusals
def remove(name: str, data: Path) -> None:
    """Take the key NAME back: from the next request on it is none.

    What it has submitted goes on. Whoever gets a key of the same name later may kill that.
    """
    left = accesskeys.remove(data, name)
    click.echo(f"The key {name!r} is none any more; browsers that it signed in are signed out.")
    if not any(each.role == "admin" for each in left):
        click.echo("No key of the role admin is left here.", err=True)
