"""The past that bench/pages.py measures on: a ledger that holds, and pages that show it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from ledger.board import Query
from ledger.jobs import FINAL
from primary.server import Primary
from tests import past
from web.access import Access
from web.routes import application

JOBS = 400


def test_a_busy_day(data: Path, models: Path, kit: Any) -> None:
    last = past.write(data, JOBS)
    primary = Primary.open(data, models, ())
    try:
        jobs = primary.jobs(Query(limit=1000)).jobs
        assert len(jobs) == JOBS and all(job.state in FINAL for job in jobs)
        ends = Counter(run.end for run in primary.timeline().runs)
        assert ends.total() > JOBS and set(ends) == {"COMPLETE", "FAILED", "KILLED", "LOST"}
        browser = kit.Browser(application(primary, Access(anonymous="admin")), accept="text/html")
        page = browser.get("/status").text
        assert page.count('fill="url(#end-') > 100 and "the newest 200 of" in page
        assert browser.get("/jobs").text.count("<tr id=") == 100
        assert "table-007.csv" in browser.get(f"/jobs/{last}").text
    finally:
        primary.close()
