"""Pages that stay open: what comes by itself is whole, and what is pressed twice counts once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, Route, expect

from tests import browsing
from tests.browsing import may_end, zipped
from tests.system import System

# Answers that never come are given up in a fraction of the time.
HASTE = """
const later = window.setTimeout.bind(window);
window.setTimeout = (what, time) => later(what, time >= 60_000 ? time / 20 : time);
"""


def submit(site: System, folder: Path, model: str, name: str) -> str:
    path = zipped(folder / "in.zip", {"steps": "0"})
    return str(site.client.submit(model, path, name=name)["uuid"])


def named(site: System, name: str) -> int:
    return sum(job["name"] == name for job in site.client.jobs())


def test_rows_that_waited_for_the_hand_come_whole(
    chromium: Browser, site: System, tmp_path: Path
) -> None:
    old = submit(site, tmp_path, "unhurried", "whole: old")
    site.wait_status(old, "RUNNING")
    with browsing.opened(chromium, site.address, expected=("ERR_",)) as page:
        page.goto("/jobs?q=whole")
        badge = page.locator(f"#job-{old} .badge").first
        expect(badge).to_have_text("RUNNING")
        page.locator("#jobs").hover()
        page.route("**/jobs?q=whole", lambda route: route.abort())
        site.client.kill(old)
        may_end(site, old)
        site.wait_status(old, "KILLED")
        new = submit(site, tmp_path, "steps", "whole: new")
        site.wait_status(new, "COMPLETE")
        page.unroute("**/jobs?q=whole")  # both are news in one answer
        expect(badge).to_have_text("KILLED")
        page.get_by_role("button", name="Show 1 new job").click()
        expect(page.locator(f"#job-{new}")).to_be_visible()
        assert badge.inner_text() == "KILLED"
        assert page.locator(f"#job-{old} td").nth(3).inner_text().strip()


@pytest.mark.parametrize("path", ["/jobs?q=hanging", "/status"])
def test_a_page_that_never_comes_is_given_up(
    chromium: Browser, site: System, tmp_path: Path, path: str
) -> None:
    old = submit(site, tmp_path, "steps", "hanging: old")
    site.wait_status(old, "COMPLETE")
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held or route.request.resource_type == "document":
            route.continue_()
        else:
            held.append(route)  # and never answered

    with browsing.opened(chromium, site.address, expected=("ERR_",)) as page:
        page.add_init_script(HASTE)
        page.goto(path)
        page.route(re.compile(re.escape(path) + "$"), hold)
        new = submit(site, tmp_path, "steps", "hanging: new")
        expect(page.locator(f"#job-{new}, #runs a[href='/jobs/{new}']").first).to_be_attached()
        assert len(held) == 1


def test_what_somebody_opened_stays_open_and_fresh(page: Page) -> None:
    page.goto("/models")
    found = page.evaluate(
        """async () => {
          const { take } = await import("/static/news.js");
          const card = (state, open) => {
            const made = document.createElement("section");
            made.innerHTML = `<b>${state}</b><details${open ? " open" : ""}>models</details>`;
            return made;
          };
          const old = card("alive", true), fresh = card("lost", false);
          const first = take(old, fresh), html = old.innerHTML;
          return [first, html, fresh.innerHTML, take(old, fresh)];
        }"""
    )
    changed = '<b>lost</b><details open="">models</details>'
    assert found == [True, changed, "<b>lost</b><details>models</details>", False]


def twice(page: Page, button: Locator) -> None:
    """Presses it again when the first request is on its way, as hands do."""
    with page.expect_request(lambda request: request.method == "POST"):
        button.evaluate(
            "(button) => { button.click(); setTimeout(() => button.click(), 10); }",
        )


def test_a_double_click_in_the_list_counts_once(page: Page, site: System, tmp_path: Path) -> None:
    old = submit(site, tmp_path, "steps", "clicked twice")
    site.wait_status(old, "COMPLETE")
    page.goto("/jobs?q=clicked")
    twice(page, page.get_by_role("button", name="Run again clicked twice"))
    page.wait_for_url("**/jobs/*-*")
    assert named(site, "clicked twice") == 2


def test_a_double_click_on_an_example_counts_once(page: Page, site: System) -> None:
    page.goto("/models")
    card = page.locator("section.offer").filter(has=page.get_by_text("Run the example")).first
    name = f"Example of {card.locator('h2').inner_text()}"
    before = named(site, name)
    twice(page, card.get_by_role("button", name="Run the example"))
    page.wait_for_url("**/jobs/*-*")
    assert named(site, name) == before + 1
