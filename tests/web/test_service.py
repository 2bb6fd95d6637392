"""Nodes, models, health, news."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from web.site import MAX_POLLS


def test_the_nodes_as_the_interface_wants_them(web: Any) -> None:
    node = web.get("/status", accept="application/json").json["data"][0]
    assert {"name", "node_url", "status", "node_type", "model", "version"} <= set(node)
    assert (node["node_type"], node["status"]) == ("PRIMARY", "WAITING")
    assert node["model"] == "echo, strict"
    assert web.get("/status/refresh").json == {"message": "OK"}


def test_the_models_without_what_is_nobodys_business(web: Any, models: Path) -> None:
    answer = web.get("/models").json
    strict = next(model for model in answer["data"] if model["name"] == "strict")
    assert strict["required"] == ["wanted.txt"]
    assert not {"command", "env", "folder"} & set(strict)
    assert answer["errors"] == {} and str(models) not in web.get("/models").text


def test_health(web: Any, primary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert web.get("/healthz").json == {"status": "ok"}
    monkeypatch.setattr(primary, "healthy", lambda: "the disk is gone")
    answer = web.get("/healthz")
    assert (answer.status, answer.json["detail"]) == (503, "the disk is gone")


def test_doctor(web: Any) -> None:
    assert isinstance(web.get("/doctor").json["findings"], list)


def test_home_leads_to_the_jobs(web: Any) -> None:
    answer = web.get("/")
    assert (answer.status, answer.headers["location"]) == (303, "/jobs")


def test_news_at_once_where_there_is_some(web: Any, submitted: str) -> None:
    assert submitted
    told = web.get("/events?after=0&wait=30").json
    assert told["seq"] == 2 and [r["kind"] for r in told["data"]] == ["Submitted", "Queued"]
    assert [r["seq"] for r in web.get("/events?after=0&limit=1").json["data"]] == [1]
    assert web.get("/events?after=0&limit=0").json == {"seq": 2, "data": []}
    assert web.get("/events?after=2").json == {"seq": 2, "data": []}
    assert web.get("/events?after=99&wait=30").json["seq"] == 2  # from another ledger
    for query in ("after=x", "after=-1", "wait=nan", "wait=-1"):
        assert web.get(f"/events?{query}").status == 400


@pytest.mark.usefixtures("submitted")
def test_a_long_poll_wakes_with_the_news(web: Any, kit: Any) -> None:
    answers: list[Any] = []
    poll = threading.Thread(target=lambda: answers.append(web.get("/events?after=2&wait=30")))
    poll.start()
    fields = {"job_name": "two", "model": "echo"}
    assert web.upload("/jobs", fields, kit.zipped(a="1")).status == 200
    poll.join(20)
    assert answers and answers[0].json["seq"] > 2


@pytest.mark.usefixtures("submitted")
def test_only_so_many_wait_and_closing_ends_them(app: Any, web: Any) -> None:
    answers: list[Any] = []
    polls = [
        threading.Thread(target=lambda: answers.append(web.get("/events?after=2&wait=30")))
        for _ in range(MAX_POLLS)
    ]
    for poll in polls:
        poll.start()
    deadline = time.monotonic() + 20
    while app.site.polls.acquire(blocking=False):  # until all hold their place
        app.site.polls.release()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert web.get("/events?after=2&wait=30").json == {"seq": 2, "data": []}
    assert answers == []
    app.close()
    for poll in polls:
        poll.join(20)
    assert [answer.json for answer in answers] == [{"seq": 2, "data": []}] * MAX_POLLS
