"""The page of one job in a real Chromium: what changes by itself, and what is asked first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests import browsing
from tests.browsing import zipped
from tests.system import System
from web import words
from web.headline import lasting

Submit = Callable[..., str]
FINAL = ("COMPLETE", "FAILED", "KILLED")


@pytest.fixture
def submit(site: System, tmp_path: Path) -> Iterator[Submit]:
    """Submits jobs; at the end those that have not ended are killed, for others wait for slots."""
    ids = []

    def submit(model: str, name: str, **files: str) -> str:
        path = zipped(tmp_path / "in.zip", files or {"a": "1"})
        ids.append(str(site.client.submit(model, path, name=name)["uuid"]))
        return ids[-1]

    yield submit
    for id in ids:
        if site.status(id) not in FINAL:
            site.client.kill(id)
            site.wait_status(id, *FINAL)


def keep(page: Page) -> None:
    """Leaves something in the page that is gone when it is loaded anew."""
    page.evaluate("window.kept = true")


def is_kept(page: Page) -> bool:
    return bool(page.evaluate("window.kept === true"))


def test_what_only_bears_a_pictures_name_is_said_to_be_none(page: Page, submit: Submit) -> None:
    id = submit("torn", "torn")
    page.goto(f"/jobs/{id}")
    expect(page.locator("#outputs .torn")).to_have_text("This cannot be shown as a picture.")
    expect(page.locator("#outputs img")).to_have_count(1)  # the SVG without a size
    page.get_by_role("link", name="Preview of map.svg").click()
    shown = page.locator(".preview img")
    expect(shown).to_be_visible()
    box = shown.bounding_box()
    assert box is not None and min(box["width"], box["height"]) > 100
    page.get_by_role("link", name="Preview of empty.png").click()
    expect(page.locator("#outputs")).to_contain_text("The file is empty.")
    page.goto(f"/jobs/{id}/preview/no.png")
    expect(page.locator(".preview")).to_have_text("This cannot be shown as a picture.")


def test_the_page_changes_in_place_and_says_so(page: Page, submit: Submit) -> None:
    id = submit("steps", "in place", steps="15")
    page.goto(f"/jobs/{id}")
    keep(page)
    page.locator("#details summary").click()
    expect(page.locator(".badge")).to_have_text("COMPLETE", timeout=60_000)
    expect(page.locator("#news")).to_contain_text("Complete after")
    expect(page.locator("#outputs")).to_contain_text("result.txt")
    expect(page.locator("#log")).to_contain_text("step 15 of 15")
    expect(page.locator("#details")).to_have_attribute("open", "")
    expect(page.locator(".history")).to_contain_text("Complete: the model ran for")
    assert is_kept(page)


def test_a_running_job_tells_its_time_and_progress(
    page: Page, submit: Submit, site: System
) -> None:
    id = submit("steps", "progress", steps="1000")
    page.goto(f"/jobs/{id}")
    expect(page.locator(".headline")).to_have_text(re.compile(r"^Running on \S+ for \d+ s\.$"))
    seconds = page.locator("[data-seconds]")
    before = seconds.text_content() or ""
    expect(seconds).not_to_have_text(before)
    expect(page.locator("#doing")).to_have_text(re.compile(r"^at \d+$"))
    expect(page.locator("#percent")).to_have_text("1 %", timeout=60_000)
    site.client.kill(id)
    expect(page.locator(".badge")).to_have_text("KILLED", timeout=60_000)
    expect(page.locator(".headline")).to_contain_text("no process is left")


def test_a_waiting_job_moves_up_in_place(page: Page, submit: Submit, site: System) -> None:
    first = submit("steps", "runs", steps="100000")
    site.wait_status(first, "RUNNING")
    second, third = (submit("steps", name, steps="1") for name in ("second", "third"))
    page.goto(f"/jobs/{third}")
    expect(page.locator("#place")).to_have_text("Place 2 in the queue.")
    expect(page.locator("#why")).to_contain_text("1 job of this model is before it")
    keep(page)
    site.client.kill(second)
    expect(page.locator("#place")).to_have_text("Next in the queue.")
    expect(page.locator("#why")).not_to_contain_text("before it")
    site.client.kill(first)
    expect(page.locator(".badge")).to_have_text("COMPLETE", timeout=60_000)
    expect(page.locator("#waiting")).to_have_count(0)
    assert is_kept(page)


def test_a_kill_is_asked_for_twice_and_told_as_it_is(
    page: Page, submit: Submit, site: System
) -> None:
    id = submit("unhurried", "kill me")
    page.goto(f"/jobs/{id}")
    expect(page.locator("#log")).to_contain_text("working")
    kill = page.get_by_role("button", name="Kill", exact=True)
    kill.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    expect(page.get_by_role("button", name="No, let it run")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(kill).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    assert site.client.job(id)["kill_requested"] is False
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Yes, end it").click()
    expect(page.locator(".badge")).to_have_text("ENDING")
    expect(page.locator(".headline")).to_have_text(
        re.compile(r"^Ending: worker \S+ was asked to stop it \d+ s ago by \S+\.$")
    )
    expect(kill).to_have_count(0)
    browsing.may_end(site, id)
    expect(page.locator(".badge")).to_have_text("KILLED", timeout=60_000)
    expect(page.locator(".headline")).to_have_text(
        re.compile(r"^Killed by \S+ after .* s: no process is left; .* ended: .*\.$")
    )


def test_a_preview_opens_below_its_file(page: Page, submit: Submit, site: System) -> None:
    id = submit("gallery", "previews")
    site.wait_status(id, "COMPLETE")
    page.goto(f"/jobs/{id}")
    keep(page)
    row = page.locator(".files li", has_text="table.csv")
    link = row.get_by_role("link", name="Preview")
    link.click()
    expect(row.locator(".shown")).to_contain_text("<b>3</b>")
    expect(link).to_have_attribute("aria-expanded", "true")
    link.click()
    expect(row.locator(".shown")).to_be_hidden()
    assert is_kept(page)


def test_figures_read_as_the_servers_do(page: Page) -> None:
    page.goto("/models")
    sizes = [0, 1, 999, 1000, 9949, 12_345, 999_499, 999_500, 10**6, 5 * 10**8, 10**12, 10**16]
    seconds = [0, 0.9, 59.99, 60, 61, 3599, 3600, 86_399, 86_400, 10**6]
    found = page.evaluate(
        """async ([sizes, seconds]) => {
          const { size, lasting } = await import("/static/lengths.js");
          return [sizes.map(size), seconds.map(lasting)];
        }""",
        [sizes, seconds],
    )
    assert found == [[words.size(n) for n in sizes], [lasting(n) for n in seconds]]
