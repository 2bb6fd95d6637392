"""Lines and tables on standard output: with colours on a terminal, plain into a pipe."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {"COMPLETE": "green", "active": "green", "failed": "bold red", "off": "bold red"}


class Line(NamedTuple):
    """One line; ``style`` is rich's, for terminals."""

    text: str
    style: str = ""


def plain(text: str) -> str:
    """``text`` in one line; what a host says could drive the terminal."""
    return "".join(c if c.isprintable() else " " for c in text)


def lines(shown: Iterable[Line], console: Console | None = None) -> None:
    """Print ``shown``; nothing is cut, and a long line is wrapped on a terminal alone."""
    console = console or _console()
    for line in shown:
        if console.is_terminal:
            console.print(Text(plain(line.text), style=line.style), soft_wrap=True)
        else:
            _write(console, plain(line.text))


def table(
    heads: Sequence[str], rows: Iterable[Sequence[str]], console: Console | None = None
) -> None:
    """A table; a pipe gets tabs, for cut and awk."""
    console = console or _console()
    cells = [[plain(cell) for cell in row] for row in rows]
    if not console.is_terminal:
        for row in (list(heads), *cells):
            _write(console, "\t".join(row))
        return
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for head in heads:
        drawn.add_column(head, overflow="fold")
    for row in cells:
        drawn.add_row(*(Text(cell, _STYLES.get(cell, "")) for cell in row))
    console.print(drawn)


def _write(console: Console, text: str) -> None:
    """As it stands: rich would make blanks of tabs."""
    console.file.write(f"{text}\n")


def _console() -> Console:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # what the encoding lacks stops nothing
    return Console(file=sys.stdout, highlight=False)
