"""Looking into a job's output over HTTP, and searching its log."""

from __future__ import annotations

import html
import http.client
import io
import threading
import zipfile
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import pytest
import waitress
from hypothesis import given, settings
from hypothesis import strategies as st
from waitress import wasyncore

from web import outputs as routes
from web.outputs import disposition

PNG = b"\x89PNG\r\n\x1a\n" + b"picture" * 20
SCRIPT = "<script>alert('&\"')</script>"
FILES: dict[str, bytes] = {
    "plots/a b.png": PNG,
    "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "table.csv": b"name;n\nx;1,5\n" + SCRIPT.encode() + b";2,5\n",
    "log.txt": b"one\n\x1b[31m" + SCRIPT.encode() + b"\x1b[0m\n",
    "page.html": SCRIPT.encode(),
    "raw.bin": bytes(range(256)),
    "empty.txt": b"",
    f"{SCRIPT.replace('/', '-')} % ?#+;é漢.txt": b"hostile name",
    "x" * 200 + ".txt": b"long name",
    "\u061cright\u200bto\u00adleft.txt": b"unseen name",
}  # fmt: skip


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", method) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return data.getvalue()


@pytest.fixture
def fill(past: Any, kit: Any, data: Path) -> Callable[[bytes], None]:
    """Gives the finished job another output."""
    del past

    def fill(content: bytes) -> None:
        (data / "jobs" / kit.DONE / "output.zip").write_bytes(content)

    return fill


@pytest.fixture
def job(fill: Callable[[bytes], None], kit: Any) -> str:
    """The address of a job with ``FILES``."""
    fill(zipped(FILES))
    return f"/jobs/{kit.DONE}"


@pytest.fixture
def web(past: Any, kit: Any) -> Any:
    return kit.Browser(past)


@pytest.fixture
def browser(past: Any, kit: Any) -> Any:
    return kit.Browser(past, accept="text/html,*/*;q=0.8")


# --- the list


def test_the_list_of_files(web: Any, job: str) -> None:
    files = web.get(f"{job}/files").json["data"]
    assert [file["path"] for file in files] == sorted(FILES)
    assert {file["path"]: file["size"] for file in files} == {p: len(d) for p, d in FILES.items()}
    kinds = {file["path"]: file["kind"] for file in files}
    assert kinds["plots/a b.png"] == kinds["drawing.svg"] == "picture"
    assert (kinds["table.csv"], kinds["page.html"], kinds["raw.bin"]) == ("table", "text", "other")


def test_the_page_of_all_files(browser: Any, job: str) -> None:
    page = browser.get(f"{job}/files").text
    assert SCRIPT not in page and "<script>alert" not in page
    for path in FILES:
        assert f'href="{job}/files/{html.escape(quote(path))}"' in page, path
    assert f'<img src="{job}/files/plots/a%20b.png" alt="plots/a b.png"' in page
    assert f'href="{job}/preview/table.csv"' in page
    assert f'href="{job}/preview/raw.bin"' not in page
    assert "\u061c" not in page and "\u200b" not in page and "\\u061cright" in page


def test_many_files_have_many_pages(
    browser: Any, fill: Callable[[bytes], None], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "PAGE", 3)
    names = [f"n & {n}.txt" for n in range(8)]
    fill(zipped(dict.fromkeys(names, b"")))
    path, seen = f"/jobs/{kit.DONE}/files", []
    while path:
        page = browser.get(path).text
        seen += [name for name in names if f'path">{html.escape(name)}<' in page]
        assert "8 files" in page
        _, _, rest = page.partition('class="button" href="' + f"/jobs/{kit.DONE}/files?")
        path = f"/jobs/{kit.DONE}/files?" + html.unescape(rest.partition('"')[0]) if rest else ""
    assert seen == names
    assert "There are no more files" in browser.get(f"/jobs/{kit.DONE}/files?after=z").text


def test_an_output_without_files(browser: Any, fill: Callable[[bytes], None], kit: Any) -> None:
    fill(zipped({}))
    assert "The model wrote no files" in browser.get(f"/jobs/{kit.DONE}/files").text


@pytest.mark.parametrize("what", ["files", "files/a", "preview/a"])
def test_what_has_no_output_says_why(web: Any, browser: Any, kit: Any, what: str) -> None:
    for id, why in ((kit.BROKEN, "left no output"), (kit.RUNNING, "no output yet")):
        assert why in web.get(f"/jobs/{id}/{what}").json["detail"]
        assert (page := browser.get(f"/jobs/{id}/{what}")).status == 404 and why in page.text
    assert web.get(f"/jobs/{kit.DONE[:-1]}9/{what}").status == 404
    assert web.get(f"/jobs/nonsense/{what}").status == 404


def test_a_zip_that_is_none(web: Any, fill: Callable[[bytes], None], kit: Any) -> None:
    fill(b"no zip")
    answer = web.get(f"/jobs/{kit.DONE}/files")
    assert answer.status == 404 and "output.zip as a whole" in answer.json["detail"]


# --- single files


@pytest.mark.parametrize("path", FILES)
def test_one_file(web: Any, job: str, path: str) -> None:
    answer = web.get(f"{job}/files/{quote(path)}")
    assert (answer.status, answer.body) == (200, FILES[path])
    assert answer.headers["content-length"] == str(len(FILES[path]))
    assert answer.headers["content-disposition"].startswith("attachment; filename=")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none'") and "script" not in policy
    assert "allow-" not in policy
    head = web.call("HEAD", f"{job}/files/{quote(path)}")
    assert (head.status, head.body) == (200, b"")
    assert head.headers == answer.headers
    tag = answer.headers["etag"]
    again = web.get(f"{job}/files/{quote(path)}", if_none_match=tag)
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)


def test_types(web: Any, job: str) -> None:
    for path, type in (
        ("plots/a b.png", "image/png"),
        ("drawing.svg", "image/svg+xml"),
        ("page.html", "text/plain; charset=utf-8"),
        ("raw.bin", "application/octet-stream"),
    ):
        assert web.get(f"{job}/files/{quote(path)}").headers["content-type"] == type


def test_two_files_have_two_tags(web: Any, job: str) -> None:
    tags = {web.get(f"{job}/files/{quote(path)}").headers["etag"] for path in FILES}
    assert len(tags) == len(FILES)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "nosuch",
            "plots",
            "plots/",
            "plots//a%20b.png",
            "./log.txt",
            "../output.zip",
            "%2e%2e/log.txt",
        ),
        *("..%2f..%2foutput.zip", "log.txt%00", "log.txt%0a", "LOG.TXT", "log.txt/", "%2flog.txt"),
        *("log%ff.txt", "%E0%80log.txt", "log.txt%C2%85", "/etc/passwd", "%5c", "x" * 5000),
    ],
)
@pytest.mark.parametrize("what", ["files", "preview"])
def test_what_is_no_file_of_the_zip_is_not_there(
    past: Any, kit: Any, job: str, what: str, path: str
) -> None:
    browser = RawPaths(past, kit)
    answer = browser.get(f"{job}/{what}/{path}")
    assert answer.status == 404
    assert answer.headers["content-type"] == "application/problem+json"


class RawPaths:
    """Sends bytes that are no UTF-8 too."""

    def __init__(self, app: Any, kit: Any) -> None:
        self._app, self._kit = app, kit

    def get(self, path: str) -> Any:
        raw = unquote(path, "latin-1")

        def app(environ: dict[str, Any], start: Any) -> Any:
            environ["PATH_INFO"] = raw
            return self._app(environ, start)

        return self._kit.Browser(app).get("/")


def test_a_damaged_file_is_a_problem(web: Any, fill: Callable[[bytes], None], kit: Any) -> None:
    data = bytearray(zipped({"a.txt": b"abc", "b.txt": b"abc"}, zipfile.ZIP_STORED))
    data[data.index(b"abc")] ^= 1
    fill(bytes(data))
    for what in ("files", "preview"):
        answer = web.get(f"/jobs/{kit.DONE}/{what}/a.txt")
        assert answer.status == 404 and "'a.txt'" in answer.json["detail"]
        assert "damaged" in answer.json["detail"] and "checksum" in answer.json["detail"]
        assert web.get(f"/jobs/{kit.DONE}/{what}/b.txt").status == 200


def test_few_large_files_at_once(
    past: Any, web: Any, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "LONG", 100)
    path = f"{job}/files/raw.bin"
    bodies = [begin(past, path) for _ in range(routes.MOST_LONG)]
    refused = web.get(path)
    assert (refused.status, refused.headers["retry-after"]) == (503, "5")
    assert web.get(f"{job}/files/log.txt").status == 200, "small ones go on"
    assert web.call("HEAD", path).status == 200
    for body in bodies:
        body.close()
        body.close()
    for _ in range(routes.MOST_LONG + 1):
        assert web.get(path).body == FILES["raw.bin"]


def begin(app: Any, path: str) -> Any:
    """The body of an answer that nobody has read yet."""
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "HTTP_HOST": "localhost",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
    }
    return app(environ, lambda *_: None)


@pytest.fixture
def port(past: Any) -> Iterator[int]:
    """Of a real server."""
    channels: dict[int, Any] = {}
    server = waitress.create_server(past, map=channels, host="127.0.0.1", port=0, threads=2)
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            wasyncore.loop(timeout=0.05, map=channels, count=1)

    thread = threading.Thread(target=serve)
    thread.start()
    yield int(server.effective_port)
    stopping.set()
    thread.join(30)
    server.task_dispatcher.shutdown()
    wasyncore.close_all(channels, ignore_all=True)


def test_a_file_that_turns_out_wrong_is_cut_off_and_not_short(
    port: int, fill: Callable[[bytes], None], kit: Any
) -> None:
    content = bytes(range(256)) * 20_000
    data = bytearray(zipped({"large": content}, zipfile.ZIP_STORED))
    data[data.index(content) + len(content) - 1] ^= 1
    fill(bytes(data))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", f"/jobs/{kit.DONE}/files/large")
        answer = connection.getresponse()
        assert answer.getheader("Content-Length") == str(len(content))
        with pytest.raises(http.client.IncompleteRead) as short:
            answer.read()
        assert len(short.value.partial) < len(content)
    finally:
        connection.close()


def test_a_large_file_comes_whole(
    port: int, fill: Callable[[bytes], None], kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "LONG", 1_000_000)
    content = b"".join(n.to_bytes(4, "big") for n in range(800_000))
    fill(zipped({"a large one": content}))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        for _ in range(routes.MOST_LONG + 1):
            connection.request("GET", f"/jobs/{kit.DONE}/files/a%20large%20one")
            assert connection.getresponse().read() == content
    finally:
        connection.close()


# --- names in headers


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda s: "/" not in s))
def test_a_download_keeps_its_name(name: str) -> None:
    value = disposition(name)
    assert value.isascii() and value.isprintable()
    message = Message()
    message["Content-Disposition"] = value
    if "filename*" in value:
        assert unquote(value.partition("filename*=UTF-8''")[2], errors="strict") == name
    else:
        assert message.get_filename() == name
    assert message.get_content_disposition() == "attachment"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a b.txt", 'attachment; filename="a b.txt"'),
        ("é.txt", "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A9.txt"),
        ('a"; x="b', "attachment; filename=\"a_; x=_b\"; filename*=UTF-8''a%22%3B%20x%3D%22b"),
        ("50%.txt", "attachment; filename=\"50_.txt\"; filename*=UTF-8''50%25.txt"),
        ("a\r\nb", "attachment; filename=\"a__b\"; filename*=UTF-8''a%0D%0Ab"),
    ],
)
def test_names_that_would_break_a_header(name: str, value: str) -> None:
    assert disposition(name) == value


# --- previews


def test_previews_as_json(web: Any, job: str) -> None:
    def get(path: str) -> Any:
        return web.get(f"{job}/preview/{quote(path)}", accept="application/json").json

    assert get("plots/a b.png") == {"kind": "picture", "cut": False}
    assert get("table.csv") == {
        "kind": "table",
        "rows": [["name", "n"], ["x", "1,5"], [SCRIPT, "2,5"]],
        "cut": False,
    }
    assert get("log.txt") == {"kind": "text", "text": f"one\n{SCRIPT}\n", "cut": False}
    assert get("raw.bin") == {"kind": "other", "cut": False}
    assert get("empty.txt") == {"kind": "text", "text": "", "cut": False}


@pytest.mark.parametrize("path", FILES)
def test_previews_as_pages_and_as_parts(browser: Any, job: str, path: str) -> None:
    page = browser.get(f"{job}/preview/{quote(path)}").text
    part = browser.get(f"{job}/preview/{quote(path)}?part=1").text
    assert part.strip().startswith('<div class="preview">') and part.strip().endswith("</div>")
    assert part.strip() in page and "<html" not in part
    assert SCRIPT not in page and "<script>alert" not in page
    assert f'href="{job}"' in page and f'href="{job}/files/{html.escape(quote(path))}"' in page


def test_what_a_preview_shows(browser: Any, job: str) -> None:
    def part(path: str) -> str:
        return str(browser.get(f"{job}/preview/{quote(path)}?part=1").text)

    assert f'<img src="{job}/files/plots/a%20b.png" alt="a b.png">' in part("plots/a b.png")
    table = part("table.csv")
    assert '<th scope="col">name</th>' in table and '<td class="number">1,5</td>' in table
    assert "&lt;script&gt;" in table
    text = part("log.txt")
    assert '<pre tabindex="0"' in text and "one\n&lt;script&gt;" in text and "\x1b" not in text
    assert "Nothing can be shown" in part("raw.bin")
    assert "The file is empty" in part("empty.txt")


def test_a_part_is_asked_for_by_1(web: Any, job: str) -> None:
    answer = web.get(f"{job}/preview/log.txt?part=2")
    assert (answer.status, answer.json["field"]) == (400, "part")
    assert "text/html" in web.get(f"{job}/preview/log.txt?part=1").headers["content-type"]


def test_a_picture_that_is_too_large_is_not_asked_for(
    browser: Any, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("web.preview.PICTURE_SHOWN", 10)
    page = browser.get(f"{job}/preview/drawing.svg?part=1").text
    assert "too large to be shown" in page and "<img" not in page
    assert '<img src="/jobs' not in browser.get(f"{job}/files").text


def test_a_preview_of_a_large_file_reads_its_beginning(
    web: Any, fill: Callable[[bytes], None], kit: Any
) -> None:
    fill(zipped({"a.csv": b"n,m\n" * 5_000_000, "a.txt": b"line\n" * 5_000_000}))
    table = web.get(f"/jobs/{kit.DONE}/preview/a.csv").json
    assert (len(table["rows"]), table["cut"]) == (100, True)
    text = web.get(f"/jobs/{kit.DONE}/preview/a.txt").json
    assert 65_000 < len(text["text"]) <= 65_536 and text["cut"]


# --- searching the log


def test_searching_a_log(web: Any, kit: Any) -> None:
    path = f"/jobs/{kit.DONE}/log/search"
    size = len(kit.LOG)
    found = web.get(f"{path}?q=FIRST").json
    assert found == {"data": [{"offset": 0, "text": "first line"}], "next": None, "size": size}
    script = web.get(f"{path}?q=script").json
    assert script["data"] == [{"offset": 11, "text": "<script>alert(1)</script>"}]
    assert web.get(f"{path}?q=nothing").json == {"data": [], "next": None, "size": size}
    one = web.get(f"{path}?q=i&limit=1").json
    assert (one["data"][0]["offset"], one["next"]) == (0, 11)
    two = web.get(f"{path}?q=i&limit=1&from={one['next']}").json
    assert two["data"][0]["offset"] == 11
    tag = web.get(f"{path}?q=FIRST").headers["etag"]
    assert web.get(f"{path}?q=FIRST", if_none_match=tag).status == 304


@pytest.mark.parametrize("query", ["", "?q=", f"?q={'x' * 201}", "?q=a&q=b"])
def test_what_cannot_be_looked_for(web: Any, kit: Any, query: str) -> None:
    answer = web.get(f"/jobs/{kit.DONE}/log/search{query}")
    assert (answer.status, answer.json["field"]) == (400, "q")


@pytest.mark.parametrize("query", ["from=x", "from=-1", "limit=0", "limit=x"])
def test_numbers_that_are_none(web: Any, kit: Any, query: str) -> None:
    answer = web.get(f"/jobs/{kit.DONE}/log/search?q=a&{query}")
    assert (answer.status, answer.json["field"]) == (400, query.partition("=")[0])
    assert web.get(f"/jobs/{kit.DONE}/log/search?q={'é' * 200}&limit=9999").status == 200


def test_searching_a_log_that_grows(web: Any, kit: Any, data: Path) -> None:
    path = f"/jobs/{kit.RUNNING}/log/search?q=word"
    assert web.get(path).json == {"data": [], "next": None, "size": 0}
    folder = data / "spool" / "workers" / "w" / "log"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{kit.RUNNING}.1.log"
    log.write_bytes(b"a word\n")
    assert web.get(path).json["data"] == [{"offset": 0, "text": "a word"}]
    with log.open("ab") as more:
        more.write(b"another word")
    found = web.get(f"{path}&from=7").json
    assert (found["data"], found["size"]) == ([{"offset": 7, "text": "another word"}], 19)


def test_a_page_to_search_a_log_without_scripts(browser: Any, kit: Any) -> None:
    path = f"/jobs/{kit.DONE}/log/search"
    assert '<input type="search" id="q" name="q" value=""' in browser.get(path).text
    page = browser.get(f"{path}?q=SCRIPT").text
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert f'href="/jobs/{kit.DONE}/log?offset=11"' in page and "1 line found<" in page
    assert "holds this" in browser.get(f"{path}?q=nothing").text
    first = browser.get(f"{path}?q=i&limit=1").text
    assert "1 line found so far" in first
    assert f'href="{path}?q=i&amp;from=11"' in first
    assert browser.get(f"{path}?q={'x' * 201}").status == 400
