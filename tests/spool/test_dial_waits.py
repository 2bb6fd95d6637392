"""Dialing a primary that freezes, stalls, or is none: every wait ends, and nothing is left over."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from spool.address import parse_address
from spool.dial import dial
from spool.errors import Refused, Unreachable
from tests.dialing import (
    BOUND,
    SHORT,
    another,
    dialed,
    greets,
    held,
    refused,
    running_agent,
    shut_while_waiting,
    unreachable,
)
from tests.sshd import Sshd, make_key
from tests.system import ROOT, wait_for

pytestmark = [pytest.mark.needs("openssh-server"), pytest.mark.needs("openssh-client")]


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Sshd]:
    with another(tmp_path / "server", "") as running:
        yield running


def test_shut_wakes_whoever_waits(server: Sshd) -> None:
    connection = dial(parse_address(server.url), server.ssh)
    shut_while_waiting(connection, greets(connection))


def test_shut_wakes_whoever_sends(server: Sshd) -> None:
    connection = dial(parse_address(server.url), server.ssh)
    channel = greets(connection)
    (session,) = [p for p in server.sessions() if not p.children()][-1:]
    session.send_signal(signal.SIGSTOP)
    failed: list[BaseException] = []

    def send() -> None:
        try:
            while True:
                channel.sendall(bytes(1 << 16))
        except (OSError, EOFError) as e:
            failed.append(e)

    sending = threading.Thread(target=send)
    sending.start()
    transport = channel.get_transport()
    wait_for(lambda: channel.out_window_size == 0 or not transport.is_active(), "a full window")
    connection.shut()
    sending.join(BOUND)
    assert failed
    session.send_signal(signal.SIGKILL)


def test_a_frozen_server_loses_its_connection(server: Sshd) -> None:
    with dialed(server.url, server.ssh, 5.0) as connection:
        channel = greets(connection)
        sessions = server.sessions()
        for process in sessions:
            process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(Unreachable, match="no answer within 5 s"):
                connection.channel()
            assert not connection.alive
            assert channel.recv(1) == b""
        finally:
            for process in sessions:
                process.send_signal(signal.SIGKILL)


class Relay:
    """Passes a connection on to an sshd; after ``limit`` of its bytes ``then`` says whether."""

    def __init__(self, target: Sshd, limit: int, then: Callable[[], bool]) -> None:
        self._target, self._limit, self._then = target, limit, then
        self._listening = socket.create_server((target.host, 0))
        self.port = self._listening.getsockname()[1]
        self.passed = 0
        self._open = [self._listening]
        self._threads: list[threading.Thread] = []
        self._start(self._serve)

    def url(self) -> str:
        """Its address, which known_hosts has from now on."""
        known = self._target.ssh / "known_hosts"
        text = known.read_text()
        known.write_text(text + text.replace(str(self._target.port), str(self.port)))
        return f"sftp://{self._target.user}@{self._target.host}:{self.port}/"

    def threads(self) -> set[str]:
        return {thread.name for thread in self._threads}

    def close(self) -> None:
        for each in self._open:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(BOUND)
        for each in self._open:
            each.close()

    def _start(self, work: Callable[..., None], *what: Any) -> None:
        self._threads.append(threading.Thread(target=work, args=what))
        self._threads[-1].start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            here, _ = self._listening.accept()
            there = socket.create_connection((self._target.host, self._target.port))
            self._open += [here, there]
            self._start(self._up, here, there)
            while data := there.recv(max(1, min(1 << 16, self._limit - self.passed))):
                here.sendall(data)
                self.passed += len(data)
                if self.passed == self._limit and not self._then():
                    return

    def _up(self, here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(1 << 16):
                there.sendall(data)


@pytest.mark.parametrize("part", [0.0, 0.01, 0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])
def test_a_link_that_stalls_anywhere(server: Sshd, part: float) -> None:
    """In the banner, the key exchange, the login, or when the channel opens."""
    whole = Relay(server, 10**9, lambda: True)
    with dialed(whole.url(), server.ssh) as connection:
        connection.channel()
        limit = 1 + int(part * (whole.passed - 2))
    whole.close()
    for patience in (SHORT, 5.0, 25.0):  # a slow machine takes longer to get that far
        relay = Relay(server, limit, lambda: False)
        url, before = relay.url(), held()
        try:
            with (
                pytest.raises(Unreachable, match="no answer within"),
                dialed(url, server.ssh, patience) as connection,
            ):
                connection.channel()
            assert held()[1] <= before[1] | relay.threads()
        finally:
            relay.close()
        if relay.passed == limit:
            return
    raise AssertionError(f"only {relay.passed} of {limit} bytes went by in {patience:.0f} s")


def test_a_server_that_freezes_in_the_key_exchange(server: Sshd) -> None:
    def freeze() -> bool:
        for process in server.sessions():
            process.send_signal(signal.SIGSTOP)
        return True

    relay = Relay(server, len("SSH-2.0"), freeze)
    try:
        unreachable(relay.url(), server.ssh, "no answer within 1 s", SHORT)
        assert relay.passed > len("SSH-2.0")
    finally:
        relay.close()


# --- servers that are none ----------------------------------------------------------------


class Odd:
    """A server that says ``words`` to each that comes; then it closes, or is silent."""

    def __init__(self, words: bytes, closes: bool) -> None:
        self._words, self._closes = words, closes
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        self.url = f"sftp://w@127.0.0.1:{self._listening.getsockname()[1]}/"

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(BOUND)
        for each in [self._listening, *self._open]:
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                here, _ = self._listening.accept()
                if not self._closes:
                    self._open.append(here)
                    here.sendall(self._words)
                    continue
                with here, contextlib.suppress(OSError):
                    here.sendall(self._words)
                    here.shutdown(socket.SHUT_WR)
                    while here.recv(1 << 16):  # else the close would be a reset
                        pass


ODD = {
    "closes at once": (b"", True, "it closed the connection"),
    "is full": (b"Exceeded MaxStartups\r\n", True, "it said: Exceeded MaxStartups"),
    "is another service": (b"220 mail \x1b[2J\r\n" * 200, True, "it said: 220 mail"),
    "closes after the banner": (b"SSH-2.0-odd\r\n", True, "closed"),
    "speaks garbage": (b"SSH-2.0-odd\r\n" + bytes(range(256)) * 40, True, ""),
    "speaks another SSH": (b"SSH-1.5-odd\r\n", True, "1.5"),
    "says nothing": (b"", False, "no answer within 1 s"),
    "says nothing after the banner": (b"SSH-2.0-odd\r\n", False, "no answer within 1 s"),
    "begins a huge packet": (b"SSH-2.0-odd\r\n\x00\xff\xff\xff" + bytes(99), False, ""),
    "ends no line": (b"x" * 5000, False, "no answer within 1 s"),
}


@pytest.mark.parametrize(("words", "closes", "said"), ODD.values(), ids=ODD.keys())
def test_what_is_no_ssh_server(tmp_path: Path, words: bytes, closes: bool, said: str) -> None:
    odd = Odd(words, closes)
    try:
        with pytest.raises((Refused, Unreachable)) as caught:
            dial(parse_address(odd.url), tmp_path, patience=30.0 if closes else SHORT)
        assert said in str(caught.value) and odd.url[9:-1] in str(caught.value)
        assert str(caught.value).isprintable()
    finally:
        odd.close()


def test_nobody_there(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        unreachable(f"sftp://w@127.0.0.1:{closed.getsockname()[1]}/", tmp_path, "refused")
    unreachable("sftp://w@primary.invalid/", tmp_path, "primary.invalid")


def test_every_address_of_a_name_is_tried(server: Sshd, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET) as silent:
        silent.bind(("127.0.0.1", 0))
        found = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 1, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", silent.getsockname()),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (server.host, server.port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)
        with dialed(server.url, server.ssh) as connection:
            greets(connection)


def test_a_name_service_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: answer.wait(BOUND))
    before = held()
    unreachable("sftp://w@primary/", tmp_path, "name service", SHORT)
    answer.set()
    wait_for(lambda: held() == before, "the look-up's end")


class HalfAgent:
    """Passes the first question on to an ssh-agent, what keys it has, and never answers again."""

    def __init__(self, path: Path, agent: Path) -> None:
        self._agent = agent
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._thread.join(BOUND)
        self._listening.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            here, _ = self._listening.accept()
            with here, socket.socket(socket.AF_UNIX) as there:
                there.connect(str(self._agent))
                there.sendall(here.recv(1 << 16))
                here.sendall(there.recv(1 << 16))
                while here.recv(1 << 16):
                    pass


def test_an_agent_that_never_signs(
    server: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "half"))
    before = held()
    with running_agent(tmp_path / "agent"):
        add = ["ssh-add", "-q", str(server.key)]
        environment = {**os.environ, "SSH_AUTH_SOCK": str(tmp_path / "agent")}
        subprocess.run(add, check=True, env=environment)
        half = HalfAgent(tmp_path / "half", tmp_path / "agent")
        try:
            unreachable(server.url, server.ssh, "no answer within 1 s", SHORT)
        finally:
            half.close()
    assert held() == before


# --- after the login ----------------------------------------------------------------------


class WithoutSftp(Sshd):
    def _configure(self, port: int) -> None:
        super()._configure(port)
        path = self.folder / "sshd_config"
        path.write_text(path.read_text().replace("Subsystem sftp", "Subsystem other"))


def test_a_server_without_sftp(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    server = WithoutSftp(tmp_path / "sshd", tmp_path / "served")
    try:
        with dialed(server.url, server.ssh) as connection:
            with pytest.raises(Refused, match="no sftp subsystem") as caught:
                connection.channel()
            assert "Subsystem sftp internal-sftp" in caught.value.hint
    finally:
        server.stop()


def test_a_server_that_opens_no_channel(tmp_path: Path) -> None:
    with (
        another(tmp_path / "own", "MaxSessions 0") as own,
        dialed(own.url, own.ssh) as connection,
        pytest.raises(Unreachable, match="opens no channel"),
    ):
        connection.channel()


def test_a_server_that_drops_us_after_the_login(server: Sshd) -> None:
    """As sshd drops an account whose chroot it does not trust."""
    with dialed(server.url, server.ssh) as connection:
        for process in server.sessions():
            process.kill()
        with pytest.raises(Unreachable, match=r"after the login.*chroot"):
            connection.channel()


# --- nothing is left over -----------------------------------------------------------------


def test_failed_dials_leave_nothing(server: Sshd, tmp_path: Path) -> None:
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    (stranger / "known_hosts").write_text((server.ssh / "known_hosts").read_text())
    make_key(stranger / "id_ed25519")
    before = held()
    odd = [Odd(words, closes) for words, closes, _ in ODD.values()]
    try:
        odd_threads = held()[1] - before[1]
        for _ in range(2):
            for each in odd:
                with pytest.raises((Refused, Unreachable)):
                    dial(parse_address(each.url), server.ssh, patience=0.2)
            refused(server.url, stranger, "accepted no key")
            refused(server.url, tmp_path, "not known")
            unreachable("sftp://w@127.0.0.1:1/", tmp_path, "refused")
            unreachable("sftp://w@primary.invalid/", tmp_path, "primary.invalid")
            server.stop()
            unreachable(server.url, server.ssh, "refused")
            server.start()
            assert held()[1] <= before[1] | odd_threads
    finally:
        for each in odd:
            each.close()
    assert held() == before


def test_nothing_is_printed(tmp_path: Path) -> None:
    """paramiko logs tracebacks, which Python prints where nobody configured logging."""
    odd = Odd(ODD["speaks garbage"][0], True)
    script = (
        "import sys, pathlib, logging\n"
        "from spool.address import parse_address\n"
        "from spool.dial import dial\n"
        "from spool.errors import SpoolError\n"
        "if sys.argv[3] == 'configured': logging.basicConfig(level=logging.INFO)\n"
        "try: dial(parse_address(sys.argv[1]), pathlib.Path(sys.argv[2]), patience=5)\n"
        "except SpoolError: print('failed')\n"
    )
    try:
        for configured in ("configured", "bare"):
            done = subprocess.run(
                [sys.executable, "-c", script, odd.url, str(tmp_path), configured],
                cwd=ROOT,
                capture_output=True,
                text=True,
                check=True,
            )
            assert (done.stdout, done.stderr) == ("failed\n", "")
    finally:
        odd.close()
