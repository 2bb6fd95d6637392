"""What the primary decides. Pure: no clock, no disk, no configuration of its own.

``accept`` is the only place where a worker's report becomes events of the
ledger; ``reconcile`` says what to do about a job and the files that one scan
saw of it (the file table of ARCHITECTURE.md); ``judge`` says how long a
worker may be silent. All are tested by enumeration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
    Failed,
    Killed,
    Noted,
    Processed,
    Requeued,
    RunFacts,
    Started,
)
from ledger.jobs import Job, State
from spool.names import Claim, ReportName, Ticket, shown, split_key
from spool.reports import AnyReport, FileFact, FinalReport, ProcessedReport, RunReport

UNREACHABLE_AFTER = 30.0  # seconds of silence until a worker is shown as unreachable
PROCESSED_LEASE = 24 * 3600.0  # seconds: the results exist, so we wait for them longer
LONGEST = 4096  # characters of a worker's text that the ledger keeps; equals reports.Text
BEATS_WITHOUT = 2  # beats that leave a claim out until it is given back early

Liveness = Literal["alive", "unreachable", "lost"]


class Ignore(NamedTuple):
    """Why a report becomes no event. ``bad``: it cannot be true, and is kept in bad/."""

    reason: str
    bad: bool = False


def ticket_of(job: Job) -> Ticket | None:
    """The one ticket name that the ledger knows for the job's current attempt."""
    if job.input is None or job.queued_seq is None:
        return None
    return Ticket(job.queued_seq, job.attempt, job.id, job.input.sha256)


def believable(
    job: Job | None, worker: str, name: ReportName, report: AnyReport, held: Iterable[Claim]
) -> Ignore | None:
    """None if the report may be about this job's current attempt, else why it is ignored.

    ``held`` are the claims seen in that worker's own ``cur/``.
    """
    if report.__struct_config__.tag != name.kind:
        return Ignore(f"it is called {name.kind}, but says something else", bad=True)
    if job is None:
        return Ignore(f"the ledger has no job {name.job}", bad=True)
    if name.attempt > job.attempt:
        return Ignore(f"attempt {name.attempt} does not exist yet", bad=True)
    if name.attempt < job.attempt or job.final:
        return Ignore(f"attempt {name.attempt} is over")
    ticket = ticket_of(job)
    claim = next((c for c in held if c.ticket == ticket and str(c) == report.claim), None)
    if claim is None:
        return Ignore(f"worker {worker} holds no claim {report.claim!r}", bad=True)
    if claim.instance != report.instance:
        return Ignore(f"the claim belongs to instance {claim.instance}", bad=True)
    if job.instance is not None and (job.worker, job.instance) != (worker, claim.instance):
        return Ignore(f"attempt {job.attempt} was started by {job.worker} ({job.instance})")
    return None


def accept(
    job: Job, worker: str, report: AnyReport, attempts: int
) -> tuple[AnyEvent, ...] | Ignore:
    """The events that a believable report makes; its files are on our disk already.

    ``attempts`` is the model's limit. A final report repeats the started facts,
    so it needs no earlier one.
    """
    if isinstance(report, FinalReport):
        return _accept_final(job, worker, report, attempts)
    begun = _begun(job, worker, report)
    if isinstance(report, ProcessedReport):
        if job.state is State.PROCESSED:
            return Ignore("processed is known")
        if job.kill_wanted:
            # Its processes are gone, so a wanted kill is done.
            return (*begun, _killed(job, report.run, "its model had ended already"))
        return (*begun, Processed(job=job.id, attempt=job.attempt, run=_facts(report.run)))
    return begun or Ignore("started is known")


def give_up(
    job: Job, reason: str, attempts: int, *, confirmed: bool, starts: int | None = None
) -> AnyEvent:
    """The end of an attempt without a result: killed if wanted, else tried again or failed.

    ``confirmed`` says that nothing of it runs any more.
    """
    if job.kill_wanted:
        gone = confirmed and not job.loose
        return Killed(job=job.id, attempt=job.attempt, confirmed=gone, reason=reason)
    begun = job.starts if starts is None else starts
    if begun >= attempts:
        return Failed(
            job=job.id,
            attempt=job.attempt,
            failure="lost",
            reason=f"{reason}; given up after {begun} started attempts",
            run=job.run,
        )
    return Requeued(job=job.id, attempt=job.attempt, reason=reason, confirmed=confirmed)


def _accept_final(
    job: Job, worker: str, report: FinalReport, attempts: int
) -> tuple[AnyEvent, ...] | Ignore:
    begun = _begun(job, worker, report)
    said = shown(report.reason, LONGEST)
    if report.end == "lost":
        reason = said or f"worker {worker} lost the run"
        if report.run is None:  # it never ran: that costs no attempt
            return (give_up(job, reason, attempts, confirmed=True),)
        starts = job.starts + len(begun)
        return (*begun, give_up(job, reason, attempts, confirmed=True, starts=starts))
    if report.end == "killed":
        if job.kill_wanted:
            killed = _killed(job, report.run, "", report)
            return (*begun, killed)
        reason = f"worker {worker} ended the run without being asked: {said}"
        starts = job.starts + len(begun)
        return (*begun, give_up(job, reason, attempts, confirmed=True, starts=starts))
    run = report.run or RunReport()
    late = _too_late(job)
    if report.end == "failed":
        failed = Failed(
            job=job.id,
            attempt=job.attempt,
            failure=report.failure or "system",
            reason=said,
            run=_facts(run) if report.run else None,
            log=_digest(report.log),
            output=_digest(report.output),
        )
        return (*begun, failed, *late)
    log, output = _digest(report.log), _digest(report.output)
    if log is None or output is None:
        return Ignore("a job that ended well has a log and an output", bad=True)
    facts = _facts(run)
    processed: tuple[AnyEvent, ...] = ()
    if job.state is not State.PROCESSED:
        processed = (Processed(job=job.id, attempt=job.attempt, run=facts),)
    completed = Completed(job=job.id, attempt=job.attempt, run=facts, log=log, output=output)
    return (*begun, *processed, completed, *late)


def _begun(job: Job, worker: str, report: AnyReport) -> tuple[AnyEvent, ...]:
    if job.state is not State.QUEUED:
        return ()
    started = Started(
        job=job.id,
        attempt=job.attempt,
        worker=worker,
        instance=report.instance,
        host=shown(report.host),
        node_url=shown(report.node_url),
        run_dir=shown(report.run_dir, LONGEST),
    )
    return (started,)


def _killed(job: Job, run: RunReport | None, why: str, final: FinalReport | None = None) -> Killed:
    return Killed(
        job=job.id,
        attempt=job.attempt,
        confirmed=not job.loose,
        reason=f"killed by {job.kill_by}" + (f": {why}" if why else ""),
        run=_facts(run) if run else None,
        log=_digest(final.log) if final else None,
        output=_digest(final.output) if final else None,
    )


def _too_late(job: Job) -> tuple[AnyEvent, ...]:
    if not job.kill_wanted:
        return ()
    return (Noted(job=job.id, text=f"the kill by {job.kill_by} came too late: it had ended"),)


def _facts(run: RunReport) -> RunFacts:
    return RunFacts(
        exit_code=run.exit_code,
        signal=run.signal,
        wall_seconds=run.wall_seconds,
        cpu_seconds=run.cpu_seconds,
        peak_memory=run.peak_memory,
        containment=shown(run.containment),
        ended=tuple(map(shown, run.ended)),
    )


def _digest(fact: FileFact | None) -> Digest | None:
    return Digest(fact.size, fact.sha256) if fact else None


# --- reconciling ledger and spool ----------------------------------------------------


class Seen(NamedTuple):
    """What one scan saw of one job."""

    tickets: tuple[tuple[str, Ticket], ...] = ()  # (model, ticket)
    claims: tuple[tuple[str, Claim], ...] = ()  # (worker, claim)
    reports: tuple[tuple[str, ReportName], ...] = ()  # (worker, report)
    stops: frozenset[tuple[str, str]] = frozenset()  # (worker, key)
    rests: frozenset[tuple[str, str]] = frozenset()  # (worker, key) of logs and outputs


class Unlink(NamedTuple):
    """Take a ticket back; ``then_kill``: if it was still there, the job is killed."""

    model: str
    ticket: Ticket
    then_kill: bool = False


class Stop(NamedTuple):
    """Ask ``worker`` to stop a run."""

    worker: str
    key: str
    reason: str


class Take(NamedTuple):
    """Look into a report of the current attempt."""

    worker: str
    name: ReportName


class Late(NamedTuple):
    """Put what an attempt that is over still sent to ``late/``, and retire it."""

    worker: str
    name: ReportName
    claims: tuple[Claim, ...]


class Retire(NamedTuple):
    """Remove an attempt's files from a worker's folder."""

    worker: str
    key: str
    claims: tuple[Claim, ...]


class Missing(NamedTuple):
    """Neither ticket nor claim was seen. Twice in a row: F9 (or F1, if never published)."""


class Strange(NamedTuple):
    """An operator's hand or a bug: shown, not touched."""

    what: str


Action = Unlink | Stop | Take | Late | Retire | Missing | Strange


def reconcile(job: Job | None, seen: Seen) -> list[Action]:
    """What to do about one job and the files that a scan saw of it, by row of the table."""
    if job is None:
        return _unknown(seen)
    if job.final:
        return _retired(seen)  # F6
    actions: list[Action] = []
    current = ticket_of(job)
    known = False
    for model, ticket in seen.tickets:
        if ticket == current and model == job.model and job.state is State.QUEUED:
            known = True  # F2
            if job.kill_wanted:
                actions.append(Unlink(model, ticket, then_kill=True))
        elif current is not None:
            # F8; or of an attempt to come, or with another place in the queue: a worker
            # renamed it. It is a link of our input: nothing is lost, and it takes no room.
            actions.append(Unlink(model, ticket))
        else:
            actions.append(Strange(f"{model}/new/{ticket}: not a ticket of this job"))
    reports = {(w, n.key): n for w, n in seen.reports if n.kind == "final"}
    for worker, claim in seen.claims:
        if claim.ticket == current and _is_holder(job, worker, claim):
            known = True  # F3, F4, F5
            if job.kill_wanted and (worker, claim.key) not in reports:
                actions += _stopped(seen, worker, claim.key, f"killed by {job.kill_by}")
        elif claim.ticket.attempt < job.attempt or claim.ticket == current:
            actions += _outlived(seen, worker, claim, reports)  # F8
        else:
            actions.append(Strange(f"{worker}/cur/{claim}: not a claim of this job"))
    actions += _reported(job, seen)
    if not known and job.state is not State.CREATED:
        actions.append(Missing())
    return actions


def _reported(job: Job, seen: Seen) -> list[Action]:
    """The reports worth looking into; a final one repeats all that came before it."""
    actions: list[Action] = []
    finals = {(w, n.key) for w, n in seen.reports if n.kind == "final"}
    held = {(w, c.key): _is_holder(job, w, c) for w, c in seen.claims}
    known = {"started": job.state is not State.QUEUED, "processed": job.state is State.PROCESSED}
    for worker, name in sorted(seen.reports, key=lambda r: (r[0], str(r[1]))):
        place = (worker, name.key)
        if name.attempt < job.attempt:
            if place not in held:
                actions.append(Retire(worker, name.key, ()))  # F8: its claim is gone already
        elif held.get(place, True) and (
            name.kind == "final" or not (known[name.kind] or place in finals)
        ):
            # Without a claim, or of an attempt to come, it cannot be true: looking
            # into it says so, and moves it to bad/.
            actions.append(Take(worker, name))
    spoken = {(w, n.key) for w, n in seen.reports}
    for worker, key in sorted(seen.rests - spoken - held.keys()):
        # F8: a log or an output that came after its claim was retired, or that a
        # crash in the middle of retiring left.
        if split_key(key)[1] < job.attempt:
            actions.append(Retire(worker, key, ()))
    return actions


def _is_holder(job: Job, worker: str, claim: Claim) -> bool:
    """Whether the claim is the one that is believed for the current attempt."""
    return job.instance is None or (job.worker, job.instance) == (worker, claim.instance)


def _stopped(seen: Seen, worker: str, key: str, reason: str) -> list[Action]:
    return [] if (worker, key) in seen.stops else [Stop(worker, key, reason)]


def _outlived(
    seen: Seen, worker: str, claim: Claim, finals: Mapping[tuple[str, str], ReportName]
) -> list[Action]:
    final = finals.get((worker, claim.key))
    if final is not None:
        return [Late(worker, final, (claim,))]
    return _stopped(seen, worker, claim.key, "this attempt was given to another worker")


def _retired(seen: Seen) -> list[Action]:
    actions: list[Action] = [Unlink(model, ticket) for model, ticket in seen.tickets]
    by_place: dict[tuple[str, str], list[Claim]] = {}
    for worker, claim in seen.claims:
        by_place.setdefault((worker, claim.key), []).append(claim)
    for worker, name in seen.reports:
        by_place.setdefault((worker, name.key), [])
    for worker, key in (*seen.stops, *seen.rests):
        by_place.setdefault((worker, key), [])
    actions += [Retire(worker, key, tuple(c)) for (worker, key), c in sorted(by_place.items())]
    return actions


def _unknown(seen: Seen) -> list[Action]:
    actions: list[Action] = [
        Strange(f"models/{model}/new/{ticket}: the ledger has no such job")
        for model, ticket in seen.tickets
    ]
    actions += [
        Strange(f"workers/{worker}/cur/{claim}: the ledger has no such job")
        for worker, claim in seen.claims
    ]
    actions += [Take(worker, name) for worker, name in seen.reports]
    return actions


# --- leases --------------------------------------------------------------------------


def judge(silence: float, lost_after: float | None) -> Liveness:
    """How a worker that has been silent for ``silence`` seconds is called.

    ``lost_after`` is the lease in seconds; None means never.
    """
    if lost_after is not None and silence >= lost_after:
        return "lost"
    return "unreachable" if silence >= UNREACHABLE_AFTER else "alive"


def lease_of(job: Job, model_lease: float | None) -> float | None:
    """The lease that holds for the job now, in seconds; None means never."""
    if model_lease is None:
        return None
    return max(PROCESSED_LEASE, model_lease) if job.state is State.PROCESSED else model_lease
