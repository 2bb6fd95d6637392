"""The log in the page of a job, in a real Chromium: what a terminal shows, and logs of any size."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from ledger.events import AnyEvent
from tests import browsing
from tests.pastjobs import Past, completed, packed, started
from tests.system import ROOT, System

CASES = json.loads((ROOT / "tests" / "web" / "terminal_cases.json").read_text())
LINES = 500_000
LINE = "line %07d: the quick brown fox jumps over the lazy dog, again and again\n"
NEEDLES = (123_456, 400_000)  # lines of the large log that hold another word
MOST_LINES = 4_000  # what the page holds at once, see static/logview.js


class Site(NamedTuple):
    system: System
    past: Past
    large: str  # a finished job with a log of 33 MB
    live: dict[str, tuple[str, Path]]  # jobs that run for ever, and their logs, by test


def large_log() -> bytes:
    lines = [LINE % n for n in range(LINES)]
    for n in NEEDLES:
        lines[n] = f"line {n}: here is the NEEDLE in the haystack\n"
    return "".join(lines).encode()


TESTS = ("follow", "burst", "scrolled", "rewritten", "anew", "away", "hostile")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A primary without workers. Its running jobs' logs are written by the tests."""
    system = System(tmp_path_factory.mktemp("logs"))
    system.add_model("echo", "#!/bin/sh\n", "lease = 'never'")
    past = Past(system.data)
    log = large_log()
    output = packed("a.txt")
    large = past.add("large", started(), completed(log, output), log=log, output=output)
    running: AnyEvent = started()
    live = {}
    for name in TESTS:
        id = past.add(name, running)
        live[name] = (id, past.hold(id))
    past.close()
    try:
        system.start(0)
        yield Site(system, past, large, live)
    finally:
        system.end()


@pytest.fixture
def page(chromium: Browser, site: Site) -> Iterator[Page]:
    with browsing.opened(chromium, site.system.address) as page:
        yield page


def grow(log: Path, data: bytes) -> None:
    with log.open("ab") as file:
        file.write(data)


def lines(page: Page) -> list[str]:
    """The text of the lines in the page."""
    found: list[str] = page.evaluate(
        "[...document.querySelectorAll('#log > div')].map((line) => line.textContent)"
    )
    return found


def top(page: Page) -> str:
    """The first line that can be seen."""
    found: str = page.evaluate(
        """() => {
          const log = document.getElementById("log");
          const seen = (line) => line.offsetTop + line.offsetHeight > log.scrollTop + 1;
          return [...log.children].find(seen).textContent;
        }"""
    )
    return found


def at_bottom(page: Page) -> bool:
    found: bool = page.evaluate(
        """() => {
          const log = document.getElementById("log");
          return log.scrollTop + log.clientHeight >= log.scrollHeight - 2;
        }"""
    )
    return found


def last_line(page: Page) -> Locator:
    return page.locator("#log > div").last


def scroll(page: Page, to: str) -> None:
    page.evaluate(f"document.getElementById('log').scrollTop = {to}")


# --- the terminal


def in_page(page: Page, script: str, argument: object) -> Any:
    """What ``script``, a function of the modules and an argument, returns in the browser."""
    return page.evaluate(
        f"""async (argument) => {{
          const terminal = await import("/static/terminal.js");
          const loglines = await import("/static/loglines.js");
          const {{ LogView }} = await import("/static/logview.js");
          const bytesOf = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
          return ({script})({{ terminal, loglines, LogView, bytesOf }}, argument);
        }}""",
        argument,
    )


def test_the_cases_that_the_server_goes_by(page: Page) -> None:
    page.goto("/models")
    found = in_page(
        page,
        """({ terminal, bytesOf }, cases) => cases.map((each) => {
          let bytes = bytesOf(each.bytes);
          if (each.cut) while ((bytes[0] & 0xc0) === 0x80) bytes = bytes.subarray(1);
          return terminal.plain(new TextDecoder().decode(bytes), Boolean(each.cut));
        })""",
        CASES,
    )
    assert len(CASES) > 30
    for case, text in zip(CASES, found, strict=True):
        assert text == case["plain"], case["name"]


def test_colours_become_classes(page: Page) -> None:
    page.goto("/models")
    text = (
        "plain \x1b[1;31mred\x1b[0m \x1b[92mgreen\x1b[39m \x1b[44mon blue\x1b[49m "
        "\x1b[38;5;196mbright red\x1b[38;2;0;0;200mblue\x1b[38;5;250mgrey\x1b[4;7mno more\x1b[m end"
    )
    runs = in_page(page, "({ terminal }, text) => terminal.render(text).runs", text)
    kinds = {words.strip(): kind for words, kind in runs}
    assert kinds == {
        "plain": "",
        "red": "bold fore-1",
        "": "",
        "green": "fore-10",
        "on blue": "back-4",
        "bright red": "fore-9",
        "blue": "fore-4",
        "greyno more": "fore-7",
        "end": "",
    }


def test_a_colour_goes_on_in_the_next_line_and_may_be_written_over(page: Page) -> None:
    page.goto("/models")
    html = in_page(
        page,
        """({ LogView, bytesOf }, data) => {
          const view = new LogView(document.createElement("pre"));
          view.replace(bytesOf(data), 0, 0);
          return view.element.innerHTML;
        }""",
        base64.b64encode(b"\x1b[31mone\ntwo\x1b[0m\nabc\r\x1b[32mX\x1b[m\n<b>&").decode(),
    )
    assert html == (
        '<div><span class="fore-1">one</span></div><div><span class="fore-1">two</span></div>'
        '<div><span class="fore-2">X</span>bc</div><div>&lt;b&gt;&amp;</div>'
    )


def test_a_log_that_comes_in_pieces_reads_as_one_that_comes_whole(page: Page) -> None:
    """Every cut in two of logs with characters, colours and lines of all lengths."""
    page.goto("/models")
    logs = [
        "one\r\ntwo é漢😀\x1b[31mred\nmore\x1b[0m\n\n10 %\r20 %\x1b[K\rdone\nno newline".encode(),
        b"x" * 40 + b"\n" + b"\xff\xfe\xe2\x82" + b"\x1b]0;title\x07end\r",
        b"\n\n\n",
    ]
    wrong = in_page(
        page,
        """({ LogView, bytesOf }, logs) => {
          const wrong = [];
          for (const log of logs.map(bytesOf)) {
            const whole = new LogView(document.createElement("pre"));
            whole.replace(log, 0, 0);
            for (let cut = 0; cut <= log.length; cut++) {
              const view = new LogView(document.createElement("pre"));
              view.replace(log.subarray(0, cut), 0, 0);
              if (cut < log.length) view.append(log.subarray(cut));
              const same = view.element.innerHTML === whole.element.innerHTML
                && view.start === whole.start && view.end === whole.end;
              if (!same) wrong.push([cut, view.element.innerHTML, whole.element.innerHTML]);
            }
          }
          return wrong;
        }""",
        [base64.b64encode(log).decode() for log in logs],
    )
    assert wrong == []


def test_lines_of_any_length_are_folded_and_lose_nothing(page: Page) -> None:
    page.goto("/models")
    found = in_page(
        page,
        """({ loglines }) => {
          const shown = (bytes) => loglines.split(bytes, 100)
            .map(({ at, end, bytes, whole }) => [at, end, bytes.length, whole]);
          const long = new Uint8Array(40_000).fill(120);
          const bar = new TextEncoder().encode("\\r 10 % of it".repeat(9_000) + "\\nnext\\n");
          const view = [];
          return { long: shown(long), bar: shown(bar), longest: loglines.LONGEST };
        }""",
        None,
    )
    longest = found["longest"]
    assert [end - at for at, end, *_ in found["long"]] == [longest, longest, 40_000 - 2 * longest]
    assert [whole for *_, whole in found["long"]] == [True, True, False]
    (at, end, kept, whole), (begin, *_) = found["bar"]
    assert (at, end, whole) == (100, begin, True) and kept <= longest


# --- a large log


def test_of_a_large_log_a_window_is_in_the_page(page: Page, site: Site) -> None:
    page.goto(f"/jobs/{site.large}")
    expect(last_line(page)).to_have_text((LINE % (LINES - 1)).strip())
    assert at_bottom(page)
    expect(page.locator("#log-place")).to_have_text(re.compile(r"of 3\d\.\d\d MB$"))
    page.get_by_role("button", name="Start", exact=True).click()
    expect(page.locator("#log > div").first).to_have_text((LINE % 0).strip())
    seen = set()
    for _ in range(12):  # on through several windows, by scrolling alone
        before = lines(page)
        assert len(before) <= MOST_LINES
        numbers = [int(line[5:12]) for line in before]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "a line is missing"
        seen |= set(numbers)
        scroll(page, "1e9")
        expect(last_line(page)).not_to_have_text(before[-1])
    assert seen == set(range(max(seen) + 1)), "lines were jumped over"
    for _ in range(3):  # and back
        first = lines(page)[0]
        scroll(page, "0")
        expect(page.locator("#log > div").first).not_to_have_text(first)
    page.get_by_role("button", name="End", exact=True).click()
    expect(last_line(page)).to_have_text((LINE % (LINES - 1)).strip())


def test_what_was_read_stays_when_more_is_loaded_or_the_page_is_loaded_anew(
    page: Page, site: Site
) -> None:
    page.goto(f"/jobs/{site.large}")
    expect(last_line(page)).to_have_text((LINE % (LINES - 1)).strip())
    first = lines(page)[0]
    scroll(page, "300")  # near enough to the window's start that more is loaded above
    expect(page.locator("#log > div").first).not_to_have_text(first)
    place = top(page)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert top(page) == place, "drawn once more, it is where it was"
    page.reload()
    expect(page.locator("#log > div", has_text=place)).to_be_visible()
    assert top(page) == place


def test_search_goes_from_hit_to_hit_and_can_be_linked(page: Page, site: Site) -> None:
    page.goto(f"/jobs/{site.large}")
    field = page.get_by_role("searchbox", name="Search the log")
    chosen = page.locator("#log .chosen")
    field.fill("needle")
    field.press("Enter")
    for step, n in (("", 0), ("Enter", 1), ("Enter", 0), ("Shift+Enter", 1), ("Shift+Enter", 0)):
        if step:
            field.press(step)
        expect(chosen).to_have_text(f"line {NEEDLES[n]}: here is the NEEDLE in the haystack")
        expect(chosen.locator("mark")).to_have_text("NEEDLE")
        expect(chosen).to_be_in_viewport()
        expect(page.locator("[name=found]")).to_have_text(f"{n + 1} of 2 lines")
    assert re.search(r"#log=\d+$", page.url)
    page.reload()
    expect(page.locator("#log > div", has_text="NEEDLE")).to_be_visible()
    field.fill("no such words")
    field.press("Enter")
    expect(page.locator("[name=found]")).to_have_text("not found")
    field.press("Escape")
    expect(page.locator("[name=found]")).to_have_text("")
    expect(page.locator("#log mark")).to_have_count(0)


# --- a log that grows


def test_a_live_log_is_followed_and_survives_a_reload(page: Page, site: Site) -> None:
    id, log = site.live["follow"]
    page.goto(f"/jobs/{id}")
    expect(page.locator("#log-place")).to_have_text("There is no log yet.")
    for n in range(3):
        grow(log, b"".join(b"piece %d line %d\n" % (n, i) for i in range(100)))
        expect(last_line(page)).to_have_text(f"piece {n} line 99")
        assert at_bottom(page)
    page.reload()
    expect(last_line(page)).to_have_text("piece 2 line 99")
    grow(log, b"after the reload\n")
    expect(last_line(page)).to_have_text("after the reload")
    assert at_bottom(page)
    assert len(lines(page)) == 301


def test_who_scrolls_up_is_left_in_peace(page: Page, site: Site) -> None:
    id, log = site.live["scrolled"]
    grow(log, b"".join(b"line %d\n" % n for n in range(500)))
    page.goto(f"/jobs/{id}")
    expect(last_line(page)).to_have_text("line 499")
    follow = page.get_by_label("Follow")
    expect(follow).to_be_checked()
    scroll(page, "1000")
    expect(follow).not_to_be_checked()
    place = top(page)
    grow(log, b"line 500\n")
    expect(last_line(page)).to_have_text("line 500")
    assert top(page) == place
    page.reload()
    expect(page.get_by_text(place, exact=True)).to_be_visible()
    expect(follow).not_to_be_checked()
    follow.check()
    grow(log, b"line 501\n")
    expect(last_line(page)).to_have_text("line 501")
    assert at_bottom(page)


def test_a_log_that_grows_too_fast_is_followed_at_its_end(page: Page, site: Site) -> None:
    id, log = site.live["burst"]
    grow(log, b"begin\n")
    page.goto(f"/jobs/{id}")
    expect(last_line(page)).to_have_text("begin")
    for n in range(3):
        burst = b"".join(b"burst %d line %06d %s\n" % (n, i, b"x" * 80) for i in range(100_000))
        grow(log, burst)
        expect(last_line(page)).to_have_text(f"burst {n} line 099999 {'x' * 80}")
        assert at_bottom(page) and len(lines(page)) <= MOST_LINES
    expect(page.locator("#log-place")).to_contain_text("parts are left out here")
    grow(log, b"calm again\n")
    expect(last_line(page)).to_have_text("calm again")
    expect(page.locator("#log-place")).not_to_contain_text("left out")


def test_a_line_that_is_written_over_stays_one_line(page: Page, site: Site) -> None:
    id, log = site.live["rewritten"]
    grow(log, b"begin\n")
    page.goto(f"/jobs/{id}")
    expect(last_line(page)).to_have_text("begin")
    for percent in (1, 50, 100):
        grow(log, b"\r%3d %% done" % percent)
        expect(last_line(page)).to_have_text(f"{percent} % done")
        assert len(lines(page)) == 2
    # A bar that was drawn for days is one line as well.
    grow(log, b"".join(b"\r%6d drawn" % n for n in range(20_000)))
    expect(last_line(page)).to_have_text("19999 drawn")
    assert len(lines(page)) == 2


def test_the_next_attempts_log_begins_anew(page: Page, site: Site) -> None:
    id, log = site.live["anew"]
    grow(log, b"of the first attempt\n")
    page.goto(f"/jobs/{id}")
    expect(last_line(page)).to_have_text("of the first attempt")
    site.past.give_up(id)
    expect(page.locator("#job .badge")).to_have_text("QUEUED")
    expect(page.locator(".headline")).to_contain_text("now for attempt 2")
    expect(page.locator("#log > div")).to_have_count(0)
    expect(page.locator("#news")).to_contain_text("Waiting for")


def test_a_hostile_log_is_text(page: Page, site: Site) -> None:
    id, log = site.live["hostile"]
    text = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
    grow(log, text.encode() + b"\x1b]0;owned\x07\x1b[31m" + text.encode() + b"\x00\x9b\n")
    page.goto(f"/jobs/{id}")
    expect(last_line(page)).to_contain_text(text + text)
    assert page.locator("#log img, #log script").count() == 0
    assert "owned" not in page.title()
    page.get_by_role("searchbox").fill("<script>")
    page.keyboard.press("Enter")
    expect(page.locator("#log mark")).to_have_count(2)


def test_a_server_that_is_away_is_said_and_found_again(chromium: Browser, site: Site) -> None:
    id, log = site.live["away"]
    grow(log, b"before\n")
    with browsing.opened(chromium, site.system.address, expected=("ERR_FAILED",)) as page:
        page.goto(f"/jobs/{id}")
        expect(last_line(page)).to_have_text("before")
        page.route("**/jobs/*/*", lambda route: route.abort())
        expect(page.locator("#connection")).to_have_text(
            "No connection to the server; trying again."
        )
        grow(log, b"meanwhile\n")
        page.unroute("**/jobs/*/*")
        expect(page.locator("#connection")).to_be_hidden()
        expect(last_line(page)).to_have_text("meanwhile")


def test_keys_alone_are_enough(page: Page, site: Site) -> None:
    page.goto(f"/jobs/{site.large}")
    expect(last_line(page)).to_have_text((LINE % (LINES - 1)).strip())
    first = lines(page)[0]
    page.locator("#log").focus()
    page.keyboard.press("Home")
    expect(page.locator("#log > div").first).not_to_have_text(first)
    page.locator("[name=wrap]").focus()
    page.keyboard.press("Space")
    expect(page.locator("#log")).to_have_css("white-space-collapse", "preserve")
    expect(page.locator("#log")).to_have_class(re.compile("unwrapped"))
    page.reload()
    expect(page.locator("#log")).to_have_class(re.compile("unwrapped"))
