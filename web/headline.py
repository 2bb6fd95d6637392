"""What is going on with a job, in one sentence for the top of its page. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from ledger.jobs import Job, State
from web import failure, history, words


class Headline(NamedTuple):
    """A sentence in three parts: ``seconds`` go on counting, None where nothing does."""

    before: str
    seconds: float | None = None
    after: str = ""

    @property
    def text(self) -> str:
        counted = "" if self.seconds is None else lasting(self.seconds)
        return f"{self.before}{counted}{self.after}"


def headline(job: Job, now: datetime, kill_asked: str | None) -> Headline:
    """The sentence at ``now``; ``kill_asked`` is the time of the kill's record."""
    if job.state is State.COMPLETE:
        where = f" on {job.worker}" if job.worker else ""
        return Headline(f"Complete after {_took(job)}{where}")
    if job.state is State.FAILED:
        return Headline(_failed(job))
    if job.state is State.KILLED:
        return Headline(_killed(job))
    if job.kill_wanted:
        return _ending(job, words.seconds_between(kill_asked, now))
    if job.state is State.PROCESSED:
        took = _took(job)
        return Headline(f"The model ended well after {took}; its results are on their way")
    if job.state is State.RUNNING:
        attempt = f" (attempt {job.attempt})" if job.attempt > 1 else ""
        since = words.seconds_between(job.started, now)
        return Headline(f"Running on {job.worker}{attempt} for ", since)
    what = "Its input is being fetched, since " if job.state is State.CREATED else "Waiting for "
    again = f", now for attempt {job.attempt}" if job.attempt > 1 else ""
    # Since it was entered, also where it waits again: that is what its owner has waited.
    return Headline(what, words.seconds_between(job.created, now), again)


def place(job: Job, before: int) -> str:
    """Its place in the queue; ``static/job.js`` has the same."""
    if job.state is not State.QUEUED:
        return ""
    return f"Place {before + 1:,} in the queue." if before else "Next in the queue."


def lasting(seconds: float) -> str:
    """A length of time that is still growing; ``static/lengths.js`` has the same."""
    return f"{int(seconds)} s" if seconds < 60 else words.duration(int(seconds))


def _took(job: Job) -> str:
    if job.run is not None:
        seconds: float | None = job.run.wall_seconds
    else:
        seconds = words.seconds_between(job.started, job.ended)
    return "less than 0.1 s" if seconds is not None and seconds < 0.1 else words.duration(seconds)


def _ending(job: Job, since: float | None) -> Headline:
    by = f" ago by {job.kill_by}"
    if job.state is State.CREATED:
        return Headline("Ending: the fetch of its input was called off ", since, by)
    if job.worker is None:
        return Headline("Ending: it is taken out of the queue, as was asked ", since, by)
    return Headline(f"Ending: worker {job.worker} was asked to stop it ", since, by)


def _failed(job: Job) -> str:
    what = failure.how(job)
    if not what and job.failure is not None:
        known = failure.limit(job) if job.failure == "limit" else None
        what = words.small(known.title) if known else history.CLASSES[job.failure]
    if job.run is None:
        return f"Failed before it ran: {what}"
    return f"Failed after {_took(job)}: {what}"


def _killed(job: Job) -> str:
    by = f" by {job.kill_by}" if job.kill_by else ""
    if not job.confirmed:
        return f"Killed{by}, not confirmed: its worker was lost, so nobody can tell what still runs"
    if job.starts == 0 and job.run is None:
        return f"Killed{by} before it ran"
    ran = f" after {_took(job)}" if job.run else ""
    return f"Killed{by}{ran}: no process is left"
