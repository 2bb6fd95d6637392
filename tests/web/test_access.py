"""Hosts, origins and the admin key of ``serve --admin-key``."""

from __future__ import annotations

import re
from typing import Any

import pytest

from web.access import Access, Headers, foreign_origin
from web.gate import COOKIE
from web.routes import application

KEY = "s3cret-Käy"
BEARER = f"Bearer {KEY}".encode().decode("latin-1")  # UTF-8 bytes, as WSGI hands them on
GUARDED = Access(anonymous="submit", admin_key=KEY, hosts=frozenset({"runner.example"}))


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("LOCALHOST:8080", True),
        ("localhost.", True),
        ("app.localhost:1", True),
        ("127.0.0.1:8080", True),
        ("192.168.7.7", True),
        ("[::1]:8080", True),
        ("[::1]", True),
        ("runner.example", True),
        ("Runner.Example:443", True),
        ("runner.example.", True),
        ("evil.example", False),
        ("runner.example.evil.example", False),
        ("localhost.evil.example", False),
        ("evil.example@localhost", False),
        ("localhost:80:80", False),
        ("localhost:x", False),
        ("localhost/x", False),
        ("127.0.0.1.evil.example", False),
        ("[::1", False),
        (" ", False),
        ("", False),
    ],
)
def test_known_hosts(host: str, known: bool) -> None:
    assert GUARDED.knows(host) is known


def test_an_unknown_host_is_refused_everywhere(web: Any, submitted: str) -> None:
    for path in ("/jobs", f"/jobs/{submitted}", "/healthz", "/nosuch", "/static/style.css"):
        answer = web.get(path, host="evil.example")
        assert answer.status == 421, path
        assert "--host" in answer.json["detail"]
    answer = web.call("POST", f"/jobs/{submitted}/kill", host="evil.example")
    assert answer.status == 421
    assert web.get("/jobs", host="").status == 421


HOST = {"Host": "h:8080"}


@pytest.mark.parametrize(
    ("method", "headers", "foreign"),
    [
        ("POST", {}, False),
        ("POST", {"Origin": "http://h:8080"}, False),
        ("POST", {"Origin": "https://h:8080"}, False),
        ("POST", {"Origin": "http://H:8080"}, False),
        ("POST", {"Origin": "http://h"}, True),
        ("POST", {"Origin": "http://evil"}, True),
        ("POST", {"Origin": "null"}, True),
        ("POST", {"Origin": "http://["}, True),
        ("PUT", {"Origin": "http://evil"}, True),
        ("GET", {"Origin": "http://evil"}, False),
        ("POST", {"Sec-Fetch-Site": "same-origin"}, False),
        ("POST", {"Sec-Fetch-Site": "none"}, False),
        ("POST", {"Sec-Fetch-Site": "same-site"}, True),
        ("POST", {"Sec-Fetch-Site": "cross-site"}, True),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": "http://h:8080"}, True),
        ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "https://proxied"}, False),
    ],
)
def test_origins(method: str, headers: dict[str, str], foreign: bool) -> None:
    assert (foreign_origin(method, Headers(HOST | headers)) is not None) is foreign


def test_another_sites_page_changes_nothing(web: Any, kit: Any, submitted: str) -> None:
    for headers in ({"origin": "http://evil.example"}, {"sec_fetch_site": "cross-site"}):
        assert web.post(f"/jobs/{submitted}/kill", **headers).status == 403
        fields = {"job_name": "x", "model": "echo"}
        assert web.upload("/jobs", fields, kit.zipped(a="1"), **headers).status == 403
        body = kit.zipped(a="1")
        assert web.call("PUT", "/jobs?job_name=x&model=echo", body, **headers).status == 403
    jobs = web.get("/jobs", accept="application/json").json["data"]
    assert [job["kill_requested"] for job in jobs] == [False]


def test_our_own_form_is_let_through(web: Any, submitted: str) -> None:
    assert web.post(f"/jobs/{submitted}/kill", origin="http://localhost:8080").status == 200


@pytest.fixture
def guarded(primary: Any, kit: Any) -> Any:
    return kit.Browser(application(primary, GUARDED))


def test_without_the_key_one_may_submit_and_read_but_not_kill(guarded: Any, kit: Any) -> None:
    answer = guarded.upload("/jobs", {"job_name": "x", "model": "echo"}, kit.zipped(a="1"))
    id = answer.json["id"]
    assert guarded.get(f"/jobs/{id}").status == 200
    for answer in (guarded.get(f"/jobs/{id}/kill"), guarded.post(f"/jobs/{id}/kill")):
        assert answer.status == 403 and "admin key" in answer.json["detail"]
    page = guarded.get(f"/jobs/{id}", accept="text/html").text
    assert "/kill" not in page
    wrong = guarded.post(f"/jobs/{id}/kill", authorization="Bearer nope")
    assert wrong.status == 401 and wrong.headers["www-authenticate"].startswith("Bearer ")
    right = guarded.post(f"/jobs/{id}/kill", authorization=BEARER)
    assert right.status == 200


def test_signing_in_and_out(guarded: Any, kit: Any) -> None:
    fields = {"job_name": "x", "model": "echo"}
    id = guarded.upload("/jobs", fields, kit.zipped(a="1")).json["id"]
    for answer in (guarded.get("/admin/nope"), guarded.form("/signin", {"key": "nope"})):
        assert (answer.status, answer.json["field"]) == (403, "key")
        assert "set-cookie" not in answer.headers
    by_address = guarded.get(f"/admin/{KEY}")
    by_form = guarded.form("/signin", {"key": f" {KEY} "})
    for answer in (by_form, by_address):
        assert (answer.status, answer.headers["location"]) == (303, "/jobs")
    cookie = by_form.headers["set-cookie"]
    assert cookie == by_address.headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert KEY not in cookie and "s3cret" not in cookie
    signed = cookie.split(";")[0]
    assert signed.startswith(f"{COOKIE}=")
    page = guarded.get(f"/jobs/{id}", accept="text/html", cookie=signed).text
    assert f'action="/jobs/{id}/kill"' in page and "Sign out" in page
    for forged in (f"{COOKIE}={'0' * 64}", f"{COOKIE}=admin.{'0' * 64}", f"{COOKIE}=admin."):
        assert guarded.post(f"/jobs/{id}/kill", cookie=forged).status == 403
    assert guarded.post(f"/jobs/{id}/kill", cookie=signed).status == 200
    assert guarded.get(f"/jobs/{id}").json["kill_requested"] is True
    assert guarded.get("/signin", cookie=signed).json == {
        "admin": True, "signed_in": True, "name": "admin", "role": "admin"
    }  # fmt: skip
    out = guarded.post("/signout", cookie=signed)
    assert out.status == 303 and f'{COOKIE}=""' in out.headers["set-cookie"]


def test_a_browser_signs_in_by_a_form(guarded: Any) -> None:
    page = {"accept": "text/html"}
    form = guarded.get("/signin", **page)
    assert form.status == 200 and 'name="key"' in form.text
    assert guarded.get("/signin").json == {
        "admin": False, "signed_in": False, "name": None, "role": "submit"
    }  # fmt: skip
    for wrong in (
        guarded.form("/signin", {"key": "<nope>"}, **page),
        guarded.form("/signin", {}, **page),
        guarded.get("/admin/<nope>", **page),
    ):
        assert wrong.status == 403 and 'name="key"' in wrong.text
        assert "not the admin key" in wrong.text and "nope" not in wrong.text
    assert guarded.form("/signin", {"key": KEY}, origin="http://evil.example").status == 403


def test_where_there_is_no_key_the_form_says_so(web: Any, browser: Any) -> None:
    assert web.form("/signin", {"key": ""}).json["detail"].startswith("this server has no admin")
    page = browser.get("/signin").text
    assert 'name="key"' not in page and "no admin key" in page


def test_the_ledger_says_who_killed(guarded: Any, kit: Any, primary: Any) -> None:
    fields = {"job_name": "x", "model": "echo"}
    id = guarded.upload("/jobs", fields, kit.zipped(a="1")).json["id"]
    guarded.post(f"/jobs/{id}/kill", authorization=BEARER)
    assert (primary.job(id).by, primary.job(id).kill_by) == ("127.0.0.1", "admin@127.0.0.1")


def test_on_loopback_everybody_is_admin_but_not_through_a_proxy() -> None:
    access = Access(anonymous="admin", admin_key=KEY)
    assert access.role(Headers({})) == "admin"
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-Ip", "Via"):
        assert access.role(Headers({header: "1.2.3.4"})) == "submit"
        assert GUARDED.role(Headers({header: "1.2.3.4"})) == "submit"


def test_who_signed_in_is_admin_through_a_proxy_too(primary: Any, kit: Any) -> None:
    web = kit.Browser(application(primary, Access(anonymous="admin", admin_key=KEY)))
    cookie = web.form("/signin", {"key": KEY}).headers["set-cookie"].split(";")[0]
    through = {"x_forwarded_for": "1.2.3.4"}
    assert web.get("/signin").json["role"] == "admin"
    assert web.get("/signin", **through).json["role"] == "submit"
    assert web.get("/signin", cookie=f"a/b=1; {cookie}", **through).json["role"] == "admin"


@pytest.mark.parametrize("given", ["", "Bearer", "Bearer ", "Basic abc", f"bearer{KEY}"])
def test_odd_credentials_are_nobodys(guarded: Any, given: str) -> None:
    headers = {"authorization": given, "cookie": f"{COOKIE}=\xff"}
    assert guarded.get("/signin", **headers).json["role"] == "submit"


def test_without_any_key_a_key_means_nothing(primary: Any, kit: Any) -> None:
    """Whoever has MODELRUNNER_KEY set for another server can use this one."""
    web = kit.Browser(application(primary, Access(anonymous="submit")))
    for given in ("Bearer x", "Bearer ", "Bearer \xff"):
        answer = web.get("/signin", authorization=given, cookie=f"{COOKIE}=admin.")
        assert answer.json["role"] == "submit"


@pytest.mark.parametrize("name", ["Accept", "Origin", "Authorization", "Cookie", "Range", "Host"])
def test_no_header_makes_us_fail(web: Any, submitted: str, name: str) -> None:
    for value in ("\xff\xfe", "a/b=\xe4; ;=;", "\x00"):
        answer = web.call("POST", f"/jobs/{submitted}/kill", **{name.lower(): value})
        assert answer.status in (200, 403, 421)
        assert web.get(f"/data/{submitted}/input.zip", **{name.lower(): value}).status < 500


@pytest.mark.parametrize(
    ("came_from", "goes_to"),
    [
        ("http://localhost:8080/jobs/x?q=a%20b", "/jobs/x?q=a%20b"),
        ("http://localhost:8080/signin", "/jobs"),
        ("http://localhost:8080//evil.example/", "/jobs"),
        ("http://localhost:8080/\\evil.example/", "/jobs"),
        ("http://evil.example/jobs/x", "/jobs"),
        ("http://[", "/jobs"),
        ("", "/jobs"),
    ],
)
def test_signing_in_leads_back_to_where_one_was(guarded: Any, came_from: str, goes_to: str) -> None:
    page = guarded.get("/signin", accept="text/html", referer=came_from).text
    told = re.search(r'name="next" value="([^"]*)"', page)
    assert told and told[1] == goes_to
    answer = guarded.form("/signin", {"key": KEY, "next": told[1]})
    assert (answer.status, answer.headers["location"]) == (303, goes_to)
    wrong = guarded.form("/signin", {"key": "no", "next": told[1]}, accept="text/html")
    assert f'value="{goes_to}"' in wrong.text, "it is kept over a wrong key"


@pytest.mark.parametrize("path", ["//evil.example", "/\\evil.example", "evil", "/a\r\nX: y", "/é"])
def test_signing_in_leads_nowhere_else(guarded: Any, path: str) -> None:
    answer = guarded.form("/signin", {"key": KEY, "next": path})
    assert answer.headers["location"] == "/jobs"
