"""What the API answers with: the types that replies are encoded from.

``/openapi.json`` is made from these and from ``web.operations``, so what is written here
is what is documented. A reply's members stand in the order of their fields; a member
without a default is always there. Sizes are in bytes, times in UTC.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from ledger.jobs import State
from primary.roles import Role

Id = Annotated[
    str,
    Meta(
        pattern="^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
        description="A job's UUID, in lower case.",
    ),
]
Naive = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}$",
        description="UTC, ISO 8601 with microseconds and without a zone.",
    ),
]
Moment = Annotated[
    str,
    Meta(
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?Z$",
        description="UTC, RFC 3339.",
    ),
]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
Percent = Annotated[int, Meta(ge=0, le=100, description="As the model itself says.")]
Ordinal = Annotated[int, Meta(ge=1)]
Failure = Annotated[
    Literal["input", "model", "limit", "lost", "system"],
    Meta(
        description="What failed, and so who must act: input: the submitter; model, limit: the "
        "modeller; lost (its workers): nobody, run it again; system: the server's keeper."
    ),
]
Source = Literal["upload", "url", "drop"]
Liveness = Literal["alive", "unreachable", "lost", "stopped", "new"]


class Message(Struct, frozen=True):
    """What was done, in a sentence."""

    message: str


class Submission(Struct, frozen=True):
    """A job was entered, or its end was asked for."""

    id: Id
    message: str


class Finding(Struct, frozen=True):
    """One thing that is wrong with an input: the file, what was expected, what was found."""

    file: str
    expected: str
    found: str


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request was refused (RFC 9457)."""

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: Annotated[int, Meta(ge=400, le=599)]
    detail: str
    message: Annotated[str, Meta(description='"Error:  " and the detail, for scripts.')]
    field: Annotated[str, Meta(description="The field or parameter.")] | UnsetType = UNSET
    entry: Annotated[str, Meta(description="The entry of the zip.")] | UnsetType = UNSET
    findings: tuple[Finding, ...] | UnsetType = UNSET


class Digest(Struct, frozen=True):
    """A file that the primary holds."""

    size: Count
    sha256: Sha256


class Job(Struct, frozen=True, kw_only=True):
    """One job. The first ten members are those of the interface that old scripts know.

    Where a worker has no address of its own, ``worker_url`` is its name. ``confirmed`` is
    false where an attempt was given up and may still be running.
    """

    created: Naive
    model: str
    name: str
    primary_data_dir: Annotated[
        str,
        Meta(description="Files are at <primary_url>/<primary_data_dir>/<uuid>/<file>."),
    ]
    primary_url: str
    status: State
    uuid: Id
    worker_data_dir: Annotated[str | None, Meta(description="Where it runs, on the worker.")]
    worker_url: Annotated[str | None, Meta(description="The worker; null until one has it.")]
    on_primary: Annotated[bool, Meta(description="Always true: the primary has its files.")]
    attempt: Annotated[int, Meta(ge=1, description="1, and one more for each worker lost.")]
    kill_requested: Annotated[bool, Meta(description="Its end was asked for.")]
    reason: Annotated[str | None, Meta(description="Why it ended, or runs again.")]
    failure: Failure | None
    confirmed: Annotated[bool, Meta(description="False: an attempt given up may still run.")]
    exit_code: Annotated[int | None, Meta(description="The model's; null if it never ended.")]
    signal: Annotated[int | None, Meta(description="The signal that the model died by.")]
    wall_seconds: Annotated[float | None, Meta(description="How long the model ran.")]
    cpu_seconds: Annotated[float | None, Meta(description="Of all its processes.")]
    peak_memory: Annotated[int | None, Meta(description="Of the largest process, in bytes.")]
    worker: Annotated[str | None, Meta(description="The name of the worker that ran it last.")]
    progress: Percent | None
    started: Naive | None
    ended: Naive | None
    updated: Naive
    source: Annotated[Source, Meta(description="How its input came.")]
    rerun_of: Annotated[str | None, Meta(description="The job whose input it has.")]
    by: Annotated[str, Meta(description="Who submitted it, as far as that is known.")]
    purged: Annotated[bool, Meta(description="Whether its files were removed.")]
    input: Digest | None
    log: Digest | None
    output: Digest | None


class JobDetail(Job, frozen=True, kw_only=True):
    """One job, with what changes while it waits and runs, and what the asker may do."""

    place: Annotated[int | None, Meta(description="Jobs of its model that wait before it.")]
    waiting: Annotated[str | None, Meta(description="Why it waits, in a sentence.")]
    advice: Annotated[str | None, Meta(description="Of a failure: who must act, and how.")]
    last_lines: Annotated[
        tuple[str, ...], Meta(description="Of a failure: the lines of its log that say why.")
    ]
    may_kill: Annotated[bool, Meta(description="Whether who asks may end it now.")]
    may_rerun: Annotated[bool, Meta(description="Whether its input is there to run again.")]
    worker_liveness: Liveness | None
    worker_silent_seconds: Annotated[
        float | None, Meta(description="Since its worker gave a sign of life.")
    ]
    worker_given_up_seconds: Annotated[
        int | None, Meta(description="Until the attempt is given up; null: never.")
    ]
    worker_remark: Annotated[
        str | None, Meta(description="What to know of a worker that is silent.")
    ]


class JobState(Struct, frozen=True, kw_only=True):
    """What changes of a job: small, for polling.

    ``seq`` is that of the job's newest record: where it is another than before, the job
    itself and its events have changed.
    """

    status: State
    attempt: Ordinal
    progress: Percent | None
    kill_requested: bool
    place: Annotated[int | None, Meta(description="Jobs of its model that wait before it.")]
    waiting: Annotated[str | None, Meta(description="Why it waits, in a sentence.")]
    remark: Annotated[str | None, Meta(description="What to know of a worker that is silent.")]
    log_size: Count
    seq: Ordinal
    final: Annotated[bool, Meta(description="COMPLETE, FAILED or KILLED: nothing will change.")]


class JobList(Struct, frozen=True):
    """Jobs, newest first. ``next`` is the ``before`` of the following page, null at the end.

    ``counts`` says how many jobs there are in each state, whatever was asked for.
    """

    data: list[Job]
    next: int | None
    counts: dict[State, Count]


class RunFacts(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a run ended; ``exit_code`` is missing where it died by a signal."""

    exit_code: int | None = None
    signal: int | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    containment: str = ""
    ended: tuple[str, ...] = ()


class Record(Struct, frozen=True, kw_only=True):
    """One line of the ledger: an event with its place. What is beside ``job`` depends on it."""

    seq: Ordinal
    time: Moment
    kind: Literal[
        "Submitted",
        "Queued",
        "Started",
        "Processed",
        "Completed",
        "Failed",
        "Requeued",
        "KillRequested",
        "Killed",
        "Purged",
        "Noted",
    ]
    job: Id
    attempt: Ordinal | UnsetType = UNSET
    name: str | UnsetType = UNSET
    model: str | UnsetType = UNSET
    by: str | UnsetType = UNSET
    source: Source | UnsetType = UNSET
    url: Annotated[
        str | UnsetType,
        Meta(description="Where the input comes from. What may be secret of it, admins alone see."),
    ] = UNSET
    drop: str | UnsetType = UNSET
    rerun_of: str | UnsetType = UNSET
    input: Digest | UnsetType = UNSET
    worker: str | UnsetType = UNSET
    instance: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    node_url: str | UnsetType = UNSET
    run_dir: str | UnsetType = UNSET
    failure: Failure | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    confirmed: bool | UnsetType = UNSET
    run: RunFacts | UnsetType = UNSET
    log: Digest | UnsetType = UNSET
    output: Digest | UnsetType = UNSET
    text: str | UnsetType = UNSET
    hash: Sha256


class Records(Struct, frozen=True):
    """A job's records, oldest first."""

    data: list[Record]


class News(Struct, frozen=True):
    """``seq`` is the ledger's newest; ``data`` the first records after the one asked for."""

    seq: Count
    data: list[Record]


class Node(Struct, frozen=True, kw_only=True):
    """The primary, or a worker. ``model`` names all its models, ``models`` their versions."""

    name: str
    node_url: str
    node_type: Literal["PRIMARY", "WORKER"]
    status: Literal["WAITING", "RUNNING", "STOPPED"]
    liveness: Liveness
    host: str
    models: Annotated[dict[str, str], Meta(description="Its models, and their versions.")]
    version: str
    outdated: Annotated[bool, Meta(description="Its version is not the primary's.")]
    slots: Annotated[int, Meta(ge=0, description="Jobs that it may run at once.")]
    jobs: Annotated[tuple[str, ...], Meta(description="The ids of those that it has.")]
    last_seen: Annotated[float | None, Meta(description="Seconds since it gave a sign of life.")]
    free_disk: Annotated[int, Meta(description="In bytes.")]
    free_memory: Annotated[int, Meta(description="In bytes.")]
    paused: Annotated[str, Meta(description="Why it claims nothing.")]
    error: Annotated[str, Meta(description="The last that it met.")]
    unbelieved: Annotated[str, Meta(description="Why a report of its was not believed.")]
    pid: int
    model: Annotated[str, Meta(description="The names of its models, parted by commas.")]


class NodeList(Struct, frozen=True):
    """The primary first, then the workers by name."""

    data: list[Node]


class Run(Struct, frozen=True, kw_only=True):
    """One run of a job on a worker."""

    worker: str
    job: Id
    name: str
    model: str
    attempt: Ordinal
    started: Moment
    ended: Moment | None
    end: Literal["RUNNING", "COMPLETE", "FAILED", "KILLED", "LOST"]


class Timeline(Struct, frozen=True, kw_only=True):
    """Which worker ran what. ``cut``: there were older runs, so ``since`` is later than asked."""

    since: Moment
    until: Moment
    cut: bool
    data: list[Run]


class ModelFile(Struct, frozen=True, kw_only=True):
    """A file that a model expects in its input, or may get."""

    name: str
    description: str
    optional: bool
    columns: Annotated[tuple[str, ...], Meta(description="That a CSV's first line must hold.")]
    pattern: Annotated[str | None, Meta(description="That its whole text must match.")]


class Model(Struct, frozen=True, kw_only=True):
    """What a submitter may know of a model."""

    name: str
    title: str
    description: str
    parallel: Annotated[int, Meta(ge=1, description="Its runs that one worker may have at once.")]
    timeout: Annotated[float | None, Meta(description="Seconds a run may take; null: any.")]
    attempts: Annotated[int, Meta(ge=1, description="Starts at most, if workers get lost.")]
    required: Annotated[tuple[str, ...], Meta(description="Files that its input must hold.")]
    files: Annotated[tuple[ModelFile, ...], Meta(description="What is known of its input's files.")]
    input_description: str
    output_description: str
    contact: Annotated[str, Meta(description="Whom to ask about it; may be empty.")]
    example: Annotated[str | None, Meta(description="Where its example input is.")]
    ready: Annotated[str, Meta(description="Whether a job of it would run now, in words.")]
    version: str


class ModelList(Struct, frozen=True):
    """``errors``: by folder, why its model cannot be used."""

    data: list[Model]
    errors: dict[str, str]


class OutputFile(Struct, frozen=True, kw_only=True):
    """A file in a job's output."""

    path: str
    size: Count
    kind: Literal["picture", "table", "text", "other"]


class OutputFiles(Struct, frozen=True):
    """The files in a job's output, in the order of their names."""

    data: list[OutputFile]


class Preview(Struct, frozen=True, kw_only=True):
    """The beginning of an output file: ``rows`` of a table, or ``text``; ``cut``: not all of it."""

    kind: Literal["picture", "table", "text", "other"]
    text: str | UnsetType = UNSET
    rows: list[list[str]] | UnsetType = UNSET
    cut: bool


class LogMatch(Struct, frozen=True):
    """A line of the log. ``offset`` is that of its first byte."""

    offset: Count
    text: str


class LogMatches(Struct, frozen=True, kw_only=True):
    """Lines that hold what was looked for; ``next`` is where to go on, null at the end."""

    data: list[LogMatch]
    next: Count | None
    size: Annotated[int, Meta(ge=0, description="Of the log.")]


class Health(Struct, frozen=True):
    """All is well; where it is not, a problem with status 503 says why."""

    version: Annotated[str, Meta(description="The primary's.")]
    status: Literal["ok"] = "ok"


class Findings(Struct, frozen=True):
    """What the server's keeper should know, a line each."""

    findings: list[str]


class Identity(Struct, frozen=True, kw_only=True):
    """Who is asking: ``admin`` may do everything; ``signed_in`` has shown a key."""

    admin: bool
    signed_in: bool
    name: Annotated[str | None, Meta(description="Of the key that was shown.")]
    role: Annotated[Role, Meta(description="What may be done: each, what those before may, too.")]
