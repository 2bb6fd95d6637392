"""Drawing on a terminal, with rich: tables, progress bars, and a line that changes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

# What one copies into the next command, or reads at a glance, is never cut.
_WHOLE = frozenset({"state", "status", "size", "created (UTC)"})  # and the first column
_COLOURS = {
    "COMPLETE": "green",
    "FAILED": "bold red",
    "KILLED": "yellow",
    "RUNNING": "cyan",
    "PROCESSED": "cyan",
    "STOPPED": "red",
}
_SMALL = 1024 * 1024  # bytes
_NARROWEST = 6  # columns of the screen
_CLEAR = "\r\x1b[2K"


def table(heads: list[str], rows: list[list[str]], *, wrapped: bool = False) -> None:
    """Columns as wide as they need to be; what does not fit is cut, or else ``wrapped``."""
    console = Console(highlight=False)
    drawn = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    used = [n for n in range(len(heads)) if not rows or any(row[n] for row in rows)]
    for n in used:
        whole = not wrapped and (n == 0 or heads[n] in _WHOLE)
        drawn.add_column(
            heads[n],
            no_wrap=whole,  # rich narrows those first that may wrap
            min_width=None if whole else min(_NARROWEST, len(heads[n])),
            justify="right" if heads[n] == "size" else "left",
        )
    cut: Literal["fold", "ellipsis"] = "fold" if wrapped else "ellipsis"
    for row in rows:
        # Text, not markup: a name may hold brackets
        drawn.add_row(
            *(
                Text(row[n], _COLOURS.get(row[n], ""), no_wrap=not wrapped, overflow=cut)
                for n in used
            )
        )
    console.print(drawn)


@contextmanager
def bar(what: str, then: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar for bytes done and in all; ``then`` is said when all are. Small things need none."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(what, total=None)

    def show(done: int, total: int) -> None:
        if total >= _SMALL:
            progress.start()  # does nothing the second time
        said = then if done >= total else what
        progress.update(task, description=said, completed=done, total=total)

    try:
        yield show
    finally:
        progress.stop()


class LiveLine:
    """The last line of the terminal. It is drawn only where the log has ended its own line."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._text = ""
        self._at_start, self._drawn = True, False

    def show(self, text: str) -> None:
        if self._drawn and text == self._text:
            return
        self._text = text
        if self._at_start and not self._console.is_dumb_terminal:
            self._draw()

    def above(self, write: Callable[[], None], *, whole_line: bool) -> None:
        self.clear()
        write()
        self._at_start = whole_line
        if whole_line and self._text:
            self.show(self._text)

    def clear(self) -> None:
        if self._drawn:
            self._console.file.write(_CLEAR)
            self._console.file.flush()
            self._drawn = False

    def _draw(self) -> None:
        shown = Text(self._text, "dim", no_wrap=True, overflow="ellipsis")
        shown.truncate(self._console.width - 1, overflow="ellipsis")
        self._console.file.write(_CLEAR)
        self._console.print(shown, end="")
        self._console.file.flush()
        self._drawn = True


@contextmanager
def live() -> Iterator[LiveLine]:
    made = LiveLine(Console(stderr=True, highlight=False))
    try:
        yield made
    finally:
        made.clear()
