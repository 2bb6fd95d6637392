"""The nodes page and GET /status: what a worker says of itself, harmless."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import pytest

from primary.nodes import Node
from primary.server import VERSION
from primary.timeline import Run
from spool.claims import Claims
from spool.local import LocalTransport, make_worker_folder
from spool.reports import Beat
from web import nodespage, words

FIXED = {"name", "node_url", "status", "node_type", "model", "version"}
MORE = {
    *("host", "models", "slots", "jobs", "last_seen", "liveness", "outdated"),
    *("free_disk", "free_memory", "paused", "error"),
}


def beat(data: Path, primary: Any, name: str, **said: Any) -> None:
    make_worker_folder(data / "spool", name)
    facts: dict[str, Any] = {
        "host": "far.example",
        "node_url": f"ssh://{name}@far.example:2222",
        "pid": 1,
        "slots": 2,
        "version": VERSION,
        "models": {"echo": "abc123"},
        "free_disk": 5_000_000_000,
        "free_memory": 2_000_000,
    }
    words = Beat(instance="1" * 16, **({"counter": 1} | facts | said))
    Claims(LocalTransport(data / "spool"), name, "1" * 16).beat(words)
    primary.tick(0.0)


def test_a_worker_as_the_interface_shows_it(web: Any, data: Path, primary: Any) -> None:
    beat(data, primary, "w1", paused="no room", error="it broke")
    node = web.get("/status", accept="application/json").json["data"][1]
    assert set(node) >= FIXED | MORE
    assert (node["name"], node["node_url"]) == ("w1", "ssh://w1@far.example:2222")
    assert (node["node_type"], node["status"], node["liveness"]) == ("WORKER", "WAITING", "alive")
    assert (node["model"], node["models"]) == ("echo", {"echo": "abc123"})
    assert (node["free_disk"], node["free_memory"]) == (5_000_000_000, 2_000_000)
    assert (node["paused"], node["error"]) == ("no room", "it broke")
    assert (node["slots"], node["jobs"], node["outdated"]) == (2, [], False)


def test_the_page_shows_all_of_it(browser: Any, data: Path, primary: Any) -> None:
    beat(data, primary, "w1", paused="no room", error="it broke", version="0.0.1")
    page = browser.get("/status").text
    for text in (
        '<a href="ssh://w1@far.example:2222">ssh://w1@far.example:2222</a>',
        *(
            "far<wbr>.example",
            '<bdi>echo</bdi> <small class="quiet">abc123</small>',
            "0 of 2 in use",
            "5.0 GB disk, 2.0 MB memory",
        ),
        *('<span class="badge PAUSED">paused</span>', "It claims nothing: no room"),
        *("it broke", "0.0.1", "not the primary's"),
    ):
        assert text in page, text
    beat(data, primary, "w1", counter=2)
    assert "not the primary's" not in browser.get("/status").text


HOSTILE = "<script>alert('&\"')</script>\x1b[2J\u202e"


@pytest.mark.parametrize("path", ["/status", "/doctor"])
def test_a_worker_s_words_are_text(browser: Any, data: Path, primary: Any, path: str) -> None:
    said = dict.fromkeys(("host", "node_url", "version", "paused", "error"), HOSTILE)
    beat(data, primary, "w1", **said, models={HOSTILE: HOSTILE, "echo": HOSTILE})
    page = browser.get(path).text
    assert "<script>alert" not in page and "\x1b" not in page and "\u202e" not in page
    assert html.escape("<script>alert") in page
    assert not re.search(r'href="[^"]*script', page)


def test_sizes_that_nobody_has_are_shown_all_the_same(
    browser: Any, web: Any, data: Path, primary: Any
) -> None:
    huge = 2**62
    beat(data, primary, "w1", slots=huge, free_disk=huge, free_memory=huge, pid=huge)
    assert "TB disk" in browser.get("/status").text
    node = web.get("/status", accept="application/json").json["data"][1]
    assert node["free_disk"] == huge


@pytest.mark.parametrize(
    "url",
    [
        *("ssh://w1@host", "ssh://host:22/", "sftp://[::1]:22", "SSH://Host"),
    ],
)
def test_a_place_is_a_link(url: str) -> None:
    assert words.link(url) == url


@pytest.mark.parametrize(
    "url",
    [
        *("", "file://host", "javascript:alert(1)", "http://evil.example/", "data:text/html,x"),
        *("ssh://-oProxyCommand=x/", "ssh://a b/", "ssh://u@-x", "ssh://host/x;y", "ssh://h\n"),
        *("ssh:host", "ssh://", "ssh://h%0a", "ssh://u:p@h", "ssh://-o@h"),
    ],
)
def test_anything_else_is_none(url: str) -> None:
    assert words.link(url) is None


def test_a_worker_that_is_not_started_yet_has_no_figures(
    browser: Any, web: Any, data: Path, primary: Any
) -> None:
    make_worker_folder(data / "spool", "w1")
    primary.tick(0.0)
    page = browser.get("/status").text
    assert "not started yet" in page and "to look at" not in page
    assert ">0 B" not in page and "\n0 B" not in page and "0 of 0" not in page
    node = web.get("/status", accept="application/json").json["data"][1]
    assert (node["liveness"], node["status"]) == ("new", "STOPPED")


def test_what_a_silent_worker_told_of_is_no_present_reason(
    browser: Any, data: Path, primary: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat(data, primary, "w1", error="it broke")
    assert '<p class="problem">it broke</p>' in browser.get("/status").text
    start = primary._clock()
    monkeypatch.setattr(primary, "_clock", lambda: start + 60)
    page = browser.get("/status").text
    assert '<span class="badge UNREACHABLE">unreachable</span>' in page
    assert "The last error it told of, before that: it broke" in page
    beat(data, primary, "w1", counter=2, stopped=True, paused="no room")
    assert "no room" not in browser.get("/status").text


# --- what a card says


def node(**facts: Any) -> Node:
    given: dict[str, Any] = {"name": "w", "node_url": "", "node_type": "WORKER"}
    given |= {"status": "WAITING", "liveness": "alive", "slots": 2}
    return Node(**(given | facts))


@pytest.mark.parametrize(
    ("facts", "state", "word"),
    [
        ({}, "READY", "ready"),
        ({"jobs": ("a",)}, "BUSY", "busy, 1 of 2"),
        ({"jobs": ("a", "b", "c")}, "BUSY", "busy, 3 of 3"),
        ({"jobs": ("a",), "paused": "no room"}, "PAUSED", "paused"),
        ({"liveness": "unreachable", "jobs": ("a",)}, "UNREACHABLE", "unreachable"),
        ({"liveness": "lost"}, "LOST", "lost"),
        ({"liveness": "stopped", "paused": "x"}, "STOPPED", "stopped"),
        ({"liveness": "new"}, "NEW", "not started yet"),
        ({"node_type": "PRIMARY"}, "READY", "serving"),
    ],
)
def test_a_state_is_a_word(facts: dict[str, Any], state: str, word: str) -> None:
    assert nodespage.told(node(**facts))[:2] == (state, word)


def test_the_newest_runs_come_first() -> None:
    runs = [
        Run("w", str(n), "n", "m", 1, f"2026-11-23T00:00:0{n}Z", None, "RUNNING") for n in (2, 9, 4)
    ]
    assert [run.job for run in nodespage.newest(runs, 2)] == ["9", "4"]


def test_the_last_day_is_drawn_and_stands_in_a_table(past: Any, kit: Any) -> None:
    page = kit.Browser(past, accept="text/html").get("/status").text
    picture, table = page[page.index('<svg id="timeline"') :].split("</svg>", 1)
    assert "1 COMPLETE" in picture and "1 FAILED" in picture  # of one instant: they share a bar
    for id, end in ((kit.DONE, "COMPLETE"), (kit.BROKEN, "FAILED"), (kit.RUNNING, "RUNNING")):
        assert f'fill="url(#end-{end})"/>' in picture
        assert f'<a href="/jobs/{id}">' in table and f'<span class="badge {end}">' in table


def test_without_a_run_that_is_said(browser: Any) -> None:
    page = browser.get("/status").text
    assert 'id="timeline"' not in page and "No worker has run anything" in page
    assert "No worker has been set up yet" in page


def test_a_busy_day_is_drawn_for_a_part_of_the_time_only(primary: Any) -> None:
    ticks: list[float] = []

    def clock() -> float:  # each look takes a second
        ticks.append(1.0)
        return float(len(ticks))

    day = nodespage.Day(primary, clock)
    first = day.drawn()
    looks = 1
    while day.drawn() is first:
        looks += 1
    assert looks == nodespage.SHARE
