"""The fixed interface of jobs: paths, fields, messages."""

from __future__ import annotations

import errno
import html
import re
from pathlib import Path
from typing import Any

import pytest

from ledger.disk import Disk

NINE = {
    *("created", "model", "name", "primary_data_dir", "primary_url"),
    *("status", "uuid", "worker_data_dir", "worker_url", "on_primary"),
}
UNKNOWN = "99999999-9999-4999-8999-999999999999"


def test_a_submission_answers_with_id_and_message(web: Any, kit: Any) -> None:
    answer = web.upload("/jobs", {"job_name": "x", "model": "echo"}, kit.zipped(a="1"))
    assert answer.status == 200
    id = answer.json["id"]
    assert answer.json == {"id": id, "message": f"OK:  Submitted job id {id}"}
    assert '"id": "' in answer.text  # spaces, as scripts with sed expect


def test_a_job_has_the_members_of_the_interface(web: Any, submitted: str) -> None:
    job = web.get(f"/jobs/{submitted}", host="example.localhost:81").json
    assert set(list(job)[:10]) == NINE
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", job["created"])
    assert job["primary_url"] == "http://example.localhost:81"
    assert (job["name"], job["model"], job["uuid"]) == ("one", "echo", submitted)
    assert (job["status"], job["on_primary"]) == ("QUEUED", True)
    assert (job["worker_url"], job["worker_data_dir"]) == (None, None)
    assert (job["place"], job["attempt"], job["kill_requested"]) == (0, 1, False)
    assert job["waiting"]  # the sentence is primary.waiting's
    assert (job["may_kill"], job["may_rerun"]) == (True, True)
    files = web.get(f"/{job['primary_data_dir']}/{submitted}/input.zip")
    assert files.status == 200 and len(files.body) == job["input"]["size"]


def test_a_claimed_job_says_where_it_runs(past: Any, kit: Any) -> None:
    job = kit.Browser(past).get(f"/jobs/{kit.RUNNING}").json
    assert (job["worker_url"], job["worker_data_dir"]) == ("ssh://h", "/runs/1")


def test_the_list_counts_newest_first_and_pages_by_cursor(web: Any, kit: Any) -> None:
    ids = [
        web.upload("/jobs", {"job_name": str(n), "model": "echo"}, kit.zipped(a="1")).json["id"]
        for n in range(5)
    ]
    everything = web.get("/jobs", accept="application/json").json
    assert [job["uuid"] for job in everything["data"]] == ids[::-1]
    assert everything["next"] is None
    seen: list[str] = []
    cursor = ""
    while True:
        page = web.get(f"/jobs?limit=2{cursor}", accept="application/json").json
        assert len(page["data"]) <= 2
        seen += [job["uuid"] for job in page["data"]]
        if page["next"] is None:
            break
        cursor = f"&before={page['next']}"
    assert seen == ids[::-1]


def test_the_list_filters(past: Any, kit: Any) -> None:
    web = kit.Browser(past, accept="application/json")

    def names(query: str) -> set[str]:
        return {job["name"] for job in web.get(f"/jobs?{query}").json["data"]}

    assert names("state=complete") == {"done"}
    assert names("state=COMPLETE,RUNNING") == {"done", "running"}
    assert names("state=COMPLETE&state=RUNNING") == {"done", "running"}
    assert names("model=strict") == set()
    assert names("q=runn") == {"running"}


def test_the_next_page_is_a_link_too(web: Any, kit: Any) -> None:
    for n in range(3):
        web.upload("/jobs", {"job_name": f"ä {n}", "model": "echo"}, kit.zipped(a="1"))
    first = web.get("/jobs?q=%C3%A4&limit=2&from=2014-01-01", accept="application/json")
    link = re.fullmatch(r'<([^>]*)>; rel="next"', first.headers["link"])
    assert link
    last = web.get(link[1], accept="application/json")
    names = [job["name"] for page in (first, last) for job in page.json["data"]]
    assert names == ["ä 2", "ä 1", "ä 0"]
    assert last.json["next"] is None and "link" not in last.headers


@pytest.mark.parametrize(
    "query",
    [
        *("state=DONE", "limit=x", "limit=0", "before=-1", "limit=1e3", "limit=1&limit=2"),
        *("from=yesterday", "from=2026-13-01", "to=2026-11-23T25:00:00Z", "to=20261123"),
        "to=2026-11-23T08:00",
    ],
)
def test_a_wrong_filter_is_named(web: Any, query: str) -> None:
    answer = web.get(f"/jobs?{query}", accept="application/json")
    assert answer.status == 400
    assert answer.json["field"] == query.partition("=")[0]


def test_an_address_that_is_no_text_is_refused(web: Any) -> None:
    for query in ("q=%ff", "&".join(f"x{n}=1" for n in range(101))):
        answer = web.get(f"/jobs?{query}", accept="application/json")
        assert (answer.status, "field" in answer.json) == (400, False)


def test_filters_that_were_left_empty_are_none(past: Any, kit: Any) -> None:
    query = "state=&model=&q=&from=&to=&before=&limit="
    page = kit.Browser(past, accept="application/json").get(f"/jobs?{query}").json
    assert len(page["data"]) == 3


def test_the_list_by_date(past: Any, kit: Any) -> None:
    web = kit.Browser(past, accept="application/json")
    created = {job["created"] for job in web.get("/jobs").json["data"]}
    day, first, last = min(created)[:10], f"{min(created)}Z", f"{max(created)}Z"

    def count(query: str) -> int:
        return len(web.get(f"/jobs?{query}").json["data"])

    assert count(f"from={day}") == 3 and count("to=2014-01-01") == 0
    assert count(f"from={first}&to={last}") == 3  # both are meant with what they name
    assert count("from=2100-01-01") == 0
    for early, late in (
        ("0001-01-01", "9999-12-31"),
        ("0001-01-01T00:00:00%2B23:59", "9999-12-31"),
    ):
        assert count(f"from={early}&to={late}") == 3
    assert count("from=9999-12-31T23:59:59-23:59") == 0


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        ("", True),
        ("*/*", True),
        ("text/html", True),
        ("application/json", False),
        ("application/json, text/plain, */*", False),
        ("text/html,application/json;q=0.9", True),
        ("application/json,text/html", False),
        ("text/html;q=0.5,application/json", False),
        ("application/json;q=0", True),
        ("*/json", False),
    ],
)
def test_the_list_is_json_only_where_json_is_named(web: Any, accept: str, page: bool) -> None:
    for path in ("/jobs", "/status"):
        kind = web.get(path, accept=accept).headers["content-type"]
        assert kind.startswith("text/html") is page


@pytest.mark.parametrize(
    ("accept", "page"),
    [("", False), ("*/*", False), ("application/json", False), ("text/html", True)],
)
def test_a_job_is_a_page_only_where_html_is_named(
    web: Any, submitted: str, accept: str, page: bool
) -> None:
    kind = web.get(f"/jobs/{submitted}", accept=accept).headers["content-type"]
    assert kind.startswith("text/html") is page


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_queued_job_is_killed_by_get_and_post(web: Any, submitted: str, method: str) -> None:
    answer = web.call(method, f"/jobs/{submitted}/kill")
    assert answer.json == {"id": submitted, "message": f"OK:  Killed job id {submitted}"}
    assert web.get(f"/jobs/{submitted}").json["kill_requested"] is True


def test_a_finished_job_cannot_be_killed(past: Any, kit: Any) -> None:
    answer = kit.Browser(past).post(f"/jobs/{kit.DONE}/kill")
    assert answer.status == 409
    assert answer.json["message"].startswith("Error:  ")


@pytest.mark.parametrize(
    "headers",
    [
        {"accept": "text/html"},
        {"accept": "image/png,*/*"},
        {"cookie": "a=b"},
        {"origin": "http://localhost:8080"},
        {"sec_fetch_site": "none"},
        {"sec_fetch_mode": "navigate"},
    ],
)
def test_a_browser_never_kills_by_get(web: Any, submitted: str, headers: dict[str, str]) -> None:
    answer = web.get(f"/jobs/{submitted}/kill", **headers)
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert web.get(f"/jobs/{submitted}").json["kill_requested"] is False


def test_head_never_kills(web: Any, submitted: str) -> None:
    assert web.call("HEAD", f"/jobs/{submitted}/kill").status == 405
    assert web.get(f"/jobs/{submitted}").json["kill_requested"] is False


@pytest.mark.parametrize(
    ("fields", "file", "wrong"),
    [
        ({"model": "echo"}, True, "job_name"),
        ({"job_name": "  ", "model": "echo"}, True, "job_name"),
        ({"job_name": "x" * 201, "model": "echo"}, True, "job_name"),
        ({"job_name": "a\x07b", "model": "echo"}, True, "job_name"),
        ({"job_name": "a\nb", "model": "echo"}, True, "job_name"),
        ({"job_name": "a\u202eb", "model": "echo"}, True, "job_name"),
        ({"job_name": "x"}, True, "model"),
        ({"job_name": "x", "model": "nosuch"}, True, "model"),
        ({"job_name": "x", "model": "../echo"}, True, "model"),
        ({"job_name": "x", "model": "echo"}, False, "zip_file"),
        ({"job_name": "x", "model": "echo", "zip_url": "http://h/x.zip"}, True, "zip_url"),
        ({"job_name": "x", "model": "echo", "zip_url": "file:///etc/passwd"}, False, "zip_url"),
        ({"job_name": "x", "model": "echo", "zip_url": "http://127.0.0.1/x"}, False, "zip_url"),
        ({"job_name": "x", "model": "strict"}, True, "zip_file"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_kept(
    web: Any, kit: Any, data: Path, fields: dict[str, str], file: bool, wrong: str
) -> None:
    answer = web.upload("/jobs", fields, kit.zipped(a="1") if file else None)
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status, answer.json["field"]) in ((400, wrong), (403, wrong))
    assert answer.json["message"] == f"Error:  {answer.json['detail']}"
    assert web.get("/jobs", accept="application/json").json["data"] == []
    assert list((data / "incoming").iterdir()) == []
    assert list((data / "jobs").iterdir()) == []
    if answer.json["detail"].startswith("the zip"):
        assert answer.json["findings"][0]["file"] == "wanted.txt"
        assert answer.json["findings"][0].keys() == {"file", "expected", "found"}


def test_a_bad_zip_is_refused_with_the_reason(web: Any, kit: Any, data: Path) -> None:
    whole = kit.zipped(a="1" * 1000, b="2")
    for bad in (whole[:-30], b"no zip at all", b""):
        answer = web.upload("/jobs", {"job_name": "x", "model": "echo"}, bad)
        assert (answer.status, answer.json["field"]) == (400, "zip_file")
    missing = web.upload("/jobs", {"job_name": "x", "model": "strict"}, kit.zipped(a="1"))
    assert "wanted.txt" in missing.json["detail"]
    assert list((data / "incoming").iterdir()) == []


def test_a_path_instead_of_a_file_gets_a_hint(web: Any) -> None:
    body = (
        b'--XX\r\nContent-Disposition: form-data; name="job_name"\r\n\r\nx\r\n'
        b'--XX\r\nContent-Disposition: form-data; name="model"\r\n\r\necho\r\n'
        b'--XX\r\nContent-Disposition: form-data; name="zip_file"\r\n\r\nin.zip\r\n--XX--\r\n'
    )
    kind = "multipart/form-data; boundary=XX"
    answer = web.call("POST", "/jobs", body, content_type=kind)
    assert answer.status == 400 and "zip_file=@FILE" in answer.json["detail"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_the_zip_itself_as_the_body(web: Any, kit: Any, method: str) -> None:
    path, kind = "/jobs?job_name=n%C3%A4me&model=echo", "application/zip"
    answer = web.call(method, path, kit.zipped(a="1"), content_type=kind)
    assert web.get(f"/jobs/{answer.json['id']}").json["name"] == "näme"
    assert web.call(method, path, b"", content_type=kind).status == 400
    nameless = web.call(method, "/jobs?model=echo", kit.zipped(a="1"), content_type=kind)
    assert nameless.json["field"] == "job_name"


def test_a_zip_that_curl_sends_as_a_form_gets_a_hint(web: Any, kit: Any) -> None:
    kind = "application/x-www-form-urlencoded"
    answer = web.call("POST", "/jobs", kit.zipped(a="1" * 99_999), content_type=kind)
    assert answer.status == 400 and "Content-Type: application/zip" in answer.json["detail"]


def test_names_in_any_script_are_kept(web: Any, kit: Any) -> None:
    name = 'Ünï 日本語 👩‍🔬 <b> & "q"'
    id = web.upload("/jobs", {"job_name": name, "model": "echo"}, kit.zipped(a="1")).json["id"]
    assert web.get(f"/jobs/{id}").json["name"] == name


@pytest.mark.parametrize(
    "path",
    [
        f"/jobs/{UNKNOWN}",
        f"/jobs/{UNKNOWN}/log",
        f"/jobs/{UNKNOWN}/events",
        f"/data/{UNKNOWN}/output.zip",
        "/jobs/nosuch",
        "/jobs/../../etc/passwd",
        "/jobs/%00",
        "/data/../../etc/passwd/output.zip",
        "/nosuch",
        "/static/../routes.py",
        "/static/nosuch.css",
    ],
)
def test_what_does_not_exist_is_a_404_problem(web: Any, path: str) -> None:
    answer = web.get(path)
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == 404 and answer.json["message"].startswith("Error:  ")


def test_only_the_three_files_of_a_job_are_served(past: Any, kit: Any, data: Path) -> None:
    (data / "jobs" / kit.DONE / "secret").write_text("s")
    web = kit.Browser(past)
    for name in ("secret", "..", "late", "../x"):
        assert web.get(f"/data/{kit.DONE}/{name}").status == 404


def test_the_wrong_method_names_the_right_ones(web: Any) -> None:
    answer = web.call("DELETE", "/jobs")
    assert answer.status == 405
    assert {"GET", "POST", "PUT"} <= set(answer.headers["allow"].split(","))


def test_head_has_the_headers_of_get_and_no_body(past: Any, kit: Any) -> None:
    web = kit.Browser(past)
    for path in ("/jobs/submit", f"/jobs/{kit.DONE}", f"/data/{kit.DONE}/output.zip", "/healthz"):
        get, head = web.get(path), web.call("HEAD", path)
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"] != "0"


def test_the_events_of_a_job(past: Any, kit: Any) -> None:
    records = kit.Browser(past).get(f"/jobs/{kit.DONE}/events").json["data"]
    assert [r["kind"] for r in records] == ["Submitted", "Queued", "Started", "Completed"]
    assert records[3]["run"]["peak_memory"] == 4096
    assert all(r["job"] == kit.DONE and len(r["hash"]) == 64 for r in records)


def test_a_failed_sync_is_a_503_and_ends_the_server(
    web: Any, primary: Any, submitted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    assert primary.stopped is None
    monkeypatch.setattr(primary._ledger._segments, "_disk", Disk(sync=fails))
    answer = web.post(f"/jobs/{submitted}/kill")
    assert answer.status == 503 and "Input/output error" in answer.json["detail"]
    assert "Input/output error" in str(primary.stopped)
    assert web.get("/healthz").status == 503
    assert web.get(f"/jobs/{submitted}").json["kill_requested"] is False


def test_an_unforeseen_error_shows_an_id_and_no_trace(
    web: Any, primary: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(primary, "nodes", lambda: 1 / 0)
    for accept in ("application/json", "text/html"):
        answer = web.get("/status", accept=accept)
        assert answer.status == 500
        assert "ZeroDivisionError" not in answer.text and "Traceback" not in answer.text
        reference = re.search(r"[0-9a-f]{12}", answer.text)
        assert reference and reference.group() in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_silent_worker_is_said_where_its_job_is_shown(
    past: Any, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, browser = kit.Browser(past), kit.Browser(past, accept="text/html")
    path, words = f"/jobs/{kit.RUNNING}", "its worker w has been silent for "
    job = api.get(path).json
    assert (job["worker_liveness"], job["worker_remark"]) == ("alive", None)
    assert words not in browser.get(path).text and words not in browser.get("/jobs").text
    primary = past.site.primary
    start = primary._clock()
    monkeypatch.setattr(primary, "_clock", lambda: start + 60)
    job = api.get(path).json
    assert (job["status"], job["worker_liveness"]) == ("RUNNING", "unreachable")
    assert job["worker_silent_seconds"] >= 60 and 0 < job["worker_given_up_seconds"] <= 840
    assert words in job["worker_remark"] == api.get(f"{path}/state").json["remark"]
    assert job["worker_remark"] in browser.get(path).text
    assert browser.get("/jobs").text.count(words) == 1
    done = api.get(f"/jobs/{kit.DONE}").json
    assert done["worker_liveness"] is done["worker_remark"] is None


def test_what_the_page_says_of_a_failure_scripts_are_told_too(past: Any, kit: Any) -> None:
    api, browser = kit.Browser(past), kit.Browser(past, accept="text/html")
    broken = api.get(f"/jobs/{kit.BROKEN}").json
    assert broken["advice"] and broken["advice"] in html.unescape(
        browser.get(f"/jobs/{kit.BROKEN}").text
    )
    assert broken["last_lines"] == [], "it left no log"
    done = api.get(f"/jobs/{kit.DONE}").json
    assert (done["advice"], done["last_lines"]) == (None, [])


def test_the_list_counts_the_jobs_of_each_state(past: Any, kit: Any) -> None:
    counts = kit.Browser(past, accept="application/json").get("/jobs?q=nothing").json["counts"]
    assert counts.pop("COMPLETE") == counts.pop("FAILED") == counts.pop("RUNNING") == 1
    assert set(counts.values()) == {0} and set(counts) == {
        "CREATED",
        "QUEUED",
        "PROCESSED",
        "KILLED",
    }
