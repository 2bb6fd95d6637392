"""Who may come in: the Host and the origin of a request, and what needs no key. Pure.

Rules, in the order in which a request meets them:

1. Its ``Host`` must be one that we know. A page of another site can make a
   browser send anything to a name that it controls and that suddenly resolves
   to us (DNS rebinding), but the browser then still sends *that* name.
2. A request that changes something and comes from a browser must come from
   one of our own pages.
3. It needs a role (``web.declarations.Need``). Without a key that is
   ``anonymous``: on a loopback listener everything (but not for whom a proxy
   forwarded), else, and behind a proxy that was announced (``serve
   --behind-proxy``), all but killing; the keeper may decide otherwise. Keys,
   and who is signed in with one, are ``web.gate``'s.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

import msgspec

from primary.roles import Role, lesser

# What proxies add. Behind one, every request comes from loopback, so what the
# listener's address says about the sender is void.
_FORWARDED = ("X-Forwarded-For", "X-Real-Ip", "Forwarded", "Via")

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class Headers:
    """A request's headers by name, in any case. Bytes beyond ASCII stand as latin-1, as in
    a WSGI environment, and are never decoded further: so no header can make us fail."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._given = {name.lower(): value for name, value in given.items()}

    @classmethod
    def of(cls, environ: Mapping[str, object]) -> Headers:
        return cls(
            {
                name[5:].replace("_", "-"): value
                for name, value in environ.items()
                if name.startswith("HTTP_") and isinstance(value, str)
            }
        )

    def get(self, name: str) -> str:
        """Its value, or nothing where it was not sent."""
        return self._given.get(name.lower(), "")

    def cookie(self, wanted: str) -> str:
        """A cookie's value. Those of other applications on this host may be anything."""
        for part in self.get("Cookie").split(";"):
            name, _, value = part.strip().partition("=")
            if name == wanted:
                return value
        return ""


class Access(msgspec.Struct, frozen=True, kw_only=True):
    """``anonymous``: what may be done without a key; ``forwarded``: at most, by whom a proxy
    forwarded that nobody has announced. ``admin_key``: the one of ``serve --admin-key``.

    ``hosts`` are known Host names besides localhost and IP addresses, without ports.
    """

    anonymous: Role
    forwarded: Role = "submit"
    admin_key: str | None = None
    hosts: frozenset[str] = frozenset()

    def knows(self, host: str) -> bool:
        """Whether ``host``, a Host header, is a name of ours."""
        name = _host_name(host)
        if not name:
            return False
        if name == "localhost" or name.endswith(".localhost"):
            return True
        return _is_address(name) or name in {known.lower().rstrip(".") for known in self.hosts}

    def role(self, headers: Headers) -> Role:
        """What may be done without a key."""
        if any(headers.get(name) for name in _FORWARDED):
            return lesser(self.anonymous, self.forwarded)
        return self.anonymous


def foreign_origin(method: str, headers: Headers) -> str | None:
    """Where a request that changes something comes from, if that is another site; else None.

    Sec-Fetch-Site comes from the browser itself and decides where it is sent
    (https, localhost). Else Origin must name the Host that was asked. Neither
    is sent by API clients.
    """
    if method in _SAFE_METHODS:
        return None
    origin = headers.get("Origin")
    site = headers.get("Sec-Fetch-Site")
    if site:
        return None if site in ("same-origin", "none") else origin or site
    if not origin:
        return None
    try:
        same = urlsplit(origin).netloc.lower() == headers.get("Host").lower()
    except ValueError:
        same = False
    return None if same and urlsplit(origin).netloc else origin


def _host_name(header: str) -> str:
    """The lower-case name or address in a Host header, without its port; "" if it is none."""
    try:
        parts = urlsplit(f"//{header}")
        _ = parts.port  # raises ValueError where it is no number
    except ValueError:
        return ""
    if parts.netloc != header or "@" in header:
        return ""
    return (parts.hostname or "").rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
