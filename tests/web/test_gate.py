"""Signing in with keys, how often somebody may be wrong, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from primary import accesskeys
from primary.keyring import Keyring
from primary.roles import KeyRole
from primary.server import Primary
from web.access import Access, Headers
from web.gate import COOKIE, Gate
from web.problems import Problem
from web.routes import application
from web.tries import FIRST, FREE, Tries

CHOSEN = "the keeper's own"


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
def anna(data: Path) -> str:
    data.mkdir(exist_ok=True)
    return accesskeys.add(data, "anna", "submit")


@pytest.fixture
def web(primary: Primary, kit: Any) -> Any:
    return kit.Browser(application(primary, Access(anonymous="submit", admin_key=CHOSEN)))


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock of all waits, which goes by hand."""
    now = [1000.0]
    monkeypatch.setattr("web.gate.Tries", lambda: Tries(lambda: now[0]))
    return now


def signed_in(web: Any, key: str) -> str:
    answer = web.form("/signin", {"key": key})
    assert answer.status == 303
    return str(answer.headers["set-cookie"].split(";")[0])


def test_a_key_is_shown_as_bearer_or_by_signing_in(web: Any, anna: str) -> None:
    wanted = {"admin": False, "signed_in": True, "name": "anna", "role": "submit"}
    cookie = signed_in(web, anna)
    assert anna not in cookie and anna[-48:] not in cookie
    assert web.get("/signin", **bearer(anna)).json == wanted
    assert web.get("/signin", cookie=cookie).json == wanted
    page = web.get("/jobs", cookie=cookie, accept="text/html").text
    assert "anna (submit)" in page and "Sign out" in page
    assert web.get(f"/admin/{anna}").status == 303, "by the old address, too"


def test_a_key_that_was_taken_back_signs_nobody_in(web: Any, anna: str, data: Path) -> None:
    cookie = signed_in(web, anna)
    accesskeys.remove(data, "anna")
    assert web.get("/signin", cookie=cookie).json["signed_in"] is False
    refused = web.get("/jobs", **bearer(anna))
    assert refused.status == 401 and 'error="invalid_token"' in refused.headers["www-authenticate"]
    again = accesskeys.add(data, "anna", "submit")
    assert web.get("/signin", cookie=cookie).json["signed_in"] is False, "another of that name"
    assert web.get("/signin", **bearer(again)).json["name"] == "anna"


def test_a_cookie_is_worth_nothing_under_another_name(web: Any, anna: str, data: Path) -> None:
    accesskeys.add(data, "bo", "admin")
    seal = signed_in(web, anna).rpartition(".")[2]
    for name in ("bo", "admin", "", "anna.anna"):
        forged = f"{COOKIE}={name}.{seal}"
        assert web.get("/signin", cookie=forged).json["signed_in"] is False, name


def test_a_cookie_opens_no_other_server(
    web: Any, anna: str, data: Path, tmp_path: Path, models: Path, kit: Any
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / accesskeys.FILE).write_bytes((data / accesskeys.FILE).read_bytes())
    primary = Primary.open(other, models, ())
    try:
        elsewhere = kit.Browser(application(primary, Access(anonymous="submit")))
        assert elsewhere.get("/signin", **bearer(anna)).json["signed_in"] is True
        assert elsewhere.get("/signin", cookie=signed_in(web, anna)).json["signed_in"] is False
    finally:
        primary.close()


def test_a_key_takes_nothing_away(primary: Primary, data: Path, kit: Any) -> None:
    look = accesskeys.add(data, "look", "read")
    web = kit.Browser(application(primary, Access(anonymous="admin")))
    assert web.get("/signin", **bearer(look)).json["role"] == "admin"


# --- wrong keys


def test_who_shows_too_many_wrong_keys_has_to_wait(slow: list[float], web: Any) -> None:
    tried: list[Callable[[], Any]] = [
        lambda: web.form("/signin", {"key": "wrong"}),
        lambda: web.get("/admin/wrong"),
        lambda: web.get("/jobs", **bearer("wrong")),
    ]
    statuses = [tried[n % 3]().status for n in range(FREE)]
    assert set(statuses) == {401, 403}
    for attempt in tried:
        answer = attempt()
        assert answer.status == 429
        assert answer.headers["retry-after"] == f"{FIRST:.0f}"
        assert answer.json["detail"].startswith("too many keys")
    # not even the right one is compared now: else it could be found by trying on
    assert web.form("/signin", {"key": CHOSEN}).status == 429
    page = web.form("/signin", {"key": CHOSEN}, accept="text/html")
    assert page.status == 429 and page.headers["retry-after"] and 'id="signin"' in page.text
    assert web.get("/jobs").status == 200, "what needs no key goes on"
    slow[0] += FIRST
    assert web.form("/signin", {"key": "wrong"}).status == 403
    assert web.form("/signin", {"key": CHOSEN}).headers["retry-after"] == f"{2 * FIRST:.0f}"
    slow[0] += 2 * FIRST
    assert web.form("/signin", {"key": CHOSEN}).status == 303


@pytest.mark.usefixtures("slow")
def test_others_are_let_in_meanwhile(web: Any, anna: str) -> None:
    cookie = signed_in(web, CHOSEN)
    for _ in range(FREE):
        web.form("/signin", {"key": "wrong"})
    assert web.form("/signin", {"key": CHOSEN}).status == 429
    # From the same address: a browser that is signed in, and a key that nobody can guess.
    assert web.get("/signin", cookie=cookie).json["role"] == "admin"
    assert web.get("/signin", **bearer(anna)).json["role"] == "submit"
    assert web.form("/signin", {"key": anna}).status == 303
    gate = web._app.site.gate
    assert gate.sign_in(CHOSEN, "192.0.2.9") is not None, "from another address"
    with pytest.raises(Problem):
        gate.sign_in(CHOSEN, "127.0.0.1")


def test_a_wrong_cookie_is_no_guess(web: Any) -> None:
    """It is sealed with 256 bits; browsers whose key was taken back would wait for nothing."""
    for n in range(3 * FREE):
        web.get("/jobs", cookie=f"{COOKIE}=admin.{n:064}")
    assert web.form("/signin", {"key": CHOSEN}).status == 303


@pytest.mark.parametrize("role", ["read", "submit", "admin"])
def test_a_bearer_is_heard_beside_a_cookie(
    primary: Primary, data: Path, kit: Any, role: KeyRole
) -> None:
    """A proxy or a browser may send both; a cookie that is good is enough."""
    key = accesskeys.add(data, "k", role)
    web = kit.Browser(application(primary, Access(anonymous="none")))
    cookie = signed_in(web, key)
    assert web.get("/jobs", cookie=cookie, authorization="Bearer nonsense").status == 200
    assert web.get("/jobs", cookie=f"{COOKIE}=k.0", **bearer(key)).status == 200
    assert web.get("/jobs", cookie=f"{COOKIE}=k.0").status == 401


def test_spoiled_keys_are_a_finding(web: Any, data: Path) -> None:
    before = web.get("/doctor").json["findings"]
    (data / accesskeys.FILE).write_text("{")
    (more,) = set(web.get("/doctor").json["findings"]) - set(before)
    assert accesskeys.FILE in more and "hold as they were" in more


def test_headers_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    gate = Gate(Access(anonymous="read", admin_key=CHOSEN), Keyring(tmp_path), b"s" * 32)
    for text in ("Bearer \udcff", "Bearer \u20ac", "Bearer " + "x" * 100_000):
        with pytest.raises(Problem):
            gate.who(Headers({"Authorization": text, "Cookie": f"{COOKIE}=\udcff"}), "::1")
