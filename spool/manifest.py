"""A model's ``model.toml``.

Read strictly: a key with a typo would otherwise be a limit that silently does
not hold. Each key is one row of ``KEYS``; the table in ``models/README.md``
shows the same rows, and a test holds the two against each other.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from spool.errors import BadModel, BadName
from spool.names import plain

FILE = "model.toml"


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model. Times are in seconds.

    ``command`` is complete but for the two directories that a run adds; a
    program inside the model's folder stands there with its absolute path.
    ``timeout`` limits a run (None: no limit), ``grace`` lies between TERM and
    KILL, and ``lease`` is how long a worker may be silent before its run is
    lost (None: for ever). ``required`` are files that each input must hold.
    ``version`` is a short hash of the file's bytes.
    """

    name: str
    title: str
    description: str
    command: tuple[str, ...]
    folder: Path
    parallel: int = 1
    env: dict[str, str] = {}
    timeout: float | None = None
    grace: float = 5.0
    lease: float | None = 900.0
    attempts: int = 3
    required: tuple[str, ...] = ()
    input_description: str = ""
    version: str = ""


class _Wrong(Exception):
    """What was expected of a value."""


_Reader = Callable[[object], Any]


class Key(NamedTuple):
    """One key of ``model.toml``: the field of Model it fills, and how it is read."""

    field: str
    expected: str
    read: _Reader


def load(folder: Path) -> Model:
    """The model in ``folder``. Raises BadModel, naming file and key, and what was expected."""
    folder = Path(os.path.abspath(folder))  # not resolve(): a link's own name is the model's
    file = folder / FILE
    try:
        name = plain(folder.name, "the model's folder")
        data = file.read_bytes()
        table = tomllib.loads(data.decode("utf-8-sig"))  # Notepad writes a mark
    except BadName as e:
        raise BadModel(str(file), "", str(e)) from None
    except OSError as e:
        raise BadModel(str(file), "", f"cannot be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise BadModel(str(file), "", "expected UTF-8 text") from None
    except tomllib.TOMLDecodeError as e:
        raise BadModel(str(file), "", f"not valid TOML: {e}") from None
    fields = _fields(str(file), data.decode(), _flat(str(file), table))
    if "command" not in fields:
        raise BadModel(str(file), "command", f"missing; expected {KEYS['command'].expected}")
    fields["command"] = _located(str(file), folder, fields["command"])
    fields.setdefault("title", name)
    fields.setdefault("description", "")
    version = hashlib.sha256(data).hexdigest()[:12]
    return Model(name=name, folder=folder, version=version, **fields)


def load_all(root: Path) -> tuple[dict[str, Model], dict[str, str]]:
    """The models beneath ``root`` by name, and what is wrong with the others, by folder.

    Hidden folders and folders without a ``model.toml`` are no models. Raises
    BadModel if ``root`` cannot be listed.
    """
    try:
        folders = sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError as e:
        reason = f"the folder of models cannot be read: {e.strerror}; create it or name another"
        raise BadModel(str(root), "", reason) from None
    models: dict[str, Model] = {}
    errors: dict[str, str] = {}
    for folder in folders:
        if not os.path.lexists(folder / FILE):
            continue
        try:
            models[folder.name] = load(folder)
        except BadModel as e:
            errors[folder.name] = str(e)
    return models, errors


def _flat(file: str, table: Mapping[str, object]) -> dict[str, object]:
    """Keys of tables as ``table.key``; [env], whose keys are free, stays one value."""
    flat: dict[str, object] = {}
    for key, value in table.items():
        if key != "input":
            flat[key] = value
        elif isinstance(value, dict):
            flat |= {f"input.{inner}": v for inner, v in value.items()}
        else:
            raise BadModel(file, "input", f"expected a table [input], not {value!r}")
    return flat


def _fields(file: str, text: str, flat: Mapping[str, object]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for key, value in flat.items():
        known = KEYS.get(key)
        if known is None:
            raise BadModel(file, key, f"unknown key{_line(text, key)}; {_nearest(key)}")
        try:
            fields[known.field] = known.read(value)
        except _Wrong as e:
            said = f"expected {known.expected}, not {value!r}{_line(text, key)}"
            raise BadModel(file, key, f"{said}{f': {e}' if str(e) else ''}") from None
    return fields


def _line(text: str, key: str) -> str:
    """`` (line N)`` where ``key`` is set, as far as a look at the text can tell."""
    table, _, name = key.rpartition(".")
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[+\s*([^\]]*?)\s*\]", line):
            inside = header[1]
            if inside == key:
                return f" (line {number})"
        elif inside == table and re.match(rf"""\s*["']?{re.escape(name)}["']?\s*[=.]""", line):
            return f" (line {number})"
    return ""


def _nearest(key: str) -> str:
    table, _, name = key.rpartition(".")
    candidates = {k.rpartition(".")[2]: k for k in reversed(KEYS)}
    close = difflib.get_close_matches(name, candidates, n=1, cutoff=0.6)
    if close:
        match = candidates[close[0]]
        where = match.rpartition(".")[0]
        inside = f" in [{where}]" if where and where != table else ""
        inside = inside or (" above the first table" if table and not where else "")
        return f"did you mean {close[0]!r}{inside}?"
    known = [k.rpartition(".")[2] for k in KEYS if k.rpartition(".")[0] == table]
    return f"expected one of {', '.join(known)}"


def _located(file: str, folder: Path, command: tuple[str, ...]) -> tuple[str, ...]:
    """``command`` with a program of the model's own folder made absolute, and looked at."""
    program = command[0]
    if "/" not in program or program.startswith("/"):
        return command
    path = Path(os.path.normpath(folder / program))
    if not path.is_file():
        raise BadModel(file, "command", f"there is no file {program!r} in the model's folder")
    if not os.access(path, os.X_OK):
        hint = f"chmod +x {path}"
        raise BadModel(file, "command", f"{program!r} is not executable ({hint})")
    return (str(path), *command[1:])


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise _Wrong
    return value.strip()


def _argv(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _Wrong
    for part in value:
        if not isinstance(part, str) or "\0" in part:
            raise _Wrong
    if not value[0]:
        raise _Wrong("the first string, the program, is empty")
    return tuple(value)


def _number(least: float, allow_never: bool = False) -> _Reader:
    def read(value: object) -> float | None:
        if allow_never and value == "never":
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _Wrong
        if not math.isfinite(value) or value < least:
            raise _Wrong
        return float(value)

    return read


def _count(most: int) -> _Reader:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise _Wrong
        return value

    return read


def _env(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _Wrong
    for name, text in value.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name, re.ASCII):
            raise _Wrong(f"{name!r} cannot name an environment variable")
        if name.startswith("MODELRUNNER_"):
            raise _Wrong(f"{name} is set by Model Runner itself")
        if not isinstance(text, str) or "\0" in text:
            raise _Wrong(f"{name} needs a string in quotes")
    return dict(value)


def _files(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _Wrong
    for name in value:
        if not isinstance(name, str) or {"", ".", ".."} & set(name.split("/")) or "\\" in name:
            raise _Wrong(f"{name!r} is no path of a file within the zip")
    return tuple(value)


_SECONDS_OR_NEVER = 'a number of seconds, at least 0.1, or "never"'

KEYS: dict[str, Key] = {
    "title": Key("title", "a string", _text),
    "description": Key("description", "a string", _text),
    "command": Key("command", 'a list of strings, such as ["./run.sh"]', _argv),
    "parallel": Key("parallel", "a whole number from 1 to 1000", _count(1000)),
    "timeout": Key("timeout", _SECONDS_OR_NEVER, _number(0.1, True)),
    "grace": Key("grace", "a number of seconds, at least 0", _number(0)),
    "lease": Key("lease", _SECONDS_OR_NEVER, _number(0.1, True)),
    "attempts": Key("attempts", "a whole number from 1 to 100", _count(100)),
    "env": Key("env", "a table [env] of strings", _env),
    "input.required": Key("required", "a list of file names", _files),
    "input.description": Key("input_description", "a string", _text),
}
"""All keys; those of a table as ``table.key``."""
