"""What the tests of spool.dial share: dialing, and saying how it must fail."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from spool.address import parse_address
from spool.dial import Connection, dial
from spool.errors import Refused, Unreachable
from tests.sshd import Sshd, sshd
from tests.system import wait_for

SHORT = 1.0  # seconds: the patience of dials that must fail
BOUND = 60.0  # seconds: far above any patience here, far below paramiko's own quarter of an hour


@contextlib.contextmanager
def another(root: Path, more: str) -> Iterator[Sshd]:
    (root / "served").mkdir(parents=True)
    with sshd(root / "sshd", root / "served", more=more) as running:
        yield running


@contextlib.contextmanager
def dialed(url: str, ssh: Path, patience: float = 30.0) -> Iterator[Connection]:
    connection = dial(parse_address(url), ssh, patience=patience)
    try:
        yield connection
    finally:
        connection.shut()


def greets(connection: Connection) -> paramiko.Channel:
    """A channel on which an SFTP server has answered to our greeting, and says no more."""
    channel = connection.channel()
    channel.sendall(b"\0\0\0\5\1\0\0\0\3")
    answer = b""
    while len(answer) < 4 or len(answer) < 4 + int.from_bytes(answer[:4], "big"):
        more = channel.recv(1 << 16)
        assert more, "the server closed the channel"
        answer += more
    assert answer[4:9] == b"\2\0\0\0\3"
    return channel


def refused(url: str, ssh: Path, *said: str) -> None:
    with pytest.raises(Refused) as caught:
        dial(parse_address(url), ssh)
    for part in said:
        assert part in str(caught.value)
    assert caught.value.hint


def unreachable(url: str, ssh: Path, said: str, patience: float = 30.0) -> None:
    began = time.monotonic()
    with pytest.raises(Unreachable) as caught:
        dial(parse_address(url), ssh, patience=patience)
    assert said in str(caught.value)
    assert time.monotonic() - began < BOUND


def held() -> tuple[set[str], set[str]]:
    """The descriptors and the threads of this process."""
    return set(os.listdir("/proc/self/fd")), {t.name for t in threading.enumerate()}


def shut_while_waiting(connection: Connection, channel: paramiko.Channel) -> None:
    """shut() from this thread wakes another that waits for bytes of a silent server."""
    got: list[bytes] = []
    waiting = threading.Thread(target=lambda: got.append(channel.recv(1)))
    waiting.start()
    connection.shut()
    waiting.join(BOUND)
    assert got == [b""] and not connection.alive


@contextlib.contextmanager
def running_agent(path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A real ssh-agent on the socket ``path``. Nobody is there whom it could ask."""
    asking = ("DISPLAY", "WAYLAND_DISPLAY")
    environment = {name: value for name, value in os.environ.items() if name not in asking}
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)],
        env={**environment, "SSH_ASKPASS": "/bin/false"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        wait_for(path.exists, "the agent")
        yield process
    finally:
        process.kill()
        process.wait()
