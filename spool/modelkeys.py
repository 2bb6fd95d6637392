"""The keys of ``model.toml``, and how each is read. Pure.

Each is one row of ``KEYS``; the table in ``models/README.md`` shows the same
rows, and a test holds the two against each other.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

NAME = "NAME"  # stands in KEYS for the name of a file, which the modeller chooses

_LONGEST = 4096  # characters of a pattern


class Wrong(Exception):
    """What was expected of a value, where the row does not say it all."""


Reader = Callable[[object], Any]


class Key(NamedTuple):
    """One key of ``model.toml``: the field of Model or InputFile it fills, and how it is read.

    ``read`` raises Wrong.
    """

    field: str
    expected: str
    read: Reader


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong
    return value.strip()


def _argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise Wrong
    for part in value:
        if not isinstance(part, str) or "\0" in part:
            raise Wrong
    if not value[0]:
        raise Wrong("the first string, the program, is empty")
    return tuple(value)


def _number(least: float, allow_never: bool = False) -> Reader:
    def read(value: object) -> float | None:
        if allow_never and value == "never":
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise Wrong
        if not math.isfinite(value) or value < least:
            raise Wrong
        return float(value)

    return read


def _count(most: int) -> Reader:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise Wrong
        return value

    return read


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Wrong
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
            raise Wrong(f"{name!r} cannot name an environment variable")
        if name.startswith("MODELRUNNER_"):
            raise Wrong(f"{name} is set by Model Runner itself")
        if not isinstance(text, str) or "\0" in text:
            raise Wrong(f"{name} needs a string in quotes")
    return dict(value)


def file_name(value: object) -> str:
    """The path of a file within a zip. Raises Wrong."""
    if not isinstance(value, str) or {"", ".", ".."} & set(value.split("/")) or "\\" in value:
        raise Wrong(f"{value!r} is no path of a file within the zip")
    return value


def _files(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Wrong
    return tuple(map(file_name, value))


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong
    return value


def _columns(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise Wrong
    for name in value:
        if not isinstance(name, str) or not name.isprintable() or name != name.strip() or not name:
            raise Wrong(f"{name!r} cannot name a column")
    if len(set(value)) < len(value):
        raise Wrong("a name stands there twice")
    return tuple(value)


def _pattern(value: object) -> str:
    if not isinstance(value, str) or not value or "\0" in value:
        raise Wrong
    if len(value) > _LONGEST:
        raise Wrong(f"it has {len(value)} characters; at most {_LONGEST} are allowed")
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError) as e:
        raise Wrong(f"Python's re module says: {e}") from None
    return value


_SECONDS_OR_NEVER = 'a number of seconds, at least 0.1, or "never"'

KEYS: dict[str, Key] = {
    "title": Key("title", "a string", _text),
    "description": Key("description", "a string", _text),
    "contact": Key("contact", "a string", _text),
    "command": Key("command", 'a list of strings, such as ["./run.sh"]', _argv),
    "parallel": Key("parallel", "a whole number from 1 to 1000", _count(1000)),
    "timeout": Key("timeout", _SECONDS_OR_NEVER, _number(0.1, True)),
    "grace": Key("grace", "a number of seconds, at least 0", _number(0)),
    "lease": Key("lease", _SECONDS_OR_NEVER, _number(0.1, True)),
    "attempts": Key("attempts", "a whole number from 1 to 100", _count(100)),
    "env": Key("env", "a table [env] of strings", _env),
    "input.required": Key("required", "a list of file names", _files),
    "input.description": Key("input_description", "a string", _text),
    f"input.files.{NAME}.description": Key("description", "a string", _text),
    f"input.files.{NAME}.optional": Key("optional", "true or false", _truth),
    f"input.files.{NAME}.columns": Key("columns", "a list of names of columns", _columns),
    f"input.files.{NAME}.pattern": Key(
        "pattern", "a regular expression, such as '[0-9]+'", _pattern
    ),
    "output.description": Key("output_description", "a string", _text),
}
"""All keys; those of a table as ``table.key``."""
