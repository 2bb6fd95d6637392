"""What wakes the tick: at once, or soon enough."""

from __future__ import annotations

import math
import threading
import time


class Alarm:
    """One thread waits; any thread rings, now or within some seconds. Rings are not counted."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._due = math.inf

    def ring(self, within: float = 0.0) -> None:
        """End the wait no later than ``within`` seconds from now."""
        with self._condition:
            due = time.monotonic() + within
            if due < self._due:
                self._due = due
                self._condition.notify()

    def wait(self, longest: float) -> None:
        """Sleep until a ring is due, at most ``longest`` seconds; that uses up every ring."""
        until = time.monotonic() + longest
        with self._condition:
            while (left := min(self._due, until) - time.monotonic()) > 0:
                self._condition.wait(left)
            self._due = math.inf
