"""What people come for, from the first click to the last, in a real Chromium."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from primary import accesskeys
from tests import browsing
from tests.browsing import HOSTILE, PATIENCE, zipped
from tests.system import System

KEY = "a key of the tests"


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A primary with an admin key, without a worker."""
    system = System(tmp_path_factory.mktemp("keyed"))
    browsing.add_models(system)
    try:
        system.start(0, f"--admin-key={KEY}")
        yield system
    finally:
        system.end()


def submit(site: System, model: str, name: str, files: dict[str, str]) -> str:
    path = zipped(site.root / "journey.zip", dict(files))
    return str(site.client.submit(model, path, name=name)["uuid"])


def badge(page: Page, state: str) -> None:
    """Until the job's page says ``state``."""
    expect(page.locator("#job .badge").first).to_have_text(state, timeout=2 * PATIENCE)


def test_a_colleague_who_has_never_seen_it(page: Page, tmp_path: Path) -> None:
    """From opening the page to holding the results of a real model, by what it says alone."""
    page.goto("/")
    expect(page).to_have_title(re.compile("Models"))
    spring = page.locator("section", has=page.get_by_role("heading", name="Spring discharge"))
    with page.expect_download() as example:
        spring.get_by_role("link", name="Download the example").click()
    example.value.save_as(tmp_path / "example.zip")

    spring.get_by_role("link", name="Submit a job").click()
    page.set_input_files("input[name=zip_file]", tmp_path / "example.zip")
    page.get_by_role("button", name="Submit", exact=True).click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}$"))
    badge(page, "COMPLETE")
    picture = page.locator("#outputs img").first
    picture.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('#outputs img').naturalWidth > 100")

    with page.expect_download() as output:
        page.get_by_role("link", name="Download everything").click()
    output.value.save_as(tmp_path / "output.zip")
    with zipfile.ZipFile(tmp_path / "output.zip") as archive:
        assert {"discharge.png", "discharge.csv", "summary.txt"} <= set(archive.namelist())


def test_run_the_example(page: Page) -> None:
    page.goto("/models")
    page.locator("section#spring").get_by_role("button", name="Run the example").click()
    page.wait_for_url(re.compile(r"/jobs/[0-9a-f-]{36}$"))
    badge(page, "COMPLETE")


def test_follow_a_running_job(page: Page, site: System) -> None:
    job = submit(site, "steps", "followed", {"steps": "40"})
    page.goto(f"/jobs/{job}")
    badge(page, "RUNNING")
    log = page.locator("#log")
    expect(log).to_contain_text("step 3 of 40")
    expect(page.locator("#percent")).not_to_have_text("0 %")
    page.reload()
    expect(log).to_contain_text("step 5 of 40")
    expect(log).to_contain_text("step 1 of 40")
    badge(page, "COMPLETE")
    expect(log).to_contain_text("step 40 of 40")
    assert (log.text_content() or "").count("step 7 of 40") == 1, "a piece of the log came twice"
    expect(page.locator("#outputs")).to_contain_text("result.txt")


def test_a_poll_of_a_running_job_is_a_few_hundred_bytes(page: Page, site: System) -> None:
    job = submit(site, "unhurried", "polled", {"a": "1"})
    page.goto(f"/jobs/{job}")
    badge(page, "RUNNING")
    expect(page.locator("#log")).to_contain_text("working")
    sizes: list[int] = []
    try:
        while len(sizes) < 8:
            with page.expect_response(lambda answer: f"/jobs/{job}/" in answer.url) as found:
                pass
            headers = found.value.headers_array()
            head = sum(len(f"{each['name']}: {each['value']}\r\n") for each in headers)
            sizes.append(head + int(found.value.headers.get("content-length", 0)))
    finally:
        browsing.may_end(site, job)
        site.client.kill(job)
    assert max(sizes) < 800, sizes


def test_a_failure_is_explained(page: Page, site: System) -> None:
    job = submit(site, "faulty", "to fail", {"input.json": '{"snow": 1}'})
    page.goto(f"/jobs/{job}")
    badge(page, "FAILED")
    failure = page.locator("#failure")
    expect(failure).to_contain_text("exit code 1")
    expect(failure).to_contain_text("KeyError: 'rain'")
    expect(failure).to_contain_text("Traceback")


def test_kill_says_honestly_that_it_is_still_ending(page: Page, site: System) -> None:
    job = submit(site, "unhurried", "to be killed", {"a": "1"})
    page.goto(f"/jobs/{job}")
    badge(page, "RUNNING")
    expect(page.locator("#log")).to_contain_text("working")
    page.get_by_role("button", name="Kill", exact=True).click()
    page.get_by_role("button", name="Yes, end it").click()
    badge(page, "ENDING")
    expect(page.locator("#log")).to_contain_text("saving")
    assert site.status(job) == "RUNNING"
    browsing.may_end(site, job)
    badge(page, "KILLED")
    expect(page.locator("#job")).to_contain_text("no process", ignore_case=True)


def test_run_again_makes_a_job_that_names_the_old_one(page: Page, site: System) -> None:
    job = submit(site, "gallery", "to run again", {"a": "1"})
    page.goto(f"/jobs/{job}")
    badge(page, "COMPLETE")
    page.get_by_role("button", name="Run again").click()
    page.wait_for_url(
        lambda url: url.rstrip("/").endswith(tuple("0123456789abcdef")) and job not in url
    )
    expect(page.get_by_role("link", name=f"Run again of {job[:8]}")).to_be_visible()
    badge(page, "COMPLETE")
    new = page.url.rpartition("/")[2]
    assert site.client.job(new)["rerun_of"] == job


def test_outputs_are_looked_at_one_by_one(page: Page, site: System) -> None:
    job = submit(site, "gallery", "to look at", {"a": "1"})
    page.goto(f"/jobs/{job}")
    badge(page, "COMPLETE")
    outputs = page.locator("#outputs")
    page.wait_for_function("document.querySelector('#outputs img')?.naturalWidth === 64")
    outputs.get_by_role("link", name="Preview of table.csv").click()
    cells = outputs.get_by_role("cell")
    expect(cells.filter(has_text="<b>3</b>")).to_be_visible()
    outputs.get_by_role("link", name="Preview of notes.txt").click()
    expect(outputs.get_by_text("all is well")).to_be_visible()
    with page.expect_download() as single:
        outputs.get_by_role("link", name="Download table.csv").click()
    assert single.value.suggested_filename == "table.csv"
    assert Path(single.value.path()).read_text() == "day,flow\n1,2.5\n2,<b>3</b>\n"


def test_hostile_names_logs_and_files_are_text(page: Page, site: System) -> None:
    job = submit(site, "gallery", HOSTILE, {"a": "1"})
    for path in ("/jobs", f"/jobs/{job}", f"/jobs/{job}/files", "/status"):
        page.goto(path)
        if path == f"/jobs/{job}":
            badge(page, "COMPLETE")
            expect(page.locator("#log")).to_contain_text("<script>document.title='owned'</script>")
            expect(page.locator("h1")).to_have_text(HOSTILE)
        assert page.get_by_text("<img src=x").count() > 0 or not path.endswith("files")
        assert page.title() != "owned"
        assert page.locator("img[onerror], script:not([src])").count() == 0


def test_the_list_is_live_and_keeps_its_filter(page: Page, site: System) -> None:
    page.goto("/jobs?model=steps&q=newcomer")
    expect(page.get_by_text("No job matches")).to_be_visible()
    job = submit(site, "steps", "the newcomer", {"steps": "1"})
    row = page.locator(f"#job-{job}")
    expect(row).to_contain_text("COMPLETE")
    assert "q=newcomer" in page.url


def test_sign_in_as_admin_by_the_form(chromium: Browser, keyed: System) -> None:
    path = zipped(keyed.root / "in.zip", {"steps": "1"})
    job = str(keyed.client.submit("steps", path, name="waits")["uuid"])
    refused = ("403",)
    with browsing.opened(chromium, keyed.address, expected=refused) as page:
        # as a proxy forwards what comes from other machines
        page.set_extra_http_headers({"X-Forwarded-For": "192.0.2.7"})
        page.goto(f"/jobs/{job}")
        expect(page.get_by_role("button", name="Kill", exact=True)).to_have_count(0)
        page.get_by_role("link", name="Sign in").click()
        page.get_by_label("Key").fill("not the key")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_contain_text("not the admin key")
        page.get_by_label("Key").fill(KEY)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        assert page.url.endswith(f"/jobs/{job}"), "it leads back to where one was"
        page.get_by_role("button", name="Kill", exact=True).click()
        page.get_by_role("button", name="Yes, end it").click()
        badge(page, "KILLED")
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("link", name="Sign in")).to_be_visible()


def test_the_old_address_of_the_admin_signs_in(chromium: Browser, keyed: System) -> None:
    with browsing.opened(chromium, keyed.address, expected=("403",)) as page:
        page.goto("/admin/wrong")
        expect(page.locator("form#signin")).to_be_visible()
        page.goto(f"/admin/{KEY}")
        expect(page.get_by_role("button", name="Sign out")).to_be_visible()
        assert page.url.endswith("/jobs")


def test_a_server_that_shows_nothing_without_a_key(chromium: Browser, tmp_path: Path) -> None:
    system = System(tmp_path)
    browsing.add_models(system)
    try:
        system.start(0, "--anonymous=none")
        key, _ = (accesskeys.add(system.data, name, "read") for name in ("cy", "dee"))
        with browsing.opened(chromium, system.address, expected=("401",)) as page:
            page.goto("/jobs?state=RUNNING")
            expect(page.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_count(
                0
            )
            page.get_by_label("Key").fill(key)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_text("cy (read)")).to_be_visible()
            assert page.url.endswith("/jobs?state=RUNNING"), "it leads to what was asked for"
            expect(page.get_by_role("link", name="Nodes")).to_be_visible()
            expect(page.get_by_role("link", name="Submit")).to_have_count(0)
            accesskeys.remove(system.data, "cy")
            # the open page notices by itself, and says what is the matter
            expect(page.get_by_label("Key")).to_be_visible(timeout=2 * PATIENCE)
    finally:
        system.end()


def test_the_day_is_drawn(page: Page, site: System) -> None:
    job = submit(site, "gallery", "drawn", {"a": "1"})
    site.wait_status(job, "COMPLETE")
    page.goto("/status")
    assert page.locator("svg#timeline [class*=COMPLETE]").count() > 0
    drawn = json.dumps(page.locator("svg#timeline").text_content())
    assert "local" in drawn
