"""One pass over spool and board: what the primary's tick does.

It runs in one thread. What it does about a job is decided by
``primary.rules.reconcile``; here stand the effects, the windows of the queues
and the leases. Nothing here is remembered that a restart would need.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial

from ledger.errors import LedgerError, LedgerStopped
from ledger.events import AnyEvent, Failed, Killed
from ledger.jobs import Job, State
from ledger.log import Ledger
from primary.files import Files
from primary.intake import Intake
from primary.nodes import DEFAULT_LEASE, Nodes
from primary.pulse import Pulse
from primary.rows import row_of
from primary.rules import (
    Late,
    Missing,
    Retire,
    Seen,
    Stop,
    Strange,
    Take,
    Unlink,
    give_up,
    judge,
    lease_of,
    reconcile,
    ticket_of,
)
from spool.dispatch import Dispatch, Sighting
from spool.errors import Gone, SpoolError
from spool.manifest import Model
from spool.names import Claim, Ticket, key

WINDOW = 64  # tickets of one model that stand in new/ at a time
SETTLED = 2  # scans in a row that must miss a ticket before it is missing
SHOWN = 100  # lines about what is strange
TAKEN_AWAY = 256  # forged tickets that one tick removes
LONG_GAP = 30.0  # seconds between ticks after which all leases start afresh
BEATS_ROOM = 4 * 1024 * 1024  # bytes free; with less no worker could beat: the silence is ours

log = logging.getLogger(__name__)


class Loop:
    """The tick. Not thread-safe: it belongs to the primary's one tick thread."""

    def __init__(
        self,
        ledger: Ledger,
        dispatch: Dispatch,
        files: Files,
        intake: Intake,
        nodes: Nodes,
        models: Callable[[], Mapping[str, Model]],
        pulse: Pulse,
    ) -> None:
        self._ledger = ledger
        self._dispatch = dispatch
        self._files = files
        self._intake = intake
        self._nodes = nodes
        self._models = models
        self._pulse = pulse
        self._published: dict[str, tuple[str, Ticket]] = {}  # (model, ticket), by job
        self._missed: dict[str, int] = {}  # scans in a row, by job
        self._hidden: dict[str, float] = {}  # since when its files may lie where we cannot look
        self._blind = False  # a worker could not be looked at
        self._unknown: set[str] = set()  # ids whose files lie in the spool, but not in the ledger
        self._told: set[tuple[str, str]] = set()  # (id, error) of the last tick: said already
        self._met: set[tuple[str, str]] = set()  # and of this one
        self._scans = 0
        self._last: float | None = None
        self._standing: frozenset[str] = frozenset()  # keys of the tickets that the last scan saw
        self.strange: list[str] = []
        self.withheld: dict[str, str] = {}  # by model: why nothing of it can be published

    def attempts(self, model: str) -> int:
        """How many started attempts a job of ``model`` has."""
        known = self._models().get(model)
        return known.attempts if known else 1

    @property
    def settled(self) -> bool:
        """Whether it has looked at the spool long enough to say what is missing there."""
        return self._scans >= SETTLED

    def offered(self, job: Job) -> bool:
        """Whether this attempt's ticket was made, so that workers can see it. From any thread.

        Also by the primary before this one, if it still stood there at the last scan.
        """
        made = self._published.get(job.id) == (job.model, ticket_of(job))
        return made or key(job.id, job.attempt) in self._standing

    def tick(self, now: float) -> None:
        """One pass; ``now`` is the monotonic clock in seconds."""
        asleep = self._last is not None and now - self._last > LONG_GAP
        if asleep or self._files.free() < BEATS_ROOM:
            self.restart_leases(now)
        self._last = now
        self._told, self._met = self._met, set()
        self._intake.begin()
        workers = self._dispatch.workers()
        self._hear(workers, now)
        seen = self._forged(self._dispatch.scan(self._dispatch.models(), workers))
        self._nodes.sighted(seen.claims)
        self._scans += 1
        self._tend(seen, now)
        self._refill(seen)

    def restart_leases(self, now: float) -> None:
        """All leases start afresh."""
        self._nodes.restart_leases(now)
        self._hidden.clear()

    # --- looking -------------------------------------------------------------------

    def _hear(self, workers: list[str], now: float) -> None:
        self._nodes.forget(workers)
        for worker in workers:
            self._pulse.beat()
            raw: bytes | None = None
            wrong = ""
            try:
                raw = self._dispatch.beat(worker)
            except Gone:
                pass
            except SpoolError as e:
                wrong = str(e)
            self._nodes.heard(worker, raw, now, wrong)

    def _tend(self, seen: Sighting, now: float) -> None:
        """Reconcile every job that has files, runs, or is to be killed."""
        board = self._ledger.board
        by_job = _by_job(seen)
        wanted = {job.id: job for job in (*board.active(), *board.kill_wanted())}
        for id, published in list(self._published.items()):
            if by_job.get(id) == Seen(tickets=(published,)):
                if id not in wanted:
                    del by_job[id]  # F2: waits, as it did before
                    self._missed.pop(id, None)
            else:
                by_job.setdefault(id, Seen())
        self._blind = bool(seen.unseen)
        self.strange = []
        self._note(seen)
        self._unknown = set()
        held = _held(seen)
        for id in (*by_job, *(wanted.keys() - by_job.keys())):
            self._pulse.beat()
            job = board.job(id)
            files = by_job.get(id, Seen())
            if job is None:
                self._unknown.add(id)
            if job is not None and row_of(job, files, published=id in self._published) is None:
                self.strange.append(f"job {id}: its files are in no row of the file table")
            actions = reconcile(job, files)
            if not any(isinstance(action, Missing) for action in actions):
                self._missed.pop(id, None)  # two scans *in a row* must miss it
                self._hidden.pop(id, None)
            for action in actions:
                if isinstance(action, Missing) and self._is_hidden(id, job, seen, now):
                    continue
                self._try(id, partial(self._act, action, job, held))
            if job is not None and not job.final:
                self._try(id, partial(self._lease, job, files, now))
            if job is None or job.state is not State.QUEUED:
                self._published.pop(id, None)
        for id in self._hidden.keys() - (by_job.keys() | wanted.keys()):
            del self._hidden[id]
        if len(self.strange) > SHOWN:
            more = len(self.strange) - SHOWN
            self.strange = [*self.strange[:SHOWN], f"{more} more things are strange"]

    def _note(self, seen: Sighting) -> None:
        """What an operator should see; and what is forged is taken out of the queues."""
        self.strange += [
            f"worker {name} cannot be looked at, and nothing of it is taken: {why}"
            for name, why in seen.unseen.items()
        ]
        self.strange += [
            f"nothing of model {name} is published or missed: {why}"
            for name, why in seen.flooded.items()
        ]
        self.strange += seen.strange
        for model, ticket in seen.forged_tickets[:TAKEN_AWAY]:
            self._try(ticket.job, partial(self._dispatch.take_away, model, ticket))
        for model, count in Counter(model for model, _ in seen.forged_tickets).items():
            what = f"models/{model}/new: {count} tickets were forged, and are taken away"
            log.warning("%s", what)
            self.strange.append(what)

    def _forged(self, seen: Sighting) -> Sighting:
        """Without the reports about claims that are not believed: those are seen to here."""
        if not seen.forged_claims:
            return seen
        forged: dict[tuple[str, str], list[Claim]] = {}
        for worker, claim in seen.forged_claims:
            forged.setdefault((worker, claim.key), []).append(claim)
        for worker, claim in seen.claims:
            forged.pop((worker, claim.key), None)  # its reports are about the genuine one
        kept = []
        for worker, name in seen.reports:
            claims = forged.get((worker, name.key))
            if claims is None:
                kept.append((worker, name))
            elif name.kind == "final":
                step = partial(self._intake.forged, worker, name, tuple(claims))
                self._try(name.job, step)
        return seen._replace(reports=kept)

    def _is_hidden(self, id: str, job: Job | None, seen: Sighting, now: float) -> bool:
        """Whether what is missing may lie where this scan could not look, and is waited for.

        As long as for a worker that says nothing: else one that cannot be looked at
        would keep for ever what it holds.
        """
        queued = job is not None and job.state is State.QUEUED
        if job is None or (queued and id not in self._published):
            return False
        if queued and job.model in seen.flooded:
            # Its ticket may still stand there; it can be taken back without a listing.
            ticket = ticket_of(job)
            if job.kill_wanted and ticket is not None:
                self._try(id, partial(self._act, Unlink(job.model, ticket, True), job, {}))
            return True
        hidden = bool(seen.unseen) if queued else job.worker in seen.unseen
        if not hidden:
            self._hidden.pop(id, None)
            return False
        silence = now - self._hidden.setdefault(id, now)
        where = "the worker that may hold it"
        if not queued:
            silence = max(silence, self._nodes.silence(job.worker or "", job.instance or "", now))
            where = f"worker {job.worker}"
            run = key(id, job.attempt)
            if job.kill_wanted and (job.worker or "", run) not in seen.stops:
                stop = Stop(job.worker or "", run, f"killed by {job.kill_by}")
                self._try(id, partial(self._act, stop, job, {}))
        if judge(silence, self.lease_of(job)) == "lost":
            reason = f"{where} was silent or could not be looked at for {silence:.0f} s"
            self._try(id, partial(self._give_up, job, reason, confirmed=False))
        return True

    def lease_of(self, job: Job) -> float | None:
        """The lease that holds for the job now, in seconds; None means never."""
        model = self._models().get(job.model)
        return lease_of(job, model.lease if model else DEFAULT_LEASE)

    def _try(self, id: str, step: Callable[[], None]) -> None:
        """What goes wrong with one job holds up no other, nor the retiring that makes room."""
        try:
            step()
        except LedgerStopped:
            raise
        except (SpoolError, LedgerError, OSError) as e:
            trouble = (id, str(e))
            if trouble not in self._told:  # at every tick it would fill the log for days
                log.warning("job %s: %s (tried again)", id, e)
            self._met.add(trouble)

    # --- acting --------------------------------------------------------------------

    def _act(self, action: object, job: Job | None, held: Mapping[str, tuple[Claim, ...]]) -> None:
        match action:
            case Take(worker, name):
                self._intake.take(worker, name, held.get(worker, ()))
            case Late(worker, name, claims):
                self._intake.late(worker, name, claims)
            case Retire(worker, run, claims):
                self._dispatch.retire(worker, run, claims)
            case Stop(worker, run, reason):
                self._dispatch.stop(worker, run, reason)
            case Unlink(model, ticket, then_kill):
                # ENOENT means that a worker was faster: the next scan finds its claim.
                if self._dispatch.unpublish(model, ticket) and then_kill and job is not None:
                    self._kill_waiting(job, taken_back=True)
            case Missing() if job is not None:
                self._miss(job)
            case Strange(what):
                self.strange.append(what)

    def _miss(self, job: Job) -> None:
        """F1 or F9: neither ticket nor claim was seen in this scan."""
        if self._scans < SETTLED:
            return
        published = self._published.get(job.id)
        if job.state is State.QUEUED and published != (job.model, ticket_of(job)):
            if job.kill_wanted:
                self._kill_waiting(job)  # F1
            return
        missed = self._missed[job.id] = self._missed.get(job.id, 0) + 1
        if missed >= SETTLED:
            where = "its ticket" if job.state is State.QUEUED else f"its claim at {job.worker}"
            self._give_up(job, f"{where} vanished from the spool", confirmed=False)

    def _lease(self, job: Job, seen: Seen, now: float) -> None:
        """A silent worker's claim, or one that its worker leaves out of its beats."""
        lease = self.lease_of(job)
        finals = {(w, n.key) for w, n in seen.reports if n.kind == "final"}
        for worker, claim in seen.claims:
            if claim.ticket != ticket_of(job):
                continue
            if job.instance is not None and (job.worker, job.instance) != (worker, claim.instance):
                continue
            if (worker, claim.key) in finals:
                continue  # it has just reported its end: that is taken first
            silence = self._nodes.silence(worker, claim.instance, now)
            if judge(silence, lease) == "lost":
                self._give_up(
                    job, f"worker {worker} was silent for {silence:.0f} s", confirmed=False
                )
            elif self._nodes.disowned(worker, claim):
                self._give_up(
                    job, f"worker {worker} does not know of its claim any more", confirmed=True
                )

    def _give_up(self, job: Job, reason: str, *, confirmed: bool) -> None:
        def decide(lookup: Callable[[str], Job | None]) -> tuple[AnyEvent, ...]:
            newest = lookup(job.id)
            if newest is None or newest.final or newest.attempt != job.attempt:
                return ()
            if newest.state is not job.state:
                return ()  # something was heard of it meanwhile
            attempts = self.attempts(newest.model)
            return (give_up(newest, reason, attempts, confirmed=confirmed),)

        if self._intake.busy(job.id):
            return
        self._missed.pop(job.id, None)
        self._published.pop(job.id, None)
        if self._ledger.append(decide):
            log.warning("job %s, attempt %d: %s", job.id, job.attempt, reason)

    def _fail(self, job: Job) -> None:
        """An operator's hand: without its input the job would wait for ever."""

        def decide(lookup: Callable[[str], Job | None]) -> tuple[AnyEvent, ...]:
            newest = lookup(job.id)
            if newest is None or newest.state is not State.QUEUED:
                return ()
            reason = "its input.zip has vanished from the primary's jobs folder"
            failed = Failed(job=job.id, attempt=newest.attempt, failure="system", reason=reason)
            return (failed,)

        self._ledger.append(decide)

    def _kill_waiting(self, job: Job, *, taken_back: bool = False) -> None:
        """The ticket is out of reach of every worker: nothing of the job runs."""
        blind = self._blind

        def decide(lookup: Callable[[str], Job | None]) -> tuple[AnyEvent, ...]:
            newest = lookup(job.id)
            if newest is None or newest.state is not State.QUEUED or not newest.kill_wanted:
                return ()
            reason = f"killed by {newest.kill_by} while waiting"
            # Its ticket may have been claimed by a worker that we cannot look at.
            sure = not newest.loose and not (blind and not taken_back)
            return (Killed(job=job.id, attempt=newest.attempt, confirmed=sure, reason=reason),)

        # F1 if we die here: the restart finds neither ticket nor claim, and kills.
        self._published.pop(job.id, None)
        self._ledger.append(decide)

    # --- windows -------------------------------------------------------------------

    def _refill(self, seen: Sighting) -> None:
        """Publish the head of each queue (F1 to F2) while its window has room."""
        if self._scans < SETTLED:
            return
        standing: dict[str, int] = {}
        self._standing = frozenset(ticket.key for _, ticket in seen.tickets)
        busy = {claim.key for _, claim in seen.claims} | self._standing
        for model, ticket in seen.tickets:
            if ticket.job not in self._unknown:
                standing[model] = standing.get(model, 0) + 1
        rung = False
        self.withheld = dict(seen.flooded)
        for model in self._ledger.board.queued_models():
            self._pulse.beat()
            room = WINDOW - standing.get(model, 0)
            if room <= 0 or model in seen.flooded:
                continue
            # Claimed jobs whose Started is not here yet stand at the head too.
            for job in self._ledger.board.queue(model, WINDOW + len(seen.claims)):
                if room > 0 and self._publish(job, busy):
                    room, rung = room - 1, True
        if rung:
            self._dispatch.ring()

    def _publish(self, job: Job, busy: set[str]) -> bool:
        ticket = ticket_of(job)
        if ticket is None or job.kill_wanted or key(job.id, job.attempt) in busy:
            return False
        if self._published.get(job.id) == (job.model, ticket):
            return False  # claimed or missing: the next scans tell
        try:
            self._dispatch.lay_out_model(job.model)
            self._dispatch.publish(self._files.input(job.id), job.model, ticket)
        except SpoolError as e:
            if not self._files.input(job.id).exists():
                self._try(job.id, lambda: self._fail(job))
            log.warning("job %s cannot be published: %s (tried again)", job.id, e)
            self.withheld[job.model] = str(e)
            return False
        self._published[job.id] = (job.model, ticket)
        return True


def _by_job(seen: Sighting) -> dict[str, Seen]:
    tickets: dict[str, list[tuple[str, Ticket]]] = {}
    found: dict[str, Seen] = {}
    for model, ticket in seen.tickets:
        tickets.setdefault(ticket.job, []).append((model, ticket))
    for id, some in tickets.items():
        found[id] = Seen(tickets=tuple(some))
    for worker, claim in seen.claims:
        old = found.get(claim.ticket.job, Seen())
        found[claim.ticket.job] = old._replace(claims=(*old.claims, (worker, claim)))
    for worker, name in seen.reports:
        old = found.get(name.job, Seen())
        found[name.job] = old._replace(reports=(*old.reports, (worker, name)))
    for worker, run in seen.stops:
        id = run.rpartition(".")[0]
        old = found.get(id, Seen())
        found[id] = old._replace(stops=old.stops | {(worker, run)})
    for worker, run in seen.rests:
        id = run.rpartition(".")[0]
        old = found.get(id, Seen())
        found[id] = old._replace(rests=old.rests | {(worker, run)})
    return found


def _held(seen: Sighting) -> dict[str, tuple[Claim, ...]]:
    held: dict[str, list[Claim]] = {}
    for worker, claim in seen.claims:
        held.setdefault(worker, []).append(claim)
    return {worker: tuple(claims) for worker, claims in held.items()}
