"""The server as a process: start, stop, and what a large upload costs."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import psutil
import pytest

import modelrunner
from primary import accesskeys, config
from primary.pulse import HUNG
from primary.roles import ROLES
from primary.server import Primary
from spool import notify
from tests.system import wait_for
from web.access import Access
from web.routes import application
from web.serving import Watchdog

Serve = Callable[..., "Server"]
LIMIT = 60  # seconds for anything to happen


class Server:
    """``modelrunner serve`` without a worker."""

    def __init__(self, data: Path, models: Path, *options: str) -> None:
        argv = [sys.executable, "-m", "modelrunner", "serve", "--data", str(data)]
        argv += ["--models", str(models), *options]
        if "--listen" not in options:
            argv += ["--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        self.ready = self.process.stdout.readline()
        found = re.search(r"http://[\d.]+:(\d+)/", self.ready)
        self.port = int(found[1]) if found else 0

    def connect(self) -> http.client.HTTPConnection:
        assert self.port, self.end()
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)

    def get(self, path: str) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def bytes_of(self, path: str, **headers: str) -> bytes:
        """The whole answer, its head too."""
        given = {"Host": "localhost", "Connection": "close", **headers}
        head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in given.items())
        with socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT) as raw:
            raw.sendall(f"GET {path} HTTP/1.1\r\n{head}\r\n".encode())
            return b"".join(iter(lambda: raw.recv(65536), b""))

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """(exit code, what it wrote to stderr)"""
        if self.process.poll() is None:
            self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=LIMIT)
        return self.process.returncode, errors


@pytest.fixture
def serve(data: Path, models: Path) -> Iterator[Serve]:
    servers: list[Server] = []

    def start(*options: str, data: Path = data) -> Server:
        servers.append(Server(data, models, *options))
        return servers[-1]

    yield start
    for server in servers:
        if server.process.poll() is None:
            server.process.kill()
        server.process.communicate()


def test_it_says_when_it_is_ready_and_ends_on_both_signals(serve: Serve, data: Path) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        server = serve()
        assert server.ready == (
            f"Model Runner is ready at http://127.0.0.1:{server.port}/ (data in {data}, 0 slots)\n"
        )
        assert server.get("/healthz")[0] == 200
        assert server.end(number) == (0, "")


def test_it_ends_while_clients_wait(serve: Serve) -> None:
    server = serve()
    idle = socket.create_connection(("127.0.0.1", server.port))
    half = socket.create_connection(("127.0.0.1", server.port))
    half.sendall(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n1")
    connection = server.connect()
    connection.request("GET", "/events?after=0&wait=30")
    answers: list[int] = []
    poll = threading.Thread(target=lambda: answers.append(connection.getresponse().status))
    poll.start()
    try:
        assert server.get("/healthz")[0] == 200  # so the poll, which came before, waits
        assert server.end() == (0, "")
        poll.join(LIMIT)
        assert answers == [200]
    finally:
        for open_one in (idle, half, connection):
            open_one.close()


def test_an_answer_to_a_poll_is_a_few_hundred_bytes(
    serve: Serve, history: Callable[[], None], kit: Any
) -> None:
    history()
    server = serve()
    for path in (f"/jobs/{kit.RUNNING}/state", f"/jobs/{kit.DONE}/log?tail=0"):
        first = server.bytes_of(path)
        tag = re.search(rb"etag: (.*)\r\n", first, re.IGNORECASE)
        assert tag and first.startswith(b"HTTP/1.1 200 ")
        again = server.bytes_of(path, If_None_Match=tag[1].decode())
        assert again.startswith(b"HTTP/1.1 304 ") and again.endswith(b"\r\n\r\n")
        assert len(first) < 600 and len(again) < 350


def test_a_method_that_is_none_is_a_problem(serve: Serve) -> None:
    server = serve()
    for method, status in (("TRACE", 405), ("OPTIONS", 405), ("BREW", 405), ("HEAD", 200)):
        connection = server.connect()
        connection.request(method, "/jobs")
        response = connection.getresponse()
        assert response.status == status, method
        if status == 405:
            assert response.headers["Content-Type"] == "application/problem+json"
            assert {"GET", "POST", "PUT"} <= set(response.headers["Allow"].split(","))
        connection.close()
    assert b'{method="other",route="",status="405"}' in server.bytes_of("/metrics")


def test_a_body_that_is_announced_is_let_in(serve: Serve, kit: Any) -> None:
    server, body = serve(), kit.zipped(a="1")
    head = (
        "POST /jobs?job_name=x&model=echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/zip\r\nContent-Length: {len(body)}\r\n"
        "Expect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as raw:
        raw.sendall(head.encode())
        assert raw.recv(65536).startswith(b"HTTP/1.1 100 ")
        raw.sendall(body)
        answer = b"".join(iter(lambda: raw.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 200 ") and b"OK:  Submitted job id" in answer


def test_a_port_in_use_is_said_before_data_is_touched(serve: Serve, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        other = tmp_path / "other"
        code, errors = serve("--listen", f"127.0.0.1:{port}", data=other).end()
    assert code == 1
    assert errors.startswith(f"Error:  cannot listen on 127.0.0.1:{port}: the port is in use")
    assert errors.count("\n") == 1
    assert not other.exists()


def test_a_second_primary_on_the_same_data_is_refused(serve: Serve) -> None:
    serve()
    code, errors = serve().end()
    assert (code, errors.count("\n")) == (1, 1)
    assert "another primary" in errors


def test_beyond_loopback_it_needs_an_admin_key(serve: Serve) -> None:
    code, errors = serve("--listen", "0.0.0.0:0").end()
    assert code == 1 and "--admin-key" in errors and errors.count("\n") == 1
    server = serve("--listen", "0.0.0.0:0", "--admin-key", "k")
    assert server.get("/healthz")[0] == 200
    assert server.end()[0] == 0


def test_a_key_that_was_made_is_an_admin_key_too(serve: Serve, data: Path) -> None:
    data.mkdir()
    beyond = ("--listen", "0.0.0.0:0")
    accesskeys.add(data, "anna", "submit")
    code, errors = serve(*beyond).end()
    assert code == 1 and "modelrunner key add" in errors and errors.count("\n") == 1
    code, errors = serve(*beyond, "--anonymous", "admin").end()
    assert code == 1, "whatever may be done without one: there is one rule"
    accesskeys.add(data, "dee", "admin")
    server = serve(*beyond)
    assert json.loads(server.get("/signin")[1])["role"] == "submit"
    assert server.end()[0] == 0


def test_what_may_be_done_without_a_key_is_the_keepers_to_say(serve: Serve, data: Path) -> None:
    data.mkdir()
    file = data / config.FILE
    for text, options, role in (
        ("", (), "admin"),
        ("", ("--behind-proxy", "--admin-key", "k"), "submit"),
        ('[access]\nanonymous = "read"', (), "read"),
        ('[access]\nanonymous = "none"', ("--listen", "0.0.0.0:0", "--admin-key", "k"), "none"),
        ('[access]\nanonymous = "none"', ("--anonymous", "read"), "read"),
    ):
        file.write_text(text)
        server = serve(*options)
        assert json.loads(server.get("/signin")[1])["role"] == role, (text, options)
        assert server.get("/jobs")[0] == (401 if role == "none" else 200)
        assert server.end() == (0, "")
    file.write_text('[access]\nanonymous = "nobody"')
    code, errors = serve().end()
    assert (code, errors.count("\n")) == (1, 1) and "line 2" in errors


def test_the_roles_are_those_of_the_command_line() -> None:
    (option,) = (o for o in modelrunner.serve.params if o.name == "anonymous")
    assert isinstance(option.type, click.Choice) and tuple(option.type.choices) == ROLES


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--behind-proxy",), "a proxy lets other machines in"),
        (("--behind-proxy", "--listen", "0.0.0.0:0", "--admin-key", "k"), "listen on 127.0.0.1"),
        (("--accel", "/finished/"), "needs --behind-proxy"),
        (("--behind-proxy", "--admin-key", "k", "--accel", "/a b/"), "small letters"),
        (("--behind-proxy", "--admin-key", "k", "--accel", "/data/x/"), "choose another"),
    ],
)
def test_a_proxy_that_would_not_do_is_refused(
    serve: Serve, options: tuple[str, ...], said: str
) -> None:
    code, errors = serve(*options).end()
    assert (code, errors.count("\n")) == (1, 1)
    assert said in errors


def test_systemd_hears_how_it_stands(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(LIMIT)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        server = serve()
        assert systemd.recv(4096) == b"EXTEND_TIMEOUT_USEC=300000000"
        told = iter(lambda: systemd.recv(4096).decode(), "")
        ready = next(word for word in told if not word.startswith(("EXTEND", "STATUS")))
        assert ready == f"READY=1\nSTATUS={server.ready.strip()}"
        assert [next(told), next(told)] == ["WATCHDOG=1"] * 2
        assert server.end() == (0, "")
        assert next(word for word in told if word != "WATCHDOG=1") == "STOPPING=1"


def test_a_tick_that_hangs_is_told_to_nobody_as_well(
    data: Path, models: Path, kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[str] = []
    monkeypatch.setattr(notify, "interval", lambda: 2.0)
    monkeypatch.setattr(notify, "alive", lambda: fed.append("alive"))
    now, held, hangs = [1000.0], threading.Event(), threading.Event()
    primary = Primary.open(data, models, clock=lambda: now[0])
    ticked = primary.tick

    def tick(at: float) -> None:
        hangs.set()
        held.wait(LIMIT)
        ticked(at)

    monkeypatch.setattr(primary, "tick", tick)
    web = kit.Browser(application(primary, Access(anonymous="admin")))
    watchdog = Watchdog(primary)
    try:
        primary.start()
        assert hangs.wait(LIMIT)
        now[0] += HUNG - 1
        watchdog.feed(now[0])
        watchdog.feed(now[0] + 1)  # not yet its time
        assert fed == ["alive"] and web.get("/healthz").status == 200
        now[0] += 2
        watchdog.feed(now[0])
        assert fed == ["alive"]
        answer = web.get("/healthz")
        assert (answer.status, answer.json["detail"]) == (
            503,
            "the primary's tick has hung for 121 s",
        )
        held.set()
        wait_for(lambda: web.get("/healthz").status == 200, "the tick to get on")
        watchdog.feed(now[0] + 2)
        assert fed == ["alive"] * 2
    finally:
        held.set()
        primary.close()


def test_a_data_folder_that_is_a_file(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code, errors = serve(data=tmp_path / "file" / "data").end()
    assert (code, errors.count("\n")) == (1, 1)
    assert "file" in errors


def test_a_damaged_ledger_is_one_clear_line(
    serve: Serve, data: Path, history: Callable[[], None]
) -> None:
    history()
    (data / "board.sqlite").unlink()
    segment = data / "ledger" / f"{1:020d}.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b"done", b"gone"))
    code, errors = serve().end()
    assert (code, errors.count("\n")) == (1, 1)
    assert segment.name in errors and "Traceback" not in errors


def test_configured_hosts_are_known(serve: Serve) -> None:
    server = serve("--host", "Runner.Example")
    connection = server.connect()
    for host, status in (("runner.example", 200), ("other.example", 421)):
        connection.request("GET", "/healthz", headers={"Host": host})
        response = connection.getresponse()
        response.read()
        assert response.status == status
    connection.close()


def stored_zip(size: int) -> tuple[int, Iterator[bytes]]:
    """(length, pieces) of a zip with one stored entry of ``size`` random bytes; in pieces."""
    block = os.urandom(1024 * 1024)
    count, name = size // len(block), b"big"
    crc = 0
    for _ in range(count):
        crc = zlib.crc32(block, crc)
    sizes = crc.to_bytes(4, "little") + size.to_bytes(4, "little") * 2
    common = b"\0\0\0\0\0\0\x21\0" + sizes + len(name).to_bytes(2, "little") + b"\0\0"
    local = b"PK\3\4\x14\0" + common + name
    central = b"PK\1\2\x14\0\x14\0" + common + b"\0" * 14 + name
    at = len(local) + size
    end = b"PK\5\6\0\0\0\0\1\0\1\0" + len(central).to_bytes(4, "little")
    tail = central + end + at.to_bytes(4, "little") + b"\0\0"

    def pieces() -> Iterator[bytes]:
        yield local
        for _ in range(count):
            yield block
        yield tail

    return at + len(tail), pieces()


def test_a_large_upload_costs_no_memory(serve: Serve, data: Path, kit: Any) -> None:
    server = serve()
    process = psutil.Process(server.process.pid)
    server.get("/jobs")  # templates are loaded
    size = 200 * 1024 * 1024
    head = kit.multipart({"job_name": "big", "model": "echo"}, b"")[: -len("\r\n--XX--\r\n")]
    length, pieces = stored_zip(size)
    connection = server.connect()
    connection.putrequest("POST", "/jobs")
    connection.putheader("Content-Type", "multipart/form-data; boundary=XX")
    connection.putheader("Content-Length", str(len(head) + length + len("\r\n--XX--\r\n")))
    connection.endheaders(head)
    before = peak = process.memory_info().rss
    for piece in pieces:
        connection.send(piece)
        peak = max(peak, process.memory_info().rss)
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    connection.send(b"\r\n--XX--\r\n")
    response = connection.getresponse()
    answer = response.read()
    done.set()
    watcher.join()
    connection.close()
    assert response.status == 200, answer
    (job,) = (data / "jobs").iterdir()
    assert (job / "input.zip").stat().st_size == length
    assert peak - before < 32 * 1024 * 1024
    # and back, also without the memory
    connection = server.connect()
    connection.request("GET", f"/data/{job.name}/input.zip")
    response = connection.getresponse()
    received = 0
    while piece := response.read(1024 * 1024):
        received += len(piece)
        peak = max(peak, process.memory_info().rss)
    connection.close()
    assert received == length
    assert peak - before < 32 * 1024 * 1024
    assert list((data / "incoming").iterdir()) == []


def test_a_chunked_upload(serve: Serve, kit: Any) -> None:
    server = serve()
    body = kit.multipart({"job_name": "x", "model": "echo"}, kit.zipped(a="1"))
    connection = server.connect()
    connection.request(
        "POST",
        "/jobs",
        iter([body[:10], body[10:]]),
        {"Content-Type": "multipart/form-data; boundary=XX"},
        encode_chunked=True,
    )
    response = connection.getresponse()
    assert response.status == 200, response.read()
    connection.close()


@pytest.mark.parametrize(
    "request_line",
    [b"GET /jobs HTTP/1.1", b"GET / HTTP/9", b"\xff\xfe", b"GET /%ff%fe HTTP/1.1", b"G" * 300_000],
)
def test_raw_nonsense_is_answered_or_closed(serve: Serve, request_line: bytes) -> None:
    server = serve()
    with socket.create_connection(("127.0.0.1", server.port), timeout=LIMIT) as raw:
        try:
            raw.sendall(request_line + b"\r\nX-\xff: \xfe\r\n\r\n")
            answer = raw.recv(65536)
        except ConnectionError:
            answer = b""
    assert b"Traceback" not in answer and b" 200 " not in answer[:15]
    assert server.get("/healthz")[0] == 200
