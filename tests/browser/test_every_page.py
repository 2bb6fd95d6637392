"""Every page, at a phone's width and on a wide screen, light and dark.

Nothing is cut or runs out of the page, axe finds nothing, and a picture of each lies in
build/screenshots for whoever wants to look: people see what no rule finds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests import browsing
from tests.browsing import HOSTILE, PHONE, WIDE, zipped
from tests.system import System, wait_for

# What runs over an edge at the side, and is not inside something that scrolls by itself.
TOO_WIDE = """() => {
  const width = document.documentElement.clientWidth;
  const scrolls = (e) => {
    for (let p = e.parentElement; p; p = p.parentElement)
      if (p !== document.body && p !== document.documentElement
          && /auto|scroll|hidden|clip/.test(getComputedStyle(p).overflowX)) return true;
    return false;
  };
  const found = [];
  if (document.scrollingElement.scrollWidth > width) found.push("the page scrolls sideways");
  for (const e of document.body.querySelectorAll("*")) {
    const box = e.getBoundingClientRect();
    if (!e.checkVisibility() || !box.width || !box.height) continue;
    if ((box.right > width + 1 || (box.left < -1 && box.right > 0)) && !scrolls(e))
      found.push(`<${e.tagName.toLowerCase()} id="${e.id}" class="${e.getAttribute("class")}">`);
  }
  return found;
}"""

# Controls whose middle is covered by something else: two things overlap there.
COVERED = """() => {
  const found = [];
  for (const e of document.querySelectorAll("a, button, input, select, summary")) {
    const box = e.getBoundingClientRect();
    if (!box.width || !box.height || e.disabled || e.type === "hidden") continue;
    if (!e.checkVisibility({ visibilityProperty: true })) continue;
    e.scrollIntoView({ block: "center", inline: "nearest", behavior: "instant" });
    const b = e.getClientRects()[0];
    if (!b) continue; // inside something that is closed, or replaced meanwhile
    const x = b.left + b.width / 2, y = b.top + b.height / 2;
    if (x < 0 || y < 0 || x > innerWidth || y > innerHeight) continue;
    const top = document.elementFromPoint(x, y);
    const near = top && (e.contains(top) || top.contains(e) || top.closest("label")?.control === e);
    if (!near) found.push(`${e.outerHTML.slice(0, 120)} is under ${top?.outerHTML.slice(0, 120)}`);
  }
  scrollTo(0, 0);
  return found;
}"""


@pytest.fixture(scope="module")
def places(site: System, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The address of each page, by the name of its picture; with a job in every state."""
    zips = tmp_path_factory.mktemp("zips")
    client = site.client

    def submit(name: str, model: str, **files: str) -> str:
        return str(client.submit(model, zipped(zips / f"{model}.zip", files), name=name)["uuid"])

    done = submit("A gallery of results", "gallery", a="1")
    failed = submit("Rain of 1997, second try", "faulty", **{"input.json": '{"snow": 1}'})
    hostile = submit(HOSTILE, "gallery", a="1")
    for job in (done, failed, hostile):
        site.wait_status(job, "COMPLETE", "FAILED")
    running = submit("A long run", "steps", steps="100000")
    site.wait_status(running, "RUNNING")
    waiting = submit("Next in the queue", "steps", steps="1")
    killed = submit("Killed on the way", "unhurried", a="1")
    wait_for(lambda: client.log(killed).data, "the log of the job to kill")
    browsing.may_end(site, killed)
    client.kill(killed)
    site.wait_status(killed, "KILLED")
    yield {
        "models": "/models",
        "submit": "/jobs/submit",
        "jobs": "/jobs",
        "jobs-filtered": "/jobs?state=FAILED&q=rain",
        "jobs-none": "/jobs?q=no+such+name",
        "job-complete": f"/jobs/{done}",
        "job-failed": f"/jobs/{failed}",
        "job-hostile": f"/jobs/{hostile}",
        "job-running": f"/jobs/{running}",
        "job-queued": f"/jobs/{waiting}",
        "job-killed": f"/jobs/{killed}",
        "files": f"/jobs/{hostile}/files",
        "preview-picture": f"/jobs/{done}/preview/picture.png",
        "preview-table": f"/jobs/{done}/preview/table.csv",
        "preview-text": f"/jobs/{done}/preview/notes.txt",
        "nodes": "/status",
        "findings": "/doctor",
        "signin": "/signin",
        "not-found": "/jobs/00000000-0000-4000-8000-000000000000",
    }
    for job in (running, waiting):
        client.kill(job)
        site.wait_status(job, "KILLED")


NAMES = (
    "models", "submit", "jobs", "jobs-filtered", "jobs-none", "job-complete", "job-failed",
    "job-hostile", "job-running", "job-queued", "job-killed", "files", "preview-picture",
    "preview-table", "preview-text", "nodes", "findings", "signin", "not-found",
)  # fmt: skip


def violations(page: Page) -> list[str]:
    """What axe finds against WCAG 2.2 AA and good practice, a line for each element."""
    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
        for rule in found
        for node in rule["nodes"]
    ]


def visit(page: Page, path: str) -> None:
    page.goto(path)
    page.wait_for_load_state("load")
    page.evaluate("document.fonts.ready")


# Both widths and both schemes; colours hold at any width, and widths in any colour.
@pytest.mark.parametrize(
    ("size", "dark"), [(PHONE, False), (WIDE, True)], ids=["phone-light", "wide-dark"]
)
@pytest.mark.parametrize("name", NAMES)
def test_page(
    name: str,
    size: tuple[int, int],
    dark: bool,
    places: dict[str, str],
    chromium: Browser,
    site: System,
) -> None:
    expected = ("404",) if name == "not-found" else ()
    with browsing.opened(chromium, site.address, size=size, dark=dark, expected=expected) as page:
        visit(page, places[name])
        picture = f"{name}-{size[0]}-{'dark' if dark else 'light'}.png"
        page.screenshot(path=browsing.screenshots() / picture, full_page=True)
        assert page.evaluate(TOO_WIDE) == []
        assert page.evaluate(COVERED) == []
        assert violations(page) == []
        assert page.title() != "owned"


@pytest.mark.parametrize("name", NAMES)
def test_at_the_narrowest_without_javascript(
    name: str, places: dict[str, str], chromium: Browser, site: System
) -> None:
    expected = ("404",) if name == "not-found" else ()
    narrow = (320, 640)  # what WCAG's reflow asks for
    with browsing.opened(
        chromium, site.address, size=narrow, javascript=False, expected=expected
    ) as page:
        page.goto(places[name])
        picture = browsing.screenshots() / f"{name}-320-no-javascript.png"
        page.screenshot(path=picture, full_page=True)
        # The page's own scripts are off; what a test evaluates still runs.
        assert page.evaluate(TOO_WIDE) == []
        assert page.locator("h1").count() == 1
        assert page.locator("main").count() == 1


def test_every_page_is_here(places: dict[str, str]) -> None:
    assert set(places) == set(NAMES)
