"""The command line of ``modelrunner`` with one thing in it bent: a seeded bug.

    python -m tests.promises.bent BEND serve …

What is bent here has to be found by the tests of the promises. (That a folder is not
synced is not among them: ext4 and xfs have one journal for all, so that the ledger's
next sync makes every name last. The crash explorer knows of disks that do not.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest

import modelrunner
from ledger.disk import Disk


def _nothing(_of: object) -> None:
    pass


def unsynced_ledger(patch: pytest.MonkeyPatch) -> None:
    """An answer goes out before its event is on the disk."""
    patch.setattr("ledger.segments.Disk", lambda: Disk(sync=_nothing))


def unsynced_input(patch: pytest.MonkeyPatch) -> None:
    """The ledger knows of an input that is not on the disk."""

    class Unsynced:
        """``os`` for the primary's files, but for the one that makes a file last."""

        def __getattr__(self, name: str) -> object:
            return _nothing if name == "fsync" else getattr(os, name)

    patch.setattr("primary.files.os", Unsynced())


def unsynced_results(patch: pytest.MonkeyPatch) -> None:
    """A job has ended in the ledger, and its results are not on the disk."""
    patch.setattr("primary.files.sync_file", _nothing)


def blind(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether the disk is still there, and a failed sync is tried again."""

    def never(_ledger: object) -> None:
        pass

    patch.setattr("ledger.log.Ledger.look", never)
    patch.setattr("ledger.log.Ledger.stopped", "")


BENDS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "blind": blind,
    "unsynced-input": unsynced_input,
    "unsynced-ledger": unsynced_ledger,
    "unsynced-results": unsynced_results,
}

if __name__ == "__main__":
    BENDS[sys.argv[1]](pytest.MonkeyPatch())
    modelrunner.main(sys.argv[2:])
