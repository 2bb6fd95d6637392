"""How jobs come to be: from uploads and URLs, and what a full disk or a crash does to them."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ledger.board import Query
from ledger.errors import LedgerFull
from ledger.jobs import Job
from primary import fetching, submission
from primary.errors import BadInput, NoRoom, NotAllowed, TooLarge, UnknownModel
from primary.server import NewJob
from tests.primary.hand import Hand, by_hand, zipped

NEW = NewJob(name="a job", model="test", by="ann")
URL = "http://example.org/input.zip"


class Source:
    """Stands for the other end of ``fetching.fetch``: pieces, or errors, one for each fetch."""

    def __init__(self) -> None:
        self.answers: list[bytes | Exception | Callable[..., None]] = [zipped()]
        self.fetched: list[str] = []

    def __call__(self, url: str, write: Callable[[bytes], None], **options: Any) -> None:
        self.fetched.append(url)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        if callable(answer):
            answer(write, **options)
        else:
            write(answer)


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> Source:
    made = Source()
    monkeypatch.setattr(fetching, "fetch", made)
    return made


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Hand]:
    with by_hand(tmp_path) as made:
        yield made


def left(hand: Hand) -> list[str]:
    return sorted(os.listdir(hand.data / "incoming")) + sorted(os.listdir(hand.data / "jobs"))


# --- uploads -----------------------------------------------------------------------------


def test_what_was_asked_for_is_in_the_ledger(hand: Hand) -> None:
    upload = hand.primary.receive()
    upload.write(zipped())
    first = hand.primary.submit(NEW, upload)
    again = hand.primary.receive()
    again.write(zipped())
    job = hand.primary.submit(NewJob(name="x\ny", model="test", by="bob", rerun_of=first.id), again)
    assert (job.name, job.by, job.source, job.rerun_of) == ("x\ny", "bob", "upload", first.id)
    assert job.input is not None and job.input.size == len(zipped())
    batches = {record.batch for record in hand.primary.history(job.id)}
    assert len(batches) == 1, "submitted and queued are one append"


def test_the_input_is_synced_before_the_ledger_and_acknowledged_after_it(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, append = os.fsync, hand.primary._ledger.append

    def synced(fd: int) -> None:
        steps.append(os.path.relpath(os.readlink(f"/proc/self/fd/{fd}"), hand.data).split("/")[0])
        fsync(fd)

    def appended(decide: Any) -> Any:
        steps.append("append")
        records = append(decide)
        steps.append("appended")
        return records

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(hand.primary._ledger, "append", appended)
    hand.submit()
    steps = [s for s in steps if s != "ledger"]
    assert steps == ["incoming", "jobs", "jobs", "append", "appended"]


@pytest.mark.parametrize("where", ["finish", "keep_input", "append"])
def test_a_full_disk_at_any_step_leaves_nothing(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def full(*_: object) -> None:
        raise LedgerFull("no room") if where == "append" else OSError(errno.ENOSPC, "no space")

    target = {
        "finish": (os, "fsync"),
        "keep_input": (os, "link"),
        "append": (hand.primary._ledger, "append"),
    }[where]
    with monkeypatch.context() as patch:
        patch.setattr(*target, full)
        with pytest.raises(NoRoom, match="disk is full"):
            hand.submit()
    assert left(hand) == []
    hand.submit()


def test_submissions_from_many_threads(hand: Hand) -> None:
    jobs: list[Job] = []
    threads = [threading.Thread(target=lambda: jobs.append(hand.submit())) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in jobs}) == len(hand.primary.jobs(Query()).jobs) == 12


# --- URLs --------------------------------------------------------------------------------


def test_a_fetched_job_is_created_then_queued(hand: Hand, source: Source) -> None:
    job = hand.primary.submit_url(NEW, URL)
    assert (job.state, job.source, job.url) == ("CREATED", "url", URL)
    hand.until(lambda: hand.state(job) == "QUEUED", "the input")
    assert hand.read(job, "input.zip") == zipped()
    hand.until(lambda: left(hand) == [job.id], "an empty incoming/")
    hand.tick()
    assert source.fetched == [URL]
    assert len(hand.new()) == 1


def test_a_tick_that_saw_it_just_before_its_fetch_ended_does_not_fetch_it_once_more(
    hand: Hand, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = hand.primary.submit_url(NEW, URL)
    hand.until(lambda: hand.job(job).input is not None, "its input is here")
    hand.until(lambda: not fetching_now(hand), "the fetch has ended")
    monkeypatch.setattr(hand.primary._ledger.board, "created", lambda: [job])  # as it was read
    source.answers = [zipped("6")]
    hand.primary._submissions.tend_created()
    hand.until(lambda: not fetching_now(hand), "what was begun has ended")
    assert len(source.fetched) == 1
    assert hand.read(job, "input.zip") == zipped()


def test_bad_urls_and_models_are_refused_at_once(hand: Hand) -> None:
    with pytest.raises(BadInput):
        hand.primary.submit_url(NEW, "ftp://example.org/x.zip")
    with pytest.raises(NotAllowed):
        hand.primary.submit_url(NEW, "http://127.0.0.1/x.zip")
    with pytest.raises(UnknownModel):
        hand.primary.submit_url(NewJob(name="x", model="unknown", by="ann"), URL)
    assert hand.primary.jobs(Query()).jobs == ()


FAILURES: list[tuple[bytes | Exception, str]] = [
    (BadInput("the address: example.org answered 404"), "answered 404"),
    (NotAllowed("the address: example.org is not public"), "is not public"),
    (TooLarge("the input is longer than 5 bytes"), "longer than"),
    (b"no zip", ""),
    (zipped(name="other"), "count"),
]


@pytest.mark.parametrize(("answer", "said"), FAILURES)
def test_a_fetch_that_fails_is_the_submitters_failure(
    hand: Hand, source: Source, answer: bytes | Exception, said: str
) -> None:
    source.answers = [answer]
    job = hand.primary.submit_url(NEW, URL)
    hand.until(lambda: hand.job(job).final, "the failure")
    failed = hand.job(job)
    assert (failed.state, failed.failure) == ("FAILED", "input")
    assert failed.reason is not None and said in failed.reason
    hand.until(lambda: left(hand) == [], "nothing left")


def test_an_unforeseen_error_is_ours(hand: Hand, source: Source) -> None:
    source.answers = [OSError(errno.EIO, "I/O error")]
    job = hand.primary.submit_url(NEW, URL)
    hand.until(lambda: hand.job(job).final, "the failure")
    assert (hand.state(job), hand.job(job).failure) == ("FAILED", "system")


def test_a_model_that_is_gone_when_the_input_is_there(hand: Hand, source: Source) -> None:
    job = hand.primary.submit_url(NEW, URL)
    os.rename(hand.models / "test", hand.models / ".gone")
    hand.until(lambda: hand.job(job).final, "the failure")
    assert "there is no model" in (hand.job(job).reason or "")
    assert source.fetched


def test_a_full_disk_makes_it_wait_and_not_fetch_again_and_again(
    hand: Hand, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.answers = [NoRoom("disk full"), zipped()]
    job = hand.primary.submit_url(NEW, URL)
    hand.until(lambda: len(source.fetched) == 1 and not fetching_now(hand), "the first try")
    hand.tick(20)
    assert len(source.fetched) == 1
    assert hand.state(job) == "CREATED"
    monkeypatch.setattr(submission, "AGAIN", 0.0)
    hand.primary._submissions._later.clear()
    hand.until(lambda: hand.state(job) == "QUEUED", "the second try")


def fetching_now(hand: Hand) -> bool:
    return bool(hand.primary._submissions._fetching)


def test_a_full_ledger_is_no_failure_of_the_job(
    hand: Hand, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = hand.primary.submit_url(NEW, URL)

    def full(_: object) -> None:
        raise LedgerFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._ledger, "append", full)
        hand.until(lambda: source.fetched and not fetching_now(hand), "the first try")
    assert hand.state(job) == "CREATED"
    hand.primary._submissions._later.clear()
    hand.until(lambda: hand.state(job) == "QUEUED", "the second try")


def test_kill_while_it_is_fetched(hand: Hand, source: Source) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(write: Callable[[bytes], None], cancelled: Callable[[], bool], **_: object) -> None:
        write(b"half")
        entered.set()
        assert go.wait(60)
        assert cancelled()

    source.answers = [slow]
    job = hand.primary.submit_url(NEW, URL)
    hand.tick()
    assert entered.wait(60)
    hand.primary.kill(job.id, "bob")
    hand.tick()
    assert hand.state(job) == "KILLED", "at once: nothing of the model runs"
    go.set()
    hand.until(lambda: left(hand) == [], "nothing left")


def test_kill_before_it_is_fetched(hand: Hand, source: Source) -> None:
    job = hand.primary.submit_url(NEW, URL)
    hand.primary.kill(job.id, "bob")
    hand.tick()
    assert hand.state(job) == "KILLED"
    assert source.fetched == []


def test_a_kill_that_a_full_ledger_refuses_does_not_end_the_tick(
    hand: Hand, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = hand.primary.submit_url(NEW, URL)
    hand.primary.kill(job.id, "bob")

    def full(_: object) -> None:
        raise LedgerFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._ledger, "append", full)
        hand.tick()
    hand.tick()
    assert hand.state(job) == "KILLED"
    assert not source.fetched


def test_f0_a_restart_fetches_again(hand: Hand, source: Source) -> None:
    job = hand.primary.submit_url(NEW, URL)
    hand.crash()
    (hand.data / "incoming" / f"{job.id}.zip").write_bytes(b"half")
    hand.open()
    assert left(hand) == []
    hand.until(lambda: hand.state(job) == "QUEUED", "the input")
    assert hand.read(job, "input.zip") == zipped()
    assert source.fetched == [URL]


def test_f0_a_crash_between_the_link_and_the_ledger_is_fetched_again(
    hand: Hand, source: Source
) -> None:
    job = hand.primary.submit_url(NEW, URL)
    hand.crash()
    folder = hand.data / "jobs" / job.id
    folder.mkdir()
    (folder / "input.zip").write_bytes(b"from before the crash")
    hand.open()
    hand.until(lambda: hand.state(job) == "QUEUED", "the input")
    assert hand.read(job, "input.zip") == zipped()
    assert len(source.fetched) == 1


def test_stopping_ends_a_fetch_and_the_restart_begins_it_anew(plain: Hand, source: Source) -> None:
    entered = threading.Event()

    def until_stopped(_: object, cancelled: Callable[[], bool], **__: object) -> None:
        entered.set()
        while not cancelled():
            entered.wait(0.01)

    source.answers = [until_stopped, zipped()]
    job = plain.primary.submit_url(NEW, URL)
    plain.tick()
    assert entered.wait(60)
    plain.restart()
    assert plain.state(job) == "CREATED"
    plain.until(lambda: plain.state(job) == "QUEUED", "the input")
