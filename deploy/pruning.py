"""Removes versions that nobody needs, on the host: ``python -m deploy.pruning``.

A version in use stays, whoever started it: a runner outlives upgrades, and goes on loading
modules from the version that it was started with.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from deploy.installer import COMPLETE, locked

FORGOTTEN = 24 * 3600.0  # seconds until a bundle that lies there is nobody's any more


def main(arguments: list[str]) -> int:
    """VERSIONS CURRENT KEEP...: the folder, the link to the one in use, and names to keep."""
    versions, current, *keep = arguments
    folder = Path(versions)
    try:
        with locked(folder):  # no install is going on
            kept = {*keep, os.path.basename(os.path.realpath(current))}
            for line in prune(folder, kept):
                print(line)
    except OSError as e:
        print(f"Error:  {e.filename}: {e.strerror}; remove what is too much there", file=sys.stderr)
        return 1
    return 0


def prune(folder: Path, keep: set[str]) -> Iterator[str]:
    """Says what it did with each version that is not to ``keep``. Raises OSError."""
    users = _users(folder)
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".bundle-"):
            if time.time() - entry.stat().st_mtime > FORGOTTEN:
                shutil.rmtree(entry)
        elif entry.name in keep or entry.is_symlink() or not entry.is_dir():
            continue
        elif entry.name in users:
            yield f"version {entry.name} stays: process {users[entry.name]} uses it"
        else:
            (entry / COMPLETE).unlink(missing_ok=True)  # first: a half is no version
            shutil.rmtree(entry)
            yield f"version {entry.name} removed"


def _users(folder: Path) -> dict[str, int]:
    """A process that uses each version: it has files of it in memory, or was started from it.

    Only root sees everybody's; without root, the versions are used by ourselves alone.
    """
    places = {f"{folder}/", f"{folder.resolve()}/"}
    found: dict[str, int] = {}
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            text = (process / "maps").read_text(errors="replace")
            text += (process / "cmdline").read_text(errors="replace")
        except OSError:  # it has ended, or is not ours
            continue
        for place in places:
            for piece in text.split(place)[1:]:
                found.setdefault(piece.partition("/")[0], int(process.name))
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
