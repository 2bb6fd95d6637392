"""Two network namespaces joined by a veth pair: a wire that can be cut in silence.

The primary's side runs an sshd, the worker's side its workers, both on the same
disk. Neither can reach anything else. ``ip`` and ``tc`` make it, as root.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil

PRIMARY, WORKER = "10.77.0.1", "10.77.0.2"  # addresses; each network has them for itself
_MACS = {PRIMARY: "02:00:00:00:00:01", WORKER: "02:00:00:00:00:02"}
_NOBODY = "02:00:00:00:00:99"
_DEVICE = "wire"
NAMES = Path("/run/netns")
PREFIX = "mrtest"
_counter = itertools.count(1)
_libc = ctypes.CDLL(None, use_errno=True)


class Network:
    """A pair of namespaces, made at once and removed by ``close``.

    ``on_primary`` and ``on_worker`` go before the command of a process that is to
    run on that side. ``names`` are those of the namespaces.
    """

    def __init__(self) -> None:
        sweep()
        stem = f"{PREFIX}-{os.getpid()}-{next(_counter)}"
        self._names = {PRIMARY: f"{stem}-p", WORKER: f"{stem}-w"}
        self.names = list(self._names.values())
        self.on_primary = ["ip", "netns", "exec", self._names[PRIMARY]]
        self.on_worker = ["ip", "netns", "exec", self._names[WORKER]]
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def cut(self) -> None:
        """From now on every packet is lost, both ways, and nobody is told.

        Frames go out as ever, to an address that no card has: no link goes down, no
        route is missing, nothing is refused, as behind a dead NAT or a pulled cable
        two switches away.
        """
        self._neighbours(dict.fromkeys(_MACS, _NOBODY))

    def mend(self) -> None:
        self._neighbours(_MACS)

    def slow(self, kbit: int) -> None:
        """Both directions carry ``kbit`` thousand bits a second."""
        for name in self._names.values():
            run(
                *("tc", "-n", name, "qdisc", "replace", "dev", _DEVICE, "root", "tbf"),
                *("rate", f"{kbit}kbit", "burst", "16kb", "latency", "300ms"),
            )

    def fast(self) -> None:
        """As fast as it can again."""
        for name in self._names.values():
            with suppress(subprocess.CalledProcessError):  # it was never slow
                run("tc", "-n", name, "qdisc", "del", "dev", _DEVICE, "root")

    def received(self, side: str) -> int:
        """Bytes that have arrived on that side so far."""
        with self.inside(side):
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        line = next(line for line in lines if line.strip().startswith(f"{_DEVICE}:"))
        return int(line.partition(":")[2].split()[0])

    def inside(self, side: str = PRIMARY) -> AbstractContextManager[None]:
        """Sockets that the calling thread makes meanwhile belong to that side."""
        return inside(self._names[side])

    def close(self) -> None:
        for name in self._names.values():
            remove(name)

    # --- inside --------------------------------------------------------------------

    def _make(self) -> None:
        primary, worker = self._names.values()
        run("ip", "netns", "add", primary)
        run("ip", "netns", "add", worker)
        run(
            *("ip", "link", "add", _DEVICE, "netns", primary, "address", _MACS[PRIMARY]),
            *("type", "veth"),
            *("peer", "name", _DEVICE, "netns", worker, "address", _MACS[WORKER]),
        )
        for address, name in self._names.items():
            run("ip", "-n", name, "address", "add", f"{address}/30", "dev", _DEVICE)
            run("ip", "-n", name, "link", "set", "lo", "up")
            run("ip", "-n", name, "link", "set", _DEVICE, "up")
        self.mend()

    def _neighbours(self, macs: dict[str, str]) -> None:
        """Where each side sends its frames; nobody asks by ARP, which would tell of a cut."""
        for address, name in self._names.items():
            other = WORKER if address == PRIMARY else PRIMARY
            run(
                *("ip", "-n", name, "neighbour", "replace", other, "lladdr", macs[other]),
                *("dev", _DEVICE, "nud", "permanent"),
            )


@contextmanager
def network() -> Iterator[Network]:
    made = Network()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Sockets that the calling thread makes meanwhile belong to that namespace."""
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    theirs = os.open(NAMES / name, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _enter(theirs)
        try:
            yield
        finally:
            _enter(ours)
    finally:
        os.close(ours)
        os.close(theirs)


def run(*command: str) -> None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    subprocess.run(
        command, check=True, capture_output=True, text=True, env={**os.environ, "PATH": path}
    )


def remove(name: str) -> None:
    if (NAMES / name).exists():
        run("ip", "netns", "delete", name)


def sweep() -> None:
    """Remove what test runs left that were killed: the process in the name has ended."""
    for path in NAMES.glob(f"{PREFIX}-*-*-*"):
        pid = path.name.split("-")[1]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            with suppress(subprocess.CalledProcessError):  # another run was faster
                remove(path.name)


def _enter(namespace: int) -> None:
    """setns(2), of the calling thread alone; Python has it from 3.12 on."""
    if _libc.setns(namespace, 0) != 0:
        raise OSError(ctypes.get_errno(), "setns")
