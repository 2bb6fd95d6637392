"""What a job's records say, as sentences for its page. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ledger.events import (
    AnyEvent,
    Completed,
    Failed,
    Failure,
    Killed,
    KillRequested,
    Noted,
    Processed,
    Purged,
    Queued,
    Record,
    Requeued,
    RunFacts,
    Started,
    Submitted,
)
from web import words

NO_FILES = 22  # bytes of a zip that holds nothing: its end record alone
NAMED = 5  # processes that were ended, by name in one sentence

# What went wrong, by who must act.
CLASSES: dict[Failure, str] = {
    "input": "the input could not be used",
    "model": "the model failed",
    "limit": "a limit was reached",
    "lost": "no worker was left to try",
    "system": "Model Runner or its machine failed",
}


class Fact(NamedTuple):
    """One line of a job's history.

    ``seq`` and ``time`` are those of its (last) record; ``after`` is in seconds since the
    fact before, None for the first. ``tone`` is "good", "bad" or "". ``job`` is another
    job that the sentence is about.
    """

    seq: int
    time: str
    after: float | None
    text: str
    tone: str = ""
    job: str | None = None


def facts(records: Iterable[Record], *, whole_urls: bool = False) -> list[Fact]:
    """The history of one job, oldest first; what was accepted in one step is one sentence.

    Without ``whole_urls`` the addresses in it are without what may be secret of them.
    """
    found: list[Fact] = []
    before: str | None = None
    for step in _steps(records):
        record = step[-1]
        first, last = step[0].event, record.event
        text = sentence(last, whole_urls=whole_urls)
        if isinstance(first, Submitted) and isinstance(last, Queued):
            said = sentence(first, whole_urls=whole_urls)
            text = f"{said}, {words.size(last.input.size)}"
        after = words.seconds_between(before, record.time)
        job = first.rerun_of if isinstance(first, Submitted) else None
        found.append(Fact(record.seq, record.time, after, text, _tone(last), job))
        before = record.time
    return found


def _steps(records: Iterable[Record]) -> list[list[Record]]:
    """Records that say one thing together: accepted with its input, ended with its results."""
    steps: list[list[Record]] = []
    for record in records:
        before = steps[-1][-1] if steps else None
        if before is not None and before.batch == record.batch:
            match before.event, record.event:
                case (Submitted(), Queued()) | (Processed(), Completed()):
                    steps[-1].append(record)
                    continue
        steps.append([record])
    return steps


def sentence(event: AnyEvent, *, whole_urls: bool = False) -> str:
    """One event in words: who, what, and which worker and attempt."""
    match event:
        case Submitted():
            return _submitted(event, whole_urls=whole_urls)
        case Queued(input=digest):
            return f"The input was checked ({words.size(digest.size)}); the job waits in the queue"
        case Started():
            host = f" (host {event.host})" if event.host and event.host != event.worker else ""
            return f"Started on {event.worker}{host}, attempt {event.attempt}"
        case Processed(run=run):
            took = words.duration(run.wall_seconds)
            return f"The model ended well after {took}; its results are on their way"
        case Completed(run=run, output=output):
            took = words.duration(run.wall_seconds)
            if output.size == NO_FILES:
                return f"Complete: the model ran for {took}, and wrote no files"
            return f"Complete: the model ran for {took}, its results are {words.size(output.size)}"
        case Failed():
            what = "" if event.failure == "model" else f", {CLASSES[event.failure]}"
            return f"Failed{what}: {event.reason}"
        case Requeued(attempt=attempt, reason=reason):
            doubt = "" if event.confirmed else " (nobody can tell whether it still runs there)"
            again = f"the job waits again, for attempt {attempt + 1}"
            return f"Attempt {attempt} given up: {reason}{doubt}; {again}"
        case KillRequested(by=by):
            return f"Kill requested by {by}"
        case Killed():
            return _killed(event)
        case Purged(by=by, reason=reason):
            return f"Files removed by {by}: {reason}"
        case Noted(text=text):
            return f"Noted: {text}"


def _submitted(event: Submitted, *, whole_urls: bool) -> str:
    if event.drop is not None:
        return f"Taken from the model's drop folder as {event.drop}"
    if event.rerun_of is not None:
        return f"Run again by {event.by}, on the input of another job"
    if event.url is not None:
        url = event.url if whole_urls else words.discreet(event.url)
        return f"Submitted by {event.by}; the input comes from {url}"
    return f"Submitted by {event.by} ({event.source})"


def _killed(event: Killed) -> str:
    if not event.confirmed:
        return (
            f"Killed, not confirmed: {event.reason}; nobody can tell whether its processes are gone"
        )
    return f"Killed: no process is left{ended(event.run)} ({event.reason})"


def ended(run: RunFacts | None) -> str:
    """What had to be ended, as the rest of a sentence; "" for nothing."""
    if run is None or not run.ended:
        return ""
    count = len(run.ended)
    named = ", ".join(run.ended[:NAMED]) + (", ..." if count > NAMED else "")
    what = "1 process was" if count == 1 else f"{count} processes were"
    return f"; {what} ended: {named}"


def _tone(event: AnyEvent) -> str:
    if isinstance(event, Completed):
        return "good"
    return "bad" if isinstance(event, Failed | Requeued) else ""
