"""Following a job: its state and its log, until it has ended.

A restart of the server is waited out: jobs outlive it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, TypeVar, cast
from urllib.parse import quote

from client.connection import Connection
from client.errors import ClientError, TimedOut, Unreachable
from client.shapes import JobState

POLL = 0.3  # seconds between looks at a job that is followed
PATIENCE = 600.0  # seconds that a server may be away while a job is waited for
AWAY = 1.0  # seconds between looks whether it is there again
LONG_POLL = 20  # seconds that the server may hold a question for news
APART = 0.05  # seconds between questions at least, where the server holds none
PIECE = 16 * 1024 * 1024  # bytes of a log that are asked for at once

T = TypeVar("T")
OnLog = Callable[[bytes], None]
OnState = Callable[[JobState | None], None]


class LogPart(NamedTuple):
    """A piece of a log. Ask for the next one from ``end``; another attempt begins at 0 again.

    ``start`` and ``end`` are offsets in bytes. ``final``: nothing follows.
    """

    data: bytes
    start: int
    final: bool
    attempt: int

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    @property
    def text(self) -> str:
        """The piece as text; what is not UTF-8 is shown as such."""
        return self.data.decode(errors="replace")


def job_path(job: str, *more: str) -> str:
    """The path of what lies below a job; ``more`` may hold any characters."""
    return "/".join(["/jobs", quote(job, safe=""), *(quote(part) for part in more)])


class Following:
    """Looks at one job again and again."""

    def __init__(self, http: Connection, job: str) -> None:
        self._http, self._job = http, job
        self._away: Callable[[], None] | None = None
        self._deadline: float | None = None
        self._offset, self._attempt = 0, 1

    def state(self) -> JobState:
        return cast(JobState, self._http.get(job_path(self._job, "state")))

    def log(self, offset: int = 0) -> LogPart:
        """Up to ``PIECE`` bytes of the log from ``offset`` on."""
        return self._log(f"offset={offset}", offset)

    def tail(self, size: int) -> LogPart:
        """The last ``size`` bytes of what the log holds now, ``PIECE`` at most."""
        return self._log(f"tail={min(size, PIECE)}", 0)

    def _log(self, which: str, offset: int) -> LogPart:
        headers, data, whole = self._http.read(f"{job_path(self._job, 'log')}?{which}", PIECE)
        start = int(headers["X-Log-Offset"] or offset)
        final = whole and headers["X-Log-Final"] == "true"
        return LogPart(data, start, final, int(headers["X-Log-Attempt"] or 1))

    def parts(self, part: LogPart | None = None) -> Iterator[LogPart]:
        """The log as it grows, until the job has ended: from its beginning, or after ``part``."""
        if part is None:
            part = self.log()
            self._attempt = part.attempt
            yield part
        self._attempt, self._offset = part.attempt, part.end
        while not part.final:
            if len(part.data) < PIECE:
                time.sleep(POLL)
            part = self._take(self._patiently(partial(self.log, self._offset)))
            if part.data:
                yield part

    def wait(
        self, timeout: float | None, on_log: OnLog | None, on_state: OnState | None
    ) -> JobState:
        """The job's state when it has ended. ``timeout`` is in seconds. Raises TimedOut."""
        if timeout is not None:
            self._deadline = time.monotonic() + timeout
        if on_state is not None:
            self._away = partial(on_state, None)
        state, seq = self.state(), 0
        while True:
            if on_state is not None:
                on_state(state)
            if on_log is not None:
                self._catch_up(state, on_log)
            if state["final"]:
                return state
            left = self._left()
            if left <= 0:
                raise TimedOut(
                    f"job {self._job} is {state['status']} and has not ended in "
                    f"{timeout or 0:g} s; it goes on"
                )
            if on_log or on_state:
                time.sleep(min(left, POLL))
            else:
                seq = self._news(seq, left)
            state = self._patiently(self.state)

    def _left(self) -> float:
        return float("inf") if self._deadline is None else self._deadline - time.monotonic()

    def _news(self, seq: int, left: float) -> int:
        """Wait until the ledger is past ``seq``; the newest sequence number."""
        began = time.monotonic()
        path = f"/events?after={seq}&wait={min(left, LONG_POLL):.3f}&limit=0"
        newest = self._patiently(lambda: int(self._http.member(path, "seq")))
        # Where the server holds too many questions already, it answers at once.
        time.sleep(max(0.0, min(left, APART - (time.monotonic() - began))))
        return newest

    def _catch_up(self, state: JobState, on_log: OnLog) -> None:
        """What is new in the log; all of it once the job has ended."""
        seen = (state["attempt"], state["log_size"]) == (self._attempt, self._offset)
        if seen and not state["final"]:
            return
        while True:
            try:
                part = self._take(self._patiently(partial(self.log, self._offset)))
            except ClientError as e:
                if e.status == HTTPStatus.NOT_FOUND and state["final"]:
                    return  # removed: how the job ended is known all the same
                raise
            if part.data:
                on_log(part.data)
            elif state["final"] and not part.final:
                time.sleep(APART)  # the server is just closing it
            if part.final or not (state["final"] or len(part.data) >= PIECE):
                return

    def _take(self, part: LogPart) -> LogPart:
        """The part; where another attempt has begun, that one's from its beginning."""
        while part.attempt != self._attempt:
            self._attempt = part.attempt
            part = self._patiently(partial(self.log, 0))
        self._offset = part.end
        return part

    def _patiently(self, ask: Callable[[], T]) -> T:
        """What ``ask`` returns, once the server is there again: jobs outlive its restarts."""
        until = time.monotonic() + PATIENCE
        if self._deadline is not None:
            until = min(until, self._deadline)
        while True:
            try:
                return ask()
            except ClientError as e:
                away = isinstance(e, Unreachable) or e.status == HTTPStatus.SERVICE_UNAVAILABLE
                if not away or time.monotonic() >= until:
                    raise
            if self._away is not None:
                self._away()
            time.sleep(AWAY)
