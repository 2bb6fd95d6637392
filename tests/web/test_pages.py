"""The pages: complete, escaped, and usable without JavaScript."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

import pytest

from web import advice
from web.access import Access
from web.pages import STATIC, VIEWS
from web.problems import Problem
from web.routes import application

NAMES = tuple(path.stem for path in VIEWS.glob("*.html") if path.stem != "layout")

VOID = {"meta", "link", "input", "br", "img", "wbr", "hr"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects what is linked and what is posted."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.posts: list[str] = []
        self.scripts: list[str] = []
        self.ids: list[str] = []
        self.handlers: list[str] = []
        self.feed(text)
        assert self.open == [], f"not closed: {self.open}"
        assert len(set(self.ids)) == len(self.ids), "an id stands twice"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert len(given) == len(attrs), f"an attribute of <{tag}> stands twice"
        self.handlers += [name for name in given if name.startswith("on") or name == "style"]
        if given.get("id"):
            self.ids.append(given["id"] or "")
        if tag == "a" and "hidden" not in given:
            self.links.append(given["href"] or "")
        if tag == "form" and given.get("method") == "post":
            self.posts.append(given["action"] or "")
        if tag == "script":
            assert given.get("type") == "module", "a script that runs before the page is there"
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
    more += ["/jobs?from=2026-11-23&to=2026-11-24", f"/jobs/{kit.DONE}/files", "/signin"]
    return [*jobs, *more, "/status", "/models", "/doctor", "/nosuch", "/jobs?limit=x"]


def test_every_page_is_well_formed_and_keeps_the_policy(browser: Any, kit: Any) -> None:
    for path in paths(kit):
        answer = browser.get(path)
        assert answer.headers["content-type"] == "text/html; charset=utf-8", path
        outline = Outline(answer.text)
        assert outline.handlers == [], path
        for script in outline.scripts:
            assert (STATIC / script.removeprefix("/static/")).is_file(), script
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        assert answer.headers["referrer-policy"] == "same-origin"
        assert "http://" not in answer.text.replace("http://www.w3.org", ""), path


def test_every_page_has_one_heading_and_a_way_past_the_menu(browser: Any, kit: Any) -> None:
    for path in paths(kit):
        page = browser.get(path).text
        assert page.count("<h1") == 1, path
        assert page.index('class="skip" href="#main"') < page.index("<nav"), path
        assert page.count('aria-current="page"') <= 1, path


def test_hostile_names_and_logs_are_text(browser: Any, kit: Any) -> None:
    for path in (*paths(kit), f"/jobs?q={kit.HOSTILE}", f"/jobs/submit?model={kit.HOSTILE}"):
        page = browser.get(path).text
        assert "<script>alert" not in page, path
    escaped = "&lt;script&gt;alert(&#039;&amp;&quot;&#039;)"
    for path in ("/jobs", "/status"):
        assert escaped in browser.get(path).text, path
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
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        outline = Outline(answer.text)
        for link in outline.links:
            target, fragment = urldefrag(link)
            assert target or fragment in outline.ids, f"{link} on {path}"
            if target:
                todo.append(target)
    assert f"/data/{kit.DONE}/output.zip" in seen


def test_the_start_is_the_models(browser: Any) -> None:
    answer = browser.get("/")
    assert (answer.status, answer.headers["location"]) == (303, "/models")


def test_killing_from_a_page_leads_to_the_job(browser: Any, kit: Any) -> None:
    answer = browser.post(f"/jobs/{kit.RUNNING}/kill", sec_fetch_site="same-origin")
    assert (answer.status, answer.headers["location"]) == (303, f"/jobs/{kit.RUNNING}")
    assert "kill requested" in browser.get("/jobs").text


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
    texts = {file.name: file.read_text() for folder in (VIEWS, STATIC) for file in folder.iterdir()}
    for file in STATIC.iterdir():
        users = [name for name, text in texts.items() if file.name in text and name != file.name]
        assert users, f"nobody asks for {file.name}"
    for name, text in texts.items():
        for wanted in re.findall(r"""(?:from|import) "\./([\w.-]+)";""", text):
            assert wanted in texts, f"{name} imports {wanted}"


# --- narrow screens


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


def test_on_a_narrow_screen_each_cell_says_what_it_is(browser: Any) -> None:
    for path in ("/jobs", "/status"):
        page = browser.get(path).text
        assert 'class="cards"' in page, path
        cards = Cards(page)
        rows = [row for row in cards.rows if row]
        assert rows, path
        for row in rows:
            heads = cards.heads[:-1] if path == "/jobs" else cards.heads  # the last has buttons
            assert [label for _, label in row][: len(heads)] == heads, path


def test_what_may_be_broken_anywhere_is_never_squeezed_to_a_letter() -> None:
    style = (STATIC / "style.css").read_text()
    assert "break-all" not in style
    for rule in re.findall(r"([^{}]+)\{([^{}]*overflow-wrap: anywhere[^{}]*)\}", style):
        selector, body = rule
        if re.search(r"\btd\b", selector):
            assert "min-width" in body, f"{selector}: squeezed to a letter's width"
    assert "@media (max-width: 700px)" in style


# --- problems


def test_a_problem_s_page_says_what_to_do_and_leads_on(browser: Any) -> None:
    answer = browser.get("/nosuch")
    assert answer.status == 404
    told = advice.of(404)
    assert f"<h1><bdi>{told.heading}</bdi></h1>" in answer.text and told.todo in answer.text
    assert "Nothing is at" in answer.text
    assert {"/models", "/jobs"} <= set(Outline(answer.text).links)


def test_who_may_not_is_led_to_the_form(past: Any, primary_key: Any, kit: Any) -> None:
    shut = kit.Browser(primary_key(past), accept="text/html,*/*;q=0.8")
    answer = shut.post(f"/jobs/{kit.RUNNING}/kill", sec_fetch_site="same-origin")
    assert answer.status == 403 and "/signin" in Outline(answer.text).links


def test_every_status_that_we_answer_with_has_advice() -> None:
    for status in (400, 403, 404, 405, 409, 413, 421, 422, 500, 503, 507):
        told = advice.of(status)
        assert told.heading[-1] not in ".!" and told.todo.endswith("."), status
        assert told != advice.of(499), status
    assert Problem(499, "x").title == "Error"


# --- signing in


@pytest.fixture
def primary_key() -> Any:
    """Makes an application with an admin key on the primary of another one."""
    return lambda app: application(app.site.primary, Access(anonymous="submit", admin_key="s3cret"))


@pytest.fixture
def keyed(past: Any, primary_key: Any, kit: Any) -> Any:
    return kit.Browser(primary_key(past), accept="text/html,*/*;q=0.8")


def test_signing_in_with_the_form(keyed: Any, kit: Any) -> None:
    page = keyed.get("/signin").text
    assert 'id="signin"' in page and 'type="password"' in page
    assert 'autocomplete="current-password"' in page
    wrong = keyed.form("/signin", {"key": "no"}, sec_fetch_site="same-origin")
    assert wrong.status == 403 and 'role="alert"' in wrong.text and 'id="signin"' in wrong.text
    assert 'aria-invalid="true"' in wrong.text
    assert f"/jobs/{kit.RUNNING}/kill" not in Outline(keyed.get("/jobs").text).posts
    right = keyed.form("/signin", {"key": "s3cret"}, sec_fetch_site="same-origin")
    assert right.status == 303
    cookie = right.headers["set-cookie"].partition(";")[0]
    page = keyed.get("/jobs", cookie=cookie).text
    assert {"/signout", f"/jobs/{kit.RUNNING}/kill"} <= set(Outline(page).posts)
    assert "You are signed in" in keyed.get("/signin", cookie=cookie).text


def test_the_old_address_shows_the_form_to_a_wrong_key(keyed: Any) -> None:
    answer = keyed.get("/admin/wrong")
    assert answer.status == 403 and 'id="signin"' in answer.text


def test_where_there_is_no_key_that_is_said(browser: Any) -> None:
    page = browser.get("/signin").text
    assert 'id="signin"' not in page and "You need not sign in" in page
