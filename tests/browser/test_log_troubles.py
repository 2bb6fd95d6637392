"""The log and the page of a job on bad days: lost and hanging answers, new attempts, odd links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from ledger.events import AnyEvent
from tests import browsing
from tests.pastjobs import Past, completed, packed, started
from tests.system import System

SHORT = 100_000  # lines of a log whose lines are shorter than most
TESTS = ("once", "hangs", "races", "found", "linked", "asleep", "emptied")

# Answers that never come are given up in a fraction of the time.
HASTE = """
const patient = AbortSignal.timeout.bind(AbortSignal);
AbortSignal.timeout = (milliseconds) => patient(milliseconds / 20);
"""


class Site(NamedTuple):
    system: System
    past: Past
    short: str  # a finished job with many short lines
    live: dict[str, tuple[str, Path]]  # jobs that run for ever, and their logs, by test


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A primary without workers. Its running jobs' logs are written by the tests."""
    system = System(tmp_path_factory.mktemp("troubles"))
    system.add_model("echo", "#!/bin/sh\n", "lease = 'never'")
    past = Past(system.data)
    log, output = "".join(f"{n}\n" for n in range(SHORT)).encode(), packed("a.txt")
    short = past.add("short", started(), completed(log, output), log=log, output=output)
    running: AnyEvent = started()
    live = {}
    for name in TESTS:
        id = past.add(name, running)
        live[name] = (id, past.hold(id))
        live[name][1].write_text("begin\n")
    past.close()
    try:
        system.start(0)
        yield Site(system, past, short, live)
    finally:
        system.end()


@pytest.fixture
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    address = site.system.address
    with browsing.opened(chromium, address, expected=("ERR_FAILED", "ERR_ABORTED")) as page:
        yield page


def grow(log: Path, text: str) -> None:
    with log.open("a") as file:
        file.write(text)


def numbers(page: Page) -> list[int]:
    found: list[int] = page.evaluate(
        "[...document.querySelectorAll('#log > div')].map((line) => Number(line.textContent))"
    )
    return found


def test_a_read_that_failed_is_made_up_for_while_nothing_else_is_new(
    page: Page, site: Site
) -> None:
    id, log = site.live["once"]
    page.goto(f"/jobs/{id}")
    expect(page.locator("#log > div").last).to_have_text("begin")
    lost: list[str] = []

    def lose(route: Route) -> None:
        lost.append(route.request.url)
        route.abort()

    page.route("**/log?*", lose, times=1)
    grow(log, "the last word for hours\n")
    expect(page.locator("#log > div").last).to_have_text("the last word for hours")
    expect(page.locator("#log-place")).to_contain_text("all of it")
    assert len(lost) == 1


@pytest.mark.parametrize("what", ["the page", "the log", "the first log"])
def test_an_answer_that_never_comes_is_given_up(page: Page, site: Site, what: str) -> None:
    id, log = site.live["hangs"]
    held: list[Route] = []
    page.add_init_script(HASTE)
    pattern = f"**/jobs/{id}" if what == "the page" else "**/log?*"

    def hold(route: Route) -> None:
        if held or route.request.resource_type == "document":
            route.continue_()
        else:
            held.append(route)  # and never answered

    if what == "the first log":
        page.route(pattern, hold)
    page.goto(f"/jobs/{id}")
    if what != "the first log":
        expect(page.locator("#log > div").first).to_have_text("begin")
        page.route(pattern, hold)
    if what == "the page":  # a change for which it is fetched
        page.evaluate("document.getElementById('job').dataset.seq = '0'")
    grow(log, f"{what} came\n")
    expect(page.locator("#log > div").last).to_have_text(f"{what} came")
    assert len(held) == 1
    if what == "the page":
        expect(page.locator("#job")).not_to_have_attribute("data-seq", "0")


def test_a_job_that_ends_while_its_page_is_fetched_has_ended_for_its_log_too(
    page: Page, site: Site
) -> None:
    id, _ = site.live["races"]
    page.goto(f"/jobs/{id}")
    expect(page.locator("#follow")).to_be_visible()

    def end_it_first(route: Route) -> None:
        if route.request.resource_type != "document" and site.system.status(id) == "QUEUED":
            site.system.client.kill(id)
            site.system.wait_status(id, "KILLED")
        route.continue_()

    page.route(f"**/jobs/{id}", end_it_first)
    site.past.give_up(id)
    expect(page.locator("#job .badge")).to_have_text("KILLED")
    expect(page.locator("#follow")).to_be_hidden()
    expect(page.locator("#log-place")).to_have_text("There is no log.")


def test_what_was_found_in_a_log_is_forgotten_with_it(page: Page, site: Site) -> None:
    id, log = site.live["found"]
    grow(log, "a needle\nanother needle\n")
    page.goto(f"/jobs/{id}")
    page.get_by_role("searchbox").fill("needle")
    page.keyboard.press("Enter")
    expect(page.locator("[name=found]")).to_have_text("1 of 2 lines")
    site.past.give_up(id)  # the next attempt's log begins anew
    expect(page.locator("#log > div")).to_have_count(0)
    expect(page.locator("[name=found]")).to_have_text("")
    expect(page.locator("[name=next]")).to_have_text("Find")


def test_a_search_that_is_called_off_asks_for_nothing_more(page: Page, site: Site) -> None:
    id, _ = site.live["emptied"]
    page.goto(f"/jobs/{id}")
    expect(page.locator("#log > div").last).to_have_text("begin")
    asked: list[str] = []

    page.on("request", lambda request: asked.append(request.url))
    page.get_by_role("searchbox").fill("begin")
    page.evaluate(
        """() => {
          const form = document.getElementById("log-search");
          for (let n = 0; n < 3; n++) form.requestSubmit();
          form.q.value = "";
          form.requestSubmit();
        }"""
    )
    page.get_by_role("searchbox").fill("begin")
    page.keyboard.press("Enter")
    expect(page.locator("[name=found]")).to_have_text("1 of 1 line")
    assert [url for url in asked if "q=&" in url] == []


def test_short_lines_are_not_jumped_over(page: Page, site: Site) -> None:
    page.goto(f"/jobs/{site.short}")
    expect(page.locator("#log > div").last).to_have_text(str(SHORT - 1))
    log = page.locator("#log")
    for to in ("0", "1e9"):  # back from the end, and on from the beginning
        if to == "1e9":
            page.get_by_role("button", name="Start", exact=True).click()
            expect(page.locator("#log > div").first).to_have_text("0")
        seen = set(numbers(page))
        for _ in range(4):
            before = numbers(page)
            assert before == list(range(before[0], before[0] + len(before)))
            edge = page.locator("#log > div").nth(0 if to == "0" else -1)
            log.evaluate(f"(log) => {{ log.scrollTop = {to}; }}")
            expect(edge).not_to_have_text(str(before[0 if to == "0" else -1]))
            seen |= set(numbers(page))
        assert len(seen) == max(seen) - min(seen) + 1, "lines were jumped over"


def test_a_link_into_the_log_leads_there_and_one_beyond_it_nowhere(page: Page, site: Site) -> None:
    id, log = site.live["linked"]
    grow(log, "".join(f"line {n}\n" for n in range(500)))
    page.goto(f"/jobs/{id}")
    expect(page.locator("#log > div").last).to_have_text("line 499")
    page.evaluate("location.hash = '#log=999999'")
    page.evaluate("location.hash = '#log=7'")
    expect(page.get_by_label("Follow")).not_to_be_checked()
    grow(log, "line 500\n")
    expect(page.locator("#log > div").last).to_have_text("line 500")
    expect(page.locator("#log > div").nth(1)).to_be_in_viewport()
    page.evaluate("location.hash = '#log=999999'")
    grow(log, "line 501\n")
    expect(page.locator("#log > div").last).to_have_text("line 501")
    expect(page.locator("#log > div")).to_have_count(503)


def test_a_computer_that_slept_knows_how_long_it_goes_on(page: Page, site: Site) -> None:
    id, _ = site.live["asleep"]
    # On most systems this clock stands still while the computer sleeps.
    page.add_init_script("performance.now = () => 1000;")
    page.goto(f"/jobs/{id}")
    seconds = page.locator(".headline [data-seconds]")
    first = seconds.inner_text()
    assert re.search(r"\d s$", first)
    expect(seconds).not_to_have_text(first)
