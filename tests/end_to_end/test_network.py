"""The cut that the fault tests make: silence, and nobody is told."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.network import PRIMARY, WORKER, Network, network
from tests.system import ROOT, wait_for

pytestmark = [pytest.mark.root, pytest.mark.needs("iproute2")]


@pytest.fixture
def wire() -> Iterator[Network]:
    with network() as made:
        yield made


@pytest.fixture
def ends(wire: Network) -> Iterator[tuple[socket.socket, socket.socket]]:
    """A TCP connection over it: (the worker's end, the primary's end)."""
    with wire.inside(PRIMARY):
        listener = socket.create_server((PRIMARY, 0))
    with listener:
        with wire.inside(WORKER):
            near = socket.create_connection(listener.getsockname(), timeout=30)
        far, address = listener.accept()
    assert address[0] == WORKER
    with near, far:
        near.settimeout(30)
        far.settimeout(30)
        yield near, far


def test_a_cut_is_silent_and_what_was_sent_arrives_later(
    wire: Network, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    near.sendall(b"before")
    assert far.recv(100) == b"before"
    wire.cut()
    near.sendall(b"up")
    far.sendall(b"down")
    for end in ends:
        end.settimeout(1)
        with pytest.raises(TimeoutError):
            end.recv(100)
        assert end.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
        end.settimeout(30)
    with wire.inside(WORKER), pytest.raises(TimeoutError):  # nor is a new one refused
        socket.create_connection((PRIMARY, 1), timeout=1)
    wire.mend()
    assert (far.recv(100), near.recv(100)) == (b"up", b"down")
    with wire.inside(WORKER), pytest.raises(ConnectionRefusedError):
        socket.create_connection((PRIMARY, 1), timeout=30)


def test_a_slow_wire_takes_its_time(
    wire: Network, ends: tuple[socket.socket, socket.socket]
) -> None:
    near, far = ends
    wire.slow(800)
    near.setblocking(False)
    sent = 0
    with pytest.raises(BlockingIOError):  # 100 kB a second: its buffers fill
        while sent < 1 << 26:
            sent += near.send(bytes(1 << 16))
    wire.fast()
    got = 0

    def all_there() -> bool:
        nonlocal got
        got += len(far.recv(1 << 20))
        return got == sent

    wait_for(all_there, "what was sent")


def test_the_calling_thread_comes_back(wire: Network) -> None:
    here = os.readlink("/proc/thread-self/ns/net")
    with wire.inside(WORKER):
        assert os.readlink("/proc/thread-self/ns/net") != here
    assert os.readlink("/proc/thread-self/ns/net") == here


def test_what_a_killed_run_left_is_removed_by_the_next() -> None:
    made = "from tests.network import Network; print(*Network().names, flush=True); os._exit(1)"
    killed = subprocess.run(
        [sys.executable, "-c", f"import os; {made}"], cwd=ROOT, capture_output=True, text=True
    )
    left = killed.stdout.split()
    assert len(left) == 2, killed.stderr
    assert set(left) <= set(os.listdir("/run/netns"))
    with network() as ours:
        there = set(os.listdir("/run/netns"))
        assert not there & set(left)
        assert there >= set(ours.names)
    assert not set(os.listdir("/run/netns")) & set(ours.names)
