"""Where a key stands in a TOML file, for messages about it. Pure."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence

Keys = tuple[str, ...]  # a key, with those of the tables that it stands in before it


def written(keys: Sequence[str]) -> str:
    """``keys`` as TOML has them."""
    bare = re.compile(r"[A-Za-z0-9_-]+")
    return ".".join(key if bare.fullmatch(key) else json.dumps(key) for key in keys)


def line_of(text: str, keys: Keys) -> str:
    """`` (line N)`` where ``keys`` are set, as far as a look at the text can tell."""
    inside: Keys = ()
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("["):
            inside = _keys_in(line)
            here = inside[: len(keys)] == keys
        else:
            key = _keys_in(line.partition("=")[0] + "= 0")
            here = bool(key) and (*inside, *key) == keys[: len(inside) + len(key)]
        if here:
            return f" (line {number})"
    return ""


def _keys_in(line: str) -> Keys:
    """The keys of a line such as ``[a."b"]`` or ``a.b = 0``; none if it is none."""
    try:
        found: object = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return ()
    keys: list[str] = []
    while isinstance(found, dict | list) and found:
        if isinstance(found, dict):
            keys.append(next(iter(found)))
        found = next(iter(found.values() if isinstance(found, dict) else found))
    return tuple(keys)
