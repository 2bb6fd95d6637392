"""Access keys: names with roles, in ``DATA/keys.json``. The keys themselves are nowhere.

A key is ``mr_NAME_`` and 192 random bits, and the file has its SHA-256. That is enough: a slow
hash (scrypt, argon2) is for what people choose, where the candidates can be counted; of 2^192
nobody tries any share, however fast each try is. And every request with a key pays for it.

The file is written whole, by ``modelrunner key`` alone, and a running primary looks at it
(``primary.keyring``). What it says holds from then on: a key that was removed is none.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from primary import private
from primary.roles import KeyRole
from spool.errors import Refused

FILE = "keys.json"  # in the data directory
BYTES = 24  # of chance in a key
MOST = 500  # keys: each request with one is compared with all

ADMIN = "admin"  # the name of the key of ``serve --admin-key``, which stands in no file

# It is part of what the ledger has of an event, "anna@192.0.2.7", of cookies, and of the key.
_NAME = r"^[a-z0-9][a-z0-9_.-]{0,31}$"


class AccessKey(msgspec.Struct, frozen=True, kw_only=True):
    """One key; ``sha256`` in hexadecimal, ``created`` as RFC 3339."""

    name: Annotated[str, Meta(pattern=_NAME)]
    role: KeyRole
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    created: str = ""

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.sha256)


class _File(msgspec.Struct, frozen=True):
    keys: tuple[AccessKey, ...] = ()


def digest(key: bytes) -> bytes:
    """What is kept and compared of a key."""
    return hashlib.sha256(key).digest()


def is_name(text: str) -> bool:
    return re.fullmatch(_NAME[1:-1], text, re.ASCII) is not None and text != ADMIN


def read(data: Path) -> tuple[AccessKey, ...]:
    """The keys of a data directory; none where there is no file. Raises Refused or OSError."""
    path = data / FILE
    found = private.read(path)
    if found is None:
        return ()
    try:
        keys = msgspec.json.decode(found, type=_File).keys
    except msgspec.DecodeError as e:
        raise Refused(
            f"{path}: it is not what 'modelrunner key' wrote: {e}",
            "put a copy of it back, or remove it and make the keys anew",
        ) from None
    names = [key.name for key in keys]
    if len(set(names)) < len(names) or ADMIN in names:
        raise Refused(
            f"{path}: two keys have one name, or one is called {ADMIN}",
            "the name is what the ledger has of who did something: leave one of them",
        )
    return keys


def add(data: Path, name: str, role: KeyRole) -> str:
    """Make a key; the text, which is shown this once. Raises Refused or OSError."""
    if not is_name(name):
        why = (
            "that is the key of 'serve --admin-key' itself"
            if name == ADMIN
            else "1 to 32 small letters, digits, '.', '_' and '-', of which the first is a "
            "letter or digit"
        )
        raise Refused(f"{name!r} cannot name a key", why)
    text = f"mr_{name}_{secrets.token_hex(BYTES)}"
    made = AccessKey(
        name=name,
        role=role,
        sha256=digest(text.encode()).hex(),
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )

    def with_it(keys: tuple[AccessKey, ...]) -> tuple[AccessKey, ...]:
        if any(key.name == name for key in keys):
            raise Refused(
                f"there is a key {name!r} already, and it cannot be shown again",
                f"for another one, first: modelrunner key remove {name}",
            )
        if len(keys) >= MOST:
            raise Refused(f"there are {MOST} keys, and no more are looked through", "remove some")
        return (*keys, made)

    _change(data, with_it)
    return text


def remove(data: Path, name: str) -> tuple[AccessKey, ...]:
    """Forget a key; those that are left. Raises Refused or OSError."""

    def without_it(keys: tuple[AccessKey, ...]) -> tuple[AccessKey, ...]:
        left = tuple(key for key in keys if key.name != name)
        if left == keys:
            known = ", ".join(key.name for key in keys) or "none"
            raise Refused(f"there is no key {name!r}", f"there are: {known}")
        return left

    return _change(data, without_it)


def _change(
    data: Path, change: Callable[[tuple[AccessKey, ...]], tuple[AccessKey, ...]]
) -> tuple[AccessKey, ...]:
    with private.as_owner(data), private.locked(data):
        keys = change(read(data))
        text = msgspec.json.format(msgspec.json.encode(_File(keys)), indent=2)
        private.write(data / FILE, text + b"\n")
        return keys
