"""Which worker ran what, and when, from the board: what the picture of a day is drawn from.

Times are the ledger's: when the primary learnt of a start or an end.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from ledger.board import Board
from ledger.jobs import Job, State
from ledger.times import stamp

MOST = 3000
"""Runs of one timeline: more than a picture can show, and the first drawing stays below 100 ms."""

End = Literal["RUNNING", "COMPLETE", "FAILED", "KILLED", "LOST"]


class Run(msgspec.Struct, frozen=True):
    """One attempt of a job at one worker. ``ended`` is None while it runs.

    LOST: the attempt was given up, since its worker was silent or lost the run.
    """

    worker: str
    job: str
    name: str
    model: str
    attempt: int
    started: str
    ended: str | None
    end: End


class Timeline(msgspec.Struct, frozen=True):
    """The runs that were under way between two times, as records write them; the newest first.

    ``cut``: there were more than ``MOST``, and ``since`` is as far back as all are shown.
    """

    since: str
    until: str
    cut: bool
    runs: tuple[Run, ...]


def timeline(board: Board, now: datetime, hours: float) -> Timeline:
    """The runs of the last ``hours``. Its cost does not depend on how many there were."""
    until = stamp(now)
    since = stamp(now - timedelta(hours=hours))
    ended = [_last(job) for job in board.ran_since(since, MOST + 1)]
    ended += (run for job in board.lost_since(since, MOST + 1) for run in _lost(job, since))
    ended.sort(key=lambda run: run.ended or "", reverse=True)
    running = sorted(map(_last, board.active()), key=lambda run: run.started, reverse=True)[:MOST]
    room = MOST - len(running)
    cut = len(ended) > room
    if cut:
        since = ended[room].ended or since
    return Timeline(since, until, cut, (*running, *ended[:room]))


def _last(job: Job) -> Run:
    """The run of the current, or last, attempt."""
    end: End = "RUNNING"
    if job.final:
        lost = job.failure == "lost"
        end = "LOST" if lost else _ENDS[job.state]
    return Run(
        job.worker or "",
        job.id,
        job.name,
        job.model,
        job.attempt,
        job.started or job.created,
        job.ended,
        end,
    )


_ENDS: dict[State, End] = {
    State.COMPLETE: "COMPLETE",
    State.FAILED: "FAILED",
    State.KILLED: "KILLED",
}


def _lost(job: Job, since: str) -> Iterator[Run]:
    """The runs that were given up at ``since`` or later."""
    for run in job.given_up:
        if run.ended >= since:
            yield Run(
                run.worker, job.id, job.name, job.model, run.attempt, run.started, run.ended, "LOST"
            )
