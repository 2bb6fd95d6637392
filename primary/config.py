"""``DATA/config.toml``: what a primary's keeper has decided, read at its start.

There need not be one. ``serve``'s options stand above it.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import cast

import msgspec

from primary.roles import ROLES, Role
from spool.errors import Refused
from spool.tomlplaces import line_of, written

FILE = "config.toml"  # in the data directory
KEYS = {"access": ("anonymous",)}  # all that may stand there, by table


class Config(msgspec.Struct, frozen=True):
    """``anonymous``: what may be done without a key; None where the file does not say."""

    anonymous: Role | None = None


def read(data: Path) -> Config:
    """What the file says; nothing where there is none. Raises Refused or OSError."""
    path = data / FILE
    try:
        text = path.read_bytes().decode()
        found = tomllib.loads(text)
    except FileNotFoundError:
        return Config()
    except UnicodeDecodeError:
        raise Refused(f"{path}: it is not UTF-8 text") from None
    except tomllib.TOMLDecodeError as e:
        raise Refused(f"{path}: it is no TOML: {e}") from None
    for table, values in found.items():
        if table not in KEYS or not isinstance(values, dict):
            raise _wrong(path, text, (table,), f"the tables are: {', '.join(KEYS)}")
        for key in values:
            if key not in KEYS[table]:
                known = ", ".join(KEYS[table])
                raise _wrong(path, text, (table, key), f"[{table}] has: {known}")
    role = found.get("access", {}).get("anonymous")
    if role is not None and role not in ROLES:
        expected = " or ".join(f'"{role}"' for role in ROLES)
        raise _wrong(path, text, ("access", "anonymous"), f"expected {expected}")
    return Config(cast(Role | None, role))


def _wrong(path: Path, text: str, keys: tuple[str, ...], expected: str) -> Refused:
    return Refused(f"{path}: {written(keys)}{line_of(text, keys)} does not hold", expected)
