"""What the page of the job list shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from urllib.parse import urlencode

from msgspec import structs

from ledger.board import Page, Query
from ledger.jobs import Job, State
from primary.copies import has_input
from primary.server import Primary
from web import history, words

REASON = 160  # characters of a failure's reason in a row; the job's page has all of it
_MIDNIGHT = "T00:00:00Z"
_FIRST = f"0001-01-01{_MIDNIGHT}"  # no earlier time can be written


class Row(NamedTuple):
    """A job as a line of the list. ``spent`` is in seconds, None where nothing was.

    ``doing`` says of what: waits, runs, ran; ``clock`` since when, where it still does, so
    that a page that stays open can go on counting. ``fault``: why it failed, or what is odd.
    """

    job: Job
    progress: int | None
    doing: str
    spent: float | None
    clock: str | None
    failure: str
    fault: str
    has_output: bool
    may_kill: bool
    may_rerun: bool


class Chip(NamedTuple):
    """A state to look for, how many jobs are in it, and whether it was chosen."""

    state: State
    jobs: int
    chosen: bool


def context(primary: Primary, query: Query, now: datetime | None = None) -> dict[str, object]:
    """The values of ``views/jobs.html`` for the jobs that ``query`` finds."""
    now = now or datetime.now(UTC)
    # First the number, then the jobs: a page that is older than its number asks again.
    seq = primary.wait(0, 0)
    page = primary.jobs(query)
    counts = primary.counts()
    models = primary.models()
    return {
        "query": query,
        "rows": [_row(primary, job, now, job.model in models) for job in page.jobs],
        "said": _said(primary, query, page, sum(counts.values())),
        "filtered": _is_filtered(query),
        "any_job": any(counts.values()),
        "newest": address(query) if query.before is not None else None,
        "older": address(query, page.next) if page.next is not None else None,
        "chips": [Chip(state, counts[state], state in query.states) for state in State],
        "models": sorted({*models, *([query.model] if query.model else [])}),
        "since": first_day(query),
        "until": last_day(query),
        "seq": seq,
        "now": now,
    }


def address(query: Query, before: int | None = None) -> str:
    """The page of the jobs that ``query`` finds: the newest, or those before a cursor."""
    fields = [("state", str(state)) for state in State if state in query.states]
    fields += [("model", query.model or ""), ("q", query.text or "")]
    fields += [("from", first_day(query)), ("to", last_day(query))]
    if query.limit != Query().limit:
        fields.append(("limit", str(query.limit)))
    if before is not None:
        fields.append(("before", str(before)))
    given = urlencode([(name, value) for name, value in fields if value])
    return f"/jobs?{given}" if given else "/jobs"


def first_day(query: Query) -> str:
    """``from`` as the address has it: a day where the query begins with one, else a time."""
    return (query.since or "").removesuffix(_MIDNIGHT)


def last_day(query: Query) -> str:
    """``to`` as the address has it: a day is meant with all of it, so the query ends after it."""
    if not query.until:
        return ""
    if query.until <= _FIRST:  # there is no day before it
        return query.until
    if query.until.endswith(_MIDNIGHT):
        return (words.parsed(query.until) - timedelta(days=1)).date().isoformat()
    last = words.parsed(query.until) - timedelta(microseconds=1)
    return f"{last.replace(tzinfo=None).isoformat()}Z"


def _said(primary: Primary, query: Query, page: Page, whole: int) -> str:
    """How many jobs there are, as far as that can be told at no cost."""
    shown = len(page.jobs)
    more = page.next is not None or query.before is not None
    if not more:
        return words.many(shown, "job")
    older = query.before is not None
    if query.text or query.since or query.until:  # to count these means to read them all
        where = "of the older ones" if older else "the newest"
        return f"{words.many(shown, 'job')}, {where}" if shown else "no older jobs"
    total = primary.count(query) if _is_filtered(query) else whole
    where = f"{shown:,} of the older ones" if older else f"the newest {shown:,}"
    return f"{words.many(total, 'job')}; shown: {where}"


def _is_filtered(query: Query) -> bool:
    return structs.replace(query, before=None, limit=Query().limit) != Query()


def _row(primary: Primary, job: Job, now: datetime, known: bool) -> Row:
    doing, clock, spent = _spent(job, now)
    holder = None if job.final else primary.holder(job)
    fault = holder.remark if holder else ""
    if job.final and job.state is not State.COMPLETE:
        fault = job.reason or ""
    return Row(
        job=job,
        progress=primary.progress(job),
        doing=doing,
        spent=spent,
        clock=clock,
        failure=job.failure or "",
        fault=one_line(fault, REASON),
        has_output=job.output is not None and job.output.size != history.NO_FILES,
        may_kill=not job.final and not job.kill_wanted,
        may_rerun=job.final and known and has_input(job),
    )


def _spent(job: Job, now: datetime) -> tuple[str, str | None, float | None]:
    """What the job spends its time on, since when if it still does, and how many seconds."""
    if job.final:
        ran = words.seconds_between(job.started, job.ended)
        if job.run is not None:
            ran = job.run.wall_seconds  # as the worker measured it, without the ways there and back
        return ("ran", None, ran) if ran is not None else ("", None, None)
    if job.state in (State.RUNNING, State.PROCESSED):
        return "runs", job.started, words.seconds_between(job.started, now)
    return "waits", job.created, words.seconds_between(job.created, now)


def one_line(text: str, most: int) -> str:
    """The first line of ``text``, cut at ``most`` characters."""
    line = text.strip().partition("\n")[0]
    cut = len(line) > most or line != text.strip()
    return f"{line[:most].rstrip()} …" if cut else line
