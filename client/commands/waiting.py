"""``wait`` and ``kill``: what stays with a job until its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

from client import show
from client.api import Client
from client.commands.frame import (
    FAILED,
    INTERRUPTED,
    SHORT,
    as_json,
    command,
    job_argument,
    timeout_option,
)
from client.shapes import Failure, JobDetail, JobState

FINAL = frozenset({"COMPLETE", "FAILED", "KILLED"})
_WIDE = 20  # characters of a progress bar
_HINTS: dict[Failure, str] = {
    "input": "correct the input, and submit it again",
    "model": "modelrunner log {id} shows what the model said",
    "limit": "its model's limits are too narrow for this input; ask the server's keeper",
    "lost": "its workers were lost; modelrunner rerun {id} tries once more",
    "system": "ask the server's keeper; modelrunner doctor may say more",
}

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Without the log.")
raw_option = click.option(
    "--raw", "raw_log", is_flag=True, help="The log's bytes as they are, on a terminal too."
)
output_option = click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Wait, then put the log and the output into DIR.",
)


@command("0 COMPLETE; 1 FAILED or KILLED; 2 wrong use; 3 not reachable or refused; 4 timed out.")
@output_option
@timeout_option
@quiet_option
@raw_option
@as_json
@job_argument
def wait(
    client: Client,
    job: str,
    output: Path | None,
    timeout: float | None,
    quiet: bool,
    raw_log: bool,
    raw: bool,
) -> None:
    """Wait for a job's end, with its log; exit with its result.

    --json prints the job at its end, as `status --json JOB` does, and no log.
    """
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
    with_log = not quiet and not raw
    ended = until_ended(client, job, timeout, with_log=with_log, raw_log=raw_log)
    finish(client, ended, output, raw, with_log=with_log)


def until_ended(
    client: Client, job: str, timeout: float | None, *, with_log: bool, raw_log: bool
) -> JobDetail:
    """Wait, with the log on stdout, and on a terminal with a line that says how it stands."""
    try:
        with show.live() as live, show.log(raw=raw_log, live=live, goes_on=True) as log:
            return client.wait(
                job,
                timeout,
                on_log=log.write if with_log else None,
                on_state=None if live is None else _shown_on(live),
            )
    except KeyboardInterrupt:
        short = job[:SHORT]
        click.echo("", err=True)
        show.say(
            f"Job {job} goes on.  modelrunner wait {short} waits for its end, "
            f"modelrunner kill {short} ends it."
        )
        sys.exit(INTERRUPTED)


def finish(
    client: Client, job: JobDetail, output: Path | None, raw: bool, *, with_log: bool
) -> None:
    """Fetch what is wanted, say how the job ended, and exit as it did.

    ``with_log``: the log has been shown.
    """
    if output is not None:
        if job["log"]:
            with show.bar("job_log.txt") as progress:
                path = client.download(job, "job_log.txt", output, on_progress=progress)
            show.say(str(path))
        if job["output"]:
            with show.bar("output.zip") as progress:
                path = client.download(job, "output.zip", output, on_progress=progress)
            show.say(str(path))
    if raw:
        show.as_json(job)
    show.say(ending(job))
    if hint := _hint(job, fetched=output is not None, with_log=with_log):
        show.say(hint)
    if job["status"] != "COMPLETE":
        sys.exit(FAILED)


def ending(job: JobDetail) -> str:
    """How the job ended."""
    reason = f": {job['reason']}" if job["reason"] else ""
    unsure = "" if job["confirmed"] or job["status"] != "KILLED" else ", not confirmed"
    return f"Job {job['uuid']} {job['status']}{unsure}{reason}"


def _hint(job: JobDetail, *, fetched: bool, with_log: bool) -> str:
    """What can be done now; empty where there is nothing, or nobody who reads it."""
    short = job["uuid"][:SHORT]
    if job["failure"] == "model" and with_log:
        return ""  # what the model said stands above
    if job["failure"] is not None:
        return _HINTS.get(job["failure"], "").format(id=short)
    if job["output"] and not fetched and sys.stderr.isatty():
        return f"modelrunner outputs {short} lists what it left"
    return ""


def _shown_on(live: show.Live) -> Callable[[JobState | None], None]:
    began = time.monotonic()

    def told(state: JobState | None) -> None:
        if state is not None and state["final"]:
            return  # what is left of the log comes now, and then how it ended
        passed = int(time.monotonic() - began)
        live.show(show.line(f"{passed // 60}:{passed % 60:02}  {standing(state)}"))

    return told


def standing(state: JobState | None) -> str:
    """Where a job stands, in a line. None: the server does not answer."""
    if state is None:
        return "the server does not answer; asking again"
    words: list[str] = [state["status"]]
    if state["kill_requested"] and not state["final"]:
        words[0] += ", ending"
    if state["attempt"] > 1:
        words.append(f"attempt {state['attempt']}")
    if state["progress"] is not None:
        done = _WIDE * state["progress"] // 100
        words.append(f"{'━' * done}{'╌' * (_WIDE - done)} {state['progress']} %")
    if state["waiting"]:
        words.append(state["waiting"])
    elif state["place"]:
        words.append(f"{state['place']} before it")
    if state["status"] == "PROCESSED":
        words.append("its results are on their way")
    if state["remark"]:
        words.append(state["remark"])
    return "  ".join(words)


@command(
    "0 asked to end, or with --wait KILLED; 1 with --wait it ended otherwise; 2 wrong use; "
    "3 not reachable or refused, as for a job that has ended already; 4 timed out."
)
@click.option("--wait", "waits", is_flag=True, help="Wait until it is really over.")
@timeout_option
@as_json
@job_argument
def kill(client: Client, job: str, waits: bool, timeout: float | None, raw: bool) -> None:
    """Kill a job.

    --json prints the job, as `status --json JOB` does.
    """
    killed = client.kill(job)
    if waits or timeout is not None:
        killed = until_ended(client, job, timeout, with_log=False, raw_log=False)
    if raw:
        show.as_json(killed)
    else:
        click.echo(show.line(_killing(killed)))
    if waits and killed["status"] != "KILLED":
        sys.exit(FAILED)


def _killing(job: JobDetail) -> str:
    """What became of the wish to end a job."""
    if job["status"] in FINAL:
        return ending(job)
    asked = f"Job {job['uuid']} was asked to end, and is {job['status']}"
    if not job["worker_remark"]:
        return f"{asked}; modelrunner kill --wait waits until it is over"
    who = f"its worker {job['worker']}" if job["worker"] else "the worker that has claimed it"
    state = "stopped" if job["worker_liveness"] == "stopped" else "silent"
    return f"{asked}: {who} is {state}, so it stays so until that answers or is given up"
