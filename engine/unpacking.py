"""Unpacking a run's input, and what is said when it cannot be."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from engine import limits
from engine.contract import Ending
from engine.rundir import RunDir
from spool import archive
from spool.errors import BadZip
from spool.lacking import missing

MAX_REASON = 1500  # characters

Unpack = Callable[[Path, Path, Sequence[str]], None]
"""(zip, target folder, required files) to files; raises BadZip, OSError."""


class Answer(msgspec.Struct, frozen=True):
    """``ending`` is None if the input lies unpacked."""

    ending: Ending | None = None
    reason: str = ""


def unpack_zip(source: Path, target: Path, required: Sequence[str]) -> None:
    """Unpack ``source``, if it holds ``required``. Raises BadZip, OSError."""
    if required:
        names = [entry.name for entry in archive.listing(source, archive.CAPS)]
        if (refused := missing(required, names)) is not None:
            raise refused
    archive.unpack(source, target)


def attempt(run: RunDir, required: Sequence[str], unpack: Unpack) -> Answer:
    """Unpack the run's input; whatever goes wrong is told in the answer."""
    try:
        unpack(run.input_zip, run.input, required)
    except BadZip as e:
        return Answer("bad-input", f"the input zip: {e}"[:MAX_REASON])
    except MemoryError:
        reason = f"the input zip: it takes more than {limits.UNPACK_MEMORY >> 20} MiB to unpack"
        return Answer("bad-input", reason)
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            return Answer("not-started", f"no disk space on the worker to unpack the input: {e}")
        return Answer("not-started", f"the input could not be unpacked: {e}"[:MAX_REASON])
    except Exception as e:  # noqa: BLE001  said in the exit, instead of dying without a word
        return Answer("not-started", f"unpacking failed: {type(e).__name__}: {e}"[:MAX_REASON])
    return Answer()
