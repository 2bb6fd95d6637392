"""What wakes the tick: at once, or soon enough."""

from __future__ import annotations

import math
import threading
import time

RINGS = (100.0, 20.0)  # by which one worker may wake us at once: in a row, and a second
SLOWER = 0.5  # seconds until a worker that rings more often is listened to
START_SHOWS = 0.04  # seconds until a started report is taken


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


class Budget:
    """How often each of several peers may wake somebody at once.

    ``burst`` times in a row, and ``rate`` times a second for ever. For one thread.
    """

    def __init__(self, burst: float, rate: float) -> None:
        self._burst, self._rate = burst, rate
        self._left: dict[str, tuple[float, float]] = {}  # (rings left, at this moment), by peer

    def allows(self, peer: str, now: float) -> bool:
        """Whether it may ring now, at ``now`` on the monotonic clock; if so, that is counted."""
        left, then = self._left.get(peer, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1.0
        self._left[peer] = (left - allowed, now)
        return allowed


class News:
    """Which changes in the spool wake the tick. For one thread."""

    def __init__(self, alarm: Alarm) -> None:
        self._alarm = alarm
        self._rings = Budget(*RINGS)

    def urgent(self, path: str) -> bool:
        """Whether a change there cannot wait: reports, beats, drops.

        A claim alone is none, for its report follows at once. A report of a start can
        wait a little: a short run has ended by then, and both share one append.
        """
        parts = path.split("/")
        if parts[-1].startswith(".") or len(parts) != 4:
            return False
        if parts[0] == "workers" and parts[2] == "reports":
            peer = parts[1]
        elif parts[2] == "drop":
            peer = f"drop/{parts[1]}"
        else:
            return False
        if not self._rings.allows(peer, time.monotonic()):
            self._alarm.ring(within=SLOWER)
            return False
        if parts[0] == "workers" and parts[-1].endswith("-started"):
            self._alarm.ring(within=START_SHOWS)
            return False
        return True
