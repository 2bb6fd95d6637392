"""A network of machines that nothing else can reach: a bridge, and a keeper beside it.

The bridge lies in a network namespace of its own, in which the keeper's commands
run; each machine has a namespace too, with one card and a fixed address.
"""

from __future__ import annotations

import itertools
import os
from contextlib import AbstractContextManager
from pathlib import Path

from tests import network

KEEPER = "10.78.0.1"
_BRIDGE, _CARD = "lan", "host0"
_counter = itertools.count(1)


class Lan:
    """Made at once, with nobody but the keeper in it; removed by ``close``.

    ``stem`` begins the names of its namespaces. ``on_keeper`` goes before the command
    of a process that is to run on the keeper's side.
    """

    def __init__(self) -> None:
        network.sweep()
        self.stem = f"{network.PREFIX}-{os.getpid()}-lan{next(_counter)}"
        self._keeper = f"{self.stem}-keeper"
        self.on_keeper = ["ip", "netns", "exec", self._keeper]
        self._names = [self._keeper]
        network.run("ip", "netns", "add", self._keeper)
        self._ip("link", "add", _BRIDGE, "type", "bridge")
        self._ip("address", "add", f"{KEEPER}/24", "dev", _BRIDGE)
        self._ip("link", "set", _BRIDGE, "up")
        self._ip("link", "set", "lo", "up")

    def join(self, name: str) -> tuple[str, Path]:
        """The address of a new machine, and its namespace."""
        theirs = f"{self.stem}-{name}"
        address = f"10.78.0.{len(self._names) + 1}"
        network.run("ip", "netns", "add", theirs)
        self._names.append(theirs)
        self._ip(*("link", "add", name, "type", "veth"), *("peer", "name", _CARD, "netns", theirs))
        self.mend(name)
        self._ip("link", "set", name, "up")
        network.run("ip", "-n", theirs, "address", "add", f"{address}/24", "dev", _CARD)
        network.run("ip", "-n", theirs, "link", "set", _CARD, "up")
        network.run("ip", "-n", theirs, "link", "set", "lo", "up")
        return address, network.NAMES / theirs

    def cut(self, name: str) -> None:
        """From now on every packet from and to that machine is lost, and nobody is told."""
        self._ip("link", "set", name, "nomaster")

    def mend(self, name: str) -> None:
        self._ip("link", "set", name, "master", _BRIDGE)

    def inside(self) -> AbstractContextManager[None]:
        """Sockets that the calling thread makes meanwhile are the keeper's."""
        return network.inside(self._keeper)

    def close(self) -> None:
        for name in self._names:
            network.remove(name)

    def _ip(self, *words: str) -> None:
        network.run("ip", "-n", self._keeper, *words)
