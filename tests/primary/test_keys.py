"""Idempotency keys: one job for one key, whatever happens in between, and nobody's files harmed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.board import Query
from ledger.errors import LedgerFull, LedgerStopped
from ledger.events import Purged, Submitted
from ledger.jobs import Job
from primary.errors import BadInput, KeyBusy, KeyReused, NoRoom
from primary.files import Files, Upload
from primary.keys import job_of
from primary.server import NewJob
from spool.names import JOB_RE
from tests.primary.hand import Hand, Worker, by_hand, zipped

KEY = "6b1c"
URL = "http://example.org/input.zip"


def new(**fields: Any) -> NewJob:
    said: dict[str, Any] = {"name": "a job", "model": "test", "by": "ann", "key": KEY}
    return NewJob(**(said | fields))


def submit(hand: Hand, asked: NewJob | None = None, data: bytes | None = None) -> Job:
    upload = hand.primary.receive()
    try:
        upload.write(zipped() if data is None else data)
        return hand.primary.submit(asked or new(), upload)
    finally:
        upload.discard()


def number(hand: Hand) -> int:
    return len(hand.primary.jobs(Query()).jobs)


def left(hand: Hand) -> list[str]:
    return sorted(os.listdir(hand.data / "incoming")) + sorted(os.listdir(hand.data / "jobs"))


def input_of(hand: Hand, job: Job) -> tuple[int, bytes]:
    """Which file it is, and what it says."""
    path = hand.data / "jobs" / job.id / "input.zip"
    return path.stat().st_ino, path.read_bytes()


# --- one key, one job --------------------------------------------------------------------


def test_the_same_again_is_the_same_job(hand: Hand, w1: Worker) -> None:
    first = submit(hand)
    assert first.id == job_of(KEY)
    assert JOB_RE.match(first.id)
    before = input_of(hand, first)
    assert submit(hand).id == first.id
    hand.restart()
    assert submit(hand).id == first.id
    assert (number(hand), input_of(hand, first), left(hand)) == (1, before, [first.id])
    hand.settle()
    w1.final(w1.claim())
    hand.tick(2)
    again = submit(hand)
    assert (again.id, again.state, number(hand)) == (first.id, "COMPLETE", 1)
    hand.primary._ledger.append(lambda _: (Purged(job=first.id, by="age", reason="old"),))
    assert submit(hand).purged


def test_another_key_is_another_job_and_none_is_always_new(hand: Hand) -> None:
    ids = {submit(hand, new(key=key)).id for key in (None, None, "a", "b", " a", "A")}
    assert len(ids) == number(hand) == 6


def test_a_key_outlives_its_model(hand: Hand) -> None:
    """Whoever was not told must be told: also when the same could not be submitted now."""
    first = submit(hand)
    os.rename(hand.models / "test", hand.models / ".gone")
    hand.tick()
    assert submit(hand).id == first.id


DIFFERENT: dict[str, Callable[[Hand], object]] = {
    "name": lambda hand: submit(hand, new(name="another")),
    "model": lambda hand: submit(hand, new(model="other")),
    "input": lambda hand: submit(hand, data=zipped("6")),
    "input, no zip": lambda hand: submit(hand, data=b"no zip"),
    "input, a url": lambda hand: hand.primary.submit_url(new(), URL),
    "job that it repeats": lambda hand: hand.primary.rerun(job_of(KEY), "ann", key=KEY),
}


@pytest.mark.parametrize("other", DIFFERENT)
def test_a_key_that_was_used_for_something_else_names_that_job(hand: Hand, other: str) -> None:
    hand.add_model("other")
    hand.tick()
    first = submit(hand)
    before = input_of(hand, first)
    with pytest.raises(KeyReused, match=f"for job {first.id}, which has another {other[:5]}") as e:
        DIFFERENT[other](hand)
    assert e.value.job == first.id
    assert (number(hand), input_of(hand, first), left(hand)) == (1, before, [first.id])
    hand.tick()
    assert len(hand.new()) == 1, "it goes its way"


def test_a_url_is_part_of_what_is_asked(hand: Hand) -> None:
    first = hand.primary.submit_url(new(), URL)
    assert hand.primary.submit_url(new(), URL).id == first.id == job_of(KEY)
    hand.primary.kill(first.id, "bob")
    hand.tick()
    again = hand.primary.submit_url(new(), URL)
    assert (again.id, again.state, number(hand)) == (first.id, "KILLED", 1)
    with pytest.raises(KeyReused, match="another input"):
        hand.primary.submit_url(new(), URL + "?2")
    with pytest.raises(KeyReused, match="another input"):
        submit(hand)


# --- two at once -------------------------------------------------------------------------


def test_while_the_first_is_under_way_the_second_is_told_so(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered, go = threading.Event(), threading.Event()
    append = hand.primary._ledger.append

    def slow(decide: Any) -> Any:
        entered.set()
        assert go.wait(60)
        return append(decide)

    monkeypatch.setattr(hand.primary._ledger, "append", slow)
    made: list[Job] = []
    thread = threading.Thread(target=lambda: made.append(submit(hand)))
    thread.start()
    assert entered.wait(60)
    files = left(hand)
    for data in ("5", "6"):
        with pytest.raises(KeyBusy, match="under way"):
            submit(hand, data=zipped(data))
    with pytest.raises(KeyBusy, match="under way"):
        hand.primary.submit_url(new(), URL)
    assert left(hand) == files == [f"{job_of(KEY)}.zip", job_of(KEY)]
    go.set()
    thread.join(60)
    assert submit(hand).id == made[0].id
    assert input_of(hand, made[0])[1] == zipped()
    assert (number(hand), left(hand)) == (1, [made[0].id])


def test_many_at_once_make_one_job(hand: Hand) -> None:
    told: list[str] = []
    start = threading.Barrier(8)

    def work() -> None:
        start.wait(60)
        for _ in range(5):
            try:
                told.append(submit(hand).id)
            except KeyBusy:
                told.append("busy")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == 40
    assert set(told) - {"busy"} == {job_of(KEY)}
    assert (number(hand), left(hand)) == (1, [job_of(KEY)])


# --- what fails on the way ---------------------------------------------------------------


def test_a_submission_that_was_refused_leaves_the_key_free(hand: Hand) -> None:
    with pytest.raises(BadInput):
        submit(hand, data=zipped(name="other"))
    assert left(hand) == []
    assert input_of(hand, submit(hand))[1] == zipped()


@pytest.mark.parametrize("where", ["finish", "keep_input", "append"])
def test_the_first_that_failed_harms_no_second(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """It is discarded by its own thread, perhaps only after the second has begun."""

    def full(*_: object) -> None:
        raise LedgerFull("no room") if where == "append" else OSError(28, "no space")

    target: dict[str, tuple[object, str]]
    target = {"finish": (os, "fsync"), "keep_input": (os, "link")}
    first = hand.primary.receive()
    first.write(zipped("first"))
    with monkeypatch.context() as patch:
        patch.setattr(*target.get(where, (hand.primary._ledger, "append")), full)
        with pytest.raises(NoRoom):
            hand.primary.submit(new(), first)
    append = hand.primary._ledger.append

    def late(decide: Any) -> Any:
        first.discard()
        assert left(hand) == [f"{job_of(KEY)}.zip", job_of(KEY)], "the second's"
        return append(decide)

    monkeypatch.setattr(hand.primary._ledger, "append", late)
    job = submit(hand, data=zipped("second"))
    first.discard()
    assert (left(hand), input_of(hand, job)[1]) == ([job.id], zipped("second"))


def test_where_nobody_knows_what_the_ledger_has_nobody_touches_the_files(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(_: object) -> None:
        raise LedgerStopped("a sync failed")

    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._ledger, "append", stopped)
        with pytest.raises(LedgerStopped):
            submit(hand)
    files = left(hand)
    with pytest.raises(KeyBusy):
        submit(hand, data=zipped("6"))
    assert left(hand) == files == [f"{job_of(KEY)}.zip", job_of(KEY)]
    hand.restart()
    assert left(hand) == []


class Crash(BaseException):
    """The process ends here: nothing after it is done, not even cleaning up."""


def crashing(real: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
    def crash(*args: Any) -> None:
        if after:
            real(*args)
        raise Crash

    return crash


STEPS: list[tuple[Any, str]] = [
    (Upload, "finish"),
    (Upload, "become"),
    (os, "link"),
    ("primary.files", "sync_folder"),
    ("ledger", "append"),
    (Files, "accepted"),
]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[1])
@pytest.mark.parametrize("data", ["5", "6"])
def test_a_crash_at_any_step_and_the_same_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: tuple[Any, str], after: bool, data: str
) -> None:
    """Afterwards the job is there with its input, or nothing of it is."""
    with by_hand(tmp_path) as hand:
        where, name = step
        with monkeypatch.context() as patch:
            if where == "ledger":
                where = hand.primary._ledger
            target = f"{where}.{name}" if isinstance(where, str) else None
            if target:
                patch.setattr(target, crashing(lambda _: None, after=after))
            else:
                patch.setattr(where, name, crashing(getattr(where, name), after=after))
            patch.setattr(Upload, "discard", lambda upload: upload._file.close())
            patch.setattr(Files, "forget", lambda *_: None)
            upload = hand.primary.receive()
            upload.write(zipped("5"))
            with pytest.raises(Crash):
                hand.primary.submit(new(), upload)
            upload.discard()
        hand.restart()
        entered = number(hand) == 1
        assert entered == (name == "accepted" or (name == "append" and after))
        assert left(hand) == [job_of(KEY)] * entered
        if entered and data != "5":
            with pytest.raises(KeyReused):
                submit(hand, data=zipped(data))
            data = "5"
        job = submit(hand, data=zipped(data))
        assert (number(hand), left(hand)) == (1, [job.id])
        assert input_of(hand, job)[1] == zipped(data)
        hand.settle()
        assert len(hand.new()) == 1


def test_a_first_that_a_crash_tore_is_finished_before_anything_else(hand: Hand) -> None:
    """Submitted is in the ledger, Queued is not: what came with it is not known yet."""
    said = Submitted(job=job_of(KEY), name="a job", model="test", by="ann", source="upload")
    folder = hand.data / "jobs" / said.job
    folder.mkdir()
    (folder / "input.zip").write_bytes(zipped())
    hand.primary._ledger.append(lambda _: (said,))
    with pytest.raises(KeyBusy):
        submit(hand)
    hand.tick()
    assert submit(hand).state == "QUEUED"
