"""Where a browser goes on after it has signed in, or out. Pure."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from web.access import Headers

ELSE = "/jobs"

# A path on this server, and nothing that a browser could take for another one.
_PATH = re.compile(r"/(?![/\\])[!-~]*\Z", re.ASCII)


def ours(path: str) -> str:
    """``path`` if it leads to a page of ours where somebody was; else the jobs."""
    good = _PATH.match(path) and not path.startswith(("/signin", "/signout", "/admin/"))
    return path if good else ELSE


def came_from(headers: Headers) -> str:
    """The page of ours that led here."""
    try:
        parts = urlsplit(headers.get("Referer"))
    except ValueError:
        return ELSE
    if parts.netloc != headers.get("Host"):
        return ELSE
    return ours(parts.path + (f"?{parts.query}" if parts.query else ""))
