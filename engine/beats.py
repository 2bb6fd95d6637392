"""A worker's signs of life, from a thread of their own.

Nothing that the agent's loop waits for can hold up a beat, and nothing that a
beat waits for can hold up the loop.
"""

from __future__ import annotations

import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from typing import TypeGuard

from spool.claims import Claims
from spool.errors import SpoolError, Unbelievable
from spool.reports import Beat

BEAT = 5.0  # seconds between beats; the primary calls 30 s of silence unreachable
NEWS = 1.0  # seconds at least between beats that only carry progress

# Seconds to watch another instance's beat before taking its name; and between looks for
# a namesake while we beat ourselves. Reading at each beat would make beats over SFTP
# three times as dear; two agents under one name cannot mix anything up meanwhile, since
# claims and reports carry the instance.
NAMESAKE = 3 * BEAT

log = logging.getLogger("worker")


class Beats:
    """Beats as ``compose(counter)`` makes them, every ``period()`` seconds, until ``stopping``.

    ``told`` hears how each one went: the error, or None. ``name_lost`` is called once,
    with the beat of another agent that lies in the place of ours: from then on the
    folder's beat is that one's, and none goes out.
    """

    def __init__(
        self,
        claims: Claims,
        stopping: threading.Event,
        compose: Callable[[int], Beat],
        period: Callable[[], float],
        told: Callable[[Exception | None], None],
        name_lost: Callable[[Beat], None],
    ) -> None:
        self._claims = claims
        self._stopping = stopping
        self._compose = compose
        self._period = period
        self._told = told
        self._name_lost = name_lost
        self._at_once = threading.Event()
        self._counter = 0
        self._lost = False
        # Not before a beat of our own has gone out: what lies there until then is the beat of
        # whoever had the name before, and ``namesake`` has found that nobody has it now.
        self._look_at = math.inf  # monotonic
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        self._thread = threading.Thread(target=self._go_on, name="beats", daemon=True)
        self._thread.start()

    @property
    def started(self) -> bool:
        return self._thread is not None

    def news(self) -> None:
        """There is something to tell before the next beat is due."""
        self._at_once.set()

    def join(self, patience: float) -> None:
        """Wait for the last beat, which says that the worker stops."""
        self._at_once.set()
        if self._thread is not None:
            self._thread.join(timeout=patience)

    # --- inside --------------------------------------------------------------------

    def _go_on(self) -> None:
        while True:
            try:
                self._beat()
            except SpoolError as e:
                self._told(e)
            except Exception as e:  # without beats every claim here would be given up
                log.exception("no beat")
                self._told(e)
            if self._stopping.is_set():
                return
            if self._at_once.wait(self._period()):
                self._at_once.clear()
                self._stopping.wait(NEWS)

    def _beat(self) -> None:
        if self._lost or self._meets_another():
            return
        self._counter += 1
        self._claims.beat(self._compose(self._counter))
        self._look_at = min(self._look_at, time.monotonic() + NAMESAKE)
        self._told(None)

    def _meets_another(self) -> bool:
        """Whether another agent has taken our name meanwhile."""
        now = time.monotonic()
        if now < self._look_at:
            return False
        try:
            other = self._claims.last_beat()
        except Unbelievable:
            other = None  # half-written by a strange hand: ours replaces it
        self._look_at = now + NAMESAKE
        if not is_another(other, self._claims.instance):
            return False
        self._lost = True
        self._name_lost(other)
        return True


def namesake(claims: Claims, stopping: threading.Event, every: float) -> Beat | None:
    """A beat of another living agent of this name; looks ``every`` seconds for a while."""
    first = _seen(claims)
    if not is_another(first, claims.instance):
        return None
    until = time.monotonic() + NAMESAKE
    while time.monotonic() < until and not stopping.wait(every):
        beat = _seen(claims)
        if is_another(beat, claims.instance) and beat != first:
            return beat
    return None


def is_another(beat: Beat | None, instance: str) -> TypeGuard[Beat]:
    """Whether it is the beat of another agent, and one that has not said goodbye."""
    return beat is not None and beat.instance != instance and not beat.stopped


def who(beat: Beat) -> str:
    """Whose beat it is, for people."""
    if beat.host == socket.gethostname():
        return f"another worker on this machine (process {beat.pid})"
    return f"another machine ({beat.host})"


def _seen(claims: Claims) -> Beat | None:
    try:
        return claims.last_beat()
    except Unbelievable:
        return None  # torn by a power cut, or of another version: ours replaces it
