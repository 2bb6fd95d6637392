"""What each role may do, on every route, and that the check can fail."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from ledger.events import Submitted
from ledger.jobs import Job
from primary import accesskeys
from primary.roles import KEY_ROLES, ROLES, Role, reaches
from primary.server import Primary
from web.access import Access
from web.identity import Who
from web.routes import Application, Handlers, Route, application, table
from web.site import Site

ROUTES = table(Handlers(*map(object.__new__, get_type_hints(Handlers).values())))
SECRET_URL = "http://u:pw@files.example/year.zip?token=s3cret&x=1#part"
SHOWN_URL = "http://files.example/year.zip"


def address(route: Route, id: str) -> str:
    known = {"id": id, "name": "input.zip", "model": "echo", "path": "result", "key": "wrong"}
    if route.path.startswith("/static"):
        known["name"] = "style.css"
    return re.sub(r"<(\w+)(?::\w+)?>", lambda match: known[match[1]], route.path)


def refused(answer: Any) -> bool:
    """Whether it was refused for want of a role; not that a form of /signin is empty, say."""
    if answer.status == 401:
        assert answer.headers["www-authenticate"].startswith("Bearer ")
        return True
    if answer.status == 429:  # it was refused that often
        return True
    told = answer.status == 403 and answer.json["detail"]
    return bool(told) and ("key of the role" in told or "killing a job needs" in told)


def let_through(web: Any, id: str, **headers: str) -> set[str]:
    """The routes where ``headers`` are enough. ``id`` is a job that has ended."""
    return {
        f"{route.method} {route.path}"
        for route in ROUTES
        if not refused(web.call(route.method, address(route, id), **headers))
    }


def allowed(role: Role) -> set[str]:
    """The routes where that role is enough; none of the keys here has submitted the job."""
    needs: dict[str, Role] = {"none": "none", "read": "read", "submit": "submit", "kill": "admin"}
    return {f"{r.method} {r.path}" for r in ROUTES if reaches(role, needs[r.operation.needs])}


OPEN = {
    "GET /", "GET /healthz", "GET /openapi.json", "GET /static/<name>", "GET /signin",
    "POST /signin", "GET /admin/<key>", "POST /signout",
}  # fmt: skip


def test_these_are_open_and_these_change_something() -> None:
    """By hand, so that a route that was declared wrongly is seen."""
    assert allowed("none") == OPEN
    assert allowed("submit") - allowed("read") == {
        "POST /jobs", "PUT /jobs", "GET /jobs/submit", "POST /jobs/<id>/rerun",
        "POST /models/<model>/example", "POST /models/<model>/validate",
    }  # fmt: skip
    assert allowed("admin") - allowed("submit") == {"GET /jobs/<id>/kill", "POST /jobs/<id>/kill"}


def opened(past: Application, anonymous: Role) -> Application:
    return application(past.site.primary, Access(anonymous=anonymous))


@pytest.mark.parametrize("role", ROLES)
def test_without_a_key(past: Application, kit: Any, role: Role) -> None:
    assert let_through(kit.Browser(opened(past, role)), kit.DONE) == allowed(role)


def test_with_a_key(past: Application, data: Path, kit: Any) -> None:
    web = kit.Browser(opened(past, "none"))
    for role in KEY_ROLES:
        key = accesskeys.add(data, f"k-{role}", role)
        assert let_through(web, kit.DONE, authorization=f"Bearer {key}") == allowed(role)
    assert let_through(web, kit.DONE, authorization="Bearer wrong") <= OPEN


@pytest.mark.parametrize(
    ("place", "name", "instead"),
    [
        (Site, "admit", lambda *_: None),
        (Who, "may", lambda *_: True),
        (Who, "may_kill", lambda *_: True),
        (Access, "role", lambda *_: "read"),
    ],
)
def test_a_broken_check_is_seen(
    past: Application, kit: Any, monkeypatch: pytest.MonkeyPatch,
    place: type, name: str, instead: Callable[..., object],
) -> None:  # fmt: skip
    monkeypatch.setattr(place, name, instead)
    roles: tuple[Role, ...] = ("none", "read", "submit")
    assert any(
        let_through(kit.Browser(opened(past, role)), kit.DONE) != allowed(role) for role in roles
    )


# --- killing


def submitted(web: Any, kit: Any, **headers: str) -> str:
    fields = {"job_name": "x", "model": "echo"}
    id: str = web.upload("/jobs", fields, kit.zipped(a="1"), **headers).json["id"]
    return id


@pytest.fixture
def keys(data: Path) -> dict[str, dict[str, str]]:
    """A header for each of some people."""
    data.mkdir(exist_ok=True)
    people = {"anna": "submit", "bo": "submit", "cy": "read", "dee": "admin"}
    made = {name: accesskeys.add(data, name, role) for name, role in people.items()}  # type: ignore[arg-type]
    return {name: {"authorization": f"Bearer {key}"} for name, key in made.items()}


def test_a_job_is_killed_by_whose_it_is_and_by_admins(
    primary: Primary, keys: dict[str, dict[str, str]], kit: Any
) -> None:
    web = kit.Browser(application(primary, Access(anonymous="submit")))
    id, other, nobodys = submitted(web, kit, **keys["anna"]), submitted(web, kit), None
    for who, may in (("bo", False), ("cy", False), ("", False), ("anna", True)):
        headers = keys.get(who, {})
        assert web.get(f"/jobs/{id}", **headers).json["may_kill"] is may, who
        page = web.get(f"/jobs/{id}", accept="text/html", **headers).text
        rows = web.get("/jobs", accept="text/html", **headers).text
        assert (f'action="/jobs/{id}/kill"' in page) is may
        assert (f'action="/jobs/{id}/kill"' in rows) is may
        assert web.post(f"/jobs/{id}/kill", **headers).status == (200 if may else 403), who
    assert primary.job(id).by == primary.job(id).kill_by == "anna@127.0.0.1"
    nobodys = web.get(f"/jobs/{other}/kill")
    assert nobodys.status == 403 and 'anonymous = "admin"' in nobodys.json["detail"]
    assert web.post(f"/jobs/{other}/kill", **keys["anna"]).status == 403, "it was nobody's"
    assert web.get(f"/jobs/{other}/kill", **keys["dee"]).status == 200, "as scripts do it"
    assert primary.job(other).kill_by == "dee@127.0.0.1"


def test_a_script_without_a_key_kills_where_the_keeper_says_so(primary: Primary, kit: Any) -> None:
    web = kit.Browser(application(primary, Access(anonymous="admin", admin_key="k")))
    assert web.get(f"/jobs/{submitted(web, kit)}/kill").status == 200


@pytest.mark.parametrize(
    ("by", "may"),
    [
        ("anna@10.0.0.7", True),
        ("anna@unknown", True),
        ("anna", False),
        ("annab@10.0.0.7", False),
        ("x@anna@10.0.0.7", False),
        ("10.0.0.7", False),
        ("drop folder", False),
        ("", False),
        ("@10.0.0.7", False),
    ],
)
def test_whose_a_job_is(by: str, may: bool) -> None:
    job = Job(
        id="0" * 36, name="x", model="m", state="QUEUED", by=by, source="upload",  # type: ignore[arg-type]
        seq=1, created="", updated="",
    )  # fmt: skip
    assert Who("submit", "anna").may_kill(job) is may
    assert not Who("submit", None).may_kill(job) and not Who("read", "anna").may_kill(job)
    assert Who("admin", None).may_kill(job)


def test_the_ledger_names_who_did_it(
    past: Application, keys: dict[str, dict[str, str]], models: Path, kit: Any
) -> None:
    (models / "echo" / "example.zip").write_bytes(kit.zipped(a="1"))
    primary = past.site.primary
    web, anna = kit.Browser(opened(past, "none")), keys["anna"]
    made = [
        submitted(web, kit, **anna),
        web.call("PUT", "/jobs?job_name=x&model=echo", kit.zipped(a="1"), **anna).json["id"],
        web.form(
            "/jobs", {"job_name": "x", "model": "echo", "zip_url": "http://192.0.9.9/a"}, **anna
        ).json["id"],
        web.post(f"/jobs/{kit.DONE}/rerun", **anna).json["id"],
        web.post("/models/echo/example", **anna).json["id"],
    ]
    assert [primary.job(id).by for id in made] == ["anna@127.0.0.1"] * 5
    for id in made[:3]:
        assert web.post(f"/jobs/{id}/kill", **anna).status == 200
        assert primary.job(id).kill_by == "anna@127.0.0.1"


# --- pages


def test_a_page_that_needs_a_key_is_a_sign_in_that_leads_there(
    past: Application, kit: Any, keys: dict[str, dict[str, str]]
) -> None:
    web = kit.Browser(opened(past, "none"), accept="text/html")
    page = web.get(f"/jobs/{kit.DONE}?a=1&b=%22")
    assert page.status == 401 and 'id="signin"' in page.text
    assert f'value="/jobs/{kit.DONE}?a=1&amp;b=%22"' in page.text
    assert "done" not in page.text and "/jobs/submit" not in page.text and "Nodes" not in page.text
    key = keys["cy"]["authorization"].removeprefix("Bearer ")
    answer = web.form("/signin", {"key": key, "next": f"/jobs/{kit.DONE}?a=1"})
    assert answer.headers["location"] == f"/jobs/{kit.DONE}?a=1"
    assert web.get("/nosuch").status == 404 and web.get("/static/style.css").status == 200
    assert web.get("/jobs/%0d%0aX:%20y").status == 401


def test_who_may_only_look_is_offered_nothing_else(
    past: Application, models: Path, kit: Any, keys: dict[str, dict[str, str]]
) -> None:
    (models / "echo" / "example.zip").write_bytes(kit.zipped(a="1"))
    web = kit.Browser(opened(past, "none"), accept="text/html", **keys["cy"])
    for path in ("/models", "/jobs", f"/jobs/{kit.DONE}", f"/jobs/{kit.BROKEN}", "/status"):
        page = web.get(path)
        assert page.status == 200, path
        posts = set(re.findall(r'method="post" action="([^"]*)"', page.text))
        assert posts <= {"/signout"} and "/jobs/submit" not in page.text, path
    assert web.get("/jobs/submit").status == 403
    assert web.get("/models/echo/example.zip").status == 200
    assert web.get(f"/jobs/{kit.DONE}", accept="application/json").json["may_rerun"] is False
    both = kit.Browser(opened(past, "none"), accept="text/html", **keys["bo"])
    assert "/jobs/submit" in both.get("/models").text
    assert f'action="/jobs/{kit.DONE}/rerun"' in both.get("/jobs").text


def test_health_says_no_more_than_that_to_who_may_not_look(
    past: Application, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past.site.primary, "healthy", lambda: "/srv/data: no space left")
    shut, open_ = (kit.Browser(opened(past, role)) for role in ("none", "read"))
    assert shut.get("/healthz").status == open_.get("/healthz").status == 503
    assert "/srv" not in shut.get("/healthz").text and "/srv" in open_.get("/healthz").text


def test_the_description_says_where_a_key_is_needed(web: Any) -> None:
    document = web.get("/openapi.json").json
    for route in ROUTES:
        path = re.sub(r"<(\w+)(?::\w+)?>", r"{\1}", route.path)
        operation = document["paths"][path][route.method.lower()]
        needs = route.operation.needs
        assert ("security" in operation) is (needs != "none"), path
        if needs != "none":
            assert {"401", "429"} <= operation["responses"].keys(), path
        if needs in ("submit", "kill") and route.path != "/jobs/submit":
            assert "403" in operation["responses"], path
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


# --- addresses of inputs, whose query may be a token


def test_the_query_of_an_address_is_for_admins(
    primary: Primary, keys: dict[str, dict[str, str]], kit: Any
) -> None:
    id = "00000000-0000-4000-8000-00000000000f"
    event = Submitted(
        job=id, name="f", model="echo", by="bo@10.0.0.7", source="url", url=SECRET_URL
    )
    primary._ledger.append(lambda _: (event,))
    web = kit.Browser(application(primary, Access(anonymous="read")))
    places = (
        ("/events?after=0", "application/json"),
        (f"/jobs/{id}/events", "application/json"),
        (f"/jobs/{id}", "text/html"),
        (f"/jobs/{id}", "application/json"),
        (f"/jobs/{id}/state", "application/json"),
        ("/jobs", "text/html"),
        ("/jobs", "application/json"),
        ("/doctor", "application/json"),
    )
    for path, accept in places:
        for headers in ({}, keys["bo"], keys["cy"]):
            text = web.get(path, accept=accept, **headers).text
            assert "s3cret" not in text and "token" not in text and "u:pw" not in text, path
    assert web.get(f"/jobs/{id}/events").json["data"][0]["url"] == SHOWN_URL
    assert SHOWN_URL in web.get(f"/jobs/{id}", accept="text/html").text
    for path, _ in places[:2]:
        assert web.get(path, **keys["dee"]).json["data"][0]["url"] == SECRET_URL
    whole = web.get(f"/jobs/{id}", accept="text/html", **keys["dee"]).text
    assert whole.count("token=s3cret") == 2, "in the history, and in the details"
