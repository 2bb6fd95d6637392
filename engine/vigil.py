"""What a worker tells the service manager of itself: that it works, and how things stand.

The watchdog hears of it from the worker's loop alone: a loop that hangs is silent, and is
started again by systemd. To wait for a primary is no hang, however long it takes; each
single request ends by itself (``spool.links``), well within a watchdog of some minutes.
"""

from __future__ import annotations

import math
import time

from spool import notify

EVERY = 1.0  # seconds at least between two signs of life; the loop turns more often


class Vigil:
    """Used by one thread at a time. ``shown`` is the primary in words."""

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._said = ""
        self._told_at = -math.inf  # monotonic

    def begin(self) -> None:
        """The worker is itself, and tries: it may take for ever to reach the primary."""
        self._said = f"connecting to {self._shown}"
        notify.ready(self._said)

    def turned(self, hindrance: str) -> None:
        """The loop gets on; ``hindrance`` is what keeps it from working, "" if nothing does."""
        now = time.monotonic()
        if now - self._told_at < EVERY:
            return
        self._told_at = now
        notify.alive()
        text = hindrance or f"connected to {self._shown}"
        if text != self._said:
            self._said = text
            notify.status(text)
