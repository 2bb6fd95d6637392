"""A run's log on its way to the spool, while the model writes it and after its end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from spool.claims import LOG_CHUNK, Claims
from spool.errors import SpoolError
from spool.progress import last_progress

AFTER_FAILURE = 5.0  # seconds until the log of a run that goes on is tried again


class Shipping:
    """One attempt's log, used by its thread.

    Looked at often, which costs the primary nothing; sent when it grew, at most every
    ``pace`` seconds where lines trickle. ``progressed`` hears the percent that the
    model tells of.
    """

    def __init__(
        self,
        claims: Claims,
        key: str,
        log: Path,
        pace: float,
        progressed: Callable[[int], None],
    ) -> None:
        self._claims = claims
        self._key = key
        self._log = log
        self._pace = pace
        self._progressed = progressed
        self._sent = 0  # bytes that the spool has
        self._known = False  # whether that is so
        self._there = False  # it has the file, if only an empty one
        self._next = 0.0  # monotonic; not before

    def begin(self, *, resumed: bool) -> None:
        """The run goes on. ``resumed``: an earlier agent may have sent a part of its log."""
        self._known = True
        if resumed:
            self._ask()

    def look(self, now: float) -> None:
        """Send what the log grew by, if it is time; what fails is tried again from there."""
        try:
            grown = self._log.stat().st_size - self._sent
        except FileNotFoundError:
            return  # the model has not begun
        if now < self._next and grown < LOG_CHUNK:
            return
        if grown <= 0 and self._there:
            return
        self._next = now + self._pace
        try:
            self._send()
        except SpoolError:
            self._next = now + AFTER_FAILURE

    def finish(self, size: int, *, anew: bool) -> None:
        """Send all that is missing of a log that has ended with ``size`` bytes.

        ``anew``: what lies there was not believed. Raises SpoolError.
        """
        if not self._known:
            self._ask()
        if anew or self._sent > size:
            self._claims.drop_log(self._key)
            self._sent, self._there = 0, False
        self._send()

    def _ask(self) -> None:
        try:
            self._sent = self._claims.log_size(self._key)
        except SpoolError:
            self._sent = 0  # sending a byte again changes nothing

    def _send(self) -> None:
        with self._log.open("rb") as file:
            file.seek(self._sent)
            while data := file.read(LOG_CHUNK):
                self._claims.send_log(self._key, self._sent, data)
                self._sent, self._there = self._sent + len(data), True
                percent = last_progress(data)
                if percent is not None:
                    self._progressed(percent)
        if not self._there:
            self._claims.send_log(self._key, 0, b"")  # so that a silent model's log is there
            self._there = True
