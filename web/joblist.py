"""What the page of the job list shows."""

from __future__ import annotations

from ledger.board import Page, Query
from primary.server import Primary


def context(primary: Primary, query: Query) -> dict[str, object]:
    """The values of ``views/jobs.html`` for the jobs that ``query`` finds."""
    page = primary.jobs(query)
    return {
        "query": query,
        "jobs": page.jobs,
        "older": _older(query, page),
        "counts": primary.counts(),
        "models": sorted(primary.models()),
        "progress": {job.id: primary.progress(job) for job in page.jobs},
        "silent": {job.id for job in page.jobs if (h := primary.holder(job)) and h.remark},
        "seq": primary.wait(0, 0),
    }


def _older(query: Query, page: Page) -> list[tuple[str, str]] | None:
    """The fields that ask for the jobs behind this page, or None at the end."""
    if page.next is None:
        return None
    fields = [("state", str(state)) for state in sorted(query.states)]
    fields += [("model", query.model or ""), ("q", query.text or "")]
    fields += [("limit", str(query.limit)), ("before", str(page.next))]
    return [(name, value) for name, value in fields if value]
