"""How a worker gets into its primary's spool: a folder of this machine, or an account elsewhere.

What differs between the two is here; the agent and the check know neither.
"""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from engine.agent import RESCAN, Agent
from spool import names
from spool.address import Address, is_address, parse_address
from spool.bell import BellWatch
from spool.errors import Gone, Refused
from spool.local import LocalTransport, make_worker_folder, require_spool
from spool.sftp import SftpTransport
from spool.transport import Transport
from spool.watch import Watch

REMOTE_RESCAN = 30.0  # seconds between looks at a spool elsewhere if its bell says nothing
REMOTE_RESCAN_QUEUE = 4.0  # seconds for each model: a listing takes four requests
REMOTE_LOG_PACE = 1.0  # seconds at least between two pieces of a log whose lines trickle


class Watcher(Protocol):
    def start(self) -> None: ...

    def stop(self) -> None: ...


class Entrance(Protocol):
    """A way into a spool. ``shown`` is the spool in messages; ``mark`` names it for ever.

    ``rescan``, ``rescan_queue`` and ``log_pace`` are the agent's; ``glance`` lies between
    looks at a namesake's beat; in seconds.
    """

    shown: str
    mark: str
    node_url: str
    transport: Transport
    rescan: float
    rescan_queue: float
    log_pace: float
    glance: float

    def enter(self, worker: str) -> None:
        """See that the worker's folder is there. Raises Unreachable, NoSpace or Refused."""

    def watcher(self, agent: Agent) -> Watcher:
        """What wakes the agent."""

    def close(self) -> None:
        """End every wait for the primary."""


def entrance_to(primary: str, ssh: Path | None = None) -> Entrance:
    """The way to ``--primary``; ``ssh`` is for one elsewhere.

    Raises BadName, or Refused where a folder is no spool.
    """
    if is_address(primary):
        return RemoteEntrance(parse_address(primary), ssh)
    return LocalEntrance(Path(primary))


class LocalEntrance:
    """A spool in a folder of this machine."""

    rescan = RESCAN
    rescan_queue = 0.0
    log_pace = 0.0
    glance = 0.2

    def __init__(self, root: Path) -> None:
        require_spool(root)
        # As it was given: the spool may be a link by now, to where 'spool grant' has moved
        # it, and what this worker holds lies in the state directory of the same mark.
        self.shown = self.mark = os.path.abspath(root)
        self._root = root.resolve()
        self.node_url = ""
        self.transport: Transport = LocalTransport(self._root)

    def enter(self, worker: str) -> None:
        make_worker_folder(self._root, worker)

    def watcher(self, agent: Agent) -> Watcher:
        return Watch(self._root, wakes(agent.claims.worker), agent.ring)

    def close(self) -> None:
        """Nothing here waits."""


class RemoteEntrance:
    """A spool on another machine, over SFTP. ``ssh`` is a folder like ``~/.ssh``, the default."""

    rescan = REMOTE_RESCAN
    rescan_queue = REMOTE_RESCAN_QUEUE
    log_pace = REMOTE_LOG_PACE
    glance = 1.0

    def __init__(self, address: Address, ssh: Path | None = None) -> None:
        self.address = address
        self.ssh = ssh
        self.shown = self.mark = str(address)
        self.node_url = f"ssh://{_user()}@{socket.gethostname()}"
        self.remote = SftpTransport(address, ssh)
        self.transport: Transport = self.remote

    def enter(self, worker: str) -> None:
        require_bell(self.transport, self.shown)
        require_folder(self.remote, worker)

    def watcher(self, agent: Agent) -> Watcher:
        return BellWatch(
            self.transport,
            agent.ring,
            busy=lambda: agent.busy,
            told=partial(agent.voice.told, "bell"),
        )

    def close(self) -> None:
        self.remote.close()


def require_bell(transport: Transport, shown: str) -> None:
    """Raises Refused if there is no spool; Unreachable."""
    if transport.check(names.BELL) is None:
        raise Refused(
            f"{shown}: no spool at this path",
            "an account that is shut into the spool (chroot) has it at the path /; else it is the "
            "folder 'spool' of the primary's data directory, after the primary's first start",
        )


def require_folder(transport: SftpTransport, worker: str) -> None:
    """The worker's own folder, made where this account may. Raises Refused, Unreachable."""
    home = names.worker_folder(worker)
    try:
        try:
            transport.names(f"{home}/{names.CUR}")
        except Gone:
            # A single shared account, which makes its folders itself.
            for folder in (home, *(f"{home}/{name}" for name in names.WORKER_FOLDERS)):
                transport.make_folder(folder)
            transport.names(f"{home}/{names.CUR}")
    except (Gone, Refused) as e:
        raise Refused(
            f"this account may not work under the name {worker!r}: {e}",
            f"the primary's keeper runs: modelrunner spool grant {worker} --key FILE; "
            "or give the name that was granted with --name",
        ) from e


def wakes(worker: str) -> Callable[[str], bool]:
    """Whether a change in the spool is news for this worker: tickets and stops."""
    own = f"{names.worker_folder(worker)}/{names.STOP}"

    def is_news(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if name.startswith("."):
            return False
        if folder == own:
            return True
        return folder.startswith(f"{names.MODELS}/") and folder.endswith(f"/{names.NEW}")

    return is_news


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an account without a name, as in some containers
        return str(os.geteuid())
