"""The primary as a whole, ticked by hand: the main way, what it refuses, what it shows.

Workers are moved by hand, too; the clock is made up. The rows of the file table are in
test_file_table.py.
"""

from __future__ import annotations

import errno
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from ledger.board import Query
from ledger.errors import LedgerFull, LedgerLocked
from ledger.jobs import State
from primary.alarm import Alarm, News
from primary.errors import (
    BadInput,
    DataFolderError,
    NoRoom,
    NoSuchFile,
    Stopping,
    UnknownJob,
    UnknownModel,
)
from primary.loop import WINDOW
from primary.server import NewJob, Primary
from spool.errors import BadModel
from spool.names import Claim, Ticket
from tests.primary.hand import Hand, Worker, lie, running, zipped
from tests.system import wait_for

LEASE = 900.0  # seconds: the default of a model
GONE = "00000000-0000-4000-8000-000000000000"


def run_to_end(hand: Hand, worker: Worker, claim: Claim) -> None:
    worker.started(claim)
    hand.tick()
    worker.final(claim)
    hand.tick(2)


# --- the main way ------------------------------------------------------------------------


def test_a_job_from_submission_to_its_results(hand: Hand, w1: Worker) -> None:
    job = hand.submit()
    assert hand.kinds(job) == ["Submitted", "Queued"]
    hand.tick()
    assert len(hand.new()) == 1
    claim = w1.claim()
    w1.beat(claim)
    w1.started(claim)
    hand.tick()
    running = hand.job(job)
    assert (running.state, running.worker, running.instance) == ("RUNNING", "w1", "1" * 16)
    assert (running.host, running.node_url, running.run_dir) == ("here", "file://here", "/runs/x")
    w1.processed(claim)
    hand.tick()
    assert hand.state(job) == "PROCESSED"
    w1.final(claim)
    hand.tick()
    done = hand.job(job)
    assert done.state is State.COMPLETE
    assert done.run is not None and done.run.exit_code == 0
    assert hand.kinds(job) == ["Submitted", "Queued", "Started", "Processed", "Completed"]
    assert hand.read(job, "job_log.txt") == b"log\n"
    assert hand.read(job, "output.zip") == zipped("result")
    assert hand.read(job, "input.zip") == zipped()
    assert hand.left() == []
    assert os.listdir(hand.data / "incoming") == []
    for name in ("input.zip", "job_log.txt", "output.zip"):
        assert (hand.data / "jobs" / job.id / name).stat().st_mode & 0o777 == 0o440


def test_a_final_report_alone_makes_all_events_in_one_append(hand: Hand, w1: Worker) -> None:
    job = hand.submit()
    hand.tick()
    w1.final(w1.claim())
    hand.tick()
    assert hand.kinds(job) == ["Submitted", "Queued", "Started", "Processed", "Completed"]
    assert len({r.batch for r in hand.primary.history(job.id)[2:]}) == 1


@pytest.mark.parametrize("failure", ["input", "model", "limit", "system"])
def test_a_failure_keeps_its_class_its_log_and_what_came_out(
    hand: Hand, w1: Worker, failure: str
) -> None:
    job = hand.submit()
    hand.tick()
    claim = w1.claim()
    log, output = w1.log(claim, b"oh no\n"), w1.output(claim, zipped("half"))
    w1.final(claim, end="failed", failure=failure, reason="oh no", log=log, output=output)
    hand.tick()
    failed = hand.job(job)
    assert (failed.state, failed.failure, failed.reason) == ("FAILED", failure, "oh no")
    assert hand.read(job, "job_log.txt") == b"oh no\n"
    assert hand.read(job, "output.zip") == zipped("half")
    hand.tick(3)
    assert hand.kinds(job)[-1] == "Failed", "never retried by itself"
    assert hand.left() == []


def test_a_large_result_goes_through_the_pool_and_holds_up_nothing(hand: Hand, w1: Worker) -> None:
    large, small = hand.submit(), hand.submit()
    hand.tick()
    first, second = w1.claim(), w1.claim()
    w1.final(first, output=w1.output(first, os.urandom(3 * 1024**2)))
    w1.final(second)
    hand.tick()
    assert hand.state(small) == "COMPLETE"
    hand.until(lambda: hand.state(large) == "COMPLETE" and not hand.left(), "the large result")
    assert len(hand.read(large, "output.zip")) == 3 * 1024**2


def test_jobs_come_in_the_order_of_submission_through_a_window(hand: Hand, w1: Worker) -> None:
    jobs = [hand.submit() for _ in range(WINDOW + 3)]
    hand.tick()
    assert len(hand.new()) == WINDOW
    waiting = [hand.primary.waiting(job) for job in jobs[:3]]
    assert [w.place for w in waiting if w is not None] == [0, 1, 2]
    held = []
    for job in jobs[:5]:
        held.append(w1.claim())
        assert held[-1].ticket.job == job.id
        w1.beat(*held)
        hand.tick()
    standing = [t.job for t, _ in w1.claims.tickets(["test"])]
    assert standing == [j.id for j in jobs[5:]]


def test_each_publishing_rings_the_bell(hand: Hand) -> None:
    bell = hand.spool / "bell"
    before = bell.stat().st_size
    hand.submit()
    hand.tick()
    assert bell.stat().st_size == before + 1
    hand.tick(3)
    assert bell.stat().st_size == before + 1


def test_workers_that_poll_hear_of_stops_and_of_reports_that_were_not_believed(
    hand: Hand, w1: Worker
) -> None:
    """Over SSH they look at the bell alone."""
    bell = hand.spool / "bell"
    job = hand.submit()
    hand.tick()
    claim = w1.claim()
    w1.started(claim)
    hand.tick()
    before = bell.stat().st_size
    hand.primary.kill(job.id, by="ann")
    hand.tick()
    assert os.listdir(w1.home / "stop") == [claim.key]
    assert bell.stat().st_size == before + 1
    (w1.home / "reports" / f"{claim.key}.3-final").write_bytes(b"{")
    hand.tick()
    assert not w1.delivered(claim)
    assert bell.stat().st_size == before + 2


def test_nothing_is_renamed_out_of_the_spool(hand: Hand, w1: Worker) -> None:
    """watchdog would hold back the news of such a rename for half a second."""
    renames: list[tuple[str, str]] = []
    listening = True

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if listening and event == "os.rename":
            renames.append((os.fsdecode(args[0]), os.fsdecode(args[1])))

    sys.addaudithook(hook)  # cannot be removed again, only told not to listen
    try:
        job = hand.submit()
        hand.tick()
        claim = w1.claim()
        w1.beat(claim)
        run_to_end(hand, w1, claim)
        refused = hand.submit()
        hand.tick()
        w1.final(w1.claim(), output=lie())  # goes to bad/
        hand.tick(2)
        (hand.drop / "a.zip").write_bytes(zipped())
        (hand.drop / "b.zip").write_bytes(b"bad" + zipped())
        hand.tick(2, step=3.0)
        hand.until(lambda: (hand.drop / "b.zip.rejected").exists(), "the rejection")
    finally:
        listening = False
    assert (hand.state(job), hand.state(refused)) == ("COMPLETE", "QUEUED")
    root = f"{hand.spool}/"
    assert any(old.startswith(root) for old, _ in renames)
    out = [(old, new) for old, new in renames if old.startswith(root) and not new.startswith(root)]
    assert out == []


# --- opening -----------------------------------------------------------------------------


def test_a_second_primary_on_the_same_data_is_refused(hand: Hand) -> None:
    with pytest.raises(LedgerLocked):
        Primary.open(hand.data, hand.models)


def test_data_that_is_a_file_is_refused_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    (tmp_path / "models").mkdir()
    with pytest.raises(DataFolderError, match=f"{tmp_path / 'data'}.*--data"):
        Primary.open(tmp_path / "data", tmp_path / "models")


def test_models_that_do_not_exist_are_refused_and_the_data_let_go(tmp_path: Path) -> None:
    with pytest.raises(BadModel, match="cannot be read"):
        Primary.open(tmp_path / "data", tmp_path / "nowhere")
    (tmp_path / "models").mkdir()
    Primary.open(tmp_path / "data", tmp_path / "models").close()


def test_a_model_that_is_added_later_is_found(hand: Hand, w1: Worker) -> None:
    with pytest.raises(UnknownModel, match="this server has: test"):
        hand.submit(model="later")
    hand.add_model("later")
    hand.add_model("broken", "commnd = 1")
    hand.tick()
    hand.submit(model="later")
    hand.tick()
    assert w1.claim("later")
    assert "commnd" in hand.primary.model_errors()["broken"]
    assert any("model broken" in f for f in hand.primary.findings())


# --- reads -------------------------------------------------------------------------------


def test_files_that_are_not_there_say_why(hand: Hand, w1: Worker) -> None:
    job = hand.submit()
    with pytest.raises(NoSuchFile, match="is QUEUED: it has no log yet"):
        hand.read(job, "job_log.txt")
    hand.tick()
    claim = w1.claim()
    w1.started(claim)
    w1.final(claim, end="failed", failure="model", reason="exit code 3")
    hand.tick()
    with pytest.raises(NoSuchFile, match="ended FAILED and left no output"):
        hand.read(job, "output.zip")
    with pytest.raises(UnknownJob):
        hand.primary.job("nonsense")


def test_the_log_of_a_running_job_is_live(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    w1.log(claim, b"1\n2\n")
    with hand.primary.open_file(hand.job(job), "job_log.txt") as found:
        assert (found.live, found.size, found.file.read()) == (True, 4, b"1\n2\n")
    path = w1.home / "log" / f"{claim.key}.log"
    path.unlink()
    path.symlink_to(hand.data / "board.sqlite")
    with pytest.raises(NoSuchFile):
        hand.read(job, "job_log.txt")


def test_progress_and_nodes_come_from_beats(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    w1.beat(claim, progress={claim.key: 42}, free_disk=7, paused="no disk", slots=3)
    hand.tick()
    assert hand.primary.progress(hand.job(job)) == 42
    me, node = hand.primary.nodes()
    assert (me.node_type, me.status, me.free_disk > 0) == ("PRIMARY", "RUNNING", True)
    assert (node.name, node.status, node.slots, node.free_disk) == ("w1", "RUNNING", 3, 7)
    assert node.jobs == (job.id,)
    assert any("claims nothing: no disk" in f for f in hand.primary.findings())
    w1.final(claim)
    hand.tick(2)
    assert hand.primary.progress(hand.job(job)) is None
    assert hand.primary.nodes()[1].status == "WAITING"


def test_lists_counts_and_events(hand: Hand) -> None:
    jobs = [hand.submit() for _ in range(3)]
    assert [j.id for j in hand.primary.jobs(Query()).jobs] == [j.id for j in reversed(jobs)]
    assert hand.primary.counts()[State.QUEUED] == 3
    assert [r.seq for r in hand.primary.events(2, 3)] == [3, 4, 5]
    assert hand.primary.wait(0, 0.0) == 6


# --- refusals, and trouble that must not spread ------------------------------------------


def test_a_bad_zip_is_refused_and_nothing_is_kept(hand: Hand) -> None:
    for data in (b"", b"no zip", zipped()[:-5], zipped(name="other")):
        with pytest.raises(BadInput):
            hand.submit(data)
    assert hand.primary.counts()[State.QUEUED] == 0
    assert os.listdir(hand.data / "jobs") == os.listdir(hand.data / "incoming") == []


def test_validating_queues_nothing(hand: Hand) -> None:
    upload = hand.primary.receive()
    upload.write(zipped())
    hand.primary.validate("test", upload)
    upload.discard()
    with pytest.raises(UnknownModel):
        hand.primary.validate("unknown", upload)
    assert sum(hand.primary.counts().values()) == 0


def test_a_full_ledger_refuses_submission_and_kill_and_loses_nothing(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = hand.submit()

    def full(_: object) -> None:
        raise LedgerFull("no room")

    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._ledger, "append", full)
        with pytest.raises(NoRoom, match="disk is full"):
            hand.submit()
        with pytest.raises(NoRoom, match="disk is full"):
            hand.primary.kill(job.id, "bob")
    assert os.listdir(hand.data / "jobs") == [job.id]
    assert os.listdir(hand.data / "incoming") == []
    hand.primary.kill(job.id, "bob")
    hand.tick()
    assert hand.state(job) == "KILLED"


def test_results_wait_on_their_worker_while_the_primary_s_disk_is_full(
    hand: Hand, w1: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, claim = running(hand, w1)
    w1.final(claim)
    real = os.fsync

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("primary.files.sync_file", full)
        hand.tick()
    assert hand.state(job) == "RUNNING" and w1.delivered(claim) and w1.has(claim)
    assert os.listdir(hand.data / "incoming") == []
    assert os.fsync is real
    hand.tick()
    assert hand.state(job) == "COMPLETE"


def test_a_job_whose_ticket_cannot_be_published_does_not_hold_up_others(
    hand: Hand,
) -> None:
    broken, good = hand.submit(), hand.submit()
    (hand.data / "jobs" / broken.id / "input.zip").unlink()
    hand.tick(2)
    assert [name for name in hand.new() if good.id in name]


def test_what_wakes_the_primary() -> None:
    news = (
        f"workers/w1/reports/{GONE}.1.3-final",
        "workers/w1/reports/beat.json",
        "models/test/drop/a.zip",
    )
    none = (
        "",
        "bell",
        "workers/w1/tmp/x",
        "workers/w1/log/x.log",
        f"workers/w1/reports/{GONE}.1.1-started",  # taken a little later
        f"workers/w1/cur/{Claim(Ticket(1, 1, GONE, 'ab' * 32), '1' * 16)}",  # a report follows
        "workers/w1/reports/.hidden",
        "models/test/new/x.zip",
        "models/test/drop/.half.x",
    )
    assert all(map(News(Alarm()).urgent, news))
    assert not any(map(News(Alarm()).urgent, none))


# --- with its own thread -----------------------------------------------------------------


def test_started_it_is_woken_by_claims_and_reports(hand: Hand, w1: Worker) -> None:
    hand.primary.start()
    assert hand.primary.healthy() is None
    job = hand.submit()
    wait_for(hand.new, "the ticket")
    claim = w1.claim()
    w1.beat(claim)
    w1.started(claim)
    wait_for(lambda: hand.state(job) == "RUNNING", "RUNNING")
    seq = hand.primary.wait(0, 0.0)
    waiter: list[int] = []
    thread = threading.Thread(target=lambda: waiter.append(hand.primary.wait(seq, 60.0)))
    thread.start()
    w1.final(claim)
    thread.join(60)
    assert waiter and waiter[0] > seq
    wait_for(lambda: not hand.left(), "the retired claim")


def test_a_tick_that_fails_is_said_and_tried_again(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise RuntimeError("some bug")

    with monkeypatch.context() as patch:
        patch.setattr(hand.primary, "tick", fail)
        hand.primary._tick_once()
        healthy = hand.primary.healthy()
        assert healthy is not None and "some bug" in healthy
        assert "RuntimeError: some bug" in "".join(hand.primary.findings())
        assert json.dumps(hand.primary.nodes()[0].error)
    hand.primary._tick_once()
    assert hand.primary.healthy() is None


def test_stopping_takes_nothing_new(hand: Hand) -> None:
    upload = hand.primary.receive()
    upload.write(zipped())
    hand.primary._submissions.stopping = True
    with pytest.raises(Stopping):
        hand.primary.submit(NewJob(name="x", model="test", by="ann"), upload)
    upload.discard()
    with pytest.raises(Stopping):
        hand.primary.receive()
