"""The spool's names to and from text. Pure.

The name is the record: a ticket's name holds its place in the queue, its job,
its attempt and the hash of its input, so nothing else has to be read to know
what a file is about. ``parse`` functions return None for a name that is not
ours: such names never stop a listing.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from spool.errors import BadName

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_KEY = rf"(?P<job>{_UUID})\.(?P<attempt>[1-9][0-9]{{0,8}})"
_TICKET = (
    rf"(?P<seq>[0-9]{{20}})\.(?P<attempt>[1-9][0-9]{{0,8}})"
    rf"-(?P<job>{_UUID})-(?P<sha>[0-9a-f]{{64}})\.zip"
)
_INSTANCE = r"[0-9a-f]{16}"
_KINDS = {"started": 1, "processed": 2, "final": 3}

# Models and workers name folders, SSH accounts and URL parts: lower-case,
# and short enough that every derived name stays below 255 bytes.
_PLAIN = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}\Z", re.ASCII)

JOB_RE = re.compile(rf"{_UUID}\Z", re.ASCII)
_TICKET_RE = re.compile(rf"{_TICKET}\Z", re.ASCII)
_CLAIM_RE = re.compile(rf"(?P<ticket>{_TICKET})~(?P<instance>{_INSTANCE})\Z", re.ASCII)
_KEY_RE = re.compile(rf"{_KEY}\Z", re.ASCII)
_REPORT_RE = re.compile(rf"{_KEY}\.(?P<n>[123])-(?P<kind>started|processed|final)\Z", re.ASCII)


class Ticket(NamedTuple):
    """A queued input. ``seq`` is the job's place in the queue, ``sha256`` its input's hash."""

    seq: int
    attempt: int
    job: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.seq:020d}.{self.attempt}-{self.job}-{self.sha256}.zip"

    @property
    def key(self) -> str:
        return key(self.job, self.attempt)


class Claim(NamedTuple):
    """A ticket in the ``cur/`` of the worker whose instance holds it."""

    ticket: Ticket
    instance: str

    def __str__(self) -> str:
        return f"{self.ticket}~{self.instance}"

    @property
    def key(self) -> str:
        return self.ticket.key


class ReportName(NamedTuple):
    """A report's name; ``kind`` is started, processed or final."""

    job: str
    attempt: int
    kind: str

    def __str__(self) -> str:
        return f"{key(self.job, self.attempt)}.{_KINDS[self.kind]}-{self.kind}"

    @property
    def key(self) -> str:
        return key(self.job, self.attempt)


def key(job: str, attempt: int) -> str:
    """One attempt's name: ``<job>.<attempt>``."""
    return f"{job}.{attempt}"


def parse_key(text: str) -> tuple[str, int] | None:
    """(job, attempt) of ``<job>.<attempt>``, or None."""
    m = _KEY_RE.match(text)
    return (m["job"], int(m["attempt"])) if m else None


def split_key(text: str) -> tuple[str, int]:
    """(job, attempt) of a key that we made ourselves; raises BadName for anything else."""
    parsed = parse_key(text)
    if parsed is None:
        raise BadName(f"{text!r}: expected <job>.<attempt>")
    return parsed


def parse_ticket(text: str) -> Ticket | None:
    m = _TICKET_RE.match(text)
    return Ticket(int(m["seq"]), int(m["attempt"]), m["job"], m["sha"]) if m else None


def parse_claim(text: str) -> Claim | None:
    m = _CLAIM_RE.match(text)
    if not m:
        return None
    return Claim(Ticket(int(m["seq"]), int(m["attempt"]), m["job"], m["sha"]), m["instance"])


def parse_report(text: str) -> ReportName | None:
    m = _REPORT_RE.match(text)
    if not m or _KINDS[m["kind"]] != int(m["n"]):
        return None
    return ReportName(m["job"], int(m["attempt"]), m["kind"])


def parse_suffixed(text: str, suffix: str) -> tuple[str, int] | None:
    """(job, attempt) of ``<job>.<attempt><suffix>``, such as a log's or an output's name."""
    return parse_key(text.removesuffix(suffix)) if text.endswith(suffix) else None


def plain(text: str, what: str) -> str:
    """``text`` if it can name a model or a worker; else raises BadName, naming ``what``."""
    if not _PLAIN.match(text):
        raise BadName(
            f"{what} {text!r}: expected 1 to 64 of a-z 0-9 _ . - that begin with a letter or digit"
        )
    return text


def shown(text: str, limit: int = 255) -> str:
    """A peer's text in one line and at most ``limit`` characters.

    Line ends and tabs become blanks; other control characters, which could drive
    a terminal, and those that reorder or hide text become U+FFFD.
    """
    line = "".join(
        c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text[: limit + 1]
    )
    return line if len(line) <= limit else line[: limit - 1] + "\u2026"


def is_plain(text: str) -> bool:
    """Whether ``text`` can name a model or a worker."""
    return bool(_PLAIN.match(text))


# --- where things lie, relative to the spool's root -------------------------------

BELL = "bell"
MODELS = "models"
WORKERS = "workers"
DROP, NEW = "drop", "new"
BEAT, CUR, TMP, LOG, OUT, REPORTS, STOP = (
    "beat.json", "cur", "tmp", "log", "out", "reports", "stop",
)  # fmt: skip
WORKER_FOLDERS = (CUR, TMP, LOG, OUT, REPORTS, STOP)


def model_folder(model: str) -> str:
    return f"{MODELS}/{model}"


def new_folder(model: str) -> str:
    return f"{MODELS}/{model}/{NEW}"


def drop_folder(model: str) -> str:
    return f"{MODELS}/{model}/{DROP}"


def worker_folder(worker: str) -> str:
    return f"{WORKERS}/{worker}"
