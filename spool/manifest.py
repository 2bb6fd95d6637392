"""A model's ``model.toml``.

Read strictly: a key with a typo would otherwise be a limit that silently does
not hold. ``modelkeys`` has the keys. What is wrong is said with the key, its
line, and the key that was probably meant.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from spool.errors import BadModel, BadName
from spool.inputfiles import InputFile
from spool.modelkeys import KEYS, NAME, Wrong, file_name
from spool.names import plain
from spool.tomlplaces import Keys, line_of, written

FILE = "model.toml"
SETUP = "setup"  # a script in the folder that `modelrunner deploy` runs once on each worker


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One model. Times are in seconds.

    ``command`` is complete but for the two directories that a run adds; a
    program inside the model's folder stands there with its absolute path.
    ``timeout`` limits a run (None: no limit), ``grace`` lies between TERM and
    KILL, and ``lease`` is how long a worker may be silent before its run is
    lost (None: for ever). ``files`` is every file of the input that is named
    anywhere, ``required`` the names of those that each input must hold. ``contact`` is
    whom people may ask about it. ``version`` is a short hash of the file's bytes.
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
    files: tuple[InputFile, ...] = ()
    input_description: str = ""
    output_description: str = ""
    contact: str = ""
    version: str = ""


def load(folder: Path, *, runs: bool = True) -> Model:
    """The model in ``folder``. Raises BadModel, naming file and key, and what was expected.

    ``runs``: it is to run here. Else the program may be missing that a setup script makes.
    """
    folder = Path(os.path.abspath(folder))
    file = folder / FILE
    try:
        name = plain(folder.name, "the model's folder")  # a link's own name is the model's
        # What a link leads to now: one that is switched to a new version never gives a run
        # parts of both, and a run that goes on finds the rest of its own.
        folder = Path(os.path.realpath(folder))
        data = (folder / FILE).read_bytes()
        table = tomllib.loads(data.decode("utf-8-sig"))  # Notepad writes a mark
    except BadName as e:
        raise BadModel(str(file), "", str(e)) from None
    except OSError as e:
        raise BadModel(str(file), "", f"cannot be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise BadModel(str(file), "", "expected UTF-8 text") from None
    except tomllib.TOMLDecodeError as e:
        raise BadModel(str(file), "", f"not valid TOML: {e}") from None
    fields = _fields(str(file), data.decode(), table)
    if "command" not in fields:
        raise BadModel(str(file), "command", f"missing; expected {KEYS['command'].expected}")
    made = not runs and (folder / SETUP).is_file()
    fields["command"] = _located(str(file), folder, fields["command"], made=made)
    fields.setdefault("title", name)
    fields.setdefault("description", "")
    version = hashlib.sha256(data).hexdigest()[:12]
    return Model(name=name, folder=folder, version=version, **fields)


def load_all(root: Path, *, runs: bool = True) -> tuple[dict[str, Model], dict[str, str]]:
    """The models beneath ``root`` by name, and what is wrong with the others, by folder.

    Hidden folders and folders without a ``model.toml`` are no models. ``runs`` is as for
    ``load``. Raises BadModel if ``root`` cannot be listed.
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
            models[folder.name] = load(folder, runs=runs)
        except BadModel as e:
            errors[folder.name] = str(e)
    return models, errors


def _fields(file: str, text: str, table: Mapping[str, object]) -> dict[str, Any]:
    """The fields of Model that ``table`` sets. Raises BadModel."""
    fields: dict[str, Any] = {}
    described: dict[str, InputFile] = {}
    for key, value in table.items():
        if key not in ("input", "output"):
            fields |= _read(file, text, (key,), value)
            continue
        if not isinstance(value, dict):
            said = f"expected a table [{key}], not {value!r}{line_of(text, (key,))}"
            raise BadModel(file, key, said)
        for inner, held in value.items():
            if (key, inner) == ("input", "files"):
                described = dict(_described(file, text, held))
            else:
                fields |= _read(file, text, (key, inner), held)
    return fields | _joined(file, text, fields.get("required", ()), described)


def _described(file: str, text: str, tables: object) -> Iterator[tuple[str, InputFile]]:
    """The files of ``[input.files."NAME"]`` by their names. Raises BadModel."""
    if not isinstance(tables, dict):
        said = f'expected tables such as [input.files."data.csv"], not {tables!r}'
        raise BadModel(file, "input.files", said + line_of(text, ("input", "files")))
    for name, table in tables.items():
        keys = ("input", "files", name)
        try:
            file_name(name)
        except Wrong as e:
            raise BadModel(file, written(keys), f"{e}{line_of(text, keys)}") from None
        if not isinstance(table, dict):
            said = f"expected a table [{written(keys)}], not {table!r}{line_of(text, keys)}"
            raise BadModel(file, written(keys), said)
        fields: dict[str, Any] = {"name": name}
        for key, value in table.items():
            fields |= _read(file, text, (*keys, key), value)
        yield name, InputFile(**fields)


def _joined(
    file: str, text: str, listed: tuple[str, ...], described: Mapping[str, InputFile]
) -> dict[str, tuple[object, ...]]:
    """``files`` and ``required``, from both ways of saying what the input must hold."""
    for name in listed:
        if name in described and described[name].optional:
            keys = ("input", "files", name, "optional")
            said = f"{name!r} is optional here, and required in [input]{line_of(text, keys)}"
            raise BadModel(file, written(keys), said)
    names = dict.fromkeys((*listed, *described))
    files = tuple(described.get(name) or InputFile(name=name) for name in names)
    return {"files": files, "required": tuple(f.name for f in files if not f.optional)}


def _read(file: str, text: str, keys: Keys, value: object) -> dict[str, Any]:
    """The field that ``keys`` stand for, with its value. Raises BadModel."""
    known = KEYS.get(_row(keys))
    if known is None:
        said = f"unknown key{line_of(text, keys)}; {_nearest(keys, value)}"
        raise BadModel(file, written(keys), said)
    try:
        return {known.field: known.read(value)}
    except Wrong as e:
        said = f"expected {known.expected}, not {value!r}{line_of(text, keys)}"
        said += f": {e}" if str(e) else ""
        raise BadModel(file, written(keys), said) from None


def _row(keys: Keys) -> str:
    """The row of KEYS for ``keys``: a file's own name stands there as NAME."""
    return ".".join((*keys[:2], NAME, *keys[3:]) if keys[:2] == ("input", "files") else keys)


def _nearest(keys: Keys, value: object) -> str:
    """What was probably meant by ``keys``, of which no row knows."""
    if len(keys) == 4 and isinstance(value, dict):
        whole = written((*keys[:2], ".".join(keys[2:])))
        return f"if that is one name, put it in quotes: [{whole}]"
    table, _, name = _row(keys).rpartition(".")
    own = [k.rpartition(".")[2] for k in KEYS if k.rpartition(".")[0] == table]
    if close := difflib.get_close_matches(name, own, n=1, cutoff=0.6):
        return f"did you mean {close[0]!r}?"
    others = {k.rpartition(".")[2]: k.rpartition(".")[0] for k in reversed(KEYS)}
    if close := difflib.get_close_matches(name, others, n=1, cutoff=0.6):
        where = others[close[0]]
        place = (
            f"in [{where.replace(NAME, json.dumps(NAME))}]" if where else "above the first table"
        )
        return f"did you mean {close[0]!r} {place}?"
    return f"expected one of {', '.join(own)}"


def _located(file: str, folder: Path, command: tuple[str, ...], *, made: bool) -> tuple[str, ...]:
    """``command`` with a program of the model's own folder made absolute, and looked at.

    ``made``: it may be missing.
    """
    program = command[0]
    if "/" not in program or program.startswith("/"):
        return command
    path = Path(os.path.normpath(folder / program))
    if made and not os.path.lexists(path):
        return (str(path), *command[1:])
    if not path.is_file():
        raise BadModel(file, "command", f"there is no file {program!r} in the model's folder")
    if not os.access(path, os.X_OK):
        hint = f"chmod +x {path}"
        raise BadModel(file, "command", f"{program!r} is not executable ({hint})")
    return (str(path), *command[1:])
