"""The file table: every pair of what the ledger says and what files exist.

Pure. Each row has an end and an owner that moves the job on; any other pair is
an operator's hand or a bug. ARCHITECTURE.md shows ``ROWS``, and a test holds
the two against each other; comments in the code name rows where a crash would
leave them.
"""

from __future__ import annotations

from typing import NamedTuple

from ledger.jobs import Job, State
from primary.rules import Seen, ticket_of


class Row(NamedTuple):
    """One row: what the ledger says, which files exist, who moves it on."""

    ledger: str
    files: str
    mover: str


ROWS: dict[str, Row] = {
    "F0": Row(
        "nothing, or CREATED",
        "in `incoming/` or nowhere",
        "nothing: removed at start; CREATED: fetched again; kill wanted: Killed",
    ),
    "F1": Row(
        "QUEUED",
        "`jobs/<job>/input.zip` only",
        "published when the window has room; kill wanted: Killed",
    ),
    "F2": Row(
        "QUEUED",
        "in `new/`",
        "a worker claims; kill wanted: unlinked, then Killed",
    ),
    "F3": Row(
        "QUEUED",
        "in a `cur/`",
        "its report, or the lease; kill wanted: `stop/`",
    ),
    "F4": Row(
        "RUNNING, PROCESSED",
        "the claim that Started named, no final report",
        "the worker, or the lease: Requeued, Failed, or Killed (not confirmed)",
    ),
    "F5": Row(
        "QUEUED, RUNNING, PROCESSED",
        "a final report beside its claim",
        "checked, copied, synced, accepted; what does not match goes to `bad/`",
    ),
    "F6": Row("final", "claim or leftovers in the spool", "retired, the claim first"),
    "F7": Row("final", "`jobs/<job>/` only", "kept; Purged with leftovers: removed"),
    "F8": Row(
        "any",
        "files of an attempt below the current one",
        "`stop/` to its worker; a result goes to `late/`; then retired",
    ),
    "F9": Row(
        "QUEUED, RUNNING, PROCESSED",
        "none of F1 to F5, in two scans",
        "Requeued, Failed after the last attempt, or Killed if wanted",
    ),
    "D1": Row("nothing", "`drop/.<job>.taken.NAME`", "renamed back at start"),
    "D2": Row(
        "the job is known",
        "`drop/.<job>.taken.NAME`, or answers missing or old",
        "unlinked; answers are rebuilt from the ledger",
    ),
}


def row_of(job: Job | None, seen: Seen, *, published: bool = False) -> str | None:
    """The row (F0 to F9) that a job and its files in the spool are in.

    None if there is none: an operator's hand, or a bug. ``published`` says that
    the current attempt's ticket was made by this primary, so that its absence
    is F9 rather than F1.
    """
    if job is None:
        return "F0" if seen == Seen() else None
    if job.final:
        return "F6" if seen != Seen() else "F7"
    if job.state is State.CREATED:
        return "F0" if seen == Seen() else None
    current = ticket_of(job)
    attempts = {t.attempt for _, t in seen.tickets} | {c.ticket.attempt for _, c in seen.claims}
    if any(attempt > job.attempt for attempt in attempts):
        return None
    held = [(w, c) for w, c in seen.claims if c.ticket == current]
    if job.state is State.QUEUED:
        if any(t == current for _, t in seen.tickets):
            return "F2"
        if held:
            return "F5" if _final(seen, job) else "F3"
        return "F9" if published else "F1"
    if any((w, c.instance) == (job.worker, job.instance) for w, c in held):
        return "F5" if _final(seen, job) else "F4"
    return "F9"


def _final(seen: Seen, job: Job) -> bool:
    return any(n.kind == "final" and n.attempt == job.attempt for _, n in seen.reports)
