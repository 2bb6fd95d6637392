"""The pages: complete, escaped, and usable without JavaScript."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from web.pages import STATIC, VIEWS

NAMES = tuple(path.stem for path in VIEWS.glob("*.html") if path.stem != "layout")

VOID = {"meta", "link", "input", "br"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects what is linked and what is posted."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.posts: list[str] = []
        self.scripts: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute of <{tag}> stands twice"
        self.handlers += [name for name in given if name.startswith("on") or name == "style"]
        if tag == "a":
            self.links.append(given["href"] or "")
        if tag == "form" and given.get("method") == "post":
            self.posts.append(given["action"] or "")
        if tag == "script":
            self.scripts.append(given.get("src") or "inline")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        # </li>, </option> and the like may be left out in HTML; ours are not
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()


@pytest.fixture
def browser(past: Any, kit: Any) -> Any:
    return kit.Browser(past, accept="text/html,*/*;q=0.8")


def paths(kit: Any) -> list[str]:
    jobs = [f"/jobs/{id}" for id in (kit.DONE, kit.BROKEN, kit.RUNNING)]
    more = ["/jobs", "/jobs?state=FAILED&q=x&model=echo", "/jobs?limit=1", "/jobs/submit"]
    return [*jobs, *more, "/status", "/models", "/doctor", "/nosuch", "/jobs?limit=x"]


def test_every_page_is_well_formed_and_keeps_the_policy(browser: Any, kit: Any) -> None:
    for path in paths(kit):
        answer = browser.get(path)
        assert answer.headers["content-type"] == "text/html; charset=utf-8", path
        outline = Outline(answer.text)
        assert set(outline.scripts) == {"/static/live.js"} and outline.handlers == []
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "http://" not in answer.text.replace("http://www.w3.org", ""), path


def test_hostile_names_and_logs_are_text(browser: Any, kit: Any) -> None:
    for path in (*paths(kit), f"/jobs?q={kit.HOSTILE}", f"/jobs/submit?model={kit.HOSTILE}"):
        page = browser.get(path).text
        assert "<script>alert" not in page, path
    assert "&lt;script&gt;alert(&#039;&amp;&quot;&#039;)" in browser.get("/jobs").text
    assert "echo &amp; &lt;co&gt;" in browser.get("/models").text


def test_every_link_leads_somewhere(browser: Any, kit: Any) -> None:
    seen, todo = set(), paths(kit)[:-2]
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        answer = browser.get(path)
        assert answer.status in (200, 303), path
        if answer.headers.get("content-type", "").startswith("text/html"):
            todo += Outline(answer.text).links
    assert f"/data/{kit.DONE}/output.zip" in seen


def test_the_jobs_page_says_all(browser: Any, kit: Any) -> None:
    done = browser.get(f"/jobs/{kit.DONE}").text
    for text in (
        "COMPLETE",
        "exit code 0",
        "1.5 s",
        "4.1 kB",
        "first line",
        "Submitted",
        "1.2.3.4",
    ):
        assert text in done
    assert "/kill" not in done
    failed = browser.get(f"/jobs/{kit.BROKEN}").text
    assert "FAILED" in failed and "model: exit 3" in failed
    running = browser.get(f"/jobs/{kit.RUNNING}").text
    assert Outline(running).posts == [f"/jobs/{kit.RUNNING}/kill"]
    assert "There is no log yet." in running and "http-equiv" in running


def test_the_list_has_kill_buttons_and_a_cursor(browser: Any, kit: Any) -> None:
    assert Outline(browser.get("/jobs").text).posts == [f"/jobs/{kit.RUNNING}/kill"]
    page = browser.get("/jobs?limit=1&state=COMPLETE&state=RUNNING").text
    assert kit.RUNNING in page and kit.DONE not in page
    assert 'name="before"' in page and 'name="state" value="COMPLETE"' in page


def test_killing_from_a_page_leads_to_the_job(browser: Any, kit: Any) -> None:
    answer = browser.post(f"/jobs/{kit.RUNNING}/kill", sec_fetch_site="same-origin")
    assert (answer.status, answer.headers["location"]) == (303, f"/jobs/{kit.RUNNING}")
    assert "kill requested" in browser.get("/jobs").text


def test_submitting_from_the_form(browser: Any, kit: Any) -> None:
    fields = {"job_name": "from a page", "model": "echo", "zip_url": ""}
    answer = browser.upload("/jobs", fields, kit.zipped(a="1"))
    assert answer.status == 303 and answer.headers["location"].startswith("/jobs/")
    assert "from a page" in browser.get(answer.headers["location"]).text


def test_a_wrong_form_comes_back_filled_with_the_reason_at_its_field(
    browser: Any, kit: Any
) -> None:
    fields = {"job_name": "kept <b>", "model": "strict", "zip_url": ""}
    answer = browser.upload("/jobs", fields, kit.zipped(a="1"))
    assert answer.status == 400
    page = answer.text
    Outline(page)
    assert 'value="kept &lt;b&gt;"' in page
    assert '<option value="strict" selected>' in page
    assert 'id="zip_file-problem"' in page and "wanted.txt" in page


def test_checking_an_input(browser: Any, kit: Any) -> None:
    good, bad = kit.zipped(**{"wanted.txt": "1"}), kit.zipped(a="1")
    path = "/models/strict/validate"
    assert "The input is good for model strict" in browser.upload(path, {}, good).text
    refused = browser.upload(path, {}, bad)
    assert refused.status == 400 and "wanted.txt" in refused.text
    assert browser.upload("/models/nosuch/validate", {}, good).status == 404


def test_checking_an_input_by_api(web: Any, kit: Any, data: Path) -> None:
    good, bad = kit.zipped(**{"wanted.txt": "1"}), kit.zipped(a="1")
    path = "/models/strict/validate"
    assert web.upload(path, {}, good).json["message"].startswith("OK:  ")
    assert web.call("POST", path, good, content_type="application/zip").status == 200
    refused = web.upload(path, {}, bad)
    assert (refused.status, refused.json["field"]) == (400, "zip_file")
    assert web.upload("/models/nosuch/validate", {}, good).status == 404
    assert web.upload(path, {}).status == 400
    assert web.get("/jobs", accept="application/json").json["data"] == []
    assert list((data / "incoming").iterdir()) == []


def test_all_views_are_used_and_all_files_are_there() -> None:
    assert {f"{name}.html" for name in (*NAMES, "layout")} == {p.name for p in VIEWS.iterdir()}
    layout = (VIEWS / "layout.html").read_text()
    assert all(f"/static/{file.name}" in layout for file in STATIC.iterdir())


class Cards(HTMLParser):
    """The column heads of each table of cards, and the class and label of its cells by row."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.heads: list[str] = []
        self.rows: list[list[tuple[str, str]]] = []
        self._in_head = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._in_head = tag == "th"
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append((given.get("class") or "", given.get("data-label") or ""))

    def handle_data(self, data: str) -> None:
        if self._in_head and data.strip():
            self.heads.append(data.strip())
            self._in_head = False


def test_on_a_narrow_screen_each_cell_says_what_it_is(browser: Any, kit: Any) -> None:
    for path in ("/jobs", "/status", f"/jobs/{kit.DONE}"):
        page = browser.get(path).text
        assert '<table class="cards' in page or 'class="cards"' in page, path
        cards = Cards(page)
        rows = [row for row in cards.rows if row]
        assert rows, path
        for row in rows:
            heads = cards.heads[:-1] if path == "/jobs" else cards.heads  # the last has a button
            assert [label for _, label in row][: len(heads)] == heads, path


def test_names_and_states_are_not_broken_where_a_column_is_narrow() -> None:
    style = (STATIC / "style.css").read_text()
    assert "break-all" not in style
    assert ".whole, .state { white-space: nowrap; }" in style
    rules = [line.split("{") for line in style.splitlines() if "overflow-wrap: anywhere" in line]
    for selector, rule in rules:
        if selector.strip().startswith("td"):
            assert "min-width" in rule, f"{selector}: squeezed to a letter's width"
    assert "td {" not in [f"{selector.strip()} {{" for selector, _ in rules]
    assert "@media (max-width: 700px)" in style
