"""A job's records as sentences: every kind of event, and what is told as one."""

from __future__ import annotations

import typing

import pytest

from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
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
    Source,
    Started,
    Submitted,
)
from tests.pastjobs import digest, packed
from web import history

JOB = "00000000-0000-4000-8000-000000000001"
OLD = "00000000-0000-4000-8000-000000000002"
FILE = Digest(3_200_000, "0" * 64)
RUN = RunFacts(exit_code=0, wall_seconds=12.0, cpu_seconds=11.0)
ENDED = RunFacts(signal=15, wall_seconds=2.0, ended=("sh (pid 4)", "sleep (pid 5)"))


def submitted(
    source: Source = "upload",
    url: str | None = None,
    drop: str | None = None,
    rerun_of: str | None = None,
) -> Submitted:
    return Submitted(
        job=JOB, name="n", model="m", by="1.2.3.4", source=source, url=url, drop=drop,
        rerun_of=rerun_of,
    )  # fmt: skip


# One sentence of each kind, and of each that depends on more than the kind.
SENTENCES: list[tuple[AnyEvent, str]] = [
    (submitted(), "Submitted by 1.2.3.4 (upload)"),
    (
        submitted("url", url="http://x/in.zip"),
        "Submitted by 1.2.3.4; the input comes from http://x/in.zip",
    ),
    (submitted("drop", drop="in.zip"), "Taken from the model's drop folder as in.zip"),
    (submitted(rerun_of=OLD), "Run again by 1.2.3.4, on the input of another job"),
    (Queued(job=JOB, input=FILE), "The input was checked (3.2 MB); the job waits in the queue"),
    (
        Started(job=JOB, attempt=1, worker="alpha", instance="i", host="h"),
        "Started on alpha (host h), attempt 1",
    ),
    (Started(job=JOB, attempt=2, worker="h", instance="i", host="h"), "Started on h, attempt 2"),
    (
        Processed(job=JOB, attempt=1, run=RUN),
        "The model ended well after 12 s; its results are on their way",
    ),
    (
        Completed(job=JOB, attempt=1, run=RUN, log=FILE, output=FILE),
        "Complete: the model ran for 12 s, its results are 3.2 MB",
    ),
    (
        Completed(job=JOB, attempt=1, run=RUN, log=FILE, output=digest(packed())),
        "Complete: the model ran for 12 s, and wrote no files",
    ),
    (Failed(job=JOB, attempt=1, failure="model", reason="exit code 2"), "Failed: exit code 2"),
    (
        Failed(job=JOB, attempt=1, failure="input", reason="no a.txt"),
        "Failed, the input could not be used: no a.txt",
    ),
    (
        Requeued(job=JOB, attempt=1, reason="its worker was silent for 15 min", confirmed=False),
        "Attempt 1 given up: its worker was silent for 15 min (nobody can tell whether it still "
        "runs there); the job waits again, for attempt 2",
    ),
    (
        Requeued(job=JOB, attempt=2, reason="its run was lost"),
        "Attempt 2 given up: its run was lost; the job waits again, for attempt 3",
    ),
    (KillRequested(job=JOB, by="admin@::1"), "Kill requested by admin@::1"),
    (
        Killed(job=JOB, attempt=1, confirmed=True, reason="killed by x while waiting"),
        "Killed: no process is left (killed by x while waiting)",
    ),
    (
        Killed(job=JOB, attempt=1, confirmed=True, reason="killed by x", run=ENDED),
        "Killed: no process is left; 2 processes were ended: sh (pid 4), sleep (pid 5) "
        "(killed by x)",
    ),
    (
        Killed(job=JOB, attempt=1, confirmed=False, reason="alpha was silent"),
        "Killed, not confirmed: alpha was silent; nobody can tell whether its processes are gone",
    ),
    (Purged(job=JOB, by="retention", reason="90 days"), "Files removed by retention: 90 days"),
    (Noted(job=JOB, text="the kill came too late"), "Noted: the kill came too late"),
]


@pytest.mark.parametrize(("event", "text"), SENTENCES)
def test_an_event_in_words(event: AnyEvent, text: str) -> None:
    assert history.sentence(event) == text


def test_every_kind_of_event_and_failure_is_told() -> None:
    kinds = set(typing.get_args(AnyEvent))
    assert {type(event) for event, _ in SENTENCES} == kinds
    assert set(history.CLASSES) == set(typing.get_args(Failure))


def test_many_ended_processes_are_counted_and_some_are_named() -> None:
    names = tuple(f"p{n} (pid {n})" for n in range(40))
    text = history.ended(RunFacts(ended=names))
    assert text.startswith("; 40 processes were ended: p0 (pid 0), ") and text.endswith(", ...")
    assert history.ended(RunFacts(ended=("sh (pid 4)",))) == "; 1 process was ended: sh (pid 4)"
    assert history.ended(RunFacts()) == "" and history.ended(None) == ""


def told(*given: tuple[int, AnyEvent, int]) -> list[history.Fact]:
    """The facts of (second, event, batch)."""
    records = [
        Record(seq, f"2026-11-23T07:00:{second:02d}.000000Z", event, batch, "0" * 64)
        for seq, (second, event, batch) in enumerate(given, 1)
    ]
    return history.facts(records)


def test_what_was_accepted_in_one_step_is_one_sentence() -> None:
    facts = told(
        (1, submitted(), 1),
        (1, Queued(job=JOB, input=FILE), 1),
        (3, Started(job=JOB, attempt=1, worker="alpha", instance="i"), 3),
        (15, Processed(job=JOB, attempt=1, run=RUN), 4),
        (15, Completed(job=JOB, attempt=1, run=RUN, log=FILE, output=FILE), 4),
    )
    assert [(fact.seq, fact.after, fact.tone) for fact in facts] == [
        (2, None, ""),
        (3, 2.0, ""),
        (5, 12.0, "good"),
    ]
    assert facts[0].text == "Submitted by 1.2.3.4 (upload), 3.2 MB"


def test_what_came_later_stays_a_sentence_of_its_own() -> None:
    facts = told(
        (1, submitted("url", url="http://x/"), 1),
        (9, Queued(job=JOB, input=FILE), 2),
        (10, KillRequested(job=JOB, by="x"), 3),
        (10, Killed(job=JOB, attempt=1, confirmed=True, reason="killed by x"), 3),
    )
    assert [fact.seq for fact in facts] == [1, 2, 3, 4]
    assert facts[1].after == 8.0


def test_a_rerun_leads_to_the_old_job_and_a_clock_set_back_counts_as_nothing() -> None:
    facts = told(
        (30, submitted(rerun_of=OLD), 1),
        (30, Queued(job=JOB, input=FILE), 1),
        (10, Failed(job=JOB, attempt=1, failure="lost", reason="r"), 2),
    )
    assert facts[0].job == OLD and facts[0].text.endswith("another job, 3.2 MB")
    assert (facts[1].after, facts[1].tone, facts[1].job) == (0.0, "bad", None)
