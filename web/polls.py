"""Requests that wait for news: bounded in time and in number."""

from __future__ import annotations

import time
from collections.abc import Callable

import bottle

from web.site import Site

MAX_WAIT = 30.0  # seconds a long poll may last
_SLICE = 0.5  # seconds after which it looks whether the server stops, or its client has left


def wait(site: Site, seconds: float, there: Callable[[], bool]) -> None:
    """Until ``there()``, for ``seconds`` at most; asked again whenever the ledger has moved.

    Where too many wait already it returns at once: a hint, like every wake-up.
    """
    if not seconds or there() or not site.polls.acquire(blocking=False):
        return
    try:
        _wait(site, time.monotonic() + seconds, there)
    finally:
        site.polls.release()


def _wait(site: Site, deadline: float, there: Callable[[], bool]) -> None:
    # only waitress with channel_request_lookahead knows when a client has left
    gone = bottle.request.environ.get("waitress.client_disconnected", lambda: False)
    while True:
        seen = site.primary.wait(0, 0)  # before the look: what comes after it ends the wait
        left = deadline - time.monotonic()
        if there() or left <= 0 or site.closing.is_set() or gone():
            return
        site.primary.wait(seen, min(left, _SLICE))
