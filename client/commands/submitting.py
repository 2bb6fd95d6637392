"""``submit``, ``rerun``, ``example`` and ``check``: what sends an input, or makes a job."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from client import show, sources
from client.api import Client
from client.commands.completers import files, model_names
from client.commands.frame import (
    FAILED,
    INTERRUPTED,
    SHORT,
    as_json,
    command,
    job_argument,
    model_option,
    timeout_option,
)
from client.commands.waiting import finish, output_option, quiet_option, raw_option, until_ended
from client.errors import BadInput
from client.shapes import JobDetail

C = TypeVar("C", bound=Callable[..., Any])

CODES = (
    "0 submitted, or with --wait COMPLETE; 1 the input is bad, or with --wait FAILED or KILLED; "
    "2 wrong use; 3 not reachable or refused; 4 timed out."
)


key_option = click.option(
    "--idempotency-key",
    metavar="TEXT",
    help="Make one job for this text of yours, however often it is sent: the same command, "
    "after a break, goes on with the same job.",
)


def _may_wait(body: C) -> C:
    for option in (
        as_json,
        raw_option,
        quiet_option,
        timeout_option,
        output_option,
        click.option("--wait", "waits", is_flag=True, help="Wait, with the log; exit as the job."),
    ):
        body = option(body)
    return body


@command(CODES)
@model_option(True, "The model to run; `modelrunner models` lists them.")
@click.option("--name", help="The job's name; without it, the file's.")
@key_option
@_may_wait
@click.argument("source", metavar="ZIP|FOLDER|URL|-", shell_complete=files)
def submit(
    client: Client,
    model: str,
    name: str | None,
    idempotency_key: str | None,
    source: str,
    **then: Any,
) -> None:
    """Submit a zip, a folder or the address of a zip, to run a model on it.

    - is a zip on standard input. Prints the job's id, alone; with --json the job, as
    `status --json JOB` does.
    """
    _prepare(then["output"])
    _tell_of_zipping(source)
    try:
        with show.bar("Sending", "Being checked") as progress:
            job = client.submit(
                model,
                _read(source),
                name=name,
                idempotency_key=idempotency_key,
                on_progress=progress,
            )
    except OSError as e:
        raise _unreadable(source, e) from None
    except KeyboardInterrupt:
        show.say("Interrupted while it was sent; modelrunner jobs shows whether it became a job")
        sys.exit(INTERRUPTED)
    _go_on(client, job, **then)


@command(CODES)
@click.option("--name", help="The new job's name; without it, the old one's.")
@key_option
@_may_wait
@job_argument
def rerun(
    client: Client, job: str, name: str | None, idempotency_key: str | None, **then: Any
) -> None:
    """Run a job's input again, as a new job that names the old one.

    Prints the new job's id, alone; with --json the job, as `status --json JOB` does.
    """
    _prepare(then["output"])
    _go_on(client, client.rerun(job, name=name, idempotency_key=idempotency_key), **then)


@command(CODES)
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Only download the example input, into this file or folder.",
)
@_may_wait
@click.argument("model", shell_complete=model_names)
def example(client: Client, model: str, save: Path | None, **then: Any) -> None:
    """Run a model on its own example input.

    Prints the job's id, alone; with --json the job, as `status --json JOB` does.
    """
    if save is None:
        _prepare(then["output"])
        _go_on(client, client.example(model), **then)
        return
    with show.bar("example.zip") as progress:
        path = client.example_input(model, save, on_progress=progress)
    if then["raw"]:
        show.as_json({"file": str(path), "size": path.stat().st_size})
    else:
        click.echo(path)


@command("0 the input is good; 1 it is bad; 2 wrong use; 3 not reachable or refused.")
@model_option(True, "The model that shall run on it.")
@as_json
@click.argument("source", metavar="ZIP|FOLDER|-", shell_complete=files)
def check(client: Client, model: str, raw: bool, source: str) -> None:
    """Check an input without running it; - is a zip on standard input.

    Prints what is wrong: the file, what was expected, what was found. --json prints an
    object: good (true or false), message, findings (of file, expected, found).
    """
    if sources.is_address(source):
        raise click.UsageError("only a file or folder of this machine can be checked")
    _tell_of_zipping(source)
    try:
        with show.bar("Sending", "Being checked") as progress:
            client.validate(model, _read(source), on_progress=progress)
    except OSError as e:
        raise _unreadable(source, e) from None
    except BadInput as e:
        if raw:
            show.as_json({"good": False, "message": e.message, "findings": e.findings})
        else:
            show.say(f"Error:  {e.message}")
            rows = [(f["file"], f["expected"], f["found"]) for f in e.findings]
            show.table(("file", "expected", "found"), rows, wrapped=True)
        sys.exit(FAILED)
    message = f"The input is good for model {model}"
    if raw:
        show.as_json({"good": True, "message": message, "findings": []})
    else:
        click.echo(message)


def _prepare(output: Path | None) -> None:
    """Before anything is submitted: a folder that cannot be made is said at once."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)


def _read(source: str) -> sources.Source:
    return sys.stdin.buffer if source == "-" else source


def _tell_of_zipping(source: str) -> None:
    if sys.stderr.isatty() and source and Path(source).is_dir():
        show.say(f"Zipping {source} ...")


def _unreadable(source: str, error: OSError) -> click.UsageError:
    named = show.line(str(error.filename or source))
    said = error.strerror or str(error)
    return click.UsageError(f"{named}: {said}" if named else said)


def _go_on(
    client: Client,
    job: JobDetail,
    *,
    waits: bool,
    output: Path | None,
    timeout: float | None,
    quiet: bool,
    raw_log: bool,
    raw: bool,
) -> None:
    """Say the id, and wait if that is wanted."""
    id = job["uuid"]
    follows = waits or output is not None or timeout is not None
    if not raw:
        # alone on stdout, so that id=$(modelrunner submit ...) works
        click.echo(id)
        if sys.stderr.isatty() and not follows:
            show.say(f"See {client.server}/jobs/{id}, or modelrunner wait {id[:SHORT]} for its end")
    elif not follows:
        show.as_json(job)
    if not follows:
        return
    with_log = waits and not quiet and not raw
    ended = until_ended(client, id, timeout, with_log=with_log, raw_log=raw_log)
    finish(client, ended, output, raw, with_log=with_log)
