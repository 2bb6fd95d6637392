"""An input on its way from a real browser: progress, refusals, lost connections; how it looks."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from tests import browsing
from tests.browsing import PHONE, WIDE, zipped
from tests.relay import Relay
from tests.submitting import GOOD, came, content, drop, names, slow, submitted
from tests.system import System, wait_for

# --- sending -------------------------------------------------------------------------------


def test_check_only_runs_nothing(form: Page, river: System, tmp_path: Path) -> None:
    before = names(river)
    form.get_by_label("rain").check()
    drop(form, ("in.zip", content(tmp_path, GOOD)))
    form.get_by_role("button", name="Check only").click()
    expect(form.locator("#check")).to_contain_text("the input is good")
    drop(form, ("in.zip", content(tmp_path, GOOD | {"rain.csv": "1,2\n"})))
    form.get_by_role("button", name="Check only").click()
    expect(form.locator("#check .findings")).to_contain_text("rain.csv")
    assert names(river) == before


def test_what_is_not_filled_in_is_said(form: Page, tmp_path: Path) -> None:
    submit = form.get_by_role("button", name="Submit")
    submit.click()
    expect(form.locator("#model-problem")).to_have_text("Choose the model that is to run.")
    form.get_by_label("rain").check()
    expect(form.locator("#model-problem")).to_be_hidden()
    submit.click()
    expect(form.locator("#check")).to_contain_text("There is no input yet")
    drop(form, ("in.zip", content(tmp_path, GOOD)))
    form.get_by_text("Or let the server fetch").click()
    form.get_by_label("Address of the zip").fill("http://127.0.0.1:1/a.zip")
    submit.click()
    expect(form.locator("#zip_url-problem")).to_contain_text("two inputs")
    form.get_by_role("button", name="Remove").click()
    submit.click()
    expect(form.locator("#zip_url-problem")).to_contain_text("127.0.0.1")  # the server's words
    expect(form.locator("#zip_url")).to_have_attribute("aria-invalid", "true")
    expect(form.locator("#zip_url")).to_be_focused()
    expect(form.locator("#check")).not_to_contain_text("127.0.0.1")  # it is said once
    expect(form.locator("#job_name")).to_have_value("a")


def test_progress_and_cancel_of_a_slow_upload(form: Page, river: System) -> None:
    slow(form, 200_000)
    form.get_by_label("any").check()
    drop(form, ("noise.bin", random.Random(1).randbytes(3_000_000)))
    before = names(river)
    form.get_by_role("button", name="Submit").click()
    figures = form.locator("#upload-progress .figures")
    expect(form.locator("#phase")).to_have_text("Uploading…")
    cancel = form.get_by_role("button", name="Cancel")
    place = cancel.bounding_box()
    expect(figures).to_contain_text(re.compile(r"B of 3\.0 MB.*[kM]B/s.* left"))
    assert form.locator("#bar").evaluate("bar => bar.value > 0 && bar.value < 1")
    assert cancel.bounding_box() == place  # nothing jumps while the figures change
    expect(form.locator("#job_name")).to_be_disabled()
    cancel.click()
    expect(form.locator("#check")).to_contain_text("Nothing was queued")
    expect(form.locator("#upload-progress")).to_be_hidden()
    expect(form.locator("#job_name")).to_have_value("noise")
    assert names(river) == before


def test_leaving_while_it_uploads_is_asked(form: Page) -> None:
    slow(form, 100_000)
    form.get_by_label("any").check()
    drop(form, ("noise.bin", random.Random(2).randbytes(2_000_000)))
    form.get_by_role("button", name="Submit").click()
    expect(form.locator("#phase")).to_have_text("Uploading…")
    asked: list[str] = []

    def refuse(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.dismiss()

    form.on("dialog", refuse)
    form.evaluate("location.assign('/jobs')")
    wait_for(lambda: form.evaluate("1") and asked, "the question")
    assert asked == ["beforeunload"] and form.url.endswith("/jobs/submit")
    form.get_by_role("button", name="Cancel").click()
    form.remove_listener("dialog", refuse)


@pytest.fixture
def wire(river: System) -> Iterator[Relay]:
    relay = Relay("127.0.0.1", int(river.address.rsplit(":", 1)[1]))
    yield relay
    relay.close()


def through(relay: Relay, chromium: Browser) -> Any:
    return browsing.opened(chromium, f"http://127.0.0.1:{relay.port}", expected=("ERR_", "40"))


def test_a_lost_answer_makes_no_second_job(
    chromium: Browser, river: System, wire: Relay, tmp_path: Path
) -> None:
    with through(wire, chromium) as page:
        page.goto("/jobs/submit")
        page.get_by_label("any").check()
        drop(page, ("lost answer.zip", content(tmp_path, GOOD)))
        expect(page.locator("#job_name")).to_have_value("lost answer")
        wire.mute()
        page.get_by_role("button", name="Submit").click()
        wait_for(lambda: "lost answer" in names(river), "the job that nobody was told of")
        wire.refuse()
        wire.cut()
        again = page.get_by_role("button", name="Try again now")
        expect(again).to_be_visible()
        expect(page.locator("#phase")).to_contain_text("The connection was lost")
        wire.refuse(False)
        wire.thaw()
        again.click()
        job = submitted(page, river)
    assert job["status"] == "COMPLETE"
    assert names(river).count("lost answer") == 1


def test_an_upload_that_was_cut_goes_on_by_itself(
    chromium: Browser, river: System, wire: Relay
) -> None:
    with through(wire, chromium) as page:
        page.goto("/jobs/submit")
        page.get_by_label("any").check()
        drop(page, ("cut.bin", random.Random(3).randbytes(3_000_000)))
        wire.cut_after("up", 1_000_000)
        page.get_by_role("button", name="Submit").click()
        job = submitted(page, river)  # nobody pressed anything
    assert job["status"] == "COMPLETE" and came(river, job) == "cut.bin 3000000\n"
    assert names(river).count("cut") == 1


def test_the_same_key_is_kept_until_something_changes(form: Page, tmp_path: Path) -> None:
    keys: list[str | None] = []

    def lose(route: Any) -> None:
        keys.append(route.request.headers.get("idempotency-key"))
        route.abort("connectionreset")

    form.route("**/jobs?*", lose)
    form.get_by_label("any").check()
    drop(form, ("in.zip", content(tmp_path, GOOD)))

    def fail() -> None:
        seen = len(keys)
        form.get_by_role("button", name="Submit").click()
        expect(form.get_by_role("button", name="Try again now")).to_be_visible()
        assert len(keys) > seen
        form.get_by_role("button", name="Cancel").click()
        expect(form.get_by_role("button", name="Submit")).to_be_enabled()

    fail()
    fail()
    assert keys[0] and len(set(keys)) == 1
    form.locator("#job_name").fill("another")
    fail()
    assert len(set(keys)) == 2


def test_a_press_while_the_jobs_page_comes_makes_no_second_job(
    form: Page, river: System, tmp_path: Path
) -> None:
    form.get_by_label("any").check()
    drop(form, ("pressed again.zip", content(tmp_path, GOOD)))
    expect(form.locator("#check")).to_contain_text("It can be read")
    led: list[str] = []

    def nothing(route: Any) -> None:
        led.append(route.request.url)
        route.fulfill(status=204)  # the browser stays where it is

    form.route(re.compile("/jobs/[0-9a-f-]{36}$"), nothing, times=1)
    send = form.get_by_role("button", name="Submit", exact=True)
    send.click()
    expect(form.locator("#check")).to_contain_text("It is queued")
    wait_for(lambda: form.evaluate("1") and led, "the way to the job's page")
    send.click()
    assert submitted(form, river)["status"] == "COMPLETE"
    assert names(river).count("pressed again") == 1


def test_a_file_that_changed_since_is_named(form: Page, river: System, tmp_path: Path) -> None:
    path = zipped(tmp_path / "changing.zip", GOOD)
    form.get_by_label("any").check()
    form.locator("#zip_file").set_input_files(path)
    expect(form.locator("#check")).to_contain_text("It can be read")
    zipped(path, GOOD | {"more": "1"})
    os.utime(path, (1, 1))
    form.get_by_role("button", name="Submit").click()
    expect(form.locator("#check")).to_contain_text("changing.zip was changed, moved or taken away")
    assert "changing" not in names(river)


def test_too_much_to_zip_here_is_said(form: Page) -> None:
    said = form.evaluate(
        """async () => {
          const { chosen } = await import("/static/picked.js");
          const { prepare } = await import("/static/input.js");
          const large = new File(["a"], "large.bin");
          Object.defineProperty(large, "size", { value: 2 ** 31 + 1 });
          const { fault } = await prepare(chosen([large, new File([], "b")]), []);
          const many = Array.from({ length: 50_001 }, (_, n) => new File([], `f${n}`));
          try { chosen(many); } catch (error) { return [fault, error.message]; }
          return [fault, "nothing"];
        }"""
    )
    assert "2.1 GB are zipped in the browser. Zip them with a program" in said[0]
    assert "50,001 files were chosen; at most 50,000" in said[1]


def test_a_server_that_restarts_is_waited_for(form: Page, river: System, tmp_path: Path) -> None:
    answers = ['{"detail": "the primary is stopping; try again in a minute"}']

    def answer(route: Any) -> None:
        if answers:
            route.fulfill(status=503, body=answers.pop(), headers={"Retry-After": "30"})
        else:
            route.continue_()

    form.route("**/jobs?*", answer)
    form.get_by_label("any").check()
    drop(form, ("restarted.zip", content(tmp_path, GOOD)))
    form.get_by_role("button", name="Submit").click()
    expect(form.locator("#phase")).to_contain_text("The primary is stopping; try again")
    form.get_by_role("button", name="Try again now").click()
    assert submitted(form, river)["name"] == "restarted"


def test_keys_without_a_secure_context(form: Page) -> None:
    keys = form.evaluate(
        """async () => {
          const { newKey } = await import("/static/upload.js");
          Object.defineProperty(crypto, "randomUUID", { value: undefined });
          return [newKey(), newKey()];
        }"""
    )
    assert keys[0] != keys[1]
    form_of_a_uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(form_of_a_uuid, key) for key in keys)


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (413, "Request Entity Too Large", "larger than the server takes"),
        (507, '{"detail": "the disk is full; nothing was lost"}', "The disk is full"),
        (500, "<h1>Oops</h1>", "The server answered with an error (500)"),
    ],
)
def test_refusals_in_words(
    chromium: Browser, river: System, tmp_path: Path, status: int, body: str, said: str
) -> None:
    with browsing.opened(chromium, river.address, expected=(str(status),)) as page:
        page.goto("/jobs/submit")
        page.route("**/jobs?*", lambda route: route.fulfill(status=status, body=body))
        page.get_by_label("any").check()
        drop(page, ("in.zip", content(tmp_path, GOOD)))
        page.get_by_role("button", name="Submit").click()
        expect(page.locator("#check")).to_contain_text(said)
        expect(page.locator("#check")).to_be_focused()


# --- how it looks

STATES: dict[str, Callable[[Page, Path], None]] = {}


def state(function: Callable[[Page, Path], None]) -> Callable[[Page, Path], None]:
    STATES[function.__name__.replace("_", "-")] = function
    return function


@state
def good(page: Page, tmp_path: Path) -> None:
    drop(page, ("in.zip", content(tmp_path, GOOD)))
    expect(page.locator("#check .good").first).to_be_visible()
    page.get_by_text("What it holds").click()


@state
def to_be_refused(page: Page, tmp_path: Path) -> None:
    drop(page, ("in.zip", content(tmp_path, {"top/" + name: "1" for name in GOOD})))
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#check")).to_contain_text("Nothing was sent.")


@state
def refused(page: Page, tmp_path: Path) -> None:
    drop(page, ("in.zip", content(tmp_path, {"rain.csv": "Date", "catchment/area.txt": "x" * 99})))
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".findings")).to_be_visible()


@state
def uploading(page: Page, _: Path) -> None:
    slow(page, 100_000)
    page.get_by_label("any").check()
    drop(page, ("noise.bin", random.Random(2).randbytes(2_000_000)))
    page.get_by_role("button", name="Submit").click()
    expect(page.locator(".figures")).to_contain_text("left")


@pytest.mark.parametrize(
    ("size", "dark"),
    [(PHONE, True), (WIDE, False), ((320, 640), False)],
    ids=["phone-dark", "wide-light", "narrowest-light"],
)
@pytest.mark.parametrize("name", STATES)
def test_how_it_looks(
    chromium: Browser, river: System, tmp_path: Path, name: str, size: tuple[int, int], dark: bool
) -> None:
    expected = ("400",)
    with browsing.opened(chromium, river.address, size=size, dark=dark, expected=expected) as page:
        page.goto("/jobs/submit")
        page.get_by_label("rain").check()
        STATES[name](page, tmp_path)
        picture = f"submit-{name}-{size[0]}-{'dark' if dark else 'light'}.png"
        page.screenshot(path=browsing.screenshots() / picture, full_page=True)
        width = "document.scrollingElement.scrollWidth <= document.documentElement.clientWidth"
        assert page.evaluate(width)
        found = Axe().run(page).response["violations"]
        assert [(rule["id"], [node["html"] for node in rule["nodes"]]) for rule in found] == []
