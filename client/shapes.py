"""What a primary answers, as types: plain dicts, with the members that ``/openapi.json`` names.

Sizes are in bytes. Times are UTC: those of a job ISO 8601 without a zone
(``2014-09-24T21:22:12.309192``), those of a record RFC 3339.

Annotations are real objects here, not text, so that Python itself knows which members
may be missing (``__required_keys__``).
"""

from typing import Literal, NotRequired, TypedDict

Status = Literal["CREATED", "QUEUED", "RUNNING", "PROCESSED", "COMPLETE", "FAILED", "KILLED"]
Failure = Literal["input", "model", "limit", "lost", "system"]
Kind = Literal["picture", "table", "text", "other"]
Source = Literal["upload", "url", "drop"]
RunEnd = Literal["RUNNING", "COMPLETE", "FAILED", "KILLED", "LOST"]
Liveness = Literal["alive", "unreachable", "lost", "stopped", "new"]

EventKind = Literal[
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


class Digest(TypedDict):
    """A file that the primary holds."""

    size: int
    sha256: str


class Job(TypedDict):
    """A job as ``jobs`` lists it. ``failure`` says who must act, ``reason`` why it ended."""

    created: str
    model: str
    name: str
    primary_data_dir: str
    primary_url: str
    status: Status
    uuid: str
    worker_data_dir: str | None
    worker_url: str | None
    on_primary: bool
    attempt: int
    kill_requested: bool
    reason: str | None
    failure: Failure | None
    confirmed: bool
    exit_code: int | None
    signal: int | None
    wall_seconds: float | None
    cpu_seconds: float | None
    peak_memory: int | None
    worker: str | None
    progress: int | None
    started: str | None
    ended: str | None
    updated: str
    source: Source
    rerun_of: str | None
    by: str
    purged: bool
    input: Digest | None
    log: Digest | None
    output: Digest | None


class JobDetail(Job):
    """One job, with its place in the queue (0 is next) and why it waits.

    Of a failure: ``advice`` says who must act, and how; ``last_lines`` are those of its log
    that say why.
    """

    place: int | None
    waiting: str | None
    advice: str | None
    last_lines: list[str]
    may_kill: bool
    may_rerun: bool
    worker_liveness: Liveness | None
    worker_silent_seconds: float | None
    worker_given_up_seconds: int | None
    worker_remark: str | None


class JobState(TypedDict):
    """What changes of a job while it waits and runs. ``progress`` is in percent."""

    status: Status
    attempt: int
    progress: int | None
    kill_requested: bool
    place: int | None
    waiting: str | None
    remark: str | None
    log_size: int
    seq: int
    final: bool


class RunFacts(TypedDict):
    """How a run ended."""

    exit_code: NotRequired[int | None]
    signal: NotRequired[int | None]
    wall_seconds: NotRequired[float]
    cpu_seconds: NotRequired[float]
    peak_memory: NotRequired[int]
    containment: NotRequired[str]
    ended: NotRequired[list[str]]


class Record(TypedDict):
    """A line of the ledger. Which members are there beside the first depends on ``kind``."""

    seq: int
    time: str
    kind: EventKind
    job: str
    hash: str
    attempt: NotRequired[int]
    name: NotRequired[str]
    model: NotRequired[str]
    by: NotRequired[str]
    source: NotRequired[Source]
    url: NotRequired[str]
    drop: NotRequired[str]
    rerun_of: NotRequired[str]
    input: NotRequired[Digest]
    worker: NotRequired[str]
    instance: NotRequired[str]
    host: NotRequired[str]
    node_url: NotRequired[str]
    run_dir: NotRequired[str]
    failure: NotRequired[Failure]
    reason: NotRequired[str]
    confirmed: NotRequired[bool]
    run: NotRequired[RunFacts]
    log: NotRequired[Digest]
    output: NotRequired[Digest]
    text: NotRequired[str]


class Node(TypedDict):
    """The primary, or a worker. ``last_seen``: seconds since it gave a sign of life."""

    name: str
    node_url: str
    node_type: Literal["PRIMARY", "WORKER"]
    status: Literal["WAITING", "RUNNING", "STOPPED"]
    liveness: Liveness
    host: str
    models: dict[str, str]
    version: str
    outdated: bool
    slots: int
    jobs: list[str]
    last_seen: float | None
    free_disk: int
    free_memory: int
    paused: str
    error: str
    unbelieved: str
    pid: int
    model: str


class ModelFile(TypedDict):
    """A file that a model expects in its input, or may get."""

    name: str
    description: str
    optional: bool
    columns: list[str]
    pattern: str | None


class Model(TypedDict):
    """What a model takes and gives, and whether a job of it would run now (``ready``).

    ``example``: the path of its example input, if it has one.
    """

    name: str
    title: str
    description: str
    parallel: int
    timeout: float | None
    attempts: int
    required: list[str]
    files: list[ModelFile]
    input_description: str
    output_description: str
    contact: str
    example: str | None
    ready: str
    version: str


class Run(TypedDict):
    """One run of a job on a worker. ``ended`` is None while it runs."""

    worker: str
    job: str
    name: str
    model: str
    attempt: int
    started: str
    ended: str | None
    end: RunEnd


class Timeline(TypedDict):
    """Which worker ran what. ``cut``: there were older runs, so ``since`` is later than asked."""

    since: str
    until: str
    cut: bool
    data: list[Run]


class LogMatch(TypedDict):
    """A line of a log. ``offset`` is that of its first byte."""

    offset: int
    text: str


class OutputFile(TypedDict):
    """A file in a job's output."""

    path: str
    size: int
    kind: Kind


class Finding(TypedDict):
    """One thing that is wrong with an input: the file, what was expected, what was found."""

    file: str
    expected: str
    found: str
