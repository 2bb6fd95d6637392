"""``outputs``: the files that a job left, each to be had alone."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import click

from client import show
from client.api import Client
from client.commands.completers import output_paths
from client.commands.frame import as_json, command, job_argument
from client.errors import ClientError
from client.shapes import OutputFile

# A name that could lead out of the folder, or that this system reads otherwise.
_STRANGE = re.compile(r"(^|/)(\.\.?)?(/|$)|[\x00-\x1f\x7f\\]|^[A-Za-z]:")


@command("0 all well; 2 wrong use; 3 not reachable or refused, as for a file that is not there.")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Fetch into DIR (without PATHs: all files); otherwise into the present folder.",
)
@as_json
@job_argument
@click.argument("paths", metavar="[PATH]...", nargs=-1, shell_complete=output_paths)
def outputs(
    client: Client, job: str, output: Path | None, raw: bool, paths: tuple[str, ...]
) -> None:
    """List the files of a job's output, or fetch some.

    PATH is a file of the list, or a pattern such as 'plots/*.png'. Files keep their folders.

    --json prints a list of path, size and kind (picture, table, text, other); of fetched
    files also file, where each lies now.
    """
    listed = client.outputs(job)
    if not paths and output is None:
        _list(listed, raw)
        return
    wanted = _chosen(job, listed, paths)
    fetched = [_fetched(client, job, file, output or Path(), raw) for file in wanted]
    if raw:
        show.as_json(fetched)


def _list(listed: list[OutputFile], raw: bool) -> None:
    if raw:
        show.as_json(listed)
        return
    rows = [(file["path"], str(file["size"]), file["kind"]) for file in listed]
    show.table(("path", "size", "kind"), rows)


def _chosen(job: str, listed: list[OutputFile], paths: tuple[str, ...]) -> list[OutputFile]:
    """The files that are meant, in the list's order. Raises ClientError if there is none."""
    if not paths:
        return listed
    for path in paths:
        if not any(_meant(file, path) for file in listed):
            raise ClientError(
                f"the output of job {job} holds no file {path!r}; "
                f"modelrunner outputs {job[:8]} lists what it holds"
            )
    return [file for file in listed if any(_meant(file, path) for path in paths)]


def _meant(file: OutputFile, path: str) -> bool:
    return file["path"] == path or fnmatchcase(file["path"], path)


def _fetched(
    client: Client, job: str, file: OutputFile, folder: Path, raw: bool
) -> dict[str, object]:
    target = folder / _safe(file["path"])
    target.parent.mkdir(parents=True, exist_ok=True)
    with show.bar(show.line(file["path"])) as progress:
        client.output(job, file["path"], target, on_progress=progress)
    if not raw:
        click.echo(show.line(str(target)))
    return {**file, "file": str(target)}


def _safe(path: str) -> str:
    """The path, if it stays below the folder. Raises ClientError: the name is a job's own."""
    if not path or _STRANGE.search(path):
        raise ClientError(
            f"the file {path!r} has a name that is not safe here; "
            "fetch the whole output.zip instead (modelrunner wait --output DIR)"
        )
    return path
