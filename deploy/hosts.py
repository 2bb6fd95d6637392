"""``hosts.toml``: read strictly, since a typo would be a machine that is set up wrongly.

All mistakes of the file are told at once, each with its table, key and line, and with what
was expected. ``hostkeys`` has the keys, ``fleet`` what comes out.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deploy import rules
from deploy.fleet import Fleet, Host, Primary, Worker
from deploy.hostkeys import FLEET, HOST, PRIMARY, WORKER, Key, nearest
from spool.errors import BadModel, Refused
from spool.manifest import load_all
from spool.modelkeys import Wrong
from spool.tomlplaces import Keys, line_of, written

FILE = "hosts.toml"
MODELS = "models"  # beside the file, where it names no other folder


def load(path: Path) -> Fleet:
    """The fleet that ``path`` describes. Raises Refused, with all that is wrong with it."""
    text, table = _parsed(path)
    mistakes: list[str] = []
    fields = dict(_fields(text, (), table, FLEET, mistakes))
    hosts = tuple(_hosts(text, fields.get("hosts"), mistakes))
    folder = path.parent / fields.get("models", MODELS)
    names: tuple[str, ...] = ()
    if not mistakes:  # else half of them would follow from the others
        mistakes += (_said(text, keys, what) for keys, what in rules.broken(hosts))
        names = tuple(_models(text, hosts, folder, mistakes))
    if mistakes:
        raise Refused(_told(path, mistakes))
    return Fleet(hosts=hosts, models=folder, names=names)


def _parsed(path: Path) -> tuple[str, Mapping[str, object]]:
    """Its text, and what that holds. Raises Refused."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return text, tomllib.loads(text)
    except FileNotFoundError:
        raise Refused(
            f"there is no {path}",
            "name another with --hosts, or begin with a copy of examples/hosts.toml",
        ) from None
    except OSError as e:
        raise Refused(f"{path} cannot be read: {e.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{path}: expected UTF-8 text") from None
    except tomllib.TOMLDecodeError as e:
        raise Refused(f"{path}: not valid TOML: {e}") from None


def _told(path: Path, mistakes: list[str]) -> str:
    if len(mistakes) == 1:
        return f"{path}: {mistakes[0]}"
    return "\n  ".join((f"{path}: {len(mistakes)} mistakes:", *mistakes))


def _said(text: str, keys: Keys, what: str) -> str:
    """One mistake: where, and what."""
    where = f"{written(keys)}{line_of(text, keys)}: " if keys else ""
    return where + what


def _fields(
    text: str,
    table: Keys,
    values: Mapping[str, object],
    known: Mapping[str, Key],
    mistakes: list[str],
) -> Iterator[tuple[str, Any]]:
    """The fields that a table sets; what is wrong with it goes to ``mistakes``."""
    for name, value in values.items():
        keys = (*table, name)
        if name not in known:
            said = f"unknown key; {nearest(name, table, known)}"
            mistakes.append(_said(text, keys, said))
            continue
        try:
            yield name, known[name].read(value)
        except Wrong as e:
            said = f"expected {known[name].expected}, not {value!r}"
            mistakes.append(_said(text, keys, said + (f": {e}" if str(e) else "")))


def _hosts(text: str, tables: object, mistakes: list[str]) -> Iterator[Host]:
    """The hosts that can be made of their tables."""
    if not isinstance(tables, dict) or not tables:
        mistakes.append("no hosts; expected a table such as [hosts.alpha] for each")
        return
    for name, table in tables.items():
        keys = ("hosts", name)
        if why := rules.bad_name(name):
            mistakes.append(_said(text, keys, why))
        if not isinstance(table, dict):
            said = f"expected a table [{written(keys)}], not {table!r}"
            mistakes.append(_said(text, keys, said))
            continue
        before = len(mistakes)
        fields = dict(_fields(text, keys, table, HOST, mistakes))
        for role, known, kind in (("primary", PRIMARY, Primary), ("worker", WORKER, Worker)):
            if role in fields:
                inner = _fields(text, (*keys, role), fields[role], known, mistakes)
                fields[role] = kind(**dict(inner))
        fields.setdefault("address", name)
        if len(mistakes) == before:
            yield Host(name=name, **fields)


def _models(text: str, hosts: tuple[Host, ...], folder: Path, mistakes: list[str]) -> Iterator[str]:
    """The models that the fleet runs, all of which must be there and hold."""
    try:
        good, bad = load_all(folder, runs=False)
    except BadModel as e:
        mistakes.append(_said(text, ("models",), str(e)))
        return
    there = {*good, *bad}
    if not there:
        mistakes.append(_said(text, ("models",), f"there are no models in {folder}"))
        return
    wanted: set[str] = set()
    for host in hosts:
        if host.worker is None:
            continue
        wanted |= set(host.worker.models) or there
        for name in sorted(set(host.worker.models) - there):
            keys = ("hosts", host.name, "worker", "models")
            said = f"there is no model {name!r} in {folder}; {rules.meant(name, there)}"
            mistakes.append(_said(text, keys, said))
    mistakes += (f"model {name}: {bad[name]}" for name in sorted(wanted & bad.keys()))
    mistakes += rules.of_models(wanted & good.keys())
    yield from sorted(wanted)
