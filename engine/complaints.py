"""What a worker has met that it should tell: in its log once, in its beats while it is fresh.

Whether the primary can be reached is one state, seen by several (looks, beats,
the bell): it is told when the first of them fails, and when all work again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from spool.errors import Gone, Refused, Unreachable

AGAIN = 3600.0  # seconds until the same words are logged once more
FRESH = 900.0  # seconds for which an error that is not met again stands in the beats
AGED = 60.0  # seconds after which it is shown with its age
MANY = 64  # different words that are remembered
LONGEST = 1000  # characters of an error

log = logging.getLogger("worker")


class Complaints:
    """Thread-safe; times are monotonic seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logged: dict[str, float] = {}  # when each was logged last
        self._last, self._met = "", 0.0
        self._down: set[str] = set()  # who cannot reach the primary
        self._kinds: set[str] = set()  # the reasons that were given for it
        self._answered: float | None = None  # when the primary did so last
        self._since = 0.0

    def met(self, text: str, now: float) -> bool:
        """Whether ``text`` is to be logged: it is new, or was not said for a long time."""
        with self._lock:
            return self._is_news(text, now)

    def lost(self, who: str, kind: str, text: str, now: float) -> bool:
        """``who`` cannot reach the primary; whether that is to be logged.

        That is so once, and again where another ``kind`` of reason says so: what a
        line that comes and goes says is different each time, and no news.
        """
        with self._lock:
            if not self._down:
                # Not from now: a line that hangs is found out half a minute later.
                self._since = now if self._answered is None else self._answered
            news = not self._down or kind not in self._kinds
            self._kinds = {kind} if not self._down else self._kinds | {kind}
            self._down.add(who)
            self._last, self._met = text, now
            return news

    def reached(self, who: str, now: float) -> float | None:
        """``who`` has reached the primary; seconds that it was away, if it is back for all."""
        with self._lock:
            if not self._down:
                self._answered = now
            if who not in self._down:
                return None
            self._down.discard(who)
            if self._down:
                return None
            self._answered = now
            self._logged.clear()  # the next time is another story
            self._met = now
            self._last = f"the primary could not be reached for {now - self._since:.0f} s"
            return now - self._since

    @property
    def reachable(self) -> bool:
        with self._lock:
            return not self._down

    def shown(self, now: float) -> str:
        """The last error for the beat; "" once it is old: what was healed must not look current."""
        with self._lock:
            age = now - self._met
            if not self._last or age > FRESH:
                return ""
            return self._last + (f" ({age // 60:.0f} min ago)" if age > AGED else "")

    def _is_news(self, text: str, now: float) -> bool:
        self._last, self._met = text, now
        before = self._logged.get(text)
        if before is not None and now - before < AGAIN:
            return False
        self._logged.pop(text, None)
        self._logged[text] = now
        if len(self._logged) > MANY:
            del self._logged[next(iter(self._logged))]
        return True


class Voice:
    """What the worker's threads complain of. ``back`` is called when the primary is back."""

    def __init__(self, back: Callable[[], None]) -> None:
        self._back = back
        self._complaints = Complaints()

    def complain(self, text: str) -> None:
        """Log an error once, and keep it for the beats, so that the nodes page shows it."""
        if self._complaints.met(_clean(text), time.monotonic()):
            log.warning("%s", _clean(text))

    def told(self, who: str, error: Exception | None) -> None:
        """How a look, a beat, or a look at the bell went; ``error`` is None if it went well."""
        now = time.monotonic()
        if error is None:
            away = self._complaints.reached(who, now)
            if away is not None:
                log.warning("the primary is reachable again, after %.0f s", away)
                self._back()
        elif isinstance(error, Unreachable | Refused | Gone):
            text = _clean(f"cannot reach the primary: {error}")
            if self._complaints.lost(who, type(error).__name__, text, now):
                log.warning("%s; trying again", text)
        else:
            self.complain(str(error))

    @property
    def reachable(self) -> bool:
        """Whether the primary can be reached, as far as anybody has seen."""
        return self._complaints.reachable

    def last(self) -> str:
        """The last error, for the beat."""
        return self._complaints.shown(time.monotonic())


def _clean(text: str) -> str:
    # A path may hold bytes that are no UTF-8, and a beat with them cannot be written.
    return text.encode(errors="replace").decode()[:LONGEST]
