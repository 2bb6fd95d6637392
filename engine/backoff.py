"""Pauses between tries: they double, and no two workers make the same ones. Pure."""

from __future__ import annotations

import random


class Backoff:
    """``first`` and ``longest`` pause in seconds; ``seed`` tells one who waits from another."""

    def __init__(self, first: float, longest: float, seed: str) -> None:
        self._first, self._longest = first, longest
        self._pause = first
        self._random = random.Random(seed)

    def next(self) -> float:
        """The next pause in seconds: a hundred workers must not all come back at once."""
        pause = self._pause * self._random.uniform(0.5, 1.0)
        self._pause = min(2 * self._pause, self._longest)
        return pause

    def reset(self) -> None:
        """It worked: the next pause is a first one."""
        self._pause = self._first
