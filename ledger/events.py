"""What the primary accepted: the events, and the records that hold them.

Pure types. An event is a fact about one job; a record is an event with its
place in the ledger. Nothing here decides anything: policy stands in
``primary.rules``, the legal order of events in ``ledger.jobs``.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Failure = Literal["input", "model", "limit", "lost", "system"]
"""Who must act: the submitter (input), the modeller (model, limit), nobody
(lost: no worker left to try), or the keeper of the servers (system)."""

Source = Literal["upload", "url", "drop"]


class Digest(msgspec.Struct, frozen=True):
    """Size in bytes and SHA-256 (64 hex digits) of a file that the primary holds."""

    size: int
    sha256: str


class RunFacts(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one run ended, as its worker measured it.

    ``exit_code`` is None where the process died by ``signal``. Times are in
    seconds; ``cpu_seconds`` sums user and system time of the whole run,
    ``peak_memory`` is the largest resident set of any of its processes, in
    bytes. ``containment`` says how a stop finds the run's processes
    (``pid-namespace`` or ``process-tree``), ``ended`` names the processes that
    had to be ended.
    """

    exit_code: int | None = None
    signal: int | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    containment: str = ""
    ended: tuple[str, ...] = ()


class Event(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """The root of all events. ``job`` is the job's UUID in its 36-character form."""

    job: str


class Submitted(Event, tag=True, frozen=True, kw_only=True):
    """A job was accepted. ``drop`` names the dropped file, ``url`` where the input comes from."""

    name: str
    model: str
    by: str
    source: Source
    url: str | None = None
    drop: str | None = None
    rerun_of: str | None = None


class Queued(Event, tag=True, frozen=True, kw_only=True):
    """The input is checked and on disk."""

    input: Digest


class Started(Event, tag=True, frozen=True, kw_only=True):
    """``worker`` runs this attempt; from now on only ``instance``'s claim is believed."""

    attempt: int
    worker: str
    instance: str
    host: str = ""
    node_url: str = ""
    run_dir: str = ""


class Processed(Event, tag=True, frozen=True, kw_only=True):
    """The model ended well; its results are on their way."""

    attempt: int
    run: RunFacts


class Completed(Event, tag=True, frozen=True, kw_only=True):
    """Log and output are on the primary's disk, synced and compared with the report."""

    attempt: int
    run: RunFacts
    log: Digest
    output: Digest


class Failed(Event, tag=True, frozen=True, kw_only=True):
    """The job ended without success, for ``reason``; what came back lies beside it."""

    attempt: int
    failure: Failure
    reason: str
    run: RunFacts | None = None
    log: Digest | None = None
    output: Digest | None = None


class Requeued(Event, tag=True, frozen=True, kw_only=True):
    """Attempt ``attempt`` is given up; the job waits again as the next one.

    ``confirmed`` is false where its worker is lost: it may still be running there.
    """

    attempt: int
    reason: str
    confirmed: bool = True


class KillRequested(Event, tag=True, frozen=True, kw_only=True):
    """Somebody wants the job dead: no attempt, for it is about the job, not one try of it."""

    by: str


class Killed(Event, tag=True, frozen=True, kw_only=True):
    """No process of the job is left, or (``confirmed`` false) its worker is lost."""

    attempt: int
    confirmed: bool
    reason: str
    run: RunFacts | None = None
    log: Digest | None = None
    output: Digest | None = None


class Purged(Event, tag=True, frozen=True, kw_only=True):
    """The job's files are about to be removed (appended first, then the files go)."""

    by: str
    reason: str


class Noted(Event, tag=True, frozen=True, kw_only=True):
    """A fact worth keeping that changes no state, such as a kill that came too late."""

    text: str


AnyEvent = (
    Submitted
    | Queued
    | Started
    | Processed
    | Completed
    | Failed
    | Requeued
    | KillRequested
    | Killed
    | Purged
    | Noted
)


class Record(msgspec.Struct, frozen=True):
    """An event's place in the ledger.

    ``seq`` counts from 1 without gaps; ``time`` is UTC, RFC 3339 with
    microseconds and ``Z``; ``batch`` is the sequence at which the batch began
    that shared one write and one sync; ``hash`` is the SHA-256 (hex) over the
    previous record's hash and this line's bytes.
    """

    seq: int
    time: str
    event: AnyEvent
    batch: int
    hash: str
