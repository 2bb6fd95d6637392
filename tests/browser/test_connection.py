"""Pages that stay open while the server is away: they say so, and go on when it is back."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests import browsing
from tests.browsing import zipped
from tests.system import System


@pytest.fixture(scope="module")
def ended(site: System, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A job, so that there is a list with a filter."""
    path: Path = zipped(tmp_path_factory.mktemp("in") / "in.zip", {"steps": "0"})
    id = str(site.client.submit("steps", path, name="before the storm")["uuid"])
    site.wait_status(id, "COMPLETE")
    return id


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("path", ["/jobs", "/status"])
def test_what_may_be_old_is_said_to_be(chromium: Browser, site: System, path: str) -> None:
    with browsing.opened(chromium, site.address, expected=("ERR_",)) as page:
        page.goto(path)
        note = page.locator("#connection")
        expect(note).to_be_hidden()
        page.context.set_offline(True)
        expect(note).to_contain_text("no longer up to date", timeout=60_000)
        page.context.set_offline(False)
        expect(note).to_be_hidden(timeout=60_000)


def test_a_filter_without_the_server_leaves_the_list(
    chromium: Browser, site: System, ended: str
) -> None:
    with browsing.opened(chromium, site.address, expected=("ERR_",)) as page:
        page.goto("/jobs?q=storm")
        page.context.set_offline(True)
        page.get_by_label("Name or id").fill("nothing of this name")
        expect(page.locator("#connection")).to_be_visible()
        expect(page.locator(f"#job-{ended}")).to_be_visible()
        page.context.set_offline(False)
        expect(page.locator("#list")).to_contain_text("No job matches", timeout=60_000)
