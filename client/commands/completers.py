"""What the shell offers for a job or a model: asked of the server, or silently nothing."""

from __future__ import annotations

from collections.abc import Callable

import click
from click.shell_completion import CompletionItem

from client import show
from client.api import Client
from client.errors import ClientError

TIMEOUT = 1.0  # seconds: somebody has just pressed a key
RECENT = 20  # jobs

Items = list[CompletionItem[str]]


def _asked(ctx: click.Context, ask: Callable[[Client], Items]) -> Items:
    server, key = ctx.params.get("server"), ctx.params.get("key")
    try:
        return ask(Client(server, key, timeout=TIMEOUT, tries=1))
    except (ClientError, KeyError, TypeError):  # or another program answers there
        return []


def job_ids(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Recent jobs, by the beginning of their ids."""

    def ask(client: Client) -> Items:
        jobs = client.jobs(text=incomplete or None, limit=RECENT)
        return [
            CompletionItem(job["uuid"], help=show.line(f"{job['status']} {job['name']}"))
            for job in jobs
            if job["uuid"].startswith(incomplete)
        ]

    return _asked(ctx, ask)


def model_names(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    def ask(client: Client) -> Items:
        return [
            CompletionItem(model["name"], help=show.line(model["title"]))
            for model in client.models()
            if model["name"].startswith(incomplete)
        ]

    return _asked(ctx, ask)


def output_paths(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """Files of the job that stands before on the line."""

    def ask(client: Client) -> Items:
        job = str(ctx.params.get("job") or "")
        paths = [file["path"] for file in client.outputs(client.find(job))] if job else []
        return [CompletionItem(show.line(path)) for path in paths if path.startswith(incomplete)]

    return _asked(ctx, ask)


def files(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> Items:
    """A file or a folder: the shell knows."""
    return [CompletionItem(incomplete, type="file")]
