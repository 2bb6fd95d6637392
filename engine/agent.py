"""The worker: one loop that looks at the spool and claims.

A thread for each attempt carries it from its claim to its final report
(``engine.attempt``), and one thread beats (``engine.beats``). The runs
themselves belong to the runner, which outlives this process. What is held is
in ``engine.holding``, what is claimed is decided in ``engine.claiming``.

Looking costs requests where the spool is far away. So the loop looks only when
something calls for it: the bell or the watch, an attempt that ended, room for a
model that there was none for before, a time of its own; and every ``rescan``
seconds, which is the truth.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import psutil

from engine.backoff import Backoff
from engine.beats import BEAT, Beats, who
from engine.catalog import Catalog
from engine.claiming import Claiming
from engine.complaints import LONGEST, Voice
from engine.contract import Exit
from engine.errors import EngineError
from engine.holding import Holding
from engine.runs import Engine
from engine.state import State
from engine.version import installed
from spool.claims import Claims
from spool.errors import SpoolError
from spool.manifest import Model
from spool.reports import Beat

VERSION = installed()
RESCAN = 2.0  # seconds between looks at a spool on this machine, whatever the watch says
SHORT = 2.0  # seconds at most between the loop's looks at its own state, which cost no request
AGAIN = 0.25  # seconds until the next look after one in which others were faster at everything
RETRY = (0.5, 30.0)  # seconds: first and longest pause after a look that failed
LEAVE = 3.0  # seconds for attempts and the last beat, once it is to end

log = logging.getLogger("worker")


class Agent:
    """The worker: what it carries, what it claims, what it says of itself.

    In seconds: ``rescan``, how long to trust that nobody rang; ``rescan_queue``, how much
    longer at least for each model, so that looking costs the same however many there are;
    ``log_pace``, how often at most a log is sent whose lines trickle. ``turned`` is called by
    the loop whenever it gets on, at least every few seconds unless it hangs.
    """

    def __init__(
        self,
        claims: Claims,
        engine: Engine,
        state: State,
        models: Path,
        slots: int,
        node_url: str = "",
        *,
        rescan: float = RESCAN,
        rescan_queue: float = 0.0,
        log_pace: float = 0.0,
        turned: Callable[[], None] = lambda: None,
        only: Collection[str] = (),
    ) -> None:
        self.claims = claims
        self.engine = engine
        self.state = state
        self.host = socket.gethostname()
        self.node_url = node_url or f"file://{self.host}"
        self.log_pace = log_pace
        self.stopping = threading.Event()
        self.refused = ""  # why the agent had to end, if it had to
        self.voice = Voice(self.ring)
        self._turned = turned
        self._name_lost = threading.Event()  # another agent beats in our folder
        self._catalog = Catalog(models, self.voice.complain, only)
        self._slots = slots
        self._rescan, self._rescan_queue = rescan, rescan_queue
        self._holding = Holding(self)
        self._claiming = Claiming(
            claims,
            self._holding,
            self._catalog,
            state,
            self.voice,
            slots,
            pause=self._pause,
            may=self._may_claim,
            stirs=turned,
        )
        self._woken = threading.Event()
        self._rung = threading.Event()  # tickets or stops may be there, or claims be retired
        self._no_runner = ""  # why nothing can be begun at present
        self._backoff = Backoff(*RETRY, claims.instance)
        self._knows_own = False  # what it holds: a beat before would disown it
        self._failing = False  # the last look could not be finished
        self._look_at = 0.0  # monotonic, as the next
        self._rescan_at = 0.0
        self._beats = Beats(
            claims,
            self.stopping,
            self._composed,
            self._period,
            partial(self.voice.told, "beat"),
            self._lose_name,
        )

    # --- called from other threads ---------------------------------------------------

    def ring(self) -> None:
        """The spool has news: look at all of it."""
        self._rung.set()
        self._woken.set()

    def wake(self) -> None:
        """An attempt has news: see what it needs, and what there is room for now."""
        self._woken.set()

    def stop(self) -> None:
        self.stopping.set()
        self._woken.set()

    def news(self) -> None:
        """There is progress to tell."""
        self._beats.news()

    @property
    def busy(self) -> bool:
        """Whether stops are waited for: something here runs, or is on its way."""
        return self._holding.busy

    def left(self) -> str:
        """What it leaves behind as it ends, for its keeper; "" if that is nothing."""
        return self._holding.left()

    def hindrance(self) -> str:
        """What keeps it from working at present, for its keeper; "" if nothing does."""
        if not self.voice.reachable:
            return self.voice.last()
        return self._paused()

    def current(self, model: Model) -> Model:
        """The model as it is now, for a run that begins."""
        return self._catalog.current(model)

    def trouble(self, model: str, text: str) -> None:
        """An attempt could not be carried on; counted like a run that never started."""
        self.voice.complain(text)
        self._catalog.trouble(model, text)

    def bad_input(self, model: str, text: str) -> None:
        """An attempt was given back for its input: that is its model's trouble alone."""
        self.voice.complain(text)
        self._catalog.bad_input(model, text)

    def note_ending(self, model: str, end: Exit) -> None:
        self._catalog.note_ending(model, end)

    # --- the loop ----------------------------------------------------------------------

    def run(self) -> None:
        """Until ``stop``. The first beat goes out after the first look at what is held."""
        self._catalog.reload()
        self._tend_runner()
        self._look()
        while not self.stopping.is_set():
            if self._knows_own and not self._beats.started:
                self._beats.start()
            self._turned()
            self._wait()
            if not self.state.exists():
                self.refused = f"the state directory {self.state.path} was removed"
                break
            self._tend_runner()
            if not self._is_due():
                continue
            if self._look() and self._name_lost.is_set() and not self._holding.attempts:
                break
        self._leave()

    def _wait(self) -> None:
        """Until somebody wakes us or a look is due, but not for long."""
        # Nobody wakes us for what was delivered, nor for a runner that comes.
        short = AGAIN if self._no_runner or self._claiming.held_up() else SHORT
        wait = max(0.0, min(short, self._look_at - time.monotonic()))
        if self._woken.wait(wait):
            self._woken.clear()
            self._look_at = 0.0

    def _is_due(self) -> bool:
        # Slots that became free, pauses that ran out, models that were added.
        room = not self._failing and bool(self._claiming.with_room() - self._claiming.listed)
        return room or time.monotonic() >= self._look_at

    def _tend_runner(self) -> None:
        """See whether there is one; without, nothing is claimed."""
        before, self._no_runner = self._no_runner, self.engine.lacking()
        if self._no_runner and not before:
            log.warning("nothing is claimed: %s", self._no_runner)
        elif before and not self._no_runner:
            log.warning("the runner is there")

    def _leave(self) -> None:
        self.stopping.set()
        until = time.monotonic() + LEAVE
        attempts = list(self._holding.attempts.values())
        for attempt in attempts:
            attempt.leave()
        self._beats.join(LEAVE)
        for attempt in attempts:
            attempt.join(timeout=max(0.0, until - time.monotonic()))

    def _look(self) -> bool:
        """One look at the spool: retire, resume, stop, claim. False if it could not be seen."""
        now = time.monotonic()
        rung = self._rung.is_set()
        if rung:  # one that comes now is for the next look
            self._rung.clear()
        whole = rung or self._failing or now >= self._rescan_at
        asked = whole or bool(self._holding.trying) or self._holding.stranded(now)
        try:
            if asked:
                self._holding.look()
                self._knows_own = True
                self._turned()
            if whole:
                self._claiming.afresh()
                self._rescan_at = now + self._pause()
            beaten = self._claiming.more()
            self.claims.tidy()
        except (SpoolError, EngineError, OSError) as e:
            self.voice.told("look", e)
            self._failing = True
            self._look_at = time.monotonic() + self._backoff.next()
            return False
        self._failing = False
        self._backoff.reset()
        self._look_at = self._next(time.monotonic(), beaten)
        if asked:  # else nobody has answered anything
            self.voice.told("look", None)
        self._holding.tidy(now, now - self._claiming.claimed_at)
        return True

    def _pause(self) -> float:
        """Seconds until the next look at everything, if nobody rings."""
        return max(self._rescan, self._rescan_queue * len(self._catalog.models))

    def _next(self, now: float, beaten: bool) -> float:
        """When to look again if nobody wakes us."""
        return min([*self._holding.retries(now), now + AGAIN if beaten else self._rescan_at])

    def _may_claim(self) -> bool:
        return not (self._no_runner or self.stopping.is_set() or self._name_lost.is_set())

    # --- what we say of ourselves, in the thread of the beats --------------------------

    def _period(self) -> float:
        """Seconds between beats; shorter where a model's lease would end between two."""
        lease = self._catalog.shortest_lease()
        return BEAT if lease is None else max(0.2, min(BEAT, lease / 4))

    def _lose_name(self, other: Beat) -> None:
        self.refused = f"{who(other)} has taken the name {self.claims.worker!r}"
        # What it holds it still brings to its end: the claims carry its instance,
        # so nobody else can, and the primary would wait for the lease.
        self.voice.complain(f"{self.refused}; what runs here is delivered, then this one ends")
        self._name_lost.set()
        self.wake()

    def _paused(self) -> str:
        return (self._no_runner or self._claiming.why_not())[:LONGEST]

    def _composed(self, counter: int) -> Beat:
        self._catalog.reload()
        claims, progress = self._holding.told()
        return Beat(
            instance=self.claims.instance,
            counter=counter,
            host=self.host,
            node_url=self.node_url,
            pid=os.getpid(),
            slots=self._slots,
            version=VERSION,
            models=self._catalog.versions(),
            claims=tuple(claims),
            progress=progress,
            free_disk=self.state.free(),
            free_memory=psutil.virtual_memory().available,
            paused=self._paused(),
            error="; ".join(filter(None, (self.voice.last(), self._catalog.not_granted()))),
            stopped=self.stopping.is_set(),
        )
