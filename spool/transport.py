"""The eight verbs through which both sides meet at the spool.

Paths are relative to the spool's root, with ``/`` between parts. Every verb
raises one of ``spool.errors``: Gone, Unreachable, NoSpace or Refused. Two
transports have them, a local directory and SFTP; what is built on them
(``spool.dispatch``, ``spool.claims``) is written once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol


class Transport(Protocol):
    def names(self, folder: str) -> list[str]:
        """The names in ``folder``, in no order; hidden ones and what is not UTF-8 left out."""

    def read(self, path: str, limit: int) -> bytes:
        """A small file, whole. Raises Unbelievable above ``limit`` bytes."""

    def fetch(self, path: str, target: Path) -> None:
        """Copy a file of the spool to ``target`` on the own disk, replacing it."""

    def store(self, source: Path | bytes, path: str, *, go_on: bool = False) -> None:
        """Write a new file of the spool, not yet whole for others: a hidden name in ``tmp/``.

        ``go_on``: what lies there, if anything, is the beginning of these very bytes; so
        a transport may go on behind it.
        """

    def append(self, path: str, offset: int, data: bytes) -> None:
        """Write ``data`` at ``offset``; doing it again changes nothing."""

    def move(self, old: str, new: str) -> None:
        """One atomic rename(2). It replaces silently, so ``new`` is unique by construction."""

    def drop(self, path: str) -> bool:
        """Remove a file; False if it was not there."""

    def check(self, path: str) -> int | None:
        """A file's size in bytes, or None if it is not there."""
