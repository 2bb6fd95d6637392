"""The first line of a CSV file: whether it names the columns that a model reads. Pure."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Sequence
from typing import NamedTuple

from spool.errors import Finding

SHOWN = 80  # characters of a file's contents that a message repeats

_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def quoted(text: str) -> str:
    """The beginning of ``text`` in quotes; what cannot be printed is written out."""
    safe = repr(text[: SHOWN + 1])
    return safe if len(safe) <= SHOWN + 2 else f"{safe[: SHOWN + 1]}…{safe[0]}"


def named(columns: Sequence[str]) -> str:
    """``columns`` as what is expected of a file."""
    what = "the column" if len(columns) == 1 else "the columns"
    return f"{what} {', '.join(map(repr, columns))} in its first line"


class _Line(NamedTuple):
    """A line as fields, and in words what parts them."""

    fields: list[str]
    parted: str


def wrong_columns(file: str, wanted: Sequence[str], line: str) -> list[Finding]:
    """A finding for each of ``wanted`` that ``line``, the first of ``file``, does not name.

    Where it names none of them, and nothing like them, one finding says so of all.
    """
    read = _read(wanted, line)
    here = f"{quoted(line)} ({read.parted})"
    findings = []
    hints = 0
    for name in wanted:
        count = read.fields.count(name)
        if count == 1:
            continue
        near = _near(name, read.fields) if count == 0 else f"it {count} times"
        hints += near is not None
        findings.append(Finding(file, named([name]), near or f"no such column in {here}"))
    if len(findings) < len(wanted) or hints or len(wanted) == 1:
        return findings
    data = any(map(_number, read.fields))
    found = f"{here}: no names, it seems, but values" if data else here
    return [Finding(file, named(wanted), found)]


def _read(wanted: Sequence[str], line: str) -> _Line:
    """``line`` with the separator that finds most of ``wanted``, then most fields."""
    readings = [_Line(_fields(line, sep), f"parted by {w}") for sep, w in _SEPARATORS.items()]
    best = max(readings, key=lambda r: (len(set(wanted) & set(r.fields)), len(r.fields)))
    if len(best.fields) > 1:
        return best
    return best._replace(parted="not parted by commas, semicolons or tabs")


def _fields(line: str, separator: str) -> list[str]:
    try:
        return next(csv.reader([line], delimiter=separator), [""])
    except csv.Error:
        return line.split(separator)


def _near(name: str, fields: Sequence[str]) -> str | None:
    """What among ``fields`` is probably meant to be ``name``, and how it differs."""
    for field in fields:
        if field.strip() == name:
            return f"{quoted(field)}, which differs in blanks"
    for field in fields:
        if field.strip().lower() == name.lower():
            return f"{quoted(field)}, which differs in upper and lower case"
    for field in fields:
        if len(field) > 2 and name.lower().startswith(field.strip().lower()):
            return f"{quoted(field)}, a similar name"
    similar = difflib.get_close_matches(name, fields[:500], n=1, cutoff=0.75)
    return f"{quoted(similar[0])}, a similar name" if similar else None


def _number(field: str) -> bool:
    try:
        float(field.replace(",", ".", 1))
    except ValueError:
        return False
    return True
