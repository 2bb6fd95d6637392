"""The worker: one loop that looks at the spool and claims.

A thread for each attempt carries it from its claim to its final report
(``engine.attempt``), and one thread beats (``engine.beats``). The runs
themselves belong to the runner, which outlives this process.

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
from collections.abc import Collection
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import psutil

from engine.attempt import Attempt
from engine.backoff import Backoff
from engine.beats import BEAT, Beats, who
from engine.catalog import Catalog
from engine.complaints import LONGEST, Voice
from engine.contract import Exit
from engine.errors import EngineError
from engine.fetching import RESERVE
from engine.leftovers import Leftovers
from engine.runs import Engine
from engine.state import State
from spool.claims import UNANSWERED, Claims
from spool.errors import Flooded, Refused, SpoolError
from spool.manifest import Model
from spool.names import Claim, Ticket
from spool.reports import Beat

VERSION = version("modelrunner")
RESCAN = 2.0  # seconds between looks at a spool on this machine, whatever the watch says
SHORT = 2.0  # seconds at most between the loop's looks at its own state, which cost no request
AGAIN = 0.25  # seconds until the next look after one in which others were faster at everything
RETRY = (0.5, 30.0)  # seconds: first and longest pause after a look that failed
# Results, for each slot, that are not delivered: with more nothing is claimed. Renames still
# work for an account that can write nothing, and it would take the whole queue with it.
UNSENT = 4
PAST = 1024  # attempts that are remembered as over
LEAVE = 3.0  # seconds for attempts and the last beat, once it is to end

log = logging.getLogger("worker")


class Try(NamedTuple):
    """A claim that is being made, or whose answer was lost at ``since`` (monotonic)."""

    model: Model
    since: float


class Agent:
    """The worker: what it carries, what it claims, what it says of itself.

    In seconds: ``rescan``, how long to trust that nobody rang; ``rescan_queue``, how much
    longer at least for each model, so that looking costs the same however many there are;
    ``log_pace``, how often at most a log is sent whose lines trickle.
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
        self._name_lost = threading.Event()  # another agent beats in our folder
        self._catalog = Catalog(models, self.voice.complain)
        self._slots = slots
        self._rescan, self._rescan_queue = rescan, rescan_queue
        self._lock = threading.Lock()  # of what beats read while the loop changes it
        self._attempts: dict[str, Attempt] = {}
        self._trying: dict[Ticket, Try] = {}
        self._past: dict[str, None] = {}  # in order; never claimed again
        self._woken = threading.Event()
        self._rung = threading.Event()  # tickets or stops may be there, or claims be retired
        self._no_room = ""
        self._leftovers = Leftovers(engine, state, self.voice.complain)
        self._backoff = Backoff(*RETRY, claims.instance)
        self._knows_own = False  # what it holds: a beat before would disown it
        self._failing = False  # the last look could not be finished
        self._look_at = 0.0  # monotonic, as all that follow
        self._rescan_at = 0.0
        self._claimed_at = 0.0
        self._listed: frozenset[str] = frozenset()  # the models whose tickets were looked for
        self._dry: set[str] = set()  # those that had none left, and nobody has rung since
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
        with self._lock:
            attempts = list(self._attempts.values())
        return any(attempt.is_alive() for attempt in attempts)

    def left(self) -> str:
        """What it leaves behind as it ends, for its keeper; "" if that is nothing."""
        with self._lock:
            attempts = [a for a in self._attempts.values() if not a.delivered]
        runs = sum(self.engine.stage(a.key) == "running" for a in attempts)
        ended = sum(not a.running for a in attempts)
        said = [f"{runs} run{'s go' if runs > 1 else ' goes'} on here"] if runs else []
        if ended:
            said.append(f"the results of {ended} wait here")
        them = "it" if runs + ended == 1 and runs else "them"
        return f"{' and '.join(said)}; start this worker again to deliver {them}" if said else ""

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
        self._look()
        while not self.stopping.is_set():
            if self._knows_own and not self._beats.started:
                self._beats.start()
            self._wait()
            if not self.state.exists():
                self.refused = f"the state directory {self.state.path} was removed"
                break
            if not self._is_due():
                continue
            if self._look() and self._name_lost.is_set() and not self._attempts:
                break
        self._leave()

    def _wait(self) -> None:
        """Until somebody wakes us or a look is due, but not for long."""
        # Nobody wakes us for what was delivered.
        short = AGAIN if self._held_up() else SHORT
        wait = max(0.0, min(short, self._look_at - time.monotonic()))
        if self._woken.wait(wait):
            self._woken.clear()
            self._look_at = 0.0

    def _is_due(self) -> bool:
        # Slots that became free, pauses that ran out, models that were added.
        room = not self._failing and bool(self._with_room() - self._listed)
        return room or time.monotonic() >= self._look_at

    def _leave(self) -> None:
        self.stopping.set()
        until = time.monotonic() + LEAVE
        attempts = list(self._attempts.values())
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
        asked = whole or bool(self._trying) or self._stranded(now)
        try:
            if asked:
                self._look_at_own()
                self._knows_own = True
            if whole:
                self._dry.clear()
                self._rescan_at = now + self._pause()
            beaten = self._claim_more()
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
        self._leftovers.look(self._attempts.keys(), now)
        self._leftovers.clear(now - self._claimed_at)
        return True

    def _pause(self) -> float:
        """Seconds until the next look at everything, if nobody rings."""
        return max(self._rescan, self._rescan_queue * len(self._catalog.models))

    def _stranded(self, now: float) -> bool:
        """Whether an attempt has ended without delivering, and may be carried on."""
        return any(
            not (a.is_alive() or a.delivered) and now >= a.retry_at for a in self._attempts.values()
        )

    def _next(self, now: float, beaten: bool) -> float:
        """When to look again if nobody wakes us."""
        times = [a.retry_at for a in self._attempts.values() if a.retry_at > now]
        return min([*times, now + AGAIN if beaten else self._rescan_at])

    # --- what we hold ------------------------------------------------------------------

    def _look_at_own(self) -> None:
        missing = self._undelivered()
        held = {claim.key: claim for claim in self.claims.held()}
        gone = self._attempts.keys() - held.keys()
        stops = set(self.claims.stops()) if held else set()
        self._tend(held, missing, stops)
        for key in stops & self._attempts.keys():
            self._attempts[key].stop("killed on request")
        self._forget(gone)

    def _undelivered(self) -> set[str]:
        """The attempts that are done here and whose final report does not lie in the spool.

        Asked *before* the claims are listed: the primary removes the claim before the
        report, so a claim that is still there afterwards means that the report was not
        believed, or never sent.
        """
        now = time.monotonic()
        done = {
            key
            for key, attempt in self._attempts.items()
            if not attempt.is_alive() and not attempt.retired.is_set() and now >= attempt.retry_at
        }
        return done - self.claims.delivered() if done else done

    def _tend(self, held: dict[str, Claim], missing: set[str], stops: Collection[str]) -> None:
        """Carry on what is held and not carried; deliver again what is missing."""
        for key, claim in held.items():
            attempt = self._attempts.get(key)
            if attempt is None:
                # Ours before a restart; or its answer was lost, be it long ago.
                tried = self._trying.get(claim.ticket)
                found = Attempt(self, claim, tried.model if tried else None)
                if key in stops:
                    found.stop("killed on request")  # before it can begin
                self._carry(found)
            elif key in missing:
                self._carry(Attempt(self, claim, attempt.model, resend=attempt.delivered))
        old = time.monotonic() - UNANSWERED
        with self._lock:
            # A connection that hung may carry out its rename when it is thawed: until
            # then the beats go on naming what it would make ours.
            for ticket, tried in list(self._trying.items()):
                if ticket.key in self._attempts or tried.since < old:
                    del self._trying[ticket]

    def _forget(self, gone: set[str]) -> None:
        """The claims of these attempts are gone: the primary has retired them."""
        for key in gone:
            self._attempts[key].retire()
            if not self._attempts[key].is_alive():
                with self._lock:
                    del self._attempts[key]
                self._remember(key)
                self._leftovers.add(key)

    def _remember(self, key: str) -> None:
        self._past[key] = None
        if len(self._past) > PAST:
            del self._past[next(iter(self._past))]

    def _carry(self, attempt: Attempt) -> None:
        with self._lock:
            before = self._attempts.get(attempt.key)
            self._attempts[attempt.key] = attempt
        try:
            attempt.start()
        except RuntimeError as e:  # no thread is left; the next look finds its claim
            with self._lock:
                if before is None:
                    del self._attempts[attempt.key]
                else:
                    self._attempts[attempt.key] = before
            raise EngineError(f"{attempt.key}: no thread can be started: {e}") from e

    # --- what we claim -----------------------------------------------------------------

    def _claim_more(self) -> bool:
        """Claim what there is room for. True if others were faster, and there is room left."""
        known = self._catalog.models  # the beats' thread may put others in their place meanwhile
        models = self._with_room()
        self._listed = models
        models -= self._dry
        if not models or self._disk_is_full():
            return False
        beaten = False
        self._dry |= models
        asked, now = models, time.monotonic()
        for ticket, name in self.claims.tickets(models, self._may_not_list):
            if not self._is_new(ticket) or name not in known:
                continue
            if name not in models:
                self._dry.discard(name)  # it waits until there is room
                continue
            if not self._claim(ticket, known[name]):
                beaten = True
            models &= self._with_room()
        self._let_in(self._catalog.grants.listed(asked, now))
        if beaten:
            self._dry -= models  # who was faster here may have left what came since
        return beaten and bool(models)

    def _is_new(self, ticket: Ticket) -> bool:
        return ticket.key not in self._attempts and ticket.key not in self._past

    def _claim(self, ticket: Ticket, model: Model) -> bool:
        unsure = ticket in self._trying  # tried before, and the answer was lost
        # Beats name the claims held *or being tried*: before the rename, not after.
        with self._lock:
            self._trying[ticket] = Try(model, time.monotonic())
        try:
            claim = self.claims.claim(ticket, model.name)  # a lost answer: held() will tell
        except Refused as e:
            self._may_not(model.name, e, may_list=True)
            claim = None
        self._claimed_at = time.monotonic()
        if claim is not None:
            self._let_in(self._catalog.grants.taken(model.name))
            self._carry(Attempt(self, claim, model))
        if claim is not None or not unsure:
            with self._lock:
                del self._trying[ticket]
        return claim is not None

    def _may_not_list(self, model: str, error: Refused) -> None:
        self._may_not(model, error, may_list=False)

    def _may_not(self, model: str, error: Refused, *, may_list: bool) -> None:
        """The rights in one model's queue must not keep us from the others'."""
        if isinstance(error, Flooded):
            self.voice.complain(f"model {model}: {error}")
            self._dry.discard(model)
            return
        self.claims.held()  # raises if it is the account itself that is refused
        until = time.monotonic() + self._pause()
        if self._catalog.grants.refuse(model, until, may_list=may_list):
            log.warning("model %s: not granted: %s; its jobs are left to others", model, error)
        self._dry.discard(model)  # it is to be listed when it is asked for again
        self._listed -= {model}

    def _let_in(self, models: list[str]) -> None:
        for model in models:
            log.warning("model %s: granted now", model)

    def _with_room(self) -> frozenset[str]:
        """The models of which one more run may be claimed."""
        running = [a for a in self._attempts.values() if a.running]
        ending = self.stopping.is_set() or self._name_lost.is_set()
        if len(running) >= self._slots or self._held_up() or ending:
            return frozenset()
        return self._catalog.with_room(a.model_name() for a in running)

    def _held_up(self) -> str:
        """Why nothing is claimed although there are slots; "" if little is undelivered."""
        with self._lock:
            attempts = list(self._attempts.values())
        waiting = sum(not (a.running or a.delivered) for a in attempts)
        return f"{waiting} results wait to be delivered" if waiting >= UNSENT * self._slots else ""

    def _disk_is_full(self) -> bool:
        full = self.state.free() < RESERVE
        self._no_room = (
            f"less than {RESERVE // 1024**2} MiB free at {self.state.path}" if full else ""
        )
        return full

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

    def _composed(self, counter: int) -> Beat:
        self._catalog.reload()
        with self._lock:
            attempts = dict(self._attempts)
            trying = list(self._trying)
        claims = [str(a.claim) for a in attempts.values()]
        claims += [str(Claim(ticket, self.claims.instance)) for ticket in trying]
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
            progress={a.key: a.progress for a in attempts.values() if a.progress is not None},
            free_disk=self.state.free(),
            free_memory=psutil.virtual_memory().available,
            paused=(self._no_room or self._held_up() or self._catalog.paused())[:LONGEST],
            error="; ".join(filter(None, (self.voice.last(), self._catalog.not_granted()))),
            stopped=self.stopping.is_set(),
        )
