"""How often somebody may show a key that is none: a few times, and then ever more seldom."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

FREE = 10  # wrong keys from one address before it has to wait
FIRST = 5.0  # seconds to wait after those; doubled with each further one
LONGEST = 900.0  # seconds
FORGET = 4 * LONGEST  # seconds without a wrong key until all is forgotten
MANY = 10_000  # addresses that are remembered: the one with the oldest wrong key goes first
_NET = 64  # bits of an IPv6 address that one network has: the others its owner chooses


class _Failed(NamedTuple):
    """``until`` and ``last`` on the monotonic clock."""

    times: int
    until: float
    last: float


class Tries:
    """Counts by address. A right key resets nothing: it may be there to cover for guesses.

    Thread-safe. ``clock`` is monotonic, in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._failed: OrderedDict[str, _Failed] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds until a key from ``address`` is looked at again; 0 where it is now."""
        with self._lock:
            found = self._failed.get(network(address))
        return max(0.0, found.until - self._clock()) if found else 0.0

    def failed(self, address: str) -> float:
        """Count a wrong key from ``address``; the seconds that it has to wait now."""
        where, now = network(address), self._clock()
        with self._lock:
            before = self._failed.pop(where, None)
            times = before.times + 1 if before and now - before.last < FORGET else 1
            over = times - FREE
            seconds = min(LONGEST, FIRST * 2 ** min(over, 32)) if over >= 0 else 0.0
            self._failed[where] = _Failed(times, now + seconds, now)
            while len(self._failed) > MANY:
                self._failed.popitem(last=False)
        return seconds


def network(address: str) -> str:
    """What counts as one sender: an IPv4 address, an IPv6 network, or else the text itself."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.ip_network((int(found), _NET), strict=False))
        return str(found.ipv4_mapped)
    return str(found)
