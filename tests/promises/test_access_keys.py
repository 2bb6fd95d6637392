"""Nobody gets in where they don't belong: a real server, and whoever shows which key.

All routes times all keys are asked of a server that runs; keys are made, and taken back, while it
does. Then many wrong keys, and what looking at a key costs.
"""

from __future__ import annotations

import http.client
import json
import random
import re
import secrets
import string
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from primary import accesskeys
from primary.keyring import Keyring
from primary.roles import Role, reaches
from tests.promises.figures import Figure, count
from tests.system import ROOT, System, wait_for
from web.access import Access, Headers
from web.gate import COOKIE, Gate
from web.routes import Handlers, Route, table
from web.tries import FREE, Tries

ROUTES = table(Handlers(*map(object.__new__, get_type_hints(Handlers).values())))
CHOSEN = "the keeper's own key"
SEED = 6
COST = 100e-6  # seconds that a request with a key may take longer
UNKNOWN_JOB = "00000000-0000-4000-8000-00000000000e"


class Server:
    """The server of a system, as HTTP and ``modelrunner key`` see it."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._netloc = system.address.removeprefix("http://")

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self._netloc, timeout=60)
        try:
            connection.request(
                method, path, body, {"Accept": "application/json"} | dict(headers or {})
            )
            answer = connection.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read()
        finally:
            connection.close()

    def key(self, *words: str) -> str:
        command = [sys.executable, "-m", "modelrunner", "key", *words]
        command += ["--data", str(self._system.data)]
        return subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        ).stdout.strip()

    def role(self, headers: Mapping[str, str]) -> Any:
        status, _, body = self.ask("GET", "/signin", headers)
        return json.loads(body)["role"] if status == 200 else status


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
def shut(tmp_path: Path) -> Iterator[Server]:
    """A server that shows nothing to whoever has no key."""
    system = System(tmp_path)
    system.add_model("count")
    try:
        system.start(0, "--anonymous=none", f"--admin-key={CHOSEN}")
        yield Server(system)
    finally:
        system.end()


def _path(route: Route) -> str:
    known = {"id": UNKNOWN_JOB, "name": "style.css", "model": "nosuch", "path": "x", "key": "wrong"}
    return re.sub(r"<(\w+)(?::\w+)?>", lambda match: known[match[1]], route.path)


def _needed(route: Route) -> Role:
    """An unknown job is nobody's: what ends it sees first whether there is one."""
    need = route.operation.needs
    return "read" if need == "kill" else need


def test_nobody_does_more_than_their_key_may(shut: Server, figure: Figure) -> None:
    people: dict[str, tuple[Role, dict[str, str]]] = {"nobody": ("none", {})}
    for role in ("read", "submit", "admin"):
        people[role] = (role, bearer(shut.key("add", f"k-{role}", "--role", role)))
        assert shut.role(people[role][1]) == role, "known to a server that runs, at once"
    requests = wrong = 0
    for who, (role, headers) in people.items():
        for route in ROUTES:
            status, _, body = shut.ask(route.method, _path(route), headers)
            requests += 1
            # What needs no role answers as it does; /signin and /admin look at keys of their own.
            refused = status == 401 or (status == 403 and b"key of the role" in body)
            may = reaches(role, _needed(route))
            wrong += refused is may
            assert refused is not may, (
                f"{who}: {route.method} {route.path}: {status} {body[:200]!r}"
            )
            assert b"pytest" not in body, "a refusal tells nothing of the machine"
    for role in ("read", "submit", "admin"):
        shut.key("remove", f"k-{role}")
        assert shut.role(people[role][1]) in (401, 429), "nor a moment longer"
    figure("requests, by all routes and keys", requests)
    figure("answered otherwise than by the role", wrong)


def test_wrong_keys_are_slowed_down_and_good_ones_are_not(shut: Server, figure: Figure) -> None:
    good = bearer(shut.key("add", "anna", "--role", "submit"))
    _, told, _ = shut.ask("GET", f"/admin/{CHOSEN.replace(' ', '%20')}")
    cookie = {"Cookie": told["set-cookie"].partition(";")[0]}
    tries, compared = count(200, 20_000), 0
    chance = random.Random(SEED)
    for n in range(tries):
        guess = "".join(chance.choices(string.ascii_letters, k=20))
        path, headers = ("/jobs", bearer(guess)) if n % 2 else (f"/admin/{guess}", {})
        status, told, _ = shut.ask("GET", path, headers)
        assert status in (401, 403, 429), f"seed {SEED}, try {n}: {status}"
        compared += status != 429
        assert status != 429 or int(told["retry-after"]) >= 1
        if n % 50 == 49:
            assert (shut.role(good), shut.role(cookie)) == ("submit", "admin"), n
    # Waits double: however long it goes on, few of them are looked at.
    assert FREE <= compared <= FREE + 12
    assert shut.role(bearer(CHOSEN)) == 429, "the one that could be guessed is not compared now"
    assert shut.ask("GET", "/healthz")[0] == 200
    figure("wrong keys shown", tries)
    figure("of them compared", compared)


def test_who_waited_gets_in(shut: Server) -> None:
    while shut.role(bearer("wrong")) != 429:
        pass
    wait_for(lambda: shut.role(bearer(CHOSEN)) == "admin", "the first wait to be over")


@pytest.mark.parametrize("bug", ["every role will do", "no wait", "any seal", "hash as key"])
def test_a_broken_gate_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    """What the tests here look for is not there by itself: each of these lets somebody in."""
    key = accesskeys.add(tmp_path, "anna", "read")
    assert not _holes(tmp_path, key)
    if bug == "every role will do":
        monkeypatch.setattr("web.gate.greater", lambda *_: "admin")
    elif bug == "no wait":
        monkeypatch.setattr(Tries, "wait", lambda *_: 0.0)
    elif bug == "any seal":
        monkeypatch.setattr(Gate, "_seal", lambda *_: "0" * 64)
    else:
        monkeypatch.setattr("web.gate.digest", lambda given: bytes.fromhex(given.decode()))
    assert _holes(tmp_path, key)


def _holes(data: Path, key: str) -> list[str]:
    """The ways by which somebody gets in where they don't belong."""
    access = Access(anonymous="none", admin_key=None)
    gate = Gate(access, Keyring(data), b"s" * 32, Tries(lambda: 0.0))

    def role(**headers: str) -> str:
        try:
            return gate.who(Headers(headers), "192.0.2.1").role
        except Exception as e:  # noqa: BLE001  # refused: what the test is about, whatever it says
            return str(getattr(e, "status", ""))

    found = ["more than its role"] if role(Authorization=f"Bearer {key}") == "admin" else []
    (kept,) = accesskeys.read(data)
    if role(Authorization=f"Bearer {kept.sha256}") != "401":
        found.append("the hash for the key")
    if role(Cookie=f"{COOKIE}=anna.{'0' * 64}") != "none":
        found.append("a forged cookie")
    if "429" not in [role(Authorization="Bearer wrong") for _ in range(FREE + 1)]:
        found.append("guesses without end")
    return found


def test_a_look_at_a_key_costs_next_to_nothing(tmp_path: Path, figure: Figure) -> None:
    """Of as many keys as there may be; the best of some rounds, since the machine is shared."""
    keys = [
        accesskeys.AccessKey(name=f"k{n}", role="read", sha256=secrets.token_hex(32))
        for n in range(accesskeys.MOST - 1)
    ]
    made = accesskeys.add(tmp_path, "anna", "submit")
    text = json.loads((tmp_path / accesskeys.FILE).read_text())
    text["keys"] += [{"name": k.name, "role": k.role, "sha256": k.sha256} for k in keys]
    (tmp_path / accesskeys.FILE).write_text(json.dumps(text))
    gate = Gate(Access(anonymous="none", admin_key=CHOSEN), Keyring(tmp_path), b"s" * 32)
    shown = Headers({"Authorization": f"Bearer {made}"})
    cookie = Headers({"Cookie": f"{COOKIE}={gate.sign_in(made, '::1')}"})
    for what, headers in (("key", shown), ("cookie", cookie)):
        best = min(_seconds(gate, headers) for _ in range(20))
        figure(f"microseconds for a {what}, among {accesskeys.MOST} keys", round(best * 1e6, 1))
        assert best < 20 * COST, "on any machine; the figure above is what counts"


def _seconds(gate: Gate, headers: Headers, times: int = 50) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        assert gate.who(headers, "::1").name == "anna"
    return (time.perf_counter() - begun) / times
