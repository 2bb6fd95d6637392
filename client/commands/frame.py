"""What the client's commands have in common: the server, exit codes, ids that may be short.

Exit codes: 0 all well; 1 the job FAILED or was KILLED, the input is bad, or ``doctor``
found something; 2 wrong use, or a file here that cannot be read or written; 3 the
server is not reachable or refused; 4 not over after --timeout; 130 interrupted.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, NoReturn, ParamSpec

import click

from client import show
from client.api import DEFAULT_SERVER, KEY_VARIABLE, Client
from client.commands.completers import job_ids, model_names
from client.connection import SERVER_VARIABLE
from client.errors import BadInput, ClientError, TimedOut

P = ParamSpec("P")

FAILED, MISUSED, REFUSED, LATE, INTERRUPTED = 1, 2, 3, 4, 130

SHORT = 8  # characters of an id, as tables show it
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII | re.IGNORECASE)
_PREFIX = re.compile(r"[0-9a-f][0-9a-f-]{3,35}\Z", re.ASCII | re.IGNORECASE)

as_json = click.option("--json", "raw", is_flag=True, help="Print JSON, for scripts.")
job_argument = click.argument("job", metavar="JOB", shell_complete=job_ids)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="Wait, but no longer than this: then exit with 4, and the job goes on.",
)


def model_option(required: bool, help: str) -> Callable[..., Any]:
    return click.option(
        "--model", required=required, metavar="MODEL", help=help, shell_complete=model_names
    )


def command(codes: str) -> Callable[[Callable[P, None]], click.Command]:
    """A command that gets a Client as ``client``; ``codes`` is the end of its help.

    Its errors are a line on stderr and an exit code. A ``job`` may be the beginning of an id.
    """

    def make(body: Callable[P, None]) -> click.Command:
        made = click.command(epilog=f"Exit codes: {codes}")(_guarded(body))
        made.params += [
            click.Option(
                ["--server"],
                envvar=SERVER_VARIABLE,
                metavar="URL",
                help=f"The primary's address.  [env: {SERVER_VARIABLE}; default: {DEFAULT_SERVER}]",
            ),
            click.Option(
                ["--key"],
                envvar=KEY_VARIABLE,
                metavar="KEY",
                help=f"Your key, where the server wants one.  [env: {KEY_VARIABLE}]",
            ),
        ]
        return made

    return make


def _guarded(body: Callable[P, None]) -> Callable[..., None]:
    @wraps(body)
    def run(server: str | None, key: str | None, *args: P.args, **named: P.kwargs) -> None:
        show.lenient_output()
        try:
            client = Client(server, key)
            if isinstance(job := named.get("job"), str):
                named["job"] = full_id(client, job)
            named["client"] = client
            body(*args, **named)
        except BadInput as e:
            end(e, FAILED)
        except TimedOut as e:
            end(e, LATE)
        except ClientError as e:
            end(e, REFUSED)
        except KeyboardInterrupt:
            click.echo("", err=True)
            sys.exit(INTERRUPTED)
        except BrokenPipeError:  # whoever read our output has gone
            show.silence_stdout()
        except OSError as e:
            end(f"{e.filename}: {e.strerror}" if e.filename else str(e), MISUSED)

    return run


def full_id(client: Client, text: str) -> str:
    """The id that ``text`` is, or begins. Raises ClientError, or UsageError if it can be none."""
    if _ID.match(text):
        return text.lower()
    if not _PREFIX.match(text):
        raise click.UsageError(
            f"{show.line(text[:60])!r} is no job's id; `modelrunner jobs` shows them, and the "
            f"first {SHORT} characters will do"
        )
    return client.find(text)


def end(error: Exception | str, code: int) -> NoReturn:
    """The error's first line after "Error:", its others below, and out."""
    first, *below = str(error).split("\n")
    click.echo(f"Error:  {show.line(first)}", err=True)
    for more in below:
        click.echo(show.line(more), err=True)
    sys.exit(code)
