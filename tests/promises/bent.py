"""A program of ours with one thing in it bent: a seeded bug.

    python -m tests.promises.bent BEND serve …

runs the command line of ``modelrunner`` so. What is bent here has to be found by the
tests of the promises.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import ledger.disk
import ledger.segments
import modelrunner
import primary.files


def _nothing(_of: object) -> None:
    pass


def unsynced_ledger() -> None:
    """An answer goes out before its event is on the disk."""
    ledger.segments.Disk = lambda: ledger.disk.Disk(sync=_nothing)  # type: ignore[misc, assignment]


def unsynced_input() -> None:
    """The ledger knows of an input that is not on the disk."""

    class Unsynced:
        """``os`` for the primary's files, but for the one that makes a file last."""

        def __getattr__(self, name: str) -> object:
            return _nothing if name == "fsync" else getattr(os, name)

    primary.files.os = Unsynced()  # type: ignore[attr-defined]


BENDS: dict[str, Callable[[], None]] = {
    "unsynced-ledger": unsynced_ledger,
    "unsynced-input": unsynced_input,
}

if __name__ == "__main__":
    BENDS[sys.argv[1]]()
    modelrunner.main(sys.argv[2:])
