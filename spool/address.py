"""Where a primary's spool is, for a worker: a folder here, or ``sftp://`` elsewhere. Pure."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from spool.errors import BadName

SCHEME = "sftp://"


class Address(NamedTuple):
    """A spool over SSH. ``user`` and ``port`` are None where ``~/.ssh/config`` decides.

    ``path`` is absolute, or relative to the account's home directory.
    """

    host: str
    path: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        user = f"{quote(self.user)}@" if self.user else ""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        path = self.path if self.path.startswith("/") else f"/~/{self.path}"
        return f"{SCHEME}{user}{host}{port}{quote(path)}"


def is_address(text: str) -> bool:
    """Whether ``text`` means a machine, not a folder: it begins like a URL."""
    return "://" in text


def parse_address(text: str) -> Address:
    """``sftp://[user@]host[:port]/path``; ``/~/path`` begins at the account's home directory.

    Raises BadName, saying what was expected.
    """
    expected = f"{_shown(text)}: expected sftp://USER@HOST/PATH/TO/SPOOL"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as e:
        raise BadName(f"{expected} ({e})") from None
    if parts.scheme != "sftp" or not parts.hostname or parts.query or parts.fragment:
        raise BadName(expected)
    if parts.password is not None:
        raise BadName(f"{expected}; passwords are never used: use a key or an agent")
    path = unquote(parts.path)
    if not path:
        raise BadName(f"{expected}; the path is missing")
    if path.startswith("/~/"):
        path = path[3:] or "."
    # The case of a host's name is kept: ~/.ssh/config may tell Primary from primary.
    return Address(_host(parts.netloc), path, unquote(parts.username or "") or None, port)


def _host(netloc: str) -> str:
    host = netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _shown(text: str) -> str:
    """The text without a password that somebody wrote into it."""
    before, at, after = text.rpartition("@")
    scheme, slashes, login = before.partition("://")
    return f"{scheme}{slashes}{login.partition(':')[0]}{at}{after}" if slashes else text
