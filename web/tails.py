"""The end of a job's log as plain text."""

from __future__ import annotations

from typing import NamedTuple

from ledger.jobs import Job
from primary.errors import NoSuchFile
from primary.server import Primary
from web import terminal

MOST = 64 * 1024  # bytes of the log that are read


class Tail(NamedTuple):
    """What a terminal would show; it was read between ``start`` and ``end``, in bytes."""

    text: str
    start: int
    end: int


def of(primary: Primary, job: Job) -> Tail | None:
    """The last ``MOST`` bytes of the log, from a line's beginning; None: there is no log."""
    try:
        file = primary.open_file(job, "job_log.txt")
    except NoSuchFile:
        return None
    with file:
        start = max(0, file.size - MOST)
        file.file.seek(start)
        data = file.file.read(MOST)
    end = start + len(data)
    if start and (line := data.find(b"\n") + 1):
        start, data = start + line, data[line:]
    return Tail(terminal.plain(data, cut=start > 0), start, end)
