"""Jobs that are run once more, examples, and submissions that may be sent twice."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from primary import copies
from web.access import Access
from web.routes import application

KEY = {"idempotency_key": "8e03978e-40d5-43dd-bc93-6894a57f9324"}
FIELDS = {"job_name": "x", "model": "echo"}


def count(web: Any) -> int:
    return len(web.get("/jobs", accept="application/json").json["data"])


# --- once more


def test_a_job_is_run_once_more(past: Any, kit: Any) -> None:
    web = kit.Browser(past)
    answer = web.post(f"/jobs/{kit.DONE}/rerun")
    id = answer.json["id"]
    assert answer.json["message"] == f"OK:  Submitted job id {id}"
    job = web.get(f"/jobs/{id}").json
    assert (job["rerun_of"], job["name"], job["status"]) == (kit.DONE, "done", "QUEUED")
    assert web.get(f"/data/{id}/input.zip").body == kit.zipped(a="1")
    assert job["may_rerun"] and job["input"] == web.get(f"/jobs/{kit.DONE}").json["input"]


def test_under_another_name_and_by_everybody(past: Any, kit: Any) -> None:
    anybody = application(past.site.primary, Access(anonymous="submit", admin_key="k"))
    web = kit.Browser(anybody)
    for send in (web.form, web.upload):
        id = send(f"/jobs/{kit.DONE}/rerun", {"job_name": " again "}).json["id"]
        assert web.get(f"/jobs/{id}").json["name"] == "again"
    job = web.get(f"/jobs/{id}").json
    assert (job["may_kill"], job["may_rerun"]) == (False, True)


def test_a_browser_is_led_to_the_new_job(past: Any, kit: Any) -> None:
    answer = kit.Browser(past, accept="text/html").form(f"/jobs/{kit.DONE}/rerun", {})
    assert answer.status == 303 and answer.headers["location"].startswith("/jobs/")


def test_what_cannot_be_run_once_more(past: Any, kit: Any, data: Path, models: Path) -> None:
    web = kit.Browser(past)
    path = f"/jobs/{kit.DONE}/rerun"
    assert web.form(path, {"job_name": "a\nb"}).json["field"] == "job_name"
    assert web.upload(path, {}, kit.zipped(a="1")).json["field"] == "zip_file"
    assert web.call("POST", path, b"{}", content_type="application/json").status == 415
    assert web.get(path).status == 405
    (data / "jobs" / kit.DONE / "input.zip").write_bytes(kit.zipped(a="another"))
    assert web.post(path).status == 404  # its hash is not the ledger's
    shutil.rmtree(models / "echo")
    past.site.primary._shelf.refresh()
    assert web.post(path).status == 404
    assert web.get(f"/jobs/{kit.DONE}").json["may_rerun"] is False
    assert count(web) == 3


def test_too_many_large_copies_are_to_be_asked_for_again(
    past: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = kit.Browser(past)
    monkeypatch.setattr(copies, "LONG", 0)
    with past.site.primary._copies._turn(1), past.site.primary._copies._turn(1):
        refused = web.post(f"/jobs/{kit.DONE}/rerun")
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert "2 large inputs are being copied already" in refused.json["message"]
    assert web.post(f"/jobs/{kit.DONE}/rerun").status == 200


# --- examples


def test_an_example_is_there_and_runs(web: Any, browser: Any, kit: Any, models: Path) -> None:
    path = "/models/echo/example"
    offered = {model["name"]: model["example"] for model in web.get("/models").json["data"]}
    assert offered == {"echo": None, "strict": None}
    assert web.get(f"{path}.zip").status == web.post(path).status == 404
    (models / "echo" / "example.zip").write_bytes(kit.zipped(a="1"))
    assert web.get("/models").json["data"][0]["example"] == f"{path}.zip"
    sent = web.get(f"{path}.zip")
    assert sent.body == kit.zipped(a="1")
    assert sent.headers["content-disposition"] == 'attachment; filename="echo.example.zip"'
    assert web.get(f"{path}.zip", if_none_match=sent.headers["etag"]).status == 304
    job = web.get(f"/jobs/{web.post(path).json['id']}").json
    assert job["name"] == "Example of echo & <co>"
    led = browser.post(path)
    assert led.status == 303 and count(web) == 2


def test_an_example_of_no_model(web: Any) -> None:
    for answer in (web.get("/models/nosuch/example.zip"), web.post("/models/nosuch/example")):
        assert answer.status == 404 and "nosuch" in answer.json["detail"]


# --- sent twice


def test_what_is_sent_twice_with_a_key_is_one_job(past: Any, kit: Any, models: Path) -> None:
    web, zip = kit.Browser(past, **KEY), kit.zipped(a="1")
    (models / "echo" / "example.zip").write_bytes(zip)
    path, kind = "/jobs?job_name=x&model=echo", "application/zip"
    ids = {
        web.upload("/jobs", FIELDS, zip).json["id"],
        web.upload("/jobs", FIELDS, zip).json["id"],
        web.call("PUT", path, zip).json["id"],
        web.call("POST", path, zip, content_type=kind).json["id"],
    }
    assert len(ids) == 1 and count(web) == 4
    for send, address in (
        (web.post, f"/jobs/{kit.DONE}/rerun"),
        (web.post, "/models/echo/example"),
    ):
        first = send(address, idempotency_key="another" + address).json
        assert send(address, idempotency_key="another" + address).json == first
    assert count(web) == 6


def test_a_key_of_another_submission_is_refused(web: Any, kit: Any) -> None:
    web.upload("/jobs", FIELDS, kit.zipped(a="1"), **KEY)
    for fields, zip in (
        ({"job_name": "y", "model": "echo"}, kit.zipped(a="1")),
        (FIELDS, kit.zipped(a="2")),
    ):
        answer = web.upload("/jobs", fields, zip, **KEY)
        assert (answer.status, answer.json["field"]) == (422, "Idempotency-Key")
    assert count(web) == 1


def test_a_key_of_what_was_refused_may_be_used_again(web: Any, kit: Any) -> None:
    assert web.upload("/jobs", FIELDS, b"no zip", **KEY).status == 400
    assert web.upload("/jobs", FIELDS, kit.zipped(a="1"), **KEY).status == 200


def test_a_key_that_is_under_way(web: Any, kit: Any, primary: Any) -> None:
    with primary._submissions._keys.held(KEY["idempotency_key"]):
        answer = web.upload("/jobs", FIELDS, kit.zipped(a="1"), **KEY)
    assert (answer.status, answer.headers["retry-after"]) == (409, "1")


@pytest.mark.parametrize("key", ["x" * 256, "ä", "a\tb"])
def test_a_key_that_is_none(web: Any, kit: Any, key: str) -> None:
    answer = web.upload("/jobs", FIELDS, kit.zipped(a="1"), idempotency_key=key)
    assert (answer.status, answer.json["field"]) == (400, "Idempotency-Key")
    assert count(web) == 0
