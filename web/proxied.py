"""What a proxy on this machine tells us, and what it sends for us.

It tells who asks, and whether by HTTPS. It may send the files of finished jobs itself, which
costs us nothing however large they are: our answer is then empty, and its X-Accel-Redirect
leads nginx to the file, at an address that begins with what ``serve --accel`` names. Of our
headers nginx keeps Content-Type, Content-Disposition and Cache-Control by itself; for the
others its configuration must say so (``deploy.nginx``). Its account is in the primary's group,
which may then pass through ``jobs/``, not list it, and read what we lead to::

    location /finished/ {
        internal;
        alias DATA/jobs/;
        etag off;
        add_header ETag $upstream_http_etag;
        add_header X-Content-Type-Options $upstream_http_x_content_type_options;
        add_header Content-Security-Policy $upstream_http_content_security_policy;
    }

**No client has a say in it.** nginx looks at X-Accel-Redirect in answers only, never in
requests, and nothing of a request gets into ours: it is made of the prefix, the id of a job in
the ledger, and one of three names. Who asks us past the proxy gets the bytes.

**A file does not change while it is sent.** A finished job's files are 0440, come by one
rename, and are never written again. If they are removed, an open one can be read to its end;
the moment between our answer and nginx's look at the file is a 404.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Environ = dict[str, Any]
Wsgi = Callable[[Environ, Any], Iterable[bytes]]

MARK = "modelrunner.proxied"  # in the environment; no header can become it

_PREFIX = re.compile(r"/([a-z0-9_-]+/)+\Z", re.ASCII)


class Proxied:
    """The application as a proxy's clients meet it; their address and scheme are theirs."""

    def __init__(self, app: Wsgi) -> None:
        self._app = app

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        return self._app(environ | told(environ), start_response)


def told(environ: Mapping[str, Any]) -> Environ:
    """What the headers of a proxy on this machine change in a request's environment.

    Of X-Forwarded-For only the last address is believed: the proxy adds it, and what stands
    before it is the client's own word.
    """
    if not _loopback(str(environ.get("REMOTE_ADDR", ""))):
        return {}
    chain = environ.get("HTTP_X_FORWARDED_FOR")
    if chain is None:
        return {}  # from this machine, past the proxy
    changes: Environ = {MARK: True}
    if client := _address(str(chain).rpartition(",")[2]):
        changes["REMOTE_ADDR"] = client
    if (scheme := environ.get("HTTP_X_FORWARDED_PROTO")) in ("http", "https"):
        changes["wsgi.url_scheme"] = scheme
    return changes


def is_prefix(text: str) -> bool:
    """Whether it can begin the addresses at which nginx finds files for us."""
    return bool(_PREFIX.match(text))


def may_send(environ: Mapping[str, Any]) -> bool:
    """Whether this request came by the proxy, and it can answer it with a file itself.

    Not one with If-Match: nginx compares that before it learns our tag of the file.
    """
    return bool(environ.get(MARK)) and "HTTP_IF_MATCH" not in environ


def _address(text: str) -> str:
    """An IP address as we write it, or nothing where it is none."""
    bare = text.strip().removeprefix("[").removesuffix("]").partition("%")[0]
    try:
        address = ipaddress.ip_address(bare)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def _loopback(text: str) -> bool:
    address = _address(text)
    return bool(address) and ipaddress.ip_address(address).is_loopback
