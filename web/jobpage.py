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
from web import failure, headline, history, lastlines, preview, tails, words

FILES = 50  # of the output, listed on the job's own page
PICTURES = 12  # of them shown as pictures
LONGEST = 200  # characters of the text beside the progress bar

_PROGRESS = re.compile(r"^::progress +\d{1,3} +(\S.*)$", re.MULTILINE)


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
        shown = (
            f for f in self.files if f.kind == "picture" and 0 < f.size <= preview.PICTURE_SHOWN
        )
        return tuple(shown)[:PICTURES]


def context(primary: Primary, job: Job, *, whole_urls: bool = False) -> dict[str, object]:
    """The values of ``views/job.html``, beside ``may_kill`` and ``may_rerun``.

    Without ``whole_urls`` addresses are without what may be secret of them.
    """
    now = datetime.now(UTC)
    records = primary.history(job.id)
    holder = primary.holder(job)
    tail = tails.of(primary, job)
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
        "contact": _contact(primary, job),
        "how": failure.how(job),
        "last_lines": lastlines.last_lines(tail.text) if tail and job.failure else [],
        "results": _results(primary, job),
        "tail": tail,
        "facts": history.facts(records, whole_urls=whole_urls),
        "url": job.url if whole_urls or not job.url else words.discreet(job.url),
        "ended": history.ended(job.run) if job.state is State.KILLED and job.confirmed else "",
        "signal": failure.signal_name,
    }


def _contact(primary: Primary, job: Job) -> str:
    """Whom to ask about the model of a job that failed by it."""
    model = primary.models().get(job.model)
    return model.contact if model and job.failure in ("model", "limit") else ""


def _asked(records: list[Record]) -> str | None:
    """When the job's end was asked for."""
    times = [record.time for record in records if isinstance(record.event, KillRequested)]
    return times[0] if times else None


def _doing(tail: tails.Tail) -> str:
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
    # What lies at the top is what the modeller wants to be seen; a folder may hold thousands.
    entries = sorted(outputs.entries, key=lambda entry: entry.path.count("/"))
    return Results(tuple(map(_result, entries[:FILES])), len(entries))


def _result(file: OutputFile) -> Result:
    path = file.path
    return Result(preview.visible(path), preview.address(path), file.size, preview.kind(path))
