"""The client on a bad line: against a socket that answers, breaks off or refuses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client import connection as http
from client.api import Client, ClientError, Unreachable

Answer = Callable[[bytes], bytes]
Script = Callable[..., "Line"]


class Line:
    """Answers one connection after the other with the next of ``answers``; b"" breaks off."""

    def __init__(self, answers: list[bytes | Answer]) -> None:
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        for answer in self._answers:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(65536)
                self.requests.append(request)
                connection.sendall(answer(request) if callable(answer) else answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    monkeypatch.setattr(http, "BACK_OFF", 0.001)
    lines: list[Line] = []

    def start(*answers: bytes | Answer) -> Line:
        lines.append(Line(list(answers)))
        return lines[-1]

    yield start
    for line in lines:
        line.close()


def ok(body: bytes, *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {length or len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


NODES = ok(b'{"data": []}')


def test_reading_is_tried_again_when_the_connection_drops(script: Script) -> None:
    line = script(b"", b"HTTP/1.1 20", ok(b'{"da', length=12), NODES)
    assert Client(line.url).status() == []
    assert len(line.requests) == 4


def test_reading_ends_after_some_tries(script: Script) -> None:
    line = script(*[b""] * (http.TRIES + 1))
    with pytest.raises(Unreachable, match=line.url):
        Client(line.url).status()
    assert len(line.requests) == http.TRIES


def test_a_submission_is_never_repeated(script: Script, good: Path) -> None:
    line = script(b"", ok(b"{}"))
    with pytest.raises(Unreachable):
        Client(line.url).submit("echo", good)
    assert len(line.requests) == 1


def test_a_download_goes_on_where_it_was_cut(script: Script, tmp_path: Path) -> None:
    def rest(request: bytes) -> bytes:
        assert b"Range: bytes=4-\r\n" in request and b'If-Range: "t"\r\n' in request
        return ok(b"efgh", 'ETag: "t"', status="206 Partial Content")

    line = script(ok(b"abcd", 'ETag: "t"', length=8), rest)
    path = Client(line.url).download("id", "output.zip", tmp_path / "out")
    assert path.read_bytes() == b"abcdefgh"


def test_a_download_begins_anew_where_the_file_changed(script: Script, tmp_path: Path) -> None:
    line = script(ok(b"abcd", 'ETag: "t"', length=8), ok(b"xyz", 'ETag: "u"'))
    path = Client(line.url).download("id", "job_log.txt", tmp_path / "out")
    assert path.read_bytes() == b"xyz"


def test_a_download_that_never_goes_on_leaves_nothing(script: Script, tmp_path: Path) -> None:
    nothing = ok(b"", 'ETag: "t"', length=8)
    line = script(*[nothing] * (http.TRIES + 2))
    with pytest.raises(Unreachable):
        Client(line.url).download("id", "output.zip", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_before_all_was_sent_is_read(script: Script, tmp_path: Path) -> None:
    big = tmp_path / "big.zip"
    with big.open("wb") as file:
        file.truncate(64 * 1024 * 1024)
    problem = ok(b'{"detail": "the disk is full"}', status="507 Insufficient Storage")
    line = script(problem)
    # Where the kernel drops the answer with the connection, it is at least no success.
    with pytest.raises(ClientError, match=r"the disk is full|no answer"):
        Client(line.url).submit("echo", big)
    assert len(line.requests) == 1


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff", b""])
def test_another_program_at_that_address(script: Script, body: bytes) -> None:
    with pytest.raises(ClientError, match="is not a Model Runner"):
        Client(script(ok(body)).url).status()
    with pytest.raises(ClientError, match="404 Not Found"):
        Client(script(ok(body, status="404 Not Found")).url).status()
