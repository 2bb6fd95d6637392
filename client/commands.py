"""The client's commands under ``modelrunner``.

Exit codes: 0 all well, 1 the job failed or was killed (or ``doctor`` found
something), 2 wrong use, 3 the server is not reachable or refused.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import click

from client.api import DEFAULT_SERVER, FINAL, KEY_VARIABLE, Client, ClientError
from client.connection import SERVER_VARIABLE

P = ParamSpec("P")

FAILED, REFUSED = 1, 3
STATES = ("CREATED", "QUEUED", "RUNNING", "PROCESSED", "COMPLETE", "FAILED", "KILLED")


def connected(command: Callable[P, None]) -> Callable[..., None]:
    """Adds --server and --key, hands the command a Client, and ends it on a refusal."""

    @click.option(
        "--server",
        envvar=SERVER_VARIABLE,
        metavar="URL",
        help=f"The primary's address.  [env: {SERVER_VARIABLE}; default: {DEFAULT_SERVER}]",
    )
    @click.option(
        "--key", envvar=KEY_VARIABLE, metavar="KEY", help=f"The admin key.  [env: {KEY_VARIABLE}]"
    )
    @wraps(command)
    def run(server: str | None, key: str | None, *args: P.args, **named: P.kwargs) -> None:
        try:
            named["client"] = Client(server, key)
            command(*args, **named)
        except ClientError as e:
            _end(str(e), REFUSED)
        except BrokenPipeError:  # whoever read our output has gone
            sys.stderr.close()
            sys.exit(0)
        except OSError as e:
            _end(f"{e.filename}: {e.strerror}" if e.filename else str(e), REFUSED)

    return run


as_json = click.option("--json", "raw", is_flag=True, help="Print JSON, for scripts.")


@click.command()
@click.option("--model", required=True, help="The model to run.")
@click.option("--name", help="The job's name; without it, the file's.")
@click.option("--wait", is_flag=True, help="Follow the log; exit with the job's result.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Wait, then put the log and the output into DIR.",
)
@click.argument("source", metavar="ZIP|URL")
@connected
def submit(
    client: Client, model: str, name: str | None, wait: bool, output: Path | None, source: str
) -> None:
    """Submit a zip, or the address of one, to run a model on it."""
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    try:
        with _bar("Sending") as show:
            job = client.submit(model, source, name=name, on_progress=show)
    except OSError as e:
        raise click.UsageError(f"{source}: {e.strerror or e}") from None
    id = job["uuid"]
    # alone on stdout, so that id=$(modelrunner submit ...) works
    click.echo(id)
    if not wait and output is None:
        return
    job = client.wait(id, on_log=_write if wait else None)
    if output is not None:
        for which in ("job_log.txt", "output.zip"):
            if job["log" if which == "job_log.txt" else "output"]:
                with _bar(which) as show:
                    path = client.download(id, which, output, on_progress=show)
                click.echo(f"{path}", err=True)
    click.echo(_ending(job), err=True)
    if job["status"] != "COMPLETE":
        sys.exit(FAILED)


@click.command()
@as_json
@click.argument("id", required=False)
@connected
def status(client: Client, raw: bool, id: str | None) -> None:
    """Show the nodes, or the job ID."""
    if id is not None:
        job = client.job(id)
        if raw:
            _json(job)
            return
        remark = job.pop("worker_remark", None)
        if remark:
            job["status"] = f"{job['status']}; {remark}"
        wide = max(map(len, job)) + 2
        for member, value in job.items():
            if value is not None:
                shown = json.dumps(value) if isinstance(value, dict) else str(value)
                click.echo(f"{member + ':':<{wide}}{_line(shown)}")
        return
    nodes = client.status()
    if raw:
        _json(nodes)
        return
    _table(
        ("name", "type", "status", "models", "jobs", "host", "remark"),
        [
            (
                node["name"],
                node["node_type"],
                node["status"],
                node["model"],
                _load(node),
                node["host"],
                _remark(node),
            )
            for node in nodes
        ],
        headed=True,
    )


@click.command()
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.argument("id")
@connected
def log(client: Client, follow: bool, id: str) -> None:
    """Print a job's log."""
    if follow:
        for piece in client.follow(id):
            _write(piece)
    else:
        _write(client.log(id).data)


@click.command()
@click.argument("id")
@connected
def kill(client: Client, id: str) -> None:
    """Kill a job."""
    click.echo(client.kill(id))
    try:
        job = client.job(id)
    except ClientError:
        return  # it was asked to end: that is what this command is for
    if job.get("worker_remark") and job["status"] not in FINAL:
        click.echo(_line(_waits(job)), err=True)


@click.command()
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only jobs in this state; may be repeated.",
)
@click.option("--model", help="Only jobs of this model.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@as_json
@connected
def jobs(client: Client, states: tuple[str, ...], model: str | None, limit: int, raw: bool) -> None:
    """List the jobs, the newest first."""
    found = client.jobs(states=tuple(str(s) for s in states), model=model, limit=limit)
    if raw:
        _json(found)
        return
    _table(
        ("id", "name", "model", "state", "created (UTC)", "reason"),
        [
            (
                job["uuid"],
                job["name"],
                job["model"],
                job["status"],
                job["created"][5:16].replace("T", " "),
                job["reason"] or "",
            )
            for job in found
        ],
    )


@click.command()
@as_json
@connected
def models(client: Client, raw: bool) -> None:
    """List the models."""
    found = client.models()
    if raw:
        _json(found)
        return
    _table(
        ("name", "title", "its input must hold"),
        [(model["name"], model["title"], ", ".join(model["required"])) for model in found],
    )


@click.command()
@as_json
@connected
def doctor(client: Client, raw: bool) -> None:
    """Show what somebody should look at."""
    findings = client.doctor()
    if raw:
        _json(findings)
    else:
        for finding in findings or ["All is well."]:
            click.echo(_line(finding))
    if findings:
        sys.exit(FAILED)


# --- how it is shown --------------------------------------------------------------


def _end(error: str, code: int) -> NoReturn:
    click.echo(f"Error:  {_line(error)}", err=True)
    sys.exit(code)


def _line(text: str) -> str:
    """``text`` in one line; control characters could drive the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def _ending(job: dict[str, Any]) -> str:
    reason = f": {job['reason']}" if job["reason"] else ""
    return _line(f"Job {job['uuid']} {job['status']}{reason}")


def _remark(node: dict[str, Any]) -> str:
    liveness, silent = str(node["liveness"]), node["last_seen"]
    if liveness == "new":
        return "granted, not started yet"
    if liveness in ("unreachable", "lost"):
        return liveness if silent is None else f"{liveness}, silent for {_about(silent)}"
    if liveness == "stopped":
        # what held it up before is no news now
        return "stopped, and holds jobs" if node["jobs"] else ""
    return f"paused: {node['paused']}" if node["paused"] else str(node["error"])


def _load(node: dict[str, Any]) -> str:
    """Jobs of how many slots; the primary has none, and who was not heard yet neither."""
    if not node["slots"] and not node["jobs"]:
        return ""
    return f"{len(node['jobs'])}/{node['slots'] or '?'}"


def _about(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _waits(job: dict[str, Any]) -> str:
    """What a kill waits for where nobody answers."""
    worker = f"its worker {job['worker']}" if job["worker"] else "the worker that has claimed it"
    state = "stopped" if job["worker_liveness"] == "stopped" else "silent"
    return (
        f"asked to kill; {worker} is {state}, so it stays {job['status']} "
        "until that answers or is given up"
    )


def _json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def _write(data: bytes) -> None:
    """The log as it is; its bytes are the model's own."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


_WHOLE = ("state", "status", "created (UTC)")
_NARROWEST = 5  # characters


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]], *, headed: bool = False) -> None:
    """Columns as wide as they need to be; a pipe gets tabs, for cut and awk.

    ``headed``: a pipe gets the head too, where the columns do not speak for themselves.
    """
    if not sys.stdout.isatty():
        for row in [heads, *rows] if headed else rows:
            click.echo("\t".join(_line(cell) for cell in row))
        return
    lines = [list(heads), *([_line(cell) for cell in row] for row in rows)]
    shown = [n for n in range(len(heads)) if not rows or any(row[n] for row in rows)]
    wide = _widths(
        [max(len(cells[n]) for cells in lines) for n in shown],
        # What one copies into the next command is never cut.
        [heads[n] in (*_WHOLE, heads[0]) for n in shown],
        shutil.get_terminal_size().columns,
    )
    for at, cells in enumerate(lines):
        line = "  ".join(_cut(cells[n], w).ljust(w) for n, w in zip(shown, wide, strict=True))
        click.secho(line.rstrip(), bold=at == 0)


def _widths(wanted: list[int], whole: list[bool], width: int) -> list[int]:
    """How wide columns become: those that are not ``whole`` share what is left of ``width``."""
    kept = sum(wide for wide, keep in zip(wanted, whole, strict=True) if keep)
    left = width - 2 * (len(wanted) - 1) - kept
    widths = list(wanted)
    for n in sorted((n for n, keep in enumerate(whole) if not keep), key=lambda n: wanted[n]):
        sharing = sum(1 for m, keep in enumerate(whole) if not keep and wanted[m] >= wanted[n])
        widths[n] = min(wanted[n], max(_NARROWEST, left // max(1, sharing)))
        left -= widths[n]
    return widths


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on stderr, or None where nobody looks."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
