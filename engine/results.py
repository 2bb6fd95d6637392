"""A run's results, packed once it has ended: what its final report says of them."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import NamedTuple

from engine.contract import Exit
from engine.notes import fact
from engine.outcome import describe
from spool.packing import pack
from spool.progress import last_line
from spool.reports import End, FailureClass, FileFact


class Results(NamedTuple):
    """``output`` is None where the run left none."""

    end: End
    failure: FailureClass | None
    reason: str
    log: FileFact
    output: FileFact | None


def pack_results(folder: Path, end: Exit) -> Results:
    """Make ``output.zip`` in a run directory, and complete its log. Raises OSError."""
    log_file = folder / "log"
    log_file.touch()
    kind, failure, reason = describe(end, last_line(log_file))
    output: FileFact | None = None
    try:
        if (folder / "output").is_dir():
            remarks = pack(folder / "output", folder / "output.zip")
            output = fact(folder / "output.zip")
            _remark(log_file, remarks)
    except OSError as e:
        if e.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        # Kept, it would fill the disk for ever, and nobody would hear of the end.
        shutil.rmtree(folder / "output", ignore_errors=True)
        (folder / "output.zip").unlink(missing_ok=True)
        kind, failure = "failed", "limit"
        reason = "its output does not fit on the worker's disk, and was given up"
    if kind == "ok" and output is None:
        # The primary believes no good end without an output, so it would never end.
        kind, failure = "failed", "model"
        reason = "the model removed its output directory, and the results with it"
    return Results(kind, failure, reason, fact(log_file), output)


def _remark(log_file: Path, remarks: list[str]) -> None:
    """What was left out of the output, where the modeller looks first."""
    if remarks:
        with log_file.open("a") as file:
            file.writelines(f"[model runner] {remark}\n" for remark in remarks)
