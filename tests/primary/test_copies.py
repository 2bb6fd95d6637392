"""Jobs on a copy of what the primary has: run again, and run the example."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ledger.board import Query
from ledger.events import Failed, Purged
from ledger.jobs import Job
from primary import copies
from primary.errors import (
    BadInput,
    Busy,
    KeyReused,
    NoRoom,
    NoSuchFile,
    NotAllowed,
    Stopping,
    UnknownJob,
    UnknownModel,
)
from primary.server import NewJob
from tests.primary.hand import MODEL, Hand, Worker, zipped
from tests.system import PATIENCE

URL = "http://example.org/input.zip"
GONE = "00000000-0000-4000-8000-000000000000"


def input_of(hand: Hand, job: Job) -> Path:
    return hand.data / "jobs" / job.id / "input.zip"


def ids(hand: Hand) -> list[str]:
    return [job.id for job in hand.primary.jobs(Query()).jobs]


def nothing_came_of_it(hand: Hand, *before: Job) -> None:
    assert sorted(ids(hand)) == sorted(job.id for job in before)
    assert os.listdir(hand.data / "incoming") == []
    kept = {job.id for job in before if job.input is not None}
    assert set(os.listdir(hand.data / "jobs")) <= kept


# --- again -------------------------------------------------------------------------------


def test_a_job_run_again_is_a_new_one_on_a_copy(hand: Hand, w1: Worker) -> None:
    old = hand.submit()
    again = hand.primary.rerun(old.id, "bob")
    assert (again.rerun_of, again.name, again.model, again.by) == (old.id, "a job", "test", "bob")
    assert (again.input, again.state) == (old.input, "QUEUED")
    assert input_of(hand, again).read_bytes() == zipped()
    assert not os.path.samefile(input_of(hand, again), input_of(hand, old))
    hand.tick()
    for job in (old, again):
        claim = w1.claim()
        assert claim.ticket.job == job.id
        w1.final(claim)
        hand.tick(2)
        assert hand.state(job) == "COMPLETE"
    third = hand.primary.rerun(again.id, "bob", name="once more")
    assert (third.rerun_of, third.name) == (again.id, "once more")
    assert hand.left() == []


def test_again_with_a_key_is_once(hand: Hand) -> None:
    old, other = hand.submit(), hand.submit()
    again = hand.primary.rerun(old.id, "ann", key="k")
    hand.primary._ledger.append(lambda _: (_failed(old), _purged(old)))
    assert hand.primary.rerun(old.id, "ann", key="k").id == again.id
    for asked in ({"id": other.id}, {"id": old.id, "name": "another"}):
        with pytest.raises(KeyReused, match=again.id):
            hand.primary.rerun(**asked, by="ann", key="k")
    nothing_came_of_it(hand, old, other, again)


def test_a_dropped_job_runs_again_as_a_submitted_one(hand: Hand) -> None:
    (hand.drop / "a.zip").write_bytes(zipped())
    hand.tick(2, step=3.0)
    hand.until(lambda: len(ids(hand)) == 1, "the drop")
    again = hand.primary.rerun(ids(hand)[0], "ann")
    assert (again.source, again.drop, again.name) == ("upload", None, "a")


def test_without_its_input_a_job_is_not_run_again(hand: Hand) -> None:
    with pytest.raises(UnknownJob):
        hand.primary.rerun(GONE, "ann")
    jobs = [hand.submit() for _ in range(3)]
    purged, damaged, missing = jobs
    hand.primary._ledger.append(lambda _: (_failed(purged), _purged(purged)))
    with pytest.raises(NoSuchFile, match="were removed"):
        hand.primary.rerun(purged.id, "ann")
    input_of(hand, damaged).chmod(0o640)
    input_of(hand, damaged).write_bytes(zipped("6"))
    with pytest.raises(NoSuchFile, match=f"{damaged.id} is not on the primary's disk as it was"):
        hand.primary.rerun(damaged.id, "ann")
    input_of(hand, missing).unlink()
    with pytest.raises(NoSuchFile, match="missing from the primary's disk"):
        hand.primary.rerun(missing.id, "ann")
    nothing_came_of_it(hand, *jobs)


def test_it_is_checked_against_the_model_as_it_is_now(hand: Hand) -> None:
    old = hand.submit()
    hand.add_model("test", MODEL.replace('["count"]', '["count", "to", "from"]'))
    hand.tick()
    with pytest.raises(BadInput) as e:
        hand.primary.rerun(old.id, "ann")
    assert {finding.file for finding in e.value.findings} == {"to", "from"}
    os.rename(hand.models / "test", hand.models / ".gone")
    hand.tick()
    with pytest.raises(UnknownModel):
        hand.primary.rerun(old.id, "ann")
    nothing_came_of_it(hand, old)


def test_neither_a_full_disk_nor_the_end_takes_a_copy(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = hand.submit()
    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._files, "free", lambda: 32 * 1024**2)
        with pytest.raises(NoRoom, match="for a copy of"):
            hand.primary.rerun(old.id, "ann")
    hand.primary._submissions.stopping = True
    with pytest.raises(Stopping):
        hand.primary.rerun(old.id, "ann")
    hand.primary._submissions.stopping = False
    nothing_came_of_it(hand, old)


def test_few_large_inputs_are_copied_at_once(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "LONG", 1000)
    small, large = hand.submit(), hand.submit(zipped("5" * 1000))
    begun, go_on = threading.Semaphore(0), threading.Event()
    copy = copies._copy

    def slow(*args: Any) -> None:
        begun.release()
        assert go_on.wait(PATIENCE)
        copy(*args)

    with ThreadPoolExecutor() as pool:
        with monkeypatch.context() as patch:
            patch.setattr(copies, "_copy", slow)
            first = [pool.submit(hand.primary.rerun, large.id, "bob") for _ in range(2)]
            assert begun.acquire(timeout=PATIENCE)
            assert begun.acquire(timeout=PATIENCE)
        with pytest.raises(Busy, match="nothing was submitted, try again"):
            hand.primary.rerun(large.id, "bob")
        again = [hand.primary.rerun(small.id, "bob")]
        go_on.set()
        again += [future.result() for future in first]
    again.append(hand.primary.rerun(large.id, "bob"))
    assert sorted(ids(hand)) == sorted(job.id for job in [small, large, *again])


def test_an_input_that_could_not_be_fetched_is_fetched_again(hand: Hand) -> None:
    new = NewJob(name="far away", model="test", by="ann")
    old = hand.primary.submit_url(new, URL)
    with pytest.raises(NoSuchFile, match="is still being fetched"):
        hand.primary.rerun(old.id, "ann")
    hand.primary._ledger.append(lambda _: (_failed(old),))
    again = hand.primary.rerun(old.id, "bob", key="k")
    assert (again.state, again.url, again.rerun_of) == ("CREATED", URL, old.id)
    assert hand.primary.rerun(old.id, "bob", key="k").id == again.id
    hand.primary._submissions._allow_urls = frozenset({"127.0.0.1"})
    inside = hand.primary.submit_url(new, "http://127.0.0.1/x.zip")
    hand.primary._ledger.append(lambda _: (_failed(inside),))
    hand.primary._submissions._allow_urls = frozenset()
    with pytest.raises(NotAllowed):
        hand.primary.rerun(inside.id, "bob")


def _failed(job: Job) -> Failed:
    return Failed(job=job.id, attempt=1, failure="input", reason="whatever")


def _purged(job: Job) -> Purged:
    return Purged(job=job.id, by="age", reason="old")


# --- examples ----------------------------------------------------------------------------


@pytest.fixture
def example(hand: Hand) -> Path:
    path = hand.models / "test" / "example.zip"
    path.write_bytes(zipped("3"))
    return path


def test_an_example_is_run_like_any_upload(hand: Hand, example: Path) -> None:
    assert hand.primary.has_example("test")
    with hand.primary.example("test") as found:
        assert (found.size, found.live, found.file.read()) == (len(zipped("3")), False, zipped("3"))
    job = hand.primary.run_example("test", "ann", key="k")
    assert (job.name, job.by, job.rerun_of) == ("Example of test", "ann", None)
    assert input_of(hand, job).read_bytes() == zipped("3")
    assert not os.path.samefile(input_of(hand, job), example)
    assert hand.primary.run_example("test", "ann", key="k").id == job.id
    assert hand.primary.run_example("test", "ann").id != job.id


@pytest.mark.usefixtures("example")
def test_its_name_is_one_that_a_job_may_have(hand: Hand) -> None:
    title = "A title\\nof two lines, " + "and long " * 50
    hand.add_model("test", f'title = "{title}"\n{MODEL}')
    hand.tick()
    name = hand.primary.run_example("test", "ann").name
    assert name.startswith("Example of A title of two lines") and len(name) == 200


def test_no_example_no_model_or_a_bad_one(hand: Hand) -> None:
    wrong: dict[str, Any] = {"test": NoSuchFile, "nothing": UnknownModel}
    for model, error in wrong.items():
        assert not hand.primary.has_example(model)
        with pytest.raises(error):
            hand.primary.example(model)
        with pytest.raises(error):
            hand.primary.run_example(model, "ann")
    (hand.models / "test" / "example.zip").mkdir()
    assert not hand.primary.has_example("test")
    (hand.models / "test" / "example.zip").rmdir()
    (hand.models / "test" / "example.zip").write_bytes(zipped(name="other"))
    with pytest.raises(BadInput):
        hand.primary.run_example("test", "ann")
    nothing_came_of_it(hand)
