"""What ``hosts.toml`` says: hosts and their roles. Pure; ``hosts`` reads it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from primary.roles import Role


class Primary(msgspec.Struct, frozen=True, kw_only=True):
    """The role of the one host with the ledger, the spool, the API and the pages."""

    listen: str = "127.0.0.1:8080"  # HOST:PORT of the primary's own HTTP server
    names: tuple[str, ...] = ()  # what browsers call it, besides its address
    allow_urls: tuple[str, ...] = ()  # serve --allow-url
    anonymous: Role | None = None  # serve --anonymous
    nginx: bool = False  # in front of it, on the ports 80 and 443
    tls: bool = True  # nginx speaks HTTPS, and leads HTTP there
    certificate: str | None = None  # paths on the host; without them one is made, self-signed
    certificate_key: str | None = None


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """The role of a host that runs models."""

    models: tuple[str, ...] = ()  # none: all of the fleet's
    slots: int = 1
    name: str | None = None  # its name in the spool; without one, the host's


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. ``address``, ``user`` and ``port`` are as for ``ssh``: its config holds."""

    name: str  # its table in hosts.toml
    address: str
    user: str | None = None
    port: int | None = None
    sudo: bool = False  # whether a user who is not root may use sudo, without a password
    reach: str | None = None  # the address at which workers reach this primary's sshd
    reach_port: int | None = None
    primary: Primary | None = None
    worker: Worker | None = None

    @property
    def shown(self) -> str:
        """USER@ADDRESS:PORT, as far as they are given."""
        user = f"{self.user}@" if self.user else ""
        return f"{user}{self.address}" + (f":{self.port}" if self.port else "")

    @property
    def worker_name(self) -> str:
        """Its name in the spool."""
        return (self.worker and self.worker.name) or self.name


class Fleet(msgspec.Struct, frozen=True, kw_only=True):
    """All hosts: exactly one of them is the primary."""

    hosts: tuple[Host, ...]
    models: Path  # the folder of models here, on the keeper's machine
    names: tuple[str, ...]  # the models in it that the fleet runs, in the order of their names

    @property
    def primary(self) -> Host:
        """The host with the role."""
        return next(host for host in self.hosts if host.primary is not None)

    @property
    def workers(self) -> tuple[Host, ...]:
        return tuple(host for host in self.hosts if host.worker is not None)

    def models_of(self, host: Host) -> tuple[str, ...]:
        """What lies on it: a worker's own; on the primary those of all workers."""
        if host.primary is not None or host.worker is None or not host.worker.models:
            return self.names
        return tuple(sorted(host.worker.models))

    def runs(self, host: Host) -> tuple[str, ...]:
        """The models that its worker runs."""
        if host.worker is None:
            return ()
        return tuple(sorted(host.worker.models)) or self.names
