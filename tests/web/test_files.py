"""Files of jobs: ranges, validators, and no trust in what a model wrote."""

from __future__ import annotations

import os
import socket
import threading
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import waitress
from hypothesis import given
from hypothesis import strategies as st

from primary.files import JobFile
from web import downloads, files
from web.access import Headers
from web.files import wanted_range
from web.problems import Problem


@pytest.fixture
def web(past: Any, kit: Any) -> Any:
    return kit.Browser(past)


def test_the_output_is_a_download_and_the_log_is_text(web: Any, kit: Any) -> None:
    output = web.get(f"/data/{kit.DONE}/output.zip")
    assert output.headers["content-type"] == "application/zip"
    assert output.headers["content-disposition"] == (
        f'attachment; filename="{kit.DONE}.output.zip"'
    )
    log = web.get(f"/data/{kit.DONE}/job_log.txt")
    assert log.headers["content-type"] == "text/plain; charset=utf-8"
    assert log.headers["content-disposition"] == "inline"
    assert log.body == kit.LOG
    for answer in (output, log):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"].startswith("sandbox")


def test_a_final_file_has_its_hash_as_etag(web: Any, kit: Any) -> None:
    path = f"/data/{kit.DONE}/job_log.txt"
    tag = web.get(path).headers["etag"]
    assert tag == f'"{sha256(kit.LOG).hexdigest()}"'
    for given_tag in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        answer = web.get(path, if_none_match=given_tag)
        assert (answer.status, answer.body, answer.headers["etag"]) == (304, b"", tag)
    assert web.get(path, if_none_match='"x"').status == 200


def test_ranges(web: Any, kit: Any) -> None:
    path, log = f"/data/{kit.DONE}/job_log.txt", kit.LOG
    size = len(log)
    for asked, part in (
        ("bytes=0-0", log[:1]),
        ("bytes=5-", log[5:]),
        ("bytes=5-9", log[5:10]),
        ("bytes=-7", log[-7:]),
        (f"bytes=-{size + 50}", log),
        (f"bytes=3-{size + 50}", log[3:]),
    ):
        answer = web.get(path, range=asked)
        assert (answer.status, answer.body) == (206, part), asked
        assert answer.headers["content-length"] == str(len(part))
        start = log.rindex(part) if asked.startswith("bytes=-") else int(asked[6:].split("-")[0])
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{size}"


def test_a_range_behind_the_end(web: Any, kit: Any) -> None:
    answer = web.get(f"/data/{kit.DONE}/job_log.txt", range=f"bytes={len(kit.LOG)}-")
    assert answer.status == 416
    assert answer.headers["content-range"] == f"bytes */{len(kit.LOG)}"


def test_if_range_of_another_version_sends_the_whole(web: Any, kit: Any) -> None:
    path = f"/data/{kit.DONE}/job_log.txt"
    tag = web.get(path).headers["etag"]
    assert web.get(path, range="bytes=5-", if_range=tag).status == 206
    assert web.get(path, range="bytes=5-", if_range='"other"').body == kit.LOG


@given(st.text("0123456789-,bytes= x", max_size=30), st.integers(0, 50))
def test_any_range_is_a_part_the_whole_or_416(header: str, size: int) -> None:
    try:
        part = wanted_range(header, size)
    except Problem as problem:
        assert problem.status == 416
        return
    assert part is None or 0 <= part[0] < part[1] <= size


def test_what_is_not_there_says_why(web: Any, kit: Any) -> None:
    answer = web.get(f"/data/{kit.BROKEN}/output.zip")
    assert answer.status == 404 and "no output" in answer.json["detail"]


def test_the_log_from_an_offset(web: Any, kit: Any) -> None:
    for offset in (0, 7, len(kit.LOG), len(kit.LOG) + 5):
        answer = web.get(f"/jobs/{kit.DONE}/log?offset={offset}")
        assert (answer.status, answer.body) == (200, kit.LOG[offset:])
        assert answer.headers["x-log-size"] == str(len(kit.LOG))
        assert answer.headers["x-log-final"] == "true"
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert web.get(f"/jobs/{kit.DONE}/log", range="bytes=0-4").body == kit.LOG[:5]
    assert web.get(f"/jobs/{kit.DONE}/log?offset=x").status == 400
    tag = web.get(f"/jobs/{kit.DONE}/log").headers["etag"]
    assert web.get(f"/jobs/{kit.DONE}/log", if_none_match=tag).status == 304


def test_a_log_that_is_not_there_yet_is_empty(web: Any, kit: Any) -> None:
    waiting = web.get(f"/jobs/{kit.RUNNING}/log")
    assert (waiting.status, waiting.body, waiting.headers["x-log-final"]) == (200, b"", "false")
    never = web.get(f"/jobs/{kit.BROKEN}/log")
    assert (never.status, never.body, never.headers["x-log-final"]) == (200, b"", "true")


@pytest.fixture
def live(data: Path, kit: Any) -> Path:
    """The log of the running job, in its worker's folder."""
    folder = data / "spool" / "workers" / "w" / "log"
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / f"{kit.RUNNING}.1.log"
    log.write_bytes(b"one\n")
    return log


def test_a_live_log_grows(web: Any, kit: Any, live: Path) -> None:
    path = f"/data/{kit.RUNNING}/job_log.txt"
    assert web.get(path).body == b"one\n"
    with live.open("ab") as more:
        more.write(b"two\n")
    assert web.get(path, range="bytes=4-").body == b"two\n"
    answer = web.get(f"/jobs/{kit.RUNNING}/log?offset=4")
    assert (answer.body, answer.headers["x-log-final"]) == (b"two\n", "false")
    assert "two" in web.get(f"/jobs/{kit.RUNNING}", accept="text/html").text


def test_a_live_log_comes_in_pieces(
    web: Any, kit: Any, live: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live.write_bytes(b"0123456789")
    monkeypatch.setattr(downloads, "PIECE", 4)
    following = "0"
    for part in (b"0123", b"4567", b"89", b""):
        answer = web.get(f"/jobs/{kit.RUNNING}/log?offset={following}")
        assert (answer.body, answer.headers["x-log-offset"]) == (part, following)
        following = answer.headers["x-log-size"]
    assert following == "10"
    assert web.get(f"/jobs/{kit.RUNNING}/log?tail=3").body == b"789"


def test_a_live_log_that_has_not_grown_is_not_sent_again(web: Any, kit: Any, live: Path) -> None:
    for path in (f"/data/{kit.RUNNING}/job_log.txt", f"/jobs/{kit.RUNNING}/log?offset=2"):
        tag = web.get(path).headers["etag"]
        again = web.get(path, if_none_match=tag)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
    assert (again.headers["x-log-size"], again.headers["x-log-final"]) == ("4", "false")
    assert web.get(f"/jobs/{kit.RUNNING}/log?offset=3", if_none_match=tag).status == 200
    with live.open("ab") as more:
        more.write(b"two\n")
    assert web.get(path, if_none_match=tag).body == b"e\ntwo\n"


def test_the_end_of_a_log(web: Any, kit: Any, live: Path) -> None:
    for query, begin in (("tail=3", 1), ("tail=99", 0), ("tail=0", 4), ("tail=3&offset=2", 2)):
        answer = web.get(f"/jobs/{kit.RUNNING}/log?{query}")
        assert answer.body == live.read_bytes()[begin:], query
        assert answer.headers["x-log-offset"] == str(begin)
    assert web.get(f"/jobs/{kit.DONE}/log?tail=5").body == kit.LOG[-5:]


def test_far_behind_the_end_of_a_log_there_is_nothing(web: Any, kit: Any) -> None:
    path = f"/jobs/{kit.DONE}/log"
    for far in (2**44, 2**62, 10**40):  # farther than a file system can seek
        assert web.get(f"{path}?offset={far}").headers["x-log-size"] == str(len(kit.LOG))
        found = web.get(f"{path}/search?q=first&from={far}").json
        assert (found["data"], found["next"]) == ([], None)


def test_a_log_that_ends_is_sent_once_more(web: Any, kit: Any) -> None:
    """Its bytes may be the same: that they are the last is news."""
    path = f"/jobs/{kit.DONE}/log?offset={len(kit.LOG)}"
    tag = f'"1-{len(kit.LOG)}-{len(kit.LOG)}"'  # as it was while it could still grow
    assert web.get(path, if_none_match=tag).headers["x-log-final"] == "true"
    never = web.get(f"/jobs/{kit.BROKEN}/log")
    assert web.get(f"/jobs/{kit.BROKEN}/log", if_none_match=never.headers["etag"]).status == 304
    waiting = web.get(f"/jobs/{kit.RUNNING}/log").headers["etag"]
    assert waiting != never.headers["etag"]


def test_a_file_that_is_cut_while_it_is_sent_ends_the_connection(tmp_path: Path) -> None:
    path = tmp_path / "job_log.txt"
    path.write_bytes(b"x" * 3_000_000)

    def app(environ: Any, start: Any) -> Any:
        file = JobFile(path.open("rb"), 3_000_000, live=True)
        answer = files.answer(file, Headers({}), content_type="text/plain", etag=None)
        os.truncate(path, 1000)
        start("200 OK", answer.headerlist)
        return environ["wsgi.file_wrapper"](answer.body)

    sockets: dict[int, Any] = {}
    server = waitress.create_server(app, host="127.0.0.1", port=0, threads=1, map=sockets)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with socket.create_connection(("127.0.0.1", server.effective_port), timeout=60) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            got = b"".join(iter(lambda: client.recv(65536), b""))
    finally:
        server.close()
        thread.join()
    head, _, body = got.partition(b"\r\n\r\n")
    assert b"Content-Length: 3000000" in head
    assert body == b"x" * 1000, "the client sees that the rest is missing"
