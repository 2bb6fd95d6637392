"""The client on a bad line: against a socket that answers, breaks off or refuses."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from client import connection as http
from client.api import BadInput, Client, ClientError, Unreachable

Answer = Callable[[bytes], bytes]
Script = Callable[..., "Line"]


class Line:
    """Answers one connection after the other with the next of ``answers``; b"" breaks off."""

    def __init__(self, answers: list[bytes | Answer]) -> None:
        self._answers = answers
        self.reads_all = False  # also what is posted
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.requests: list[bytes] = []
        self.bodies: list[bytes] = []
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
                if self.reads_all:
                    self.bodies.append(_body(request, connection))
                connection.sendall(answer(request) if callable(answer) else answer)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


def _body(request: bytes, connection: socket.socket) -> bytes:
    head, _, body = request.partition(b"\r\n\r\n")
    length = next(
        (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"Content-Length:")), 0
    )
    while len(body) < length:
        body += connection.recv(65536)
    return body


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


ID = "00000000-0000-4000-8000-000000000000"
MADE = ok(b'{"id": "%s", "message": "OK"}' % ID.encode())
JOB = ok(b'{"uuid": "%s"}' % ID.encode())


def _key(request: bytes) -> bytes:
    (line,) = (line for line in request.split(b"\r\n") if line.startswith(b"Idempotency-Key:"))
    return line


def test_a_submission_is_sent_again_whole_and_with_its_key(script: Script, good: Path) -> None:
    line = script(b"", b"HTTP/1.1 20", MADE, JOB, MADE, JOB)
    line.reads_all = True
    client = Client(line.url)
    assert client.submit("echo", good)["uuid"] == ID
    first, second, third = line.bodies[:3]
    assert good.read_bytes() in first and first == second == third
    keys = {_key(request) for request in line.requests[:3]}
    assert len(keys) == 1
    client.submit("echo", good)
    assert _key(line.requests[4]) not in keys, "another call is another job"


@pytest.mark.parametrize("status", ["409 Conflict", "503 Service Unavailable"])
def test_a_submission_waits_for_a_server_that_is_busy_with_it(
    script: Script, good: Path, status: str
) -> None:
    busy = ok(b'{"detail": "in a moment"}', "Retry-After: 0.001", status=status)
    line = script(*[busy] * (http.TRIES + 2), MADE, JOB)
    line.reads_all = True
    assert Client(line.url).submit("echo", good)["uuid"] == ID
    assert len({_key(request) for request in line.requests[:-1]}) == 1


def test_a_key_that_is_another_jobs_is_no_reason_to_go_on(script: Script, good: Path) -> None:
    line = script(ok(b'{"detail": "used before"}', status="422 Unprocessable Content"))
    line.reads_all = True
    with pytest.raises(ClientError, match="used before"):
        Client(line.url).submit("echo", good)


def test_a_submission_ends_after_some_tries(script: Script, good: Path) -> None:
    line = script(*[b""] * (http.TRIES + 1))
    with pytest.raises(Unreachable, match="may have been made all the same") as caught:
        Client(line.url).submit("echo", good)
    assert line.url in str(caught.value)
    assert len(line.requests) == http.TRIES


def test_a_job_that_was_made_is_named_though_the_line_is_gone(script: Script, good: Path) -> None:
    line = script(MADE, *[b""] * http.TRIES)
    line.reads_all = True
    with pytest.raises(Unreachable, match=f"job {ID} was submitted"):
        Client(line.url).submit("echo", good)


@pytest.mark.parametrize("status", ["404 File not found", "501 Unsupported method"])
def test_a_refusal_in_another_form_asks_who_that_is(script: Script, status: str) -> None:
    with pytest.raises(ClientError, match=rf"answered {status}; is it a Model Runner") as caught:
        Client(script(ok(b"<html>", status=status)).url).job("x")
    assert caught.value.status == int(status[:3])


def test_https_where_it_is_not_spoken() -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(ok(b"", status="400 Bad Request"))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unreachable, match="does not speak HTTPS; try http://"):
            Client(f"https://127.0.0.1:{listener.getsockname()[1]}").jobs()
        thread.join()


def test_another_address_is_named(script: Script) -> None:
    moved = ok(b"", "Location: https://elsewhere/", status="301 Moved Permanently")
    with pytest.raises(ClientError, match="https://elsewhere/"):
        Client(script(moved).url).status()


def test_findings_are_read_and_shown(script: Script, good: Path) -> None:
    problem = (
        b'{"detail": "the zip lacks a.csv", "field": "zip_file", "findings": '
        b'[{"file": "a.csv", "expected": "a table", "found": "nothing"}]}'
    )
    line = script(ok(problem, status="400 Bad Request"))
    line.reads_all = True
    with pytest.raises(BadInput) as caught:
        Client(line.url).validate("echo", good)
    assert caught.value.findings == [{"file": "a.csv", "expected": "a table", "found": "nothing"}]
    assert str(caught.value) == ("the zip lacks a.csv\n  a.csv: expected a table; found nothing")


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
    line = script(*[problem] * http.TRIES)
    # Where the kernel drops the answer with the connection, it is asked again.
    with pytest.raises(ClientError, match=r"the disk is full|no answer"):
        Client(line.url).submit("echo", big)


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"\xff", b"", b"{}"])
def test_another_program_at_that_address(script: Script, body: bytes) -> None:
    with pytest.raises(ClientError, match="is not a Model Runner"):
        Client(script(ok(body)).url).status()
    with pytest.raises(ClientError, match="404 Not Found"):
        Client(script(ok(body, status="404 Not Found")).url).status()
