"""The page of one job: where it is, why it waits, why it failed, where its results are."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from engine.endings import judge, timeout_wish
from ledger.events import (
    Failed,
    Failure,
    Killed,
    KillRequested,
    Processed,
    Purged,
    Requeued,
    RunFacts,
)
from ledger.jobs import FINAL, Job, State
from primary.errors import PrimaryError
from primary.fetching import check_url
from primary.server import Primary
from tests.pastjobs import INPUT, RUN, Past, completed, digest, packed, started
from web import failure, jobpage, tails
from web.access import Access
from web.headline import headline, lasting, place
from web.pages import STATIC
from web.routes import Application, application

LOG = (
    b"\x1b[31mreading\x1b[0m\n 1 %\r99 %\n"
    b"::progress 40 the second half\nTraceback\nerror: no <rain>\n"
)


def failed(of: Failure = "model", *, run: RunFacts | None = None, log: bytes = b"") -> Failed:
    return Failed(
        job="", attempt=1, failure=of, reason="for <b>this</b>", run=run,
        log=digest(log) if log else None,
    )  # fmt: skip


@pytest.fixture
def opened(
    data: Path, models: Path, kit: SimpleNamespace
) -> Iterator[Callable[[Past], tuple[Primary, Any]]]:
    """Opens the primary on a past, and a browser on it."""
    primaries: list[Primary] = []

    def open(past: Past, access: Access | None = None) -> tuple[Primary, Any]:
        past.close()
        primary = Primary.open(data, models, ())
        primaries.append(primary)
        app: Application = application(primary, access or Access(anonymous="admin"))
        return primary, kit.Browser(app, accept="text/html,*/*;q=0.8")

    yield open
    for primary in primaries:
        primary.close()


@pytest.fixture
def past(data: Path) -> Past:
    return Past(data)


def words(page: str) -> str:
    """What a page says, without its tags."""
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]*>", " ", page)))


def part(page: str, id: str) -> str:
    """The part of the page that begins with ``id``, up to the end of its section."""
    return page[page.index(f'id="{id}"') :].split("</section>")[0]


# --- the sentence on top

SOON = datetime(2026, 11, 23, 7, 3, 4, tzinfo=UTC)  # three minutes and four seconds after START
START = "2026-11-23T07:00:00.000000Z"


def job(state: State, **more: Any) -> Job:
    given: dict[str, Any] = {
        "id": "j",
        "name": "n",
        "model": "m",
        "by": "x",
        "source": "upload",
        "seq": 1,
    }
    times = {"created": START, "updated": START}
    return Job(**given | times | more, state=state)


@pytest.mark.parametrize(
    ("found", "sentence"),
    [
        (job(State.CREATED), "Its input is being fetched, since 3 min 4 s"),
        (job(State.QUEUED), "Waiting for 3 min 4 s"),
        (job(State.QUEUED, attempt=2), "Waiting for 3 min 4 s, now for attempt 2"),
        (
            job(State.CREATED, kill_by="a"),
            "Ending: the fetch of its input was called off 4 s ago by a",
        ),
        (
            job(State.QUEUED, kill_by="a"),
            "Ending: it is taken out of the queue, as was asked 4 s ago by a",
        ),
        (
            job(State.RUNNING, worker="alpha", started=START, kill_by="a"),
            "Ending: worker alpha was asked to stop it 4 s ago by a",
        ),
        (job(State.RUNNING, worker="alpha", started=START), "Running on alpha for 3 min 4 s"),
        (
            job(State.RUNNING, worker="alpha", started=START, attempt=2),
            "Running on alpha (attempt 2) for 3 min 4 s",
        ),
        (
            job(State.PROCESSED, run=RUN),
            "The model ended well after 12 s; its results are on their way",
        ),
        (job(State.COMPLETE, run=RUN, worker="alpha"), "Complete after 12 s on alpha"),
        (
            job(State.FAILED, failure="model", run=RunFacts(exit_code=2, wall_seconds=3)),
            "Failed after 3.0 s: exit code 2",
        ),
        (
            job(State.FAILED, failure="model", run=RunFacts(signal=11)),
            "Failed after less than 0.1 s: it crashed (segmentation fault, SIGSEGV)",
        ),
        (
            job(State.FAILED, failure="limit", run=RunFacts(signal=15, wall_seconds=60)),
            "Failed after 1 min 0 s: a limit was reached",
        ),
        (job(State.FAILED, failure="input"), "Failed before it ran: the input could not be used"),
        (job(State.KILLED, kill_by="a"), "Killed by a before it ran"),
        (
            job(State.KILLED, kill_by="a", starts=1, run=RunFacts(signal=15, wall_seconds=3)),
            "Killed by a after 3.0 s: no process is left",
        ),
        (
            job(State.KILLED, kill_by="a", starts=1, confirmed=False),
            "Killed by a, not confirmed: its worker was lost, so nobody can tell what still runs",
        ),
    ],
)
def test_what_goes_on_in_a_sentence(found: Job, sentence: str) -> None:
    asked = (SOON - timedelta(seconds=4)).isoformat().replace("+00:00", "Z")
    assert headline(found, SOON, asked if found.kill_by else None).text == sentence


def test_what_ended_does_not_go_on_counting() -> None:
    for state in State:
        found = job(state, run=RUN, failure="model", worker="a", started=START)
        assert (headline(found, SOON, None).seconds is None) == (
            state in FINAL or state is State.PROCESSED
        )


def test_places_and_lengths_of_time() -> None:
    queued = job(State.QUEUED)
    assert place(queued, 0) == "Next in the queue."
    assert place(queued, 1234) == "Place 1,235 in the queue."
    assert place(job(State.CREATED), 7) == ""
    assert [lasting(s) for s in (0, 59.9, 60, 3600, 90_000)] == [
        "0 s", "59 s", "1 min 0 s", "1 h 0 min", "1 d 1 h",
    ]  # fmt: skip


# --- why it failed


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (RunFacts(exit_code=2), "exit code 2"),
        (RunFacts(exit_code=127), "exit code 127: a program was not found"),
        (RunFacts(exit_code=126), "exit code 126: the program was found, but cannot be executed"),
        (
            RunFacts(exit_code=139),
            "exit code 139: its program crashed (segmentation fault, SIGSEGV)",
        ),
        (RunFacts(exit_code=255), "exit code 255"),
        (RunFacts(exit_code=300), "exit code 300"),
        (RunFacts(exit_code=0), ""),
        (RunFacts(signal=9), "it was killed, often for lack of memory (SIGKILL)"),
        (RunFacts(signal=200), "it died by a signal (signal 200)"),
        (RunFacts(), ""),
        (None, ""),
    ],
)
def test_exit_codes_and_signals_in_words(run: RunFacts | None, words: str) -> None:
    assert failure.how(job(State.FAILED, failure="model", run=run)) == words
    for other in set(get_args(Failure)) - {"model"}:
        assert failure.how(job(State.FAILED, failure=other, run=run)) == ""


@pytest.mark.parametrize(
    ("reason", "title"),
    [
        (timeout_wish(4).reason, "It ran longer than it may"),
        (judge(9, None).reason, "Its memory may have run out"),
        ("its output does not fit on the worker's disk", "Its worker's disk is full"),
        ("no more", "A limit was reached"),
    ],
)
def test_a_limit_is_told_by_the_engines_reason_alone(reason: str, title: str) -> None:
    said = f"{reason}; its last line: longer than the memory of the disk"
    found = job(State.FAILED, failure="limit", reason=said)
    explanation = failure.explain(found)
    assert explanation is not None and explanation.title == title
    assert title[1:] in headline(found, SOON, None).text


def test_an_input_that_was_not_fetched_leads_to_its_address() -> None:
    def told(reason: str) -> str:
        lost = job(State.FAILED, failure="input", reason=reason, url="http://example.org/x.zip")
        explanation = failure.explain(lost)
        assert explanation is not None
        return explanation.title

    with pytest.raises(PrimaryError) as refused:
        check_url("http://localhost/x.zip", ())
    assert told(str(refused.value)) == "The input could not be fetched"
    assert told("the zip is empty: it holds no files") == "The input cannot be used"


def test_every_class_of_failure_says_whose_turn_it_is(past: Past, opened: Any) -> None:
    ids = {kind: past.add(kind, started(), failed(kind)) for kind in get_args(Failure)}
    _, browser = opened(past)
    said = set()
    for id in ids.values():
        box = part(browser.get(f"/jobs/{id}").text, "failure")
        assert "For &lt;b&gt;this&lt;/b&gt;" in box
        said.add(words(box))
    assert len(said) == len(ids)
    assert "change what is named here" in words(
        part(browser.get(f"/jobs/{ids['input']}").text, "failure")
    )


def test_a_failure_of_the_model_names_whom_to_ask(past: Past, opened: Any, models: Path) -> None:
    file = models / "echo" / "model.toml"
    file.write_text('contact = "Ada <ada@example.org>"\n' + file.read_text())
    ids = {kind: past.add(kind, started(), failed(kind)) for kind in get_args(Failure)}
    _, browser = opened(past)
    for kind, id in ids.items():
        told = "Ada &lt;ada@example.org&gt;" in part(browser.get(f"/jobs/{id}").text, "failure")
        assert told == (kind in ("model", "limit"))


def test_a_failure_shows_the_lines_that_say_why(past: Past, opened: Any) -> None:
    run = RunFacts(exit_code=2, wall_seconds=3)
    id = past.add("f", started(), failed(run=run, log=LOG), log=LOG)
    _, browser = opened(past)
    page = browser.get(f"/jobs/{id}").text
    told = browser.get(f"/jobs/{id}", accept="application/json").json
    assert "error: no <rain>" in told["last_lines"]
    box = part(page, "failure")
    assert "The model failed: exit code 2" in box
    assert "<strong>error: no &lt;rain&gt;</strong>" in box
    assert "Failed after 3.0 s: exit code 2." in words(page)
    assert page.index('id="failure"') < page.index('id="log"')


# --- the parts


def test_a_complete_job_shows_its_results_above_the_log(past: Past, opened: Any) -> None:
    names = ("maps/a b#1.png", "t.csv", "x.bin", "<img src=x onerror=y>.txt")
    output = packed(*names)
    id = past.add("done", started(), completed(LOG, output), log=LOG, output=output)
    _, browser = opened(past)
    page = browser.get(f"/jobs/{id}").text
    assert page.index('id="outputs"') < page.index('id="log"')
    shown = part(page, "outputs")
    base = f"/jobs/{id}"
    assert f'<img src="{base}/files/maps/a%20b%231.png" alt="maps/a b#1.png"' in shown
    assert f'href="{base}/preview/t.csv"' in shown and f'href="{base}/files/x.bin"' in shown
    assert f"{base}/preview/x.bin" not in shown
    assert "&lt;img src=x onerror=y&gt;.txt" in shown and "<img src=x " not in page
    assert "All 4 files" in shown
    assert f'href="/data/{id}/output.zip"' in page and f'href="/data/{id}/input.zip"' in page
    for link in re.findall(r'(?:href|src)="(/(?:jobs|data)/[^"]+)"', page):
        assert browser.get(unescape(link)).status in (200, 303), link


def test_of_many_files_the_first_are_listed(past: Past, opened: Any) -> None:
    output = packed(*(f"{n:04d}.png" for n in range(300)))
    id = past.add("many", started(), completed(LOG, output), log=LOG, output=output)
    _, browser = opened(past)
    shown = part(browser.get(f"/jobs/{id}").text, "outputs")
    assert shown.count("<img") == jobpage.PICTURES
    assert shown.count('class="path"') == jobpage.FILES
    assert "All 300 files" in shown


def test_what_lies_at_the_top_is_listed_before_what_lies_in_folders(
    past: Past, opened: Any
) -> None:
    output = packed(*(f"cells/{n:04d}.txt" for n in range(300)), "cells/deep/a.txt", "summary.txt")
    id = past.add("many", started(), completed(LOG, output), log=LOG, output=output)
    _, browser = opened(past)
    listed = re.findall(r'class="path">([^<]+)<', part(browser.get(f"/jobs/{id}").text, "outputs"))
    assert listed[:2] == ["summary.txt", "cells/0000.txt"] and "cells/deep/a.txt" not in listed


def test_an_output_that_is_damaged_or_gone_is_said(past: Past, opened: Any) -> None:
    output = packed("a.txt")
    broken = past.add("broken", started(), completed(LOG, output), log=LOG, output=b"no zip")
    gone = past.add("gone", started(), completed(LOG, output), log=LOG)
    empty = past.add("empty", started(), completed(LOG, packed()), log=LOG, output=packed())
    purged = past.add(
        "purged", started(), completed(LOG, output), Purged(job="", by="retention", reason="old")
    )
    _, browser = opened(past)
    for id in (broken, gone):
        shown = part(browser.get(f"/jobs/{id}").text, "outputs")
        assert 'class="problem"' in shown and "Download" not in shown
    assert "The model wrote no files." in browser.get(f"/jobs/{empty}").text
    page = browser.get(f"/jobs/{purged}").text
    assert 'id="outputs"' not in page and "Its files were removed" in page
    assert f"/data/{purged}/" not in page.replace(f'id="raw" href="/data/{purged}', "")
    assert "/rerun" not in page


def test_a_failed_job_shows_what_it_had_written_below_the_log(past: Past, opened: Any) -> None:
    output = packed("half.txt")
    end = Failed(
        job="", attempt=1, failure="model", reason="r", run=RunFacts(exit_code=1),
        log=digest(LOG), output=digest(output),
    )  # fmt: skip
    id = past.add("half", started(), end, log=LOG, output=output)
    _, browser = opened(past)
    page = browser.get(f"/jobs/{id}").text
    assert page.index('id="failure"') < page.index('id="log"') < page.index('id="outputs"')
    assert "What it had written until then" in page


def test_a_waiting_job_says_its_place_and_why(past: Past, opened: Any) -> None:
    ids = [past.add(name) for name in ("first", "second", "third")]
    primary, browser = opened(past)
    for id, where in ((ids[0], "Next in the queue."), (ids[2], "Place 3 in the queue.")):
        page = unescape(browser.get(f"/jobs/{id}").text)
        why = primary.waiting(primary.job(id)).why
        assert where in page and why and why in page
        assert 'id="failure"' not in page and 'id="outputs"' not in page


def test_an_attempt_that_was_given_up_is_told(past: Past, opened: Any) -> None:
    lost = Requeued(job="", attempt=1, reason="alpha was silent for 15 min", confirmed=False)
    id = past.add("again", started(), lost)
    _, browser = opened(past)
    page = words(browser.get(f"/jobs/{id}").text)
    assert "now for attempt 2" in page
    assert "Attempt 1 given up: alpha was silent for 15 min" in page


def test_a_kill_is_honest_until_it_is_done(past: Past, opened: Any) -> None:
    asked = KillRequested(job="", by="admin@::1")
    ended = RunFacts(signal=15, wall_seconds=5.0, ended=("sh (pid 4)", "sleep (pid 5)"))
    done = Killed(job="", attempt=1, confirmed=True, reason="killed by admin@::1", run=ended)
    lost = Killed(job="", attempt=1, confirmed=False, reason="alpha was silent")
    ending = past.add("ending", started(), asked)
    killed = past.add("killed", started(), asked, done)
    unsure = past.add("unsure", started(), asked, lost)
    _, browser = opened(past)
    page = browser.get(f"/jobs/{ending}").text
    assert "Ending: worker alpha was asked to stop it" in words(page)
    assert 'badge ENDING"' in page and "KILLED" not in page and "/kill" not in page
    page = browser.get(f"/jobs/{killed}").text
    assert (
        "Killed by admin@::1 after 5.0 s: no process is left; 2 processes were ended: "
        "sh (pid 4), sleep (pid 5)." in words(page)
    )
    page = browser.get(f"/jobs/{unsure}").text
    assert "not confirmed" in words(page) and "no process is left" not in words(page)


def test_a_job_whose_results_are_on_their_way(past: Past, opened: Any) -> None:
    id = past.add("p", started(), Processed(job="", attempt=1, run=RUN))
    _, browser = opened(past)
    page = browser.get(f"/jobs/{id}").text
    assert "The model ended well after 12 s; its results are on their way." in words(page)
    assert 'id="progress"' not in page


def test_only_an_admin_sees_kill_and_all_see_run_again(past: Past, opened: Any) -> None:
    id, done = past.add("waits"), past.add("failed", started(), failed("input"))
    _, browser = opened(past, Access(anonymous="submit", admin_key="k" * 20))
    page = browser.get(f"/jobs/{id}").text
    assert f'action="/jobs/{id}/kill"' not in page and 'id="sure"' not in page
    assert f'action="/jobs/{id}/rerun"' not in page  # beside Kill it would read as "start it anew"
    page = browser.get(f"/jobs/{done}").text
    assert f'action="/jobs/{done}/rerun"' in page
    assert 'href="/jobs/submit?model=echo">Submit another input' in page
    signed_in = browser.get(f"/jobs/{id}", authorization="Bearer " + "k" * 20).text
    assert f'action="/jobs/{id}/kill"' in signed_in and 'id="sure"' in signed_in


def test_running_again_leads_to_a_job_that_names_the_old_one(browser: Any, submitted: str) -> None:
    answer = browser.post(f"/jobs/{submitted}/rerun", sec_fetch_site="same-origin")
    assert answer.status == 303
    page = browser.get(answer.headers["location"]).text
    assert page.count(f'href="/jobs/{submitted}"') == 2  # in the head, and in the history
    assert f"Run again of {submitted[:8]}" in page


# --- the log


def test_the_log_stands_as_a_terminal_would_show_it(past: Past, opened: Any) -> None:
    id = past.add("f", started(), failed(log=LOG), log=LOG)
    _, browser = opened(past)
    page = browser.get(f"/jobs/{id}").text
    log = part(page, "log")
    assert "reading\n99 %\n" in log and "\x1b" not in page
    assert "no &lt;rain&gt;" in log and "all of it" in log
    assert f'data-end="{len(LOG)}"' in log


def test_of_a_long_log_whole_lines_at_its_end(past: Past, opened: Any) -> None:
    log = b"".join(b"line %06d\n" % n for n in range(20_000))
    id = past.add("long", started(), failed(log=log), log=log)
    _, browser = opened(past)
    shown = part(browser.get(f"/jobs/{id}").text, "log")
    start = int(re.findall(r'data-start="(\d+)"', shown)[0])
    assert len(log) - start <= tails.MOST and log[start - 1 : start] == b"\n"
    text = shown[shown.index(">\n") + 2 : shown.index("</pre>")]
    assert text == log[start:].decode()


def test_a_log_without_a_newline_is_cut_too(past: Past, opened: Any) -> None:
    log = "é".encode() * tails.MOST
    id = past.add("long", started(), failed(log=log + b"x"), log=log + b"x")
    _, browser = opened(past)
    shown = part(browser.get(f"/jobs/{id}").text, "log")
    assert "\ufffd" not in shown and "ééé" in shown


def test_a_live_log_and_its_progress(
    past: Past, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = past.add("runs", started())
    log = past.hold(id)
    primary, browser = opened(past)
    assert "There is no log yet." in browser.get(f"/jobs/{id}").text
    log.write_bytes(LOG)
    page = browser.get(f"/jobs/{id}").text
    assert "99 %" in part(page, "log")
    assert '<noscript><meta http-equiv="refresh"' in page
    values = jobpage.context(primary, primary.job(id))
    assert values["progress"] is None and values["doing"] == ""  # no beat told of any
    monkeypatch.setattr(primary, "progress", lambda _: 40)
    assert jobpage.context(primary, primary.job(id))["doing"] == "the second half"
    assert '<progress max="100" value="40"' in browser.get(f"/jobs/{id}").text


def test_history_and_details(past: Past, opened: Any) -> None:
    output = packed("a.txt")
    id = past.add("done", started(), completed(LOG, output), log=LOG, output=output)
    _, browser = opened(past)
    page = words(browser.get(f"/jobs/{id}").text)
    for text in (
        "Submitted by 1.2.3.4 (upload), 8 B",
        "Started on alpha (host h), attempt 1",
        "Complete: the model ran for 12 s",
        "exit code 0",
        "11 s of processor time",
        "4.1 kB, of its largest process",
        sha256(INPUT).hexdigest(),
        sha256(output).hexdigest(),
        id,
    ):
        assert text in page, text


def test_a_hostile_name_stays_text(past: Past, opened: Any) -> None:
    name = "</title><script>alert(1)</script><b title=\"'"
    id = past.add(name)
    _, browser = opened(past)
    page = browser.get(f"/jobs/{id}").text
    assert "<script>alert" not in page and "<b title" not in page
    assert f"<bdi>{name}</bdi>" in unescape(page)


def luminance(colour: str) -> float:
    """Relative luminance as WCAG defines it."""
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_the_terminals_colours_can_be_read_in_both_schemes() -> None:
    """On the log's ground, and on that of a line that was found; grounds are tested by the same."""
    dark = "@media (prefers-color-scheme: dark)"
    schemes = []
    for name in ("style.css", "job.css"):
        text = (STATIC / name).read_text()
        pairs = [re.findall(r"--([\w-]+): (#[0-9a-f]{6})", half) for half in text.split(dark, 1)]
        schemes.append([dict(half) for half in pairs])
    for site, job in zip(*schemes, strict=True):
        colours = [job[f"c{n}"] for n in range(16)]
        for colour in colours:
            for ground in (site["bg"], site["warn-soft"]):
                light, low = sorted((luminance(colour), luminance(ground)), reverse=True)
                assert (light + 0.05) / (low + 0.05) >= 4.5, (colour, ground)
