"""A log that nobody else can fill: each kind of line comes at a pace.

A worker decides how often it is not believed, so it decides how often that is said.
What is left out is counted, and told by the next line of its kind.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable

from primary.alarm import Budget

BURST = 40  # lines of one kind that are logged in a row
RATE = 0.1  # lines a second of one kind, for ever: a few megabytes a day


class Pace(logging.Filter):
    """Lines that come from one place in the code, with one text to fill in, are of one kind.

    Errors always pass. ``clock`` is monotonic, in seconds. Thread-safe.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._budget = Budget(BURST, RATE)
        self._left_out: Counter[str] = Counter()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        kind = f"{record.pathname}:{record.lineno}"
        with self._lock:
            if not self._budget.allows(kind, self._clock()):
                self._left_out[kind] += 1
                return False
            left_out = self._left_out.pop(kind, 0)
        if left_out:
            record.msg = f"{record.getMessage()} (and {left_out} lines like it, left out)"
            record.args = ()
        return True
