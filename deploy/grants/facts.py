"""What is known of a machine and a spool before anything is planned. Pure.

``accounts`` and ``places`` gather it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

import msgspec

from spool import names


class Account(NamedTuple):
    """A line of /etc/passwd. ``group`` is the name of its own group."""

    name: str
    group: str
    comment: str


class Entry(NamedTuple):
    """Something on disk. Owners are names, or numbers where nobody is called so."""

    kind: Literal["folder", "file", "link", "other"]
    owner: str
    group: str
    mode: int  # the permission bits, up to 0o7777


class Place(NamedTuple):
    """A folder above the data directory or the spool.

    ``safe``: it and all above it belong to root, and nobody else may write there.
    """

    path: str
    safe: bool
    mount: str


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """Accounts, groups, and what sshd is told."""

    accounts: Mapping[str, Account]
    groups: Mapping[str, frozenset[str]]  # the accounts in it, but for those whose own it is
    files: Mapping[str, str]  # by path: keys, and sshd's file, if they are root's and 0644
    key_folder: Entry | None
    sshd: bool  # it is installed
    included: bool  # its configuration reads our file
    sshd_folder: bool  # /run/sshd, without which it checks nothing
    unit: str | None  # its systemd unit, where systemd runs
    gates: tuple[str, ...]  # lines such as AllowUsers, with file and number
    port: int
    host: str
    host_keys: tuple[str, ...]  # lines: type and key

    def is_in(self, account: str, group: str) -> bool:
        found = self.accounts.get(account)
        own = found is not None and found.group == group
        return own or account in self.groups.get(group, ())

    def by_comment(self, comment: str) -> Account | None:
        """The account that was made for what the comment says."""
        return next((a for a in self.accounts.values() if a.comment == comment), None)


class Spool(msgspec.Struct, frozen=True, kw_only=True):
    """A primary's spool. Paths are absolute and free of links, but for ``link``."""

    data: str
    owner: Account  # whose data it is: the primary's account
    link: str  # <data>/spool as the primary calls it
    path: str  # where that leads
    mount: str  # of the spool
    above: tuple[Place, ...]  # the folders above the spool, nearest first
    homes: tuple[Place, ...]  # where it could move to: those above the data directory
    wanted: Place | None  # where the operator wants it to move to; --spool-home's parent
    taken: frozenset[str]  # of the places where a spool could move to, those that exist
    entries: Mapping[str, Entry]  # by path below the spool, "" for itself

    @property
    def models(self) -> tuple[str, ...]:
        return self._below(names.MODELS)

    @property
    def workers(self) -> tuple[str, ...]:
        return self._below(names.WORKERS)

    def home_in(self, place: Place) -> str:
        """What a spool would be called there."""
        return f"{place.path.rstrip('/')}/{self.data.rpartition('/')[2]}-spool"

    def _below(self, folder: str) -> tuple[str, ...]:
        paths = (path.split("/") for path in self.entries)
        return tuple(sorted(p[1] for p in paths if len(p) == 2 and p[0] == folder))
