"""What a model's log tells besides its text: progress, and a last word. Pure but for reading."""

from __future__ import annotations

import re
from pathlib import Path

# A line, as a terminal has them: a carriage return begins one anew, colours are no text.
_PROGRESS = re.compile(
    rb"(?:^|\r)(?:\x1b\[[0-9;]*[A-Za-z])*::progress +(\d{1,3})(?: |\r?$)", re.MULTILINE
)
_TAIL = 4096  # bytes looked at for the last line
_LONGEST = 300  # characters of it that are repeated


def last_progress(data: bytes) -> int | None:
    """Percent (0 to 100) of the last ``::progress N text`` line in a piece of log."""
    found = _PROGRESS.findall(data)
    return min(int(found[-1]), 100) if found else None


def last_line(log: Path) -> str:
    """The last line with any text, made printable; "" if there is none."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, 2) - _TAIL))
        tail = file.read()
    for line in reversed(tail.splitlines()):
        text = line.decode(errors="replace").strip()
        if text and not _PROGRESS.match(line):
            return "".join(c if c.isprintable() else " " for c in text)[:_LONGEST]
    return ""
