"""Nodes, models, health, news."""

from __future__ import annotations

import importlib.metadata
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from primary.nodes import Node
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
    assert strict["ready"] == "No worker has this model now. A job will wait until one comes."


def test_health(web: Any, primary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version("modelrunner")
    assert web.get("/healthz").json == {"status": "ok", "version": version}
    monkeypatch.setattr(primary, "healthy", lambda: "the disk is gone")
    answer = web.get("/healthz")
    assert (answer.status, answer.json["detail"]) == (503, "the disk is gone")


def test_doctor(web: Any) -> None:
    assert isinstance(web.get("/doctor").json["findings"], list)


def test_home_leads_to_the_models(web: Any) -> None:
    answer = web.get("/")
    assert (answer.status, answer.headers["location"]) == (303, "/models")


def test_the_timeline(past: Any, kit: Any) -> None:
    web = kit.Browser(past)
    told = web.get("/status/timeline").json
    assert told["since"] < told["until"] and told["cut"] is False
    ends = {run["job"]: run["end"] for run in told["data"]}
    assert ends == {kit.DONE: "COMPLETE", kit.BROKEN: "FAILED", kit.RUNNING: "RUNNING"}
    done = next(run for run in told["data"] if run["job"] == kit.DONE)
    assert (done["worker"], done["name"], done["attempt"]) == ("w", "done", 1)
    for query in ("hours=0", "hours=x", "hours=1.5"):
        answer = web.get(f"/status/timeline?{query}")
        assert (answer.status, answer.json["field"]) == (400, "hours")
    assert web.get("/status/timeline?hours=99999999999999999999").status == 200


# --- figures


def figures(web: Any) -> dict[str, float]:
    answer = web.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=")
    lines = (line.rpartition(" ") for line in answer.text.splitlines() if line[0] != "#")
    return {name: float(value) for name, _, value in lines}


def test_the_figures(past: Any, kit: Any) -> None:
    web = kit.Browser(past)
    web.upload("/jobs", {"job_name": "x", "model": "strict"}, kit.zipped(**{"wanted.txt": "1"}))
    for path in ("/jobs/nosuch", "/nosuch", "/nosuch/either", f"/jobs/{kit.DONE}"):
        web.get(path)
    web.call("DELETE", "/jobs")
    told = figures(web)
    assert told['modelrunner_jobs{state="COMPLETE"}'] == 1
    assert told['modelrunner_jobs{state="QUEUED"}'] == 1
    assert told['modelrunner_queue{model="strict"}'] == 1
    assert told['modelrunner_queue{model="echo"}'] == 0
    assert told["modelrunner_ledger_records_total"] == past.site.primary.wait(0, 0)
    assert told["modelrunner_healthy"] == 1 and told["modelrunner_free_disk_bytes"] > 0
    requests = {
        name[len("modelrunner_http_requests_total") :]: count
        for name, count in told.items()
        if name.startswith("modelrunner_http_requests_total")
    }
    assert requests == {
        '{method="POST",route="/jobs",status="200"}': 1,
        '{method="GET",route="/jobs/<id>",status="404"}': 1,
        '{method="GET",route="/jobs/<id>",status="200"}': 1,
        '{method="GET",route="",status="404"}': 2,
        '{method="DELETE",route="",status="405"}': 1,
    }


def test_the_figures_of_workers(web: Any, primary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    common: dict[str, Any] = {"node_url": "ssh://h", "node_type": "WORKER", "status": "RUNNING"}
    nodes = [
        *primary.nodes(),
        Node(name="a", liveness="alive", slots=4, jobs=("j",), **common),
        Node(name="b", liveness="alive", slots=2, paused="its disk is full", **common),
        Node(name="c", liveness="lost", slots=8, jobs=("k",), **common),
    ]
    monkeypatch.setattr(primary, "nodes", lambda: nodes)
    monkeypatch.setattr(primary, "healthy", lambda: "it does not tick")
    told = figures(web)
    assert told['modelrunner_workers{liveness="alive"}'] == 2
    assert told['modelrunner_workers{liveness="lost"}'] == 1
    assert (told["modelrunner_slots"], told["modelrunner_slots_busy"]) == (6, 1)
    assert (told["modelrunner_workers_paused"], told["modelrunner_healthy"]) == (1, 0)


def test_news_at_once_where_there_is_some(web: Any, submitted: str) -> None:
    assert submitted
    told = web.get("/events?after=0&wait=30").json
    assert told["seq"] == 2 and [r["kind"] for r in told["data"]] == ["Submitted", "Queued"]
    assert [r["seq"] for r in web.get("/events?after=0&limit=1").json["data"]] == [1]
    assert web.get("/events?after=0&limit=0").json == {"seq": 2, "data": []}
    assert web.get("/events?after=2").json == {"seq": 2, "data": []}
    assert web.get("/events?after=99&wait=30").json["seq"] == 2  # from another ledger
    for query in ("after=x", "after=-1", "wait=nan", "wait=-1", "wait=e5", "limit=x"):
        answer = web.get(f"/events?{query}")
        assert (answer.status, answer.json["field"]) == (400, query.partition("=")[0])
    for query in ("after=&wait=", "after=1&wait=1e999", "limit=99999", "wait=0.01&after=99"):
        assert web.get(f"/events?{query}").status == 200


@pytest.mark.usefixtures("submitted")
def test_a_long_poll_wakes_with_the_news(web: Any, kit: Any) -> None:
    answers: list[Any] = []
    poll = threading.Thread(target=lambda: answers.append(web.get("/events?after=2&wait=30")))
    poll.start()
    fields = {"job_name": "two", "model": "echo"}
    assert web.upload("/jobs", fields, kit.zipped(a="1")).status == 200
    poll.join(20)
    assert answers and answers[0].json["seq"] > 2


def test_a_jobs_own_events_are_waited_for(web: Any, kit: Any, submitted: str) -> None:
    path = f"/jobs/{submitted}/events"
    assert [record["seq"] for record in web.get(f"{path}?after=1").json["data"]] == [2]
    assert web.get(f"{path}?after=2&wait=0.1").json == {"data": []}
    answers: list[Any] = []
    poll = threading.Thread(target=lambda: answers.append(web.get(f"{path}?after=2&wait=30")))
    poll.start()
    fields = {"job_name": "two", "model": "echo"}
    assert web.upload("/jobs", fields, kit.zipped(a="1")).status == 200
    assert answers == [], "another job's news are none"
    web.post(f"/jobs/{submitted}/kill")
    poll.join(20)
    (record,) = answers[0].json["data"]
    assert record["kind"] == "KillRequested" and record["seq"] > 2


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
