"""What is told to systemd, at a real socket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spool import notify

Told = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Each test has an environment of its own to read."""
    notify._asked.cache_clear()
    yield
    notify._asked.cache_clear()


@pytest.fixture(params=["path", "abstract"])
def systemd(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Told]:
    """Listens as systemd does; gives what came since it was asked last."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@{uuid.uuid4()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(name.replace("@", "\0", 1) if name[0] == "@" else name)
        sock.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", name)

        def told() -> list[str]:
            found = []
            while True:
                try:
                    found.append(sock.recv(4096).decode())
                except BlockingIOError:
                    return found

        yield told


def test_each_word_is_one_datagram(systemd: Told) -> None:
    notify.status("reading\nthe ledger: 4 %")
    notify.extend(1.5)
    notify.ready("answers")
    notify.alive()
    notify.stopping()
    notify.status(" ")
    assert systemd() == [
        "STATUS=reading the ledger: 4 %",
        "EXTEND_TIMEOUT_USEC=1500000",
        "READY=1\nSTATUS=answers",
        "WATCHDOG=1",
        "STOPPING=1",
    ]


def test_no_child_can_speak_for_us(systemd: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "4000000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert notify.interval() == 2.0
    child = "import os; print([n for n in os.environ if 'NOTIFY' in n or 'WATCHDOG' in n])"
    said = subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True)
    assert said.stdout == "[]\n"
    notify.ready()
    assert systemd() == ["READY=1"] and notify.interval() == 2.0, "we still know"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"WATCHDOG_USEC": "500000"}, 0.25),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "often"}, None),
        ({"WATCHDOG_USEC": "-1"}, None),
        ({}, None),
    ],
)
@pytest.mark.usefixtures("systemd")
def test_the_watchdog_that_is_ours(
    given: dict[str, str], expected: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert notify.interval() == expected


@pytest.mark.parametrize("where", [None, "", "vsock:2:1", "relative", "/nobody/listens", "/" * 200])
def test_without_systemd_nothing_happens(
    where: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if where is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", where)
    notify.ready("answers")
    notify.alive()
    notify.stopping()
    assert "NOTIFY_SOCKET" not in os.environ


def test_a_systemd_that_takes_nothing_holds_nobody_up(
    systemd: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "_PATIENCE", 0.01)
    for _ in range(5000):  # far beyond what its queue holds
        notify.alive()
        if _full():
            break
    assert _full()
    notify.alive()
    assert systemd()
    notify.alive()
    assert systemd() == ["WATCHDOG=1"]


def _full() -> bool:
    """Whether the socket takes nothing more."""
    address = notify._asked().address
    assert address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.sendto(b"X=1", address)
        except BlockingIOError:
            return True
    return False
