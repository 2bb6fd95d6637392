"""Drop folders of a real primary: from a slow copy to the answers beside it, and D1, D2."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ledger.board import Query
from ledger.errors import LedgerFull, LedgerStopped
from ledger.events import Submitted
from ledger.jobs import Job
from primary.errors import NoRoom
from spool.drops import EXPLAIN_AFTER, LONGEST, PATIENCE, STEADY, DropFolder
from tests.primary.hand import Hand, Worker, zipped

GONE = "00000000-0000-4000-8000-000000000000"


def look(hand: Hand, rest: float = STEADY) -> None:
    """Two looks that agree, ``rest`` seconds apart."""
    hand.tick()
    hand.tick(step=rest)


def listed(hand: Hand) -> list[str]:
    return sorted(os.listdir(hand.drop))


def answer(hand: Hand, stem: str = "a") -> dict[str, Any]:
    said: dict[str, Any] = json.loads((hand.drop / f"{stem}.job.json").read_bytes())
    return said


def dropped(hand: Hand, name: str = "a.zip", data: bytes | None = None, stem: str = "a") -> Job:
    """A zip that was taken and answered."""
    (hand.drop / name).write_bytes(zipped() if data is None else data)
    look(hand)
    hand.until(lambda: (hand.drop / f"{stem}.job.json").exists(), "its answer")
    return hand.primary.job(answer(hand, stem)["uuid"])


def number(hand: Hand) -> int:
    return len(hand.primary.jobs(Query()).jobs)


def done(hand: Hand, worker: Worker) -> None:
    """Run the oldest job to its end."""
    worker.final(worker.claim())
    hand.tick(2)


# --- the main way ------------------------------------------------------------------------


def test_a_dropped_zip_becomes_a_job_and_is_answered_in_place(hand: Hand, w1: Worker) -> None:
    job = dropped(hand, "my input.zip", stem="my input")
    assert listed(hand) == ["my input.job.json"]
    assert (job.name, job.model, job.source, job.drop) == ("my input", "test", "drop", "my input")
    hand.tick()
    claim = w1.claim()
    w1.started(claim)
    hand.tick(2)
    assert answer(hand, "my input")["status"] == "RUNNING"
    w1.final(claim)
    hand.tick(2)
    assert listed(hand) == ["my input.job.json", "my input.log.txt", "my input.output.zip"]
    assert answer(hand, "my input")["status"] == "COMPLETE"
    assert answer(hand, "my input")["exit_code"] == 0
    assert (hand.drop / "my input.log.txt").read_bytes() == b"log\n"
    assert (hand.drop / "my input.output.zip").read_bytes() == zipped("result")
    assert hand.read(job, "input.zip") == zipped()
    look(hand, PATIENCE)
    assert number(hand) == 1, "the answers are no new drops"


def test_a_failure_is_answered_with_its_reason(hand: Hand, w1: Worker) -> None:
    dropped(hand)
    hand.tick()
    w1.final(w1.claim(), end="failed", failure="model", reason="exit code 3")
    hand.tick(2)
    said = answer(hand)
    assert (said["status"], said["failure"], said["reason"]) == ("FAILED", "model", "exit code 3")
    assert listed(hand) == ["a.job.json"]


def test_a_slow_copy_in_pieces_is_one_job(hand: Hand) -> None:
    data = zipped("x" * 4000)
    for end in range(500, len(data), 500):  # grow, pause, grow
        (hand.drop / "a.zip").write_bytes(data[:end])
        look(hand, STEADY + 1)
    assert number(hand) == 0
    hand.tick(step=EXPLAIN_AFTER)
    assert "Waiting for the rest" in (hand.drop / "a.why.txt").read_text()
    job = dropped(hand, data=data)
    assert hand.read(job, "input.zip") == data
    assert listed(hand) == ["a.job.json"]


def test_names_on_their_way_are_left_alone(hand: Hand) -> None:
    for name in ("a.zip.part", "a.zip.filepart", ".a.zip"):
        (hand.drop / name).write_bytes(zipped())
    before = listed(hand)
    look(hand, PATIENCE)
    assert listed(hand) == before and number(hand) == 0
    os.rename(hand.drop / "a.zip.part", hand.drop / "a.zip")  # the client is done
    look(hand)
    hand.until(lambda: (hand.drop / "a.job.json").exists(), "its answer")


def test_the_same_name_again_and_again_is_answered_beside(hand: Hand, w1: Worker) -> None:
    first, second = dropped(hand), dropped(hand, data=zipped("6"), stem="a.2")
    assert (first.drop, second.drop) == ("a", "a.2")
    hand.tick()
    done(hand, w1)
    done(hand, w1)
    assert answer(hand, "a")["uuid"] == first.id
    assert answer(hand, "a.2")["uuid"] == second.id
    assert len(listed(hand)) == 6


def test_two_of_one_name_at_the_same_time_get_an_answer_each(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is still being copied in the pool when the second is dropped."""
    waiting: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._pool, "submit", lambda *work: waiting.append(work))
        for data in (zipped("1"), zipped("2")):
            (hand.drop / "a.zip").write_bytes(data)
            look(hand)
    assert len(waiting) == 2
    for work, *args in waiting:
        work(*args)
    hand.tick(2)
    assert listed(hand) == ["a.2.job.json", "a.job.json"]
    assert answer(hand, "a")["uuid"] != answer(hand, "a.2")["uuid"]


# --- refusals ----------------------------------------------------------------------------


CUT = zipped("x" * 200)
REFUSED = {
    "no zip": ("a.zip", b"hello " * 100 + zipped()[-22:], "a"),
    "a stored zip inside a cut one": ("a.zip", b"PK\x03\x04" + b"\0" * 26 + zipped(), "a"),
    "another file required": ("a.zip", zipped(name="other"), "a"),
    "not called .zip": ("notes.txt", b"hello", "notes.txt"),
    "too long": ("x" * LONGEST + ".zip", zipped(), "x" * LONGEST),
}


@pytest.mark.parametrize(("name", "data", "stem"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_run_is_rejected_with_the_reason(
    hand: Hand, name: str, data: bytes, stem: str
) -> None:
    (hand.drop / name).write_bytes(data)
    look(hand)
    hand.until(lambda: any(n.endswith(".rejected") for n in listed(hand)), "its rejection")
    (why,) = [n for n in listed(hand) if n.endswith(".why.txt")]
    assert why == f"{stem}.why.txt"
    assert len((hand.drop / why).read_text()) > 20
    assert len(listed(hand)) == 2 and number(hand) == 0
    assert os.listdir(hand.data / "incoming") == os.listdir(hand.data / "jobs") == []


def test_a_cut_zip_is_rejected_after_an_hour_without_growth(hand: Hand) -> None:
    (hand.drop / "a.zip").write_bytes(CUT[:-30])
    hand.pass_time(PATIENCE - 60)
    assert listed(hand) == ["a.why.txt", "a.zip"]
    hand.pass_time(120)
    assert listed(hand) == ["a.why.txt", "a.zip.rejected"]
    assert "was cut" in (hand.drop / "a.why.txt").read_text()


NAMES = {
    "bad UTF-8": b"caf\xe9.zip",
    "a newline": b"two\nlines.zip",
    "quotes and percent": b"\"%2e%2e'.zip",
    "control characters": b"\x01\x1b[31m.zip",
    "only an ending": b" .zip",
    "as long as may be": b"x" * (LONGEST - 4) + b".zip",
    "long and bad": b"\xff" * (LONGEST - 4) + b".zip",
}


@pytest.mark.parametrize("raw", NAMES.values(), ids=NAMES.keys())
def test_strange_names_are_taken_and_answered(hand: Hand, w1: Worker, raw: bytes) -> None:
    (hand.drop / os.fsdecode(raw)).write_bytes(zipped())
    look(hand)
    hand.until(lambda: any(n.endswith(".job.json") for n in listed(hand)), "its answer")
    done(hand, w1)
    (job,) = hand.primary.jobs(Query()).jobs
    assert job.state == "COMPLETE" and job.drop is not None
    assert listed(hand) == sorted(
        f"{job.drop}{e}" for e in (".job.json", ".log.txt", ".output.zip")
    )
    assert job.name.isprintable()
    hand.restart()
    hand.settle()
    assert hand.primary.healthy() is None


def test_one_strange_thing_does_not_hold_up_the_other_folders(hand: Hand) -> None:
    hand.add_model("another")
    hand.tick()
    other = hand.spool / "models/another/drop"
    other.rmdir()
    other.touch()  # an operator's hand
    running = hand.submit()
    dropped(hand)
    assert hand.job(running).state == "QUEUED"


# --- trouble -----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [NoRoom("disk full"), OSError(errno.EIO, "I/O error")])
def test_trouble_puts_the_zip_back_and_it_is_tried_again(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    (hand.drop / "a.zip").write_bytes(zipped())
    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._files, "keep_input", fail)
        patch.setattr(hand.primary._pool, "submit", lambda work, *args: work(*args))
        look(hand)
        assert listed(hand) == ["a.zip"]
    look(hand)
    hand.until(lambda: (hand.drop / "a.job.json").exists(), "its answer")
    assert number(hand) == 1
    assert len(os.listdir(hand.data / "jobs")) == 1


def test_a_full_ledger_puts_it_back(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: object) -> None:
        raise LedgerFull("no room")

    (hand.drop / "a.zip").write_bytes(zipped())
    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._ledger, "append", full)
        patch.setattr(hand.primary._pool, "submit", lambda work, *args: work(*args))
        look(hand)
    assert listed(hand) == ["a.zip"]
    assert os.listdir(hand.data / "jobs") == os.listdir(hand.data / "incoming") == []


def test_after_a_stopped_ledger_it_stays_aside_for_the_restart(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows whether the ledger has it: put back now, it might become two jobs."""

    def stopped(_: object) -> None:
        raise LedgerStopped("sync failed")

    def run(work: Any, *args: Any) -> None:
        with pytest.raises(LedgerStopped):
            work(*args)

    (hand.drop / "a.zip").write_bytes(zipped())
    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._ledger, "append", stopped)
        patch.setattr(hand.primary._pool, "submit", run)
        look(hand)
    (name,) = listed(hand)
    assert name.endswith(".taken.a.zip")
    hand.restart()
    assert listed(hand) == ["a.zip"]


def test_an_answer_that_cannot_be_written_is_written_later(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    (hand.drop / "a.zip").write_bytes(zipped())
    with monkeypatch.context() as patch:
        patch.setattr(DropFolder, "_write", full)
        patch.setattr(hand.primary._pool, "submit", lambda work, *args: work(*args))
        look(hand)
        hand.tick(2)
        assert number(hand) == 1
        (name,) = listed(hand)
        assert name.endswith(".taken.a.zip"), "it leaves with its first answer"
    hand.tick()
    assert listed(hand) == ["a.job.json"]


def test_a_zip_that_was_swapped_for_a_trap_is_not_copied(
    hand: Hand, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "secret.zip").write_bytes(zipped())
    waiting: list[Any] = []
    (hand.drop / "a.zip").write_bytes(zipped())
    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._pool, "submit", lambda *work: waiting.append(work))
        look(hand)
    (name,) = listed(hand)
    (hand.drop / name).unlink()
    (hand.drop / name).symlink_to(tmp_path / "secret.zip")
    ((work, *args),) = waiting
    work(*args)
    assert number(hand) == 0
    assert os.listdir(hand.data / "incoming") == []


def test_what_the_user_takes_away_is_not_sent_again(hand: Hand, w1: Worker) -> None:
    dropped(hand)
    hand.tick()
    done(hand, w1)
    for name in listed(hand):
        (hand.drop / name).unlink()
    hand.tick(3)
    again = dropped(hand)
    assert again.drop == "a", "its name is free again"
    hand.tick()
    done(hand, w1)
    for name in listed(hand):
        (hand.drop / name).unlink()
    hand.restart()
    hand.settle()
    assert listed(hand) == []


def test_an_answer_that_the_user_removes_from_a_running_job_comes_back(
    hand: Hand, w1: Worker
) -> None:
    dropped(hand)
    hand.tick()
    (hand.drop / "a.job.json").unlink()
    done(hand, w1)
    assert answer(hand)["status"] == "COMPLETE"


# --- D1, D2 ------------------------------------------------------------------------------


def test_d1_what_the_ledger_never_heard_of_is_renamed_back(hand: Hand) -> None:
    hand.crash()
    (hand.drop / f".{GONE}.taken.a.zip").write_bytes(zipped())
    (hand.drop / "a.zip").write_bytes(zipped("6"))  # dropped again meanwhile
    hand.open()
    assert listed(hand) == ["a.2.zip", "a.zip"]
    hand.settle()
    hand.tick(step=STEADY)
    hand.until(lambda: number(hand) == 2 and len(listed(hand)) == 2, "both answers")


def test_d2_what_the_ledger_has_is_removed_and_answered(hand: Hand) -> None:
    job = enter_without_answer(hand)
    hand.crash()
    (hand.drop / f".{job.id}.taken.a.zip").write_bytes(zipped())
    hand.open()
    hand.tick()
    assert listed(hand) == ["a.job.json"]
    assert answer(hand)["uuid"] == job.id
    assert number(hand) == 1


def enter_without_answer(hand: Hand) -> Job:
    """Up to the append, as a crash right after it leaves it."""
    upload = hand.primary.receive()
    upload.write(zipped())
    event = Submitted(job=GONE, name="a", model="test", by="x", source="drop", drop="a")
    return hand.primary._submissions.enter(event, upload)


@pytest.mark.parametrize("aside", [True, False], ids=["set aside still", "removed already"])
def test_d2_a_job_that_ended_without_ever_being_answered(
    hand: Hand, w1: Worker, aside: bool
) -> None:
    job = enter_without_answer(hand)
    if aside:
        (hand.drop / f".{job.id}.taken.a.zip").write_bytes(zipped())
    else:
        (hand.drop / "a.job.json").write_text('{"status": "QUEUED"}')
    hand.tick()
    done(hand, w1)
    hand.restart()
    hand.tick()
    assert listed(hand) == ["a.job.json", "a.log.txt", "a.output.zip"]
    assert answer(hand)["status"] == "COMPLETE"


def test_d2_an_old_answer_is_brought_up_to_date(hand: Hand, w1: Worker) -> None:
    """A crash between the end in the ledger and its answer."""
    dropped(hand)
    hand.tick()
    before = (hand.drop / "a.job.json").read_bytes()
    done(hand, w1)
    hand.crash()
    (hand.drop / "a.job.json").write_bytes(before)
    (hand.drop / "a.output.zip").unlink()
    hand.open()
    hand.tick()
    assert answer(hand)["status"] == "COMPLETE"
    assert (hand.drop / "a.output.zip").read_bytes() == zipped("result")


def test_a_restart_in_the_middle_of_a_copy_loses_nothing(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hand.drop / "a.zip").write_bytes(zipped())
    with monkeypatch.context() as patch:
        patch.setattr(hand.primary._pool, "submit", lambda *_: None)
        look(hand)
    (name,) = listed(hand)
    assert name.endswith(".taken.a.zip")
    (hand.data / "incoming" / f"{name[1:37]}.zip").write_bytes(b"half")
    hand.restart()
    assert listed(hand) == ["a.zip"]
    assert os.listdir(hand.data / "incoming") == []
    look(hand)
    hand.until(lambda: (hand.drop / "a.job.json").exists(), "its answer")
    assert number(hand) == 1
