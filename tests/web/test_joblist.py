"""The list of jobs: what a row says, and addresses that lead back to the same jobs."""

from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from ledger.board import Query
from ledger.events import Digest, RunFacts
from ledger.jobs import FINAL, Job, State
from tests.pastjobs import digest, packed
from web import joblist
from web.parameters import Parameters

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).replace(tzinfo=None).isoformat() + "Z"


class Quiet:
    """A primary that knows one model and nothing else."""

    def __init__(self, remark: str = "", progress: int | None = None) -> None:
        self._remark, self._progress = remark, progress

    def holder(self, _: Job) -> Any:
        return SimpleNamespace(remark=self._remark) if self._remark else None

    def progress(self, _: Job) -> int | None:
        return self._progress


def job(state: State, **facts: Any) -> Job:
    given: dict[str, Any] = {
        "id": "00000000-0000-4000-8000-000000000001",
        "name": "n",
        "model": "m",
        "by": "1.2.3.4",
        "source": "upload",
        "seq": 1,
        "created": at(100),
        "updated": at(1),
        "input": Digest(1, "0" * 64),
    }
    return Job(state=state, **(given | facts))


def row(of: Job, known: bool = True, **primary: Any) -> joblist.Row:
    return joblist._row(Quiet(**primary), of, NOW, known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"state": State.CREATED}, ("waits", at(100), 100)),
        ({"state": State.QUEUED}, ("waits", at(100), 100)),
        ({"state": State.RUNNING, "started": at(40)}, ("runs", at(40), 40)),
        ({"state": State.PROCESSED, "started": at(40)}, ("runs", at(40), 40)),
        ({"state": State.COMPLETE, "started": at(40), "ended": at(10)}, ("ran", None, 30)),
        ({"state": State.KILLED, "ended": at(10)}, ("", None, None)),  # it never ran
        ({"state": State.FAILED, "ended": at(10)}, ("", None, None)),
    ],
)
def test_what_its_time_goes_to(facts: dict[str, Any], said: tuple[Any, ...]) -> None:
    found = row(job(**facts))
    assert (found.doing, found.clock, found.spent) == said


def test_an_output_that_holds_nothing_is_not_offered() -> None:
    for data, offered in ((packed(), False), (packed("a.txt"), True)):
        assert row(job(State.COMPLETE, output=digest(data))).has_output is offered
    assert not row(job(State.KILLED)).has_output


def test_a_run_took_what_its_worker_measured() -> None:
    run = RunFacts(exit_code=0, wall_seconds=1.5, cpu_seconds=1, peak_memory=1)
    assert row(job(State.COMPLETE, started=at(40), ended=at(10), run=run)).spent == 1.5


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kill_wanted", [False, True])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("gone", [{}, {"purged": True}, {"input": None}])
def test_what_can_be_done_with_it(
    state: State, kill_wanted: bool, known: bool, gone: dict[str, Any]
) -> None:
    kill_by = "somebody" if kill_wanted else None
    found = row(job(state, kill_by=kill_by, **gone), known)
    assert found.may_kill == (state not in FINAL and not kill_wanted)
    assert found.may_rerun == (state in FINAL and known and not gone)


def test_a_failure_says_why_in_one_line() -> None:
    failed = job(State.FAILED, failure="model", reason="exit code 3\nand a long story")
    assert (row(failed).failure, row(failed).fault) == ("model", "exit code 3 …")
    long = row(job(State.FAILED, failure="input", reason="x" * 1000)).fault
    assert len(long) == joblist.REASON + 2 and long.endswith(" …")
    assert row(job(State.COMPLETE, reason="note")).fault == ""


def test_a_silent_worker_is_said_while_the_job_runs() -> None:
    running = job(State.RUNNING, started=at(10))
    assert row(running, remark="its worker is silent").fault == "its worker is silent"
    assert row(running, progress=0).progress == 0


# --- addresses


DAYS = ("", "2026-11-23", "2024-02-29", "2026-12-31", "2026-11-23T08:30:00Z")
TIMES = (*DAYS, "2026-11-23T08:30:00.25Z", "2026-11-23T10:30:00+02:00")


@pytest.mark.parametrize(
    ("since", "until"), list(itertools.product(TIMES, repeat=2)), ids=lambda text: text or "any"
)
def test_an_address_leads_back_to_the_same_times(since: str, until: str) -> None:
    asked = Parameters(f"from={since.replace('+', '%2B')}&to={until.replace('+', '%2B')}")
    query = Query(since=asked.beginning("from"), until=asked.end("to"))
    if since in DAYS and until in DAYS:
        assert (joblist.first_day(query), joblist.last_day(query)) == (since, until)
    again = Parameters(joblist.address(query).partition("?")[2])
    assert (again.beginning("from"), again.end("to")) == (query.since, query.until)


@pytest.mark.parametrize(
    "to", ["0001-01-01T00:00:00%2B01:00", "0001-01-01T00:59:59.999999%2B01:00"]
)
def test_before_the_beginning_of_time_there_are_no_jobs(browser: Any, to: str) -> None:
    answer = browser.get(f"/jobs?to={to}")
    assert answer.status == 200
    assert shown(answer.text) == []


def test_an_address_has_all_that_was_asked_and_nothing_else() -> None:
    assert joblist.address(Query()) == "/jobs"
    query = Query(
        states=frozenset({State.FAILED, State.CREATED}),
        model="a b",
        text="50 % & more",
        limit=7,
    )
    wanted = "/jobs?state=CREATED&state=FAILED&model=a+b&q=50+%25+%26+more&limit=7"
    assert joblist.address(query) == wanted
    assert joblist.address(query, 12) == f"{wanted}&before=12"


# --- the page


@pytest.fixture
def five(web: Any, kit: Any) -> list[str]:
    ids = []
    for n in range(5):
        fields = {"job_name": f"job {n}", "model": "echo"}
        ids.append(web.upload("/jobs", fields, kit.zipped(a="1")).json["id"])
    return ids[::-1]


def shown(page: str) -> list[str]:
    return re.findall(r'<tr id="job-([0-9a-f-]+)"', page)


def links(page: str) -> dict[str, str]:
    found = re.findall(r'<a class="button" href="([^"]+)"[^>]*>(Newest|Older)</a>', page)
    return {label: href.replace("&amp;", "&") for href, label in found}


def test_paging_there_and_back(browser: Any, five: list[str]) -> None:
    first = browser.get("/jobs?limit=2").text
    assert shown(first) == five[:2] and links(first).keys() == {"Older"}
    assert "5 jobs; shown: the newest 2" in first
    second = browser.get(links(first)["Older"]).text
    assert shown(second) == five[2:4] and links(second).keys() == {"Older", "Newest"}
    third = browser.get(links(second)["Older"]).text
    assert shown(third) == five[4:] and links(third).keys() == {"Newest"}
    assert shown(browser.get(links(third)["Newest"]).text) == five[:2]


def test_the_filter_stands_in_the_page(browser: Any, five: list[str]) -> None:
    today = datetime.now(UTC).date().isoformat()
    page = browser.get(f"/jobs?state=QUEUED&q=job+3&model=echo&from={today}").text
    assert shown(page) == [five[1]] and ">1 job<" in page
    assert '<input type="checkbox" name="state" value="QUEUED" checked>' in page
    assert 'name="q" value="job 3"' in page and "<option selected>echo</option>" in page
    assert f'<input type="date" id="from" name="from" value="{today}">' in page
    assert '<a class="button" href="/jobs" id="clear">' in page
    assert 'data-count="QUEUED">5</span>' in page  # of all jobs


@pytest.mark.usefixtures("five")
def test_a_model_that_is_gone_can_still_be_looked_for(browser: Any) -> None:
    assert "<option selected>gone</option>" in browser.get("/jobs?model=gone").text


def test_no_jobs_at_all_leads_to_the_models(browser: Any) -> None:
    page = browser.get("/jobs").text
    assert "No jobs yet" in page and 'class="button primary" href="/models"' in page
    assert 'id="filter"' not in page


@pytest.mark.usefixtures("five")
def test_no_match_leads_to_all(browser: Any) -> None:
    page = browser.get("/jobs?state=FAILED").text
    assert "No job matches" in page and shown(page) == []
    assert ">Clear filters</a>" in page and 'id="filter"' in page


@pytest.mark.usefixtures("five")
@pytest.mark.parametrize(
    ("since", "until", "wrong"),
    [
        ("2026-11-23", "2026-11-22", True),
        ("2026-11-23", "0001-01-01T00:00:00%2B01:00", True),
        ("1997-11-23", "1997-11-23", False),
        ("1997-11-23T10:00:00Z", "1997-11-23T10:00:00Z", False),
    ],
)
def test_days_the_wrong_way_round_are_said(
    browser: Any, since: str, until: str, wrong: bool
) -> None:
    page = browser.get(f"/jobs?from={since}&to={until}").text
    assert "No job matches" in page
    assert ("the wrong way round" in page) is wrong


def test_run_again_stands_in_the_row_of_what_ended(past: Any, kit: Any) -> None:
    page = kit.Browser(past, accept="text/html").get("/jobs").text
    for id in (kit.DONE, kit.BROKEN):
        assert f'action="/jobs/{id}/rerun"' in page
    assert f'action="/jobs/{kit.RUNNING}/rerun"' not in page
    assert 'aria-label="Kill running"' in page
