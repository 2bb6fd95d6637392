"""Where a primary's spool is, for a worker: a folder here, or ``sftp://`` elsewhere. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote, urlsplit

from spool.errors import BadName

SCHEME = "sftp://"

# Both may come into a ProxyCommand, which a shell reads.
_HOST = re.compile(r"[\w.][\w.-]*|[\da-fA-F.]*:[\da-fA-F.:]*(?:%[\w.-]+)?")
_USER = re.compile(r"[^\s\"'`$\\;&<>|(){}-][^\s\"'`$\\;&<>|(){}]*")


class Address(NamedTuple):
    """A spool over SSH. ``user`` and ``port`` are None where ``~/.ssh/config`` decides.

    ``path`` is absolute, or relative to the account's home directory.
    """

    host: str
    path: str
    user: str | None = None
    port: int | None = None

    def __str__(self) -> str:
        user = f"{quote(self.user, safe='')}@" if self.user else ""
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        port = f":{self.port}" if self.port else ""
        path = quote(self.path)
        if not path.startswith("/"):
            path = f"{_HOME}{path}"
        elif path.startswith(_HOME) or path == _HOME[:-1]:
            path = f"/%7E{path[2:]}"  # a folder that is called ~
        return f"{SCHEME}{user}{host}{port}{path}"


_HOME = "/~/"


def is_host(text: str) -> bool:
    """Whether ``text`` can be a host's name, an alias of one, or an address without brackets."""
    return bool(_HOST.fullmatch(text))


def is_user(text: str) -> bool:
    """Whether ``text`` can be the name of an account to log in as."""
    return bool(_USER.fullmatch(text)) and text.isprintable()


def is_address(text: str) -> bool:
    """Whether ``text`` means a machine, not a folder: it begins like a URL."""
    return "://" in text


def parse_address(text: str) -> Address:
    """``sftp://[user@]host[:port]/path``; ``/~/path`` begins at the account's home directory.

    Raises BadName, saying what was expected.
    """
    expected = f"{_shown(text)}: expected sftp://USER@HOST/PATH/TO/SPOOL"
    if not text.isprintable() or text != text.strip():
        raise BadName(f"{expected}, without spaces around it or control characters")
    try:
        parts = urlsplit(text)
        given, port = parts.password, parts.port
        user = unquote(parts.username or "", errors="strict")
        path = _path(parts.path)
    except ValueError:  # not shown: it may quote a part of a password
        raise BadName(f"{expected}, with a port from 1 to 65535 if any") from None
    host = _host(parts.netloc)
    if parts.scheme != "sftp" or not _HOST.fullmatch(host) or parts.query or parts.fragment:
        raise BadName(f"{expected} (? and # are written %3F and %23)")
    if given is not None:
        raise BadName(f"{expected}; passwords are never used: use a key or an agent")
    if port == 0 or (user and not _USER.fullmatch(user)):
        raise BadName(f"{expected}, with a user's name and a port from 1 to 65535 if any")
    if not path or not path.isprintable():
        raise BadName(f"{expected}; the path is missing, or has control characters")
    return Address(host, path, user or None, port)


def _path(quoted: str) -> str:
    if quoted == _HOME[:-1] or quoted.startswith(_HOME):
        quoted = quoted[len(_HOME) :].lstrip("/") or "."
    return unquote(quoted, errors="strict")


def _host(netloc: str) -> str:
    """The host's name as written: ~/.ssh/config may tell Primary from primary."""
    host = netloc.rpartition("@")[2]
    if host.startswith("["):
        return host[1:].partition("]")[0].replace("%25", "%")
    return host.partition(":")[0]


def _shown(text: str) -> str:
    """The text without a password that somebody wrote into it."""
    # What follows the first colon may be a port; else all up to the last @ is hidden.
    hidden = re.sub(r"://([^/@:]*):(?!\d{1,5}/).*@", r"://\1@", text, flags=re.DOTALL)
    return hidden if hidden.isprintable() else ascii(hidden)
