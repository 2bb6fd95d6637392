"""How the commands show things: plain to a pipe, drawn to a terminal.

What draws (``client.terminal``) is loaded here, when there is a terminal to draw on: rich
costs 0.1 s, which a script would pay with each call.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Protocol

import click

from client.escapes import LogFilter

OnProgress = Callable[[int, int], None]


class Live(Protocol):
    """One line at the terminal's end that changes; text that is written goes above it."""

    def show(self, text: str) -> None: ...

    def above(self, write: Callable[[], None], *, whole_line: bool) -> None: ...


def line(text: str) -> str:
    """``text`` in one line; control characters could drive the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def say(text: str) -> None:
    """A sentence to whoever watches: on stderr, for stdout holds what was asked for."""
    click.echo(line(text), err=True)


def as_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def many_as_json(values: Iterator[object]) -> None:
    """A list, written while it is read: it may be long."""
    before = "["
    for value in values:
        click.echo(f"{before}\n{json.dumps(value)}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    headed: bool = False,
    wrapped: bool = False,
) -> None:
    """A table; a pipe gets tabs, for cut and awk.

    ``headed``: a pipe gets the head too, where the columns do not speak for themselves.
    ``wrapped``: on a terminal nothing is cut, but goes on below.
    """
    cells = [[line(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        from client import terminal

        terminal.table(list(heads), cells, wrapped=wrapped)
        return
    for row in [list(heads), *cells] if headed else cells:
        click.echo("\t".join(row))


def bar(what: str, then: str = "") -> AbstractContextManager[OnProgress | None]:
    """A progress bar on stderr, or None where nobody looks. ``then``: what follows 100 %."""
    if not sys.stderr.isatty():
        return nullcontext()
    from client import terminal

    return terminal.bar(line(what), then or line(what))


def live() -> AbstractContextManager[Live | None]:
    """A line on stderr that tells how a job stands, or None where nobody looks."""
    if not sys.stderr.isatty():
        return nullcontext()
    from client import terminal

    return terminal.live()


class Log:
    """Where a job's log goes: to stdout as it is, and to a terminal without what drives it.

    ``goes_on``: what reads it may leave, as ``head`` does, and the rest is thrown away.
    """

    def __init__(self, *, raw: bool, live: Live | None = None, goes_on: bool = False) -> None:
        self._filter = None if raw or not sys.stdout.isatty() else LogFilter()
        self._live = live
        self._goes_on, self._gone = goes_on, False

    def write(self, data: bytes) -> None:
        self._put(self._filter.feed(data) if self._filter else data)

    def end(self) -> None:
        if self._filter:
            self._put(self._filter.end())

    def _put(self, data: bytes) -> None:
        if not data:
            return
        if self._live is None:
            self._out(data)
        else:
            self._live.above(lambda: self._out(data), whole_line=data.endswith(b"\n"))

    def _out(self, data: bytes) -> None:
        if self._gone:
            return
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except BrokenPipeError:
            if not self._goes_on:
                raise
            self._gone = True
            silence_stdout()


@contextmanager
def log(*, raw: bool, live: Live | None = None, goes_on: bool = False) -> Iterator[Log]:
    sink = Log(raw=raw, live=live, goes_on=goes_on)
    try:
        yield sink
    finally:
        sink.end()


def size(count: int) -> str:
    """A number of bytes for people."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def duration(seconds: float) -> str:
    """A length of time in its largest unit that says enough."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def lenient_output() -> None:
    """What the terminal's encoding lacks is shown as a question mark, and stops nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def silence_stdout() -> None:
    """Whoever read our output has gone: nothing more is written, nor complained about at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
