"""Polling is cheap: small answers, and none where nothing has changed."""

from __future__ import annotations

from typing import Any

import pytest

from ledger.events import Noted


@pytest.fixture
def web(past: Any, kit: Any) -> Any:
    return kit.Browser(past, accept="application/json")


@pytest.mark.parametrize(
    "path",
    [
        *("/jobs", "/jobs?state=QUEUED", "/jobs/{id}", "/jobs/{id}/state", "/jobs/{id}/events"),
        *("/jobs/{id}/log/search?q=a", "/jobs/{id}/files", "/events", "/status/refresh"),
        *("/models", "/signin", "/doctor", "/healthz", "/openapi.json"),
    ],
)
def test_what_has_not_changed_is_not_sent_again(web: Any, kit: Any, path: str) -> None:
    path = path.format(id=kit.DONE)
    first = web.get(path)
    tag = first.headers["etag"]
    assert first.status == 200 and tag.startswith('W/"')
    for given in (tag, tag.removeprefix("W/"), f'"x", {tag}', "*"):
        again = web.get(path, if_none_match=given)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in again.headers
    assert web.get(path, if_none_match='W/"x"').body == first.body
    assert web.call("HEAD", path, if_none_match=tag).status == 304


def test_what_has_changed_is_sent(web: Any, past: Any, kit: Any) -> None:
    path = f"/jobs/{kit.DONE}/state"
    first = web.get(path)
    note = Noted(job=kit.DONE, text="news")
    past.site.primary._ledger.append(lambda _: (note,))
    again = web.get(path, if_none_match=first.headers["etag"])
    assert again.status == 200 and again.json["seq"] > first.json["seq"]


def test_pages_have_no_tag(past: Any, kit: Any) -> None:
    browser = kit.Browser(past, accept="text/html")
    assert "etag" not in browser.get("/jobs", if_none_match="*").headers


def test_a_kill_is_never_unchanged(web: Any, kit: Any) -> None:
    answer = web.get(f"/jobs/{kit.RUNNING}/kill", if_none_match="*")
    assert (answer.status, "etag" in answer.headers) == (200, False)


def test_a_problem_is_never_unchanged(web: Any) -> None:
    assert web.get("/jobs/nosuch/state", if_none_match="*").status == 404


def test_the_state_of_a_job(web: Any, kit: Any) -> None:
    running = web.get(f"/jobs/{kit.RUNNING}/state").json
    assert list(running) == [
        *("status", "attempt", "progress", "kill_requested", "place", "waiting", "remark"),
        *("log_size", "seq", "final"),
    ]
    assert (running["status"], running["log_size"], running["final"]) == ("RUNNING", 0, False)
    done = web.get(f"/jobs/{kit.DONE}/state").json
    assert (done["status"], done["log_size"], done["final"]) == ("COMPLETE", len(kit.LOG), True)
    events = web.get(f"/jobs/{kit.DONE}/events").json["data"]
    assert done["seq"] == events[-1]["seq"]


def test_the_state_of_a_job_that_waits_says_why(web: Any, kit: Any) -> None:
    id = web.upload("/jobs", {"job_name": "x", "model": "echo"}, kit.zipped(a="1")).json["id"]
    state = web.get(f"/jobs/{id}/state").json
    detail = web.get(f"/jobs/{id}").json
    assert state["place"] == detail["place"] == 0
    assert state["waiting"] == detail["waiting"] and state["waiting"].strip()
