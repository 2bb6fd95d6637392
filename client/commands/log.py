"""``log``: what a job's model said."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator

import click

from client import show
from client.api import Client
from client.commands.frame import command, job_argument
from client.commands.waiting import raw_option
from client.following import PIECE, LogPart

FIRST_LOOK = 64 * 1024  # bytes in which the last lines are looked for at first


@command("0 all well; 2 wrong use; 3 not reachable or refused.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option(
    "-n", "--lines", type=click.IntRange(0), metavar="N", help="Begin N lines before its end."
)
@raw_option
@click.option("--json", "raw", is_flag=True, help="Print JSON, for scripts.")
@job_argument
def log(
    client: Client, job: str, follow: bool, lines: int | None, raw_log: bool, raw: bool
) -> None:
    """Print a job's log.

    On a terminal only text, colours and moves within the line are let through: other
    escape sequences could drive it. --raw, and a pipe, get the bytes as they are.

    --json prints an object a line for each piece: text, attempt, start and end (offsets in
    bytes) and final (nothing follows).
    """
    parts = _parts(client, job, follow, lines)
    if raw:
        for piece in _as_objects(parts):
            click.echo(json.dumps(piece))
        return
    with show.log(raw=raw_log) as sink:
        for part in parts:
            sink.write(part.data)


def _parts(client: Client, job: str, follow: bool, lines: int | None) -> Iterator[LogPart]:
    part = client.log(job) if lines is None else _last(client, job, lines)
    yield part
    if follow:
        yield from client.follow(job, part)
        return
    while lines is None and not part.final and len(part.data) == PIECE:
        part = client.log(job, part.end)
        yield part


def _last(client: Client, job: str, lines: int) -> LogPart:
    """The last lines of what is there; of those that are very long, what 16 MiB hold."""
    size = FIRST_LOOK
    while True:
        part = client.tail(job, size)
        at = len(part.data)
        # the end of the last line is not the beginning of one more
        end = at - 1 if part.data.endswith(b"\n") else at
        for _ in range(lines):
            end = part.data.rfind(b"\n", 0, max(0, end))
            at = end + 1
            if end < 0:
                break
        if end >= 0 or part.start == 0 or size >= PIECE:
            return part._replace(data=part.data[at:], start=part.start + at)
        size *= 16


def _as_objects(parts: Iterator[LogPart]) -> Iterator[dict[str, object]]:
    attempt, decoder = 0, codecs.getincrementaldecoder("utf-8")("replace")
    for part in parts:
        if part.attempt != attempt:
            attempt = part.attempt
            decoder.reset()
        yield {
            "text": decoder.decode(part.data, part.final),
            "attempt": part.attempt,
            "start": part.start,
            "end": part.end,
            "final": part.final,
        }
