"""What the page of one job shows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from ledger.events import KillRequested, Record
from ledger.jobs import Job, State
from primary.errors import NoSuchFile
from primary.outputs import OutputFile
from primary.server import Primary
from web import failure, headline, history, lastlines, preview, terminal

LOG_TAIL = 64 * 1024  # bytes of the log that the page shows by itself; log.js reads on
FILES = 50  # of the output, listed on the job's own page
PICTURES = 12  # of them shown as pictures
LONGEST = 200  # characters of the text beside the progress bar

_PROGRESS = re.compile(r"^::progress +\d{1,3} +(\S.*)$", re.MULTILINE)


class Tail(NamedTuple):
    """The end of a log as plain text; it was read between ``start`` and ``end``, in bytes."""

    text: str
    start: int
    end: int


class Result(NamedTuple):
    """A file in the output: its path as it is shown, and for an address; ``size`` in bytes."""

    path: str
    at: str
    size: int
    kind: preview.Kind


class Results(NamedTuple):
    """The first files of ``total``; ``trouble`` says why none can be shown."""

    files: tuple[Result, ...] = ()
    total: int = 0
    trouble: str = ""

    @property
    def pictures(self) -> tuple[Result, ...]:
        shown = (f for f in self.files if f.kind == "picture" and f.size <= preview.PICTURE_SHOWN)
        return tuple(shown)[:PICTURES]


def context(primary: Primary, job: Job) -> dict[str, object]:
    """The values of ``views/job.html``, beside ``may_kill`` and ``may_rerun``."""
    now = datetime.now(UTC)
    records = primary.history(job.id)
    holder = primary.holder(job)
    tail = _tail(primary, job)
    progress = primary.progress(job)
    waiting = primary.waiting(job)
    return {
        "job": job,
        "now": now,
        "headline": headline.headline(job, now, _asked(records)),
        "waiting": waiting,
        "place": headline.place(job, waiting.place) if waiting else "",
        "remark": holder.remark if holder else "",
        "progress": progress,
        "doing": _doing(tail) if progress is not None and tail else "",
        "explanation": failure.explain(job),
        "how": failure.how(job),
        "last_lines": lastlines.last_lines(tail.text) if tail and job.failure else [],
        "results": _results(primary, job),
        "tail": tail,
        "facts": history.facts(records),
        "ended": history.ended(job.run) if job.state is State.KILLED and job.confirmed else "",
        "signal": failure.signal_name,
    }


def _asked(records: list[Record]) -> str | None:
    """When the job's end was asked for."""
    times = [record.time for record in records if isinstance(record.event, KillRequested)]
    return times[0] if times else None


def _tail(primary: Primary, job: Job) -> Tail | None:
    """The end of the log; None: there is none."""
    try:
        file = primary.open_file(job, "job_log.txt")
    except NoSuchFile:
        return None
    with file:
        start = max(0, file.size - LOG_TAIL)
        file.file.seek(start)
        data = file.file.read(LOG_TAIL)
    end = start + len(data)
    if start and (line := data.find(b"\n") + 1):  # begin with a whole line
        start, data = start + line, data[line:]
    return Tail(terminal.plain(data, cut=start > 0), start, end)


def _doing(tail: Tail) -> str:
    """What the model said with its last progress line."""
    said = _PROGRESS.findall(tail.text)
    return said[-1][:LONGEST] if said else ""


def _results(primary: Primary, job: Job) -> Results | None:
    """None where the job has no output (any more)."""
    if job.output is None or job.purged:
        return None
    try:
        outputs = primary.outputs(job)
    except NoSuchFile as e:
        return Results(trouble=str(e))
    entries = outputs.entries
    return Results(tuple(map(_result, entries[:FILES])), len(entries))


def _result(file: OutputFile) -> Result:
    path = file.path
    return Result(preview.visible(path), preview.address(path), file.size, preview.kind(path))
