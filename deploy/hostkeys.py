"""The keys of ``hosts.toml``, and how each is read. Pure.

One mapping for each kind of table. ``examples/hosts.toml`` shows every key, and a test holds
the two against each other.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from primary.roles import ROLES
from spool.address import is_host, is_user
from spool.modelkeys import Wrong
from spool.names import is_plain

SLOTS = 1024  # as the worker takes them at most

_NAME = re.compile(r"(?!-)[A-Za-z0-9.-]{1,253}(?<!-)\Z", re.ASCII)


class Key(NamedTuple):
    """One key. ``read`` gives the field's value, or raises Wrong."""

    expected: str
    read: Callable[[object], Any]


def listen(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT, with [...] around an IPv6 address. Raises Wrong."""
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not port.isascii() or not port.isdigit() or (":" in bare) != (bare != host):
        raise Wrong
    if not 1 <= int(port) <= 65535:
        raise Wrong("ports are numbers from 1 to 65535")
    if bare not in ("", "*") and not is_host(bare):
        raise Wrong
    return bare, int(port)


def nearest(name: str, table: Sequence[str], known: Mapping[str, Key]) -> str:
    """What was probably meant by a key that ``known`` has not."""
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.6):
        return f"did you mean {close[0]!r}?"
    places = {
        "": FLEET,
        "[hosts.NAME]": HOST,
        "[hosts.NAME.primary]": PRIMARY,
        "[hosts.NAME.worker]": WORKER,
    }
    for place, keys in places.items():
        if name in keys and keys is not known:
            host = table[1] if len(table) > 1 else "NAME"
            where = f"in {place.replace('NAME', host)}" if place else "above the first table"
            return f"it belongs {where}"
    return f"expected one of {', '.join(known)}"


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        raise Wrong
    return value.strip()


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise Wrong
    return value


def _count(most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
            raise Wrong
        return value

    return read


def _table(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise Wrong
    return value


def _that(check: Callable[[str], bool]) -> Callable[[object], str]:
    """A reader of a string that ``check`` lets pass as it stands."""

    def read(value: object) -> str:
        if not isinstance(value, str) or not check(value):
            raise Wrong
        return value

    return read


def _all(check: Callable[[str], bool]) -> Callable[[object], tuple[str, ...]]:
    """A reader of a list of such strings, each once."""

    def read(value: object) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise Wrong
        for one in value:
            if not isinstance(one, str) or not check(one):
                raise Wrong(f"{one!r} is none")
        if len(set(value)) < len(value):
            raise Wrong("one stands there twice")
        return tuple(value)

    return read


def _some(check: Callable[[str], bool]) -> Callable[[object], tuple[str, ...]]:
    read_all = _all(check)

    def read(value: object) -> tuple[str, ...]:
        if value == []:
            raise Wrong("leave the key out, then it is all of them")
        return read_all(value)

    return read


def _listen(value: object) -> str:
    if not isinstance(value, str):
        raise Wrong
    listen(value)
    return value


def _path(text: str) -> bool:
    """Whether it is an absolute path that nginx's configuration takes as it stands."""
    return bool(re.fullmatch(r"/[A-Za-z0-9/._+@-]+", text)) and ".." not in text.split("/")


def _served(text: str) -> bool:
    """Whether it can be what a browser calls a server: a name, or an address."""
    return bool(_NAME.match(text)) or (":" in text and is_host(text))


_PORT = Key("a number from 1 to 65535", _count(65535))
_PATH = Key("an absolute path on that host, of A-Z a-z 0-9 / . _ + @ -", _that(_path))
_ADDRESS = Key(
    "a host's name, its address, or what ~/.ssh/config calls it, without spaces", _that(is_host)
)

FLEET: dict[str, Key] = {
    "models": Key("the path of a folder, from where this file lies", _text),
    "hosts": Key("tables such as [hosts.alpha]", _table),
}
HOST: dict[str, Key] = {
    "address": _ADDRESS,
    "user": Key("the name of an account", _that(is_user)),
    "port": _PORT,
    "sudo": Key("true or false", _truth),
    "reach": _ADDRESS,
    "reach_port": _PORT,
    "primary": Key("a table such as [hosts.alpha.primary]", _table),
    "worker": Key("a table such as [hosts.alpha.worker]", _table),
}
PRIMARY: dict[str, Key] = {
    "listen": Key('HOST:PORT, such as "127.0.0.1:8080"', _listen),
    "names": Key('a list of names or addresses, such as ["models.example.org"]', _all(_served)),
    "allow_urls": Key('a list of host names, such as ["data.example.org"]', _all(_served)),
    "anonymous": Key('"none", "read", "submit" or "admin"', _that(lambda role: role in ROLES)),
    "nginx": Key("true or false", _truth),
    "tls": Key("true or false", _truth),
    "certificate": _PATH,
    "certificate_key": _PATH,
}
WORKER: dict[str, Key] = {
    "models": Key('a list of models, such as ["test"]', _some(is_plain)),
    "slots": Key(f"a whole number from 1 to {SLOTS}", _count(SLOTS)),
    "name": Key("1 to 64 of a-z 0-9 _ . - that begin with a letter or digit", _that(is_plain)),
}
