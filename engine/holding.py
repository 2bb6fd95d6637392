"""What a worker holds: the attempts that it carries, and the claims that it is making.

The loop alone changes it; beats and others read it from their own threads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from typing import NamedTuple

from engine.attempt import Attempt, Owner
from engine.errors import EngineError
from engine.leftovers import Leftovers
from spool.claims import UNANSWERED
from spool.manifest import Model
from spool.names import Claim, Ticket

PAST = 1024  # attempts that are remembered as over


class Try(NamedTuple):
    """A claim that is being made, or whose answer was lost at ``since`` (monotonic)."""

    model: Model
    since: float


class Holding:
    """``attempts`` by their keys."""

    def __init__(self, owner: Owner) -> None:
        self.attempts: dict[str, Attempt] = {}
        self.trying: dict[Ticket, Try] = {}
        self._owner = owner
        self._claims, self._engine = owner.claims, owner.engine
        self._lock = threading.Lock()  # of what others read while the loop changes it
        self._past: dict[str, None] = {}  # in order; never claimed again
        self._leftovers = Leftovers(owner.engine, owner.state, owner.voice.complain)

    # --- called from any thread --------------------------------------------------------

    def told(self) -> tuple[list[str], dict[str, int]]:
        """For a beat: the claims held or being tried, and the progress of runs in percent."""
        with self._lock:
            attempts = dict(self.attempts)
            trying = list(self.trying)
        claims = [str(a.claim) for a in attempts.values()]
        claims += [str(Claim(ticket, self._claims.instance)) for ticket in trying]
        return claims, {k: a.progress for k, a in attempts.items() if a.progress is not None}

    @property
    def busy(self) -> bool:
        """Whether stops are waited for: something here runs, or is on its way."""
        return any(attempt.is_alive() for attempt in self._now())

    def undelivered(self) -> int:
        """How many have ended and are not delivered."""
        return sum(not (a.running or a.delivered) for a in self._now())

    def left(self) -> str:
        """What is left behind by an agent that ends, for its keeper; "" if that is nothing."""
        attempts = [a for a in self._now() if not a.delivered]
        runs = sum(self._engine.stage(a.key) == "running" for a in attempts)
        ended = sum(not a.running for a in attempts)
        said = [f"{runs} run{'s go' if runs > 1 else ' goes'} on here"] if runs else []
        if ended:
            said.append(f"the results of {ended} wait here")
        them = "it" if runs + ended == 1 and runs else "them"
        return f"{' and '.join(said)}; start this worker again to deliver {them}" if said else ""

    def _now(self) -> list[Attempt]:
        with self._lock:
            return list(self.attempts.values())

    # --- the loop's --------------------------------------------------------------------

    def look(self) -> None:
        """See what is held, in the spool: carry on, stop, deliver, forget. Raises SpoolError."""
        missing = self._undelivered()
        held = {claim.key: claim for claim in self._claims.held()}
        gone = self.attempts.keys() - held.keys()
        stops = set(self._claims.stops()) if held else set()
        self._tend(held, missing, stops)
        for key in stops & self.attempts.keys():
            self.attempts[key].stop("killed on request")
        self._forget(gone)

    def tidy(self, now: float, idle: float) -> None:
        """Run directories that nobody needs; ``idle`` is in seconds since the last claim."""
        self._leftovers.look(self.attempts.keys(), now)
        self._leftovers.clear(idle)

    def running(self) -> list[Attempt]:
        return [a for a in self.attempts.values() if a.running]

    def stranded(self, now: float) -> bool:
        """Whether an attempt has ended without delivering, and may be carried on."""
        return any(
            not (a.is_alive() or a.delivered) and now >= a.retry_at for a in self.attempts.values()
        )

    def retries(self, now: float) -> list[float]:
        """When attempts that failed may be carried on."""
        return [a.retry_at for a in self.attempts.values() if a.retry_at > now]

    def is_new(self, ticket: Ticket) -> bool:
        return ticket.key not in self.attempts and ticket.key not in self._past

    def begin_claim(self, ticket: Ticket, model: Model) -> bool:
        """Beats name it from now on. True if it was tried before, and the answer was lost."""
        unsure = ticket in self.trying
        with self._lock:
            self.trying[ticket] = Try(model, time.monotonic())
        return unsure

    def end_claim(self, ticket: Ticket) -> None:
        """Whose it is is known."""
        with self._lock:
            del self.trying[ticket]

    def carry(self, claim: Claim, model: Model) -> None:
        """One that was just claimed. Raises EngineError."""
        self._carry(Attempt(self._owner, claim, model))

    # --- inside ------------------------------------------------------------------------

    def _undelivered(self) -> set[str]:
        """The attempts that are done here and whose final report does not lie in the spool.

        Asked *before* the claims are listed: the primary removes the claim before the
        report, so a claim that is still there afterwards means that the report was not
        believed, or never sent.
        """
        now = time.monotonic()
        done = {
            key
            for key, attempt in self.attempts.items()
            if not attempt.is_alive() and not attempt.retired.is_set() and now >= attempt.retry_at
        }
        return done - self._claims.delivered() if done else done

    def _tend(self, held: dict[str, Claim], missing: set[str], stops: Collection[str]) -> None:
        """Carry on what is held and not carried; deliver again what is missing."""
        for key, claim in held.items():
            attempt = self.attempts.get(key)
            if attempt is None:
                # Ours before a restart; or its answer was lost, be it long ago.
                tried = self.trying.get(claim.ticket)
                found = Attempt(self._owner, claim, tried.model if tried else None)
                if key in stops:
                    found.stop("killed on request")  # before it can begin
                self._carry(found)
            elif key in missing:
                self._carry(Attempt(self._owner, claim, attempt.model, resend=attempt.delivered))
        old = time.monotonic() - UNANSWERED
        with self._lock:
            # A connection that hung may carry out its rename when it is thawed: until
            # then the beats go on naming what it would make ours.
            for ticket, tried in list(self.trying.items()):
                if ticket.key in self.attempts or tried.since < old:
                    del self.trying[ticket]

    def _forget(self, gone: set[str]) -> None:
        """The claims of these attempts are gone: the primary has retired them."""
        for key in gone:
            self.attempts[key].retire()
            if not self.attempts[key].is_alive():
                with self._lock:
                    del self.attempts[key]
                self._remember(key)
                self._leftovers.add(key)

    def _remember(self, key: str) -> None:
        self._past[key] = None
        if len(self._past) > PAST:
            del self._past[next(iter(self._past))]

    def _carry(self, attempt: Attempt) -> None:
        with self._lock:
            before = self.attempts.get(attempt.key)
            self.attempts[attempt.key] = attempt
        try:
            attempt.start()
        except RuntimeError as e:  # no thread is left; the next look finds its claim
            with self._lock:
                if before is None:
                    del self.attempts[attempt.key]
                else:
                    self.attempts[attempt.key] = before
            raise EngineError(f"{attempt.key}: no thread can be started: {e}") from e
