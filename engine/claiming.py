"""What a worker claims: tickets of the models that there is room for, as far as it may.

Used by the agent's loop; ``why_not`` and ``held_up`` also by the thread of the beats.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from engine.catalog import Catalog
from engine.complaints import Voice
from engine.fetching import RESERVE
from engine.holding import Holding
from engine.state import State
from spool.claims import Claims
from spool.errors import Flooded, Refused
from spool.manifest import Model
from spool.names import Ticket

# Results, for each slot, that are not delivered: with more nothing is claimed. Renames still
# work for an account that can write nothing, and it would take the whole queue with it.
UNSENT = 4

log = logging.getLogger("worker")


class Claiming:
    """``pause()`` are the seconds until all queues are asked again; ``may()`` says whether
    anything is to be claimed at all; ``stirs`` is called after each request."""

    def __init__(
        self,
        claims: Claims,
        holding: Holding,
        catalog: Catalog,
        state: State,
        voice: Voice,
        slots: int,
        *,
        pause: Callable[[], float],
        may: Callable[[], bool],
        stirs: Callable[[], None],
    ) -> None:
        self.listed: frozenset[str] = frozenset()  # the models whose tickets were looked for
        self.claimed_at = 0.0  # monotonic
        self._claims, self._holding, self._catalog = claims, holding, catalog
        self._state, self._voice, self._slots = state, voice, slots
        self._pause, self._may_claim, self._stirs = pause, may, stirs
        self._dry: set[str] = set()  # those that had none left, and nobody has rung since
        self._no_room = ""

    def afresh(self) -> None:
        """Somebody has rung, or might have: there may be tickets in every queue."""
        self._dry.clear()

    def more(self) -> bool:
        """Claim what there is room for. True if others were faster, and there is room left."""
        known = self._catalog.models  # the beats' thread may put others in their place meanwhile
        models = self.with_room()
        self.listed = models
        models -= self._dry
        if not models or self._disk_is_full():
            return False
        beaten = False
        self._dry |= models
        asked, now = models, time.monotonic()
        for ticket, name in self._tickets(models):
            if not self._holding.is_new(ticket) or name not in known:
                continue
            if name not in models:
                self._dry.discard(name)  # it waits until there is room
                continue
            if not self._claim(ticket, known[name]):
                beaten = True
            models &= self.with_room()
        self._let_in(self._catalog.grants.listed(asked, now))
        if beaten:
            self._dry -= models  # who was faster here may have left what came since
        return beaten and bool(models)

    def with_room(self) -> frozenset[str]:
        """The models of which one more run may be claimed."""
        running = self._holding.running()
        if len(running) >= self._slots or self.held_up() or not self._may_claim():
            return frozenset()
        return self._catalog.with_room(a.model_name() for a in running)

    def held_up(self) -> str:
        """Why nothing is claimed although there are slots; "" if little is undelivered."""
        waiting = self._holding.undelivered()
        return f"{waiting} results wait to be delivered" if waiting >= UNSENT * self._slots else ""

    def why_not(self) -> str:
        """What keeps models from being claimed; "" if nothing does."""
        return self._no_room or self.held_up() or self._catalog.paused()

    # --- inside ------------------------------------------------------------------------

    def _tickets(self, models: frozenset[str]) -> list[tuple[Ticket, str]]:
        """Oldest first. A listing of many queues takes its time, so each of them counts."""
        found: list[tuple[Ticket, str]] = []
        refused = partial(self._may_not, may_list=False)
        for model in models:
            found += self._claims.tickets([model], refused)
            self._stirs()
        return sorted(found)

    def _claim(self, ticket: Ticket, model: Model) -> bool:
        # Beats name the claims held *or being tried*: before the rename, not after.
        unsure = self._holding.begin_claim(ticket, model)
        try:
            claim = self._claims.claim(ticket, model.name)  # a lost answer: held() will tell
        except Refused as e:
            self._may_not(model.name, e, may_list=True)
            claim = None
        self._stirs()
        self.claimed_at = time.monotonic()
        if claim is not None:
            self._let_in(self._catalog.grants.taken(model.name))
            self._holding.carry(claim, model)
        if claim is not None or not unsure:
            self._holding.end_claim(ticket)
        return claim is not None

    def _may_not(self, model: str, error: Refused, *, may_list: bool) -> None:
        """The rights in one model's queue must not keep us from the others'."""
        if isinstance(error, Flooded):
            self._voice.complain(f"model {model}: {error}")
            self._dry.discard(model)
            return
        self._claims.held()  # raises if it is the account itself that is refused
        until = time.monotonic() + self._pause()
        if self._catalog.grants.refuse(model, until, may_list=may_list):
            log.warning("model %s: not granted: %s; its jobs are left to others", model, error)
        self._dry.discard(model)  # it is to be listed when it is asked for again
        self.listed -= {model}

    def _let_in(self, models: list[str]) -> None:
        for model in models:
            log.warning("model %s: granted now", model)

    def _disk_is_full(self) -> bool:
        full = self._state.free() < RESERVE
        self._no_room = (
            f"less than {RESERVE // 1024**2} MiB free at {self._state.path}" if full else ""
        )
        return full
