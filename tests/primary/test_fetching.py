"""Fetching from a URL: against a real server of ours, with and without good manners."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from primary.errors import BadInput, NoRoom, NotAllowed
from primary.fetching import check_url, fetch

LOCAL = frozenset({"127.0.0.1"})
OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def server(answer: Callable[[socket.socket, bytes], None]) -> Iterator[str]:
    """One that reads a request's head and then does what ``answer`` does with the socket."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(60)

        def serve() -> None:
            while True:
                try:
                    peer, _ = listening.accept()
                except OSError:
                    return
                with peer:
                    head = b""
                    while b"\r\n\r\n" not in head:
                        head += peer.recv(65536)
                    with suppress(OSError):  # the other side hung up, as some tests want
                        answer(peer, head)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def says(data: bytes) -> Callable[[socket.socket, bytes], None]:
    return lambda peer, _: peer.sendall(data)


def fetched(url: str, **options: Any) -> bytes:
    got = bytearray()
    fetch(url, got.extend, allowed=LOCAL, **options)
    return bytes(got)


# --- the way it should be ----------------------------------------------------------------


def test_a_body_with_a_length() -> None:
    body = b"x" * 1_000_000
    with server(says(OK + b"Content-Length: 1000000\r\n\r\n" + body)) as url:
        assert fetched(f"{url}/input.zip?a=b") == body


def test_a_body_without_a_length() -> None:
    with server(says(OK + b"\r\nbody")) as url:
        assert fetched(url) == b"body"


def test_a_body_in_chunks() -> None:
    chunks = b"4\r\nbody\r\n4\r\n and\r\n0\r\n\r\n"
    with server(says(OK + b"Transfer-Encoding: chunked\r\n\r\n" + chunks)) as url:
        assert fetched(url) == b"body and"


def test_an_empty_body() -> None:
    with server(says(OK + b"Content-Length: 0\r\n\r\n")) as url:
        assert fetched(url) == b""


def test_the_request_names_the_host_and_the_whole_path() -> None:
    heads: list[bytes] = []

    def answer(peer: socket.socket, head: bytes) -> None:
        heads.append(head)
        peer.sendall(OK + b"Content-Length: 0\r\n\r\n")

    with server(answer) as url:
        fetched(f"{url}/a%20b?x=1#fragment")
        host = url.removeprefix("http://")
    assert heads[0].startswith(b"GET /a%20b?x=1 HTTP/1.1\r\n")
    assert f"Host: {host}\r\n".encode() in heads[0]
    assert b"Accept-Encoding: identity" in heads[0], "a compressed body would not be the zip"


# --- what goes wrong ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "cut",
    [
        OK + b"Content-Length: 10\r\n\r\nhalf",
        OK + b"Transfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        OK + b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
def test_a_connection_that_ends_too_early_is_no_complete_body(cut: bytes) -> None:
    with server(says(cut)) as url, pytest.raises(BadInput, match=r"127\.0\.0\.1: ."):
        fetched(url)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (b"404 Not Found", "answered 404 Not Found$"),
        (b"500 Oops", "answered 500 Oops$"),
        (b"302 Found\r\nLocation: http://127.0.0.1:1/", "redirects are not followed"),
        (b"206 Partial Content", "answered 206"),
    ],
)
def test_any_other_answer_is_the_reason(status: bytes, said: str) -> None:
    with (
        server(says(b"HTTP/1.1 " + status + b"\r\nContent-Length: 0\r\n\r\n")) as url,
        pytest.raises(BadInput, match=said),
    ):
        fetched(url)


def test_what_is_not_http_is_the_reason() -> None:
    with server(says(b"SSH-2.0-OpenSSH_9.2\r\n")) as url, pytest.raises(BadInput):
        fetched(url)


def test_nobody_there() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    with pytest.raises(BadInput, match=r"127\.0\.0\.1: .*refused"):
        fetched(f"http://127.0.0.1:{port}/")


def test_a_trickle_does_not_outlive_the_deadline() -> None:
    """A byte now and then keeps every time-out of the socket from firing."""

    def trickle(peer: socket.socket, _: bytes) -> None:
        peer.sendall(OK + b"Content-Length: 1000000\r\n\r\n")
        until = time.monotonic() + 60
        while time.monotonic() < until:
            peer.sendall(b"x")
            time.sleep(0.02)

    began = time.monotonic()
    with server(trickle) as url, pytest.raises(BadInput, match="not complete after 0 seconds"):
        fetched(url, deadline=0.3)
    assert time.monotonic() - began < 30


def test_a_trickling_head_does_not_outlive_the_deadline() -> None:
    def trickle(peer: socket.socket, _: bytes) -> None:
        peer.sendall(OK)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            peer.sendall(b"X-More: of it\r\n")
            time.sleep(0.5)

    began = time.monotonic()
    with server(trickle) as url, pytest.raises(BadInput, match="not complete after"):
        fetched(url, deadline=0.3)
    assert time.monotonic() - began < 30


def test_a_body_without_a_length_is_not_complete_because_time_is_up() -> None:
    """Our own hanging up must not look like its end."""

    def silent(peer: socket.socket, _: bytes) -> None:
        peer.sendall(OK + b"\r\nhalf a bo")
        peer.recv(1)

    with server(silent) as url, pytest.raises(BadInput, match="not complete after"):
        fetched(url, deadline=0.3)


def test_cancelling_is_silent_and_soon() -> None:
    def endless(peer: socket.socket, _: bytes) -> None:
        peer.sendall(OK + b"Content-Length: 1000000000000\r\n\r\n")
        while True:
            peer.sendall(b"x" * 65536)

    got: list[int] = []
    with server(endless) as url:
        fetch(url, lambda data: got.append(len(data)), allowed=LOCAL, cancelled=lambda: bool(got))
    assert len(got) == 1


def test_cancelling_does_not_wait_for_a_trickle_to_fill_a_piece() -> None:
    def trickle(peer: socket.socket, _: bytes) -> None:
        peer.sendall(OK + b"Content-Length: 1000000\r\n\r\nx")
        peer.recv(1)  # nothing more until the other side hangs up

    got: list[int] = []
    with server(trickle) as url:
        fetch(
            url,
            lambda data: got.append(len(data)),
            allowed=LOCAL,
            cancelled=lambda: bool(got),
            deadline=30.0,
        )
    assert got == [1]


def test_what_the_writer_raises_comes_through() -> None:
    def write(_: bytes) -> None:
        raise NoRoom("disk full")

    with server(says(OK + b"Content-Length: 4\r\n\r\nbody")) as url, pytest.raises(NoRoom):
        fetch(url, write, allowed=LOCAL)


# --- where it may go ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "input.zip",
        "file:///etc/passwd",
        "ftp://example.org/x.zip",
        "http://",
        "http:///x.zip",
        "http://example.org:port/",
        "http://example.org:99999/",
        "http://[::1/",
        "http://user@example.org/",
        "http://user:word@example.org/",
        "http://example.org/a b",
        "http://example.org/\r\nX-Evil: 1",
        "http://example.org/\x7f",
        "http://example.org/größe.zip",
        "http://exämple.org/",
    ],
)
def test_urls_that_cannot_be_meant(url: str) -> None:
    with pytest.raises(BadInput, match=r"^the address"):
        check_url(url, LOCAL)


PRIVATE = [
    "localhost",
    "www.localhost",
    "127.0.0.1",
    "10.0.0.1",
    "192.168.1.1",
    "172.16.0.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "[::1]",
    "[::]",
    "[fe80::1]",
    "[fd00::1]",
    "[ff02::1]",
    "[::ffff:127.0.0.1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
]


@pytest.mark.parametrize("host", PRIVATE)
def test_addresses_that_are_not_public_are_refused(host: str) -> None:
    with pytest.raises(NotAllowed, match=r"is not public.*--allow-url"):
        check_url(f"http://{host}/x.zip", ())


@pytest.mark.parametrize("host", ["93.184.216.34", "[2606:2800:220:1::1]", "example.org"])
def test_public_ones_are_not(host: str) -> None:
    assert check_url(f"https://{host}/x.zip", ()).hostname


@pytest.mark.parametrize("spelling", ["127.1", "2130706433", "0x7f000001", "017700000001"])
def test_other_spellings_of_loopback_are_judged_by_what_they_resolve_to(spelling: str) -> None:
    with pytest.raises((NotAllowed, BadInput)):
        fetch(f"http://{spelling}:1/", lambda _: None)


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names resolve to each of ``answers`` in turn, the last for ever; who was connected to."""
    left = list(answers)

    def getaddrinfo(_host: str, port: int, **_more: object) -> list[Any]:
        found = left.pop(0) if len(left) > 1 else left[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in found]

    connected: list[str] = []

    def create_connection(address: tuple[str, int], **_more: object) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError("a test connects to nobody")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket, "create_connection", create_connection)
    return connected


def test_a_name_that_resolves_to_a_private_address_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connected = resolving(monkeypatch, ["93.184.216.34", "10.0.0.1"])
    with pytest.raises(NotAllowed):
        fetch("http://example.org/", lambda _: None)
    assert connected == []


def test_the_address_is_resolved_once_and_pinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that answers differently the second time leads nowhere."""
    connected = resolving(monkeypatch, ["93.184.216.34"], ["127.0.0.1"])
    with pytest.raises(BadInput, match="connects to nobody"):
        fetch("http://example.org/", lambda _: None)
    assert connected == ["93.184.216.34"]


def test_a_name_that_cannot_be_one_is_the_submitters_mistake() -> None:
    with pytest.raises(BadInput):
        fetch(f"http://{'x' * 64}.example/", lambda _: None)
