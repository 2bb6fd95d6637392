"""``jobs``, ``status``, ``models`` and ``doctor``: what shows how things stand."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from datetime import date, datetime
from itertools import islice
from typing import get_args

import click

from client import show
from client.api import Client
from client.commands.completers import job_ids
from client.commands.frame import FAILED, SHORT, as_json, command, full_id, model_option
from client.shapes import Job, JobDetail, Model, Node, Status

STATES: tuple[str, ...] = get_args(Status)
CODES = "0 all well; 2 wrong use; 3 not reachable or refused."


class Moment(click.ParamType[date]):
    """A day such as 2026-11-23, or a time such as 2026-11-23T08:00:00Z; without a zone, UTC."""

    name = "moment"

    def convert(
        self, value: str | date, param: click.Parameter | None, ctx: click.Context | None
    ) -> date:
        if isinstance(value, date):
            return value
        for kind in (date, datetime):
            try:
                return kind.fromisoformat(value)
            except ValueError:
                continue
        return self.fail(
            f"{value!r} is neither a day such as 2026-11-23 nor a time such as "
            "2026-11-23T08:00:00Z",
            param,
            ctx,
        )


@command(CODES)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(STATES, case_sensitive=False),
    help="Only jobs in this state; may be repeated.",
)
@model_option(False, "Only jobs of this model.")
@click.option("--text", help="Only jobs with this in their names, or that begin their ids.")
@click.option("--from", "since", type=Moment(), metavar="DAY|TIME", help="Only from then on (UTC).")
@click.option("--to", "until", type=Moment(), metavar="DAY|TIME", help="Only up to then (UTC).")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@click.option("--all", "everything", is_flag=True, help="Without a limit.")
@as_json
def jobs(
    client: Client,
    states: tuple[str, ...],
    model: str | None,
    text: str | None,
    since: date | None,
    until: date | None,
    limit: int,
    everything: bool,
    raw: bool,
) -> None:
    """List the jobs, the newest first.

    --json prints a list of jobs. A terminal gets short ids, which will do wherever a job is
    asked for; a pipe gets whole ids and times, with tabs between them.
    """
    every = client.all_jobs(states=states, model=model, text=text, since=since, until=until)
    if everything:
        _list(every, raw)
        return
    if limit < PAGE:  # one more than is shown tells whether there are more
        found = client.jobs(
            states=states, model=model, text=text, since=since, until=until, limit=limit + 1
        )
        every = iter(found)
    _list(islice(every, limit), raw)
    if sys.stdout.isatty() and not raw and next(every, None) is not None:
        show.say(f"The newest {limit}; --limit N or --all shows more.")


PAGE = 1_000  # jobs


def _list(found: Iterable[Job], raw: bool) -> None:
    if raw:
        show.many_as_json(iter(found))
        return
    tty = sys.stdout.isatty()
    heads = ("id", "name", "model", "state", "created (UTC)", "reason")
    if not tty:
        for job in found:  # as they come: there may be many
            show.table(heads, [_row(job, job["uuid"], job["created"])])
        return
    rows = [_row(job, job["uuid"][:SHORT], job["created"][5:16].replace("T", " ")) for job in found]
    if rows:
        show.table(heads, rows)
    else:
        show.say("No job is like this.")


def _row(job: Job, id: str, created: str) -> tuple[str, ...]:
    return (id, job["name"], job["model"], job["status"], created, job["reason"] or "")


@command("0 all well; 2 wrong use; 3 not reachable or refused.")
@as_json
@click.argument("id", metavar="[JOB]", required=False, shell_complete=job_ids)
def status(client: Client, raw: bool, id: str | None) -> None:
    """Show the nodes, or one job.

    --json prints the list of nodes, or the job: the members of GET /jobs/<id>.
    """
    if id is not None:
        job = client.job(full_id(client, id))
        if raw:
            show.as_json(job)
        else:
            _one(job)
        return
    nodes = client.status()
    if raw:
        show.as_json(nodes)
        return
    heads = ("name", "type", "status", "models", "jobs", "host", "remark")
    show.table(heads, [_node(node) for node in nodes], headed=True)


# what one asks for first; the others follow in the server's order
_FIRST = (
    *("uuid", "name", "model", "status", "reason", "progress", "waiting", "place"),
    *("worker", "created", "started", "ended"),
)


def _one(job: JobDetail) -> None:
    ordered: dict[str, object] = dict.fromkeys(_FIRST) | dict(job)
    members = {name: value for name, value in ordered.items() if value is not None}
    if remark := members.pop("worker_remark", None):
        members["status"] = f"{members['status']}; {remark}"
    wide = max(map(len, members)) + 2
    for member, value in members.items():
        shown = json.dumps(value) if isinstance(value, dict | bool) else str(value)
        click.echo(f"{member + ':':<{wide}}{show.line(shown)}")


def _node(node: Node) -> tuple[str, ...]:
    return (
        node["name"],
        node["node_type"],
        node["status"],
        node["model"],
        _load(node),
        node["host"],
        remark(node),
    )


def remark(node: Node) -> str:
    """What somebody should know of a node."""
    liveness, silent = node["liveness"], node["last_seen"]
    if liveness == "new":
        return "granted, not started yet"
    if liveness in ("unreachable", "lost"):
        return liveness if silent is None else f"{liveness}, silent for {show.duration(silent)}"
    if liveness == "stopped":
        # what held it up before is no news now
        return "stopped, and holds jobs" if node["jobs"] else ""
    return f"paused: {node['paused']}" if node["paused"] else node["error"]


def _load(node: Node) -> str:
    """Jobs of how many slots; the primary has none, and who was not heard yet neither."""
    if not node["slots"] and not node["jobs"]:
        return ""
    return f"{len(node['jobs'])}/{node['slots'] or '?'}"


@command(CODES)
@as_json
def models(client: Client, raw: bool) -> None:
    """List the models.

    --json prints a list of models, with what each takes and gives.
    """
    found = client.models()
    if raw:
        show.as_json(found)
        return
    heads = ("name", "title", "its input must hold", "example")
    show.table(heads, [_model(model) for model in found])
    for folder, why in client.model_errors().items():
        show.say(f"{folder} cannot be used: {why}")


def _model(model: Model) -> tuple[str, ...]:
    has_example = "yes" if model["example"] else ""
    return (model["name"], model["title"], ", ".join(model["required"]), has_example)


@command("0 all is well; 1 something was found; 2 wrong use; 3 not reachable or refused.")
@as_json
def doctor(client: Client, raw: bool) -> None:
    """Show what somebody should look at.

    --json prints a list of sentences.
    """
    findings = client.doctor()
    if raw:
        show.as_json(findings)
    else:
        for finding in findings or ["All is well."]:
            click.echo(show.line(finding))
    if findings:
        sys.exit(FAILED)
