"""Whether the tick gets on: what a watchdog asks before it says that all is well."""

from __future__ import annotations

from collections.abc import Callable

HUNG = 120.0  # seconds without a step of the tick: far above the slowest step that ends


class Pulse:
    """Beats at every step of the tick, however many there are. ``clock`` is monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._last = clock()

    def beat(self) -> None:
        self._last = self._clock()

    def hung(self) -> float | None:
        """Seconds since the last step, if they are too many."""
        silence = self._clock() - self._last
        return silence if silence > HUNG else None
