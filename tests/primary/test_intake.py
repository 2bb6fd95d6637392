"""What hostile or broken workers report: nothing of it becomes a result, and nothing spreads."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ledger.jobs import Job
from primary import files as primary_files
from primary.errors import NoSuchFile
from spool.names import Claim, ReportName
from spool.reports import FileFact, FinalReport, StartedReport, encode
from tests.primary.hand import OK, Hand, Worker, fact, zipped

Case = tuple[Job, Claim]


@pytest.fixture
def case(hand: Hand, w1: Worker) -> Case:
    """A running job, and its claim at w1."""
    job = hand.submit()
    hand.tick()
    claim = w1.claim()
    w1.beat(claim)
    w1.started(claim)
    hand.tick()
    assert hand.state(job) == "RUNNING"
    return job, claim


def delivers_again(hand: Hand, worker: Worker, case: Case) -> None:
    """The lie was refused and taken away; the truth is taken."""
    job, claim = case
    assert hand.state(job) == "RUNNING"
    assert worker.has(claim), "the claim is the receipt"
    assert not worker.delivered(claim), "so that it delivers again"
    assert os.listdir(hand.data / "incoming") == []
    assert hand.primary._files.bad_count() > 0
    worker.final(claim)
    hand.tick(2)
    assert hand.state(job) == "COMPLETE"
    assert hand.read(job, "output.zip") == zipped("result")


def replace(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink(missing_ok=True)
    make(path)


def hole(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(8 * 1024**4)


def bound(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        old = os.getcwd()
        os.chdir(path.parent)  # a socket's address is at most 108 bytes
        try:
            listening.bind(path.name)
        finally:
            os.chdir(old)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a fifo": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": bound,
    "a link to a secret": lambda path: path.symlink_to(path.parents[4] / "board.sqlite"),
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a hard link to another file": lambda path: os.link(
        next((path.parents[1] / "cur").iterdir()), path
    ),
    "a hole of 8 TiB": hole,
    "nothing": lambda _: None,
    "something else": lambda path: path.write_bytes(b"something else, or longer"),
    "a byte less": lambda path: path.write_bytes(b"log"),
}


@pytest.mark.parametrize("where", ["log", "out"])
@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_result_that_is_not_what_was_reported(
    hand: Hand, w1: Worker, case: Case, where: str, make: Callable[[Path], object]
) -> None:
    _, claim = case
    ending = ".log" if where == "log" else ".zip"
    w1.final(claim)
    path = w1.home / where / f"{claim.key}{ending}"
    replace(path, make)
    hand.tick(2)
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    delivers_again(hand, w1, case)


@pytest.mark.parametrize(
    "make",
    [make for name, make in HOSTILE.items() if name not in ("nothing", "a folder")],
    ids=[name for name in HOSTILE if name not in ("nothing", "a folder")],
)
def test_a_report_that_is_no_file_of_its_own(
    hand: Hand, w1: Worker, case: Case, make: Callable[[Path], object]
) -> None:
    _, claim = case
    replace(w1.home / "reports" / f"{claim.key}.3-final", make)
    hand.tick(2)
    delivers_again(hand, w1, case)


LIES: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "another claim": lambda f: f | {"claim": f["claim"].replace(".1-", ".2-")},
    "no claim": lambda f: f | {"claim": ""},
    "another instance": lambda f: f | {"instance": "f" * 16},
    "no log": lambda f: f | {"log": None},
    "no output": lambda f: f | {"output": None},
    "a larger output": lambda f: f | {"output": FileFact(f["output"].size + 1, "ab" * 32)},
    "another hash": lambda f: f | {"log": FileFact(f["log"].size, "ab" * 32)},
    "another size": lambda f: f | {"log": FileFact(f["log"].size - 1, f["log"].sha256)},
}


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
def test_a_report_that_lies(
    hand: Hand,
    w1: Worker,
    case: Case,
    lie: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    _, claim = case
    said = w1.facts(claim) | {"end": "ok", "run": OK}
    said |= {"log": w1.log(claim, b"log\n"), "output": w1.output(claim, zipped("result"))}
    w1.say(claim, FinalReport(**lie(said)))
    hand.tick()
    delivers_again(hand, w1, case)


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\n", b'{"kind":"final","x":' + b"[" * 60_000])
def test_a_report_that_cannot_be_read(hand: Hand, w1: Worker, case: Case, data: bytes) -> None:
    _, claim = case
    (w1.home / "reports" / f"{claim.key}.3-final").write_bytes(data)
    hand.tick()
    delivers_again(hand, w1, case)


def test_numbers_that_the_board_could_not_store_do_not_stop_the_ledger(
    hand: Hand, w1: Worker, case: Case
) -> None:
    """They would be on disk before anybody noticed, and stop every later start too."""
    job, claim = case
    good = encode(FinalReport(**w1.facts(claim), end="failed", failure="model", run=OK))
    path = w1.home / "reports" / f"{claim.key}.3-final"
    for number in (b"1" + b"0" * 30, b"-1" + b"0" * 30, b"18446744073709551616"):
        path.write_bytes(good.replace(b'"exit_code":0', b'"exit_code":' + number))
        hand.tick()
        assert hand.state(job) == "RUNNING"
    hand.restart()
    w1.final(claim)
    hand.tick()
    assert hand.state(job) == "COMPLETE"


def test_reports_of_what_does_not_exist_are_refused(hand: Hand, w1: Worker, case: Case) -> None:
    job, claim = case
    stranger = "00000000-0000-4000-8000-000000000000"
    for name in (ReportName(stranger, 1, "final"), ReportName(job.id, 2, "final")):
        report = FinalReport(**w1.facts(claim), end="failed")
        (w1.home / "reports" / str(name)).write_bytes(encode(report))
    hand.tick()
    left = set(os.listdir(w1.home / "reports")) - {"beat.json"}
    assert left == {f"{claim.key}.1-started"}
    assert hand.primary._files.bad_count() == 2
    assert hand.state(job) == "RUNNING"


def test_another_worker_cannot_end_it(hand: Hand, w1: Worker, w2: Worker, case: Case) -> None:
    """With a report that repeats all of w1's facts, but lies in w2's folder."""
    job, claim = case
    log, output = w2.log(claim, b"log\n"), w2.output(claim, zipped("result"))
    w2.say(claim, FinalReport(**w1.facts(claim), end="ok", run=OK, log=log, output=output))
    hand.tick(2)
    assert hand.state(job) == "RUNNING"
    assert not w2.delivered(claim)
    os.symlink(w1.home / "cur", w2.home / "elsewhere")
    (w2.home / "cur").rmdir()
    os.rename(w2.home / "elsewhere", w2.home / "cur")  # "see, I hold it"
    w2.say(claim, FinalReport(**w1.facts(claim), end="ok", run=OK, log=log, output=output))
    hand.tick(2)
    assert hand.state(job) == "RUNNING"
    assert w1.has(claim)


def test_a_claimed_ticket_that_was_copied_is_believed_once(
    hand: Hand, w1: Worker, w2: Worker, case: Case
) -> None:
    job, claim = case
    copy = Claim(claim.ticket, w2.instance)
    (w2.home / "cur" / str(copy)).write_bytes(b"copy")
    w2.final(copy)
    hand.tick(2)
    assert (hand.state(job), hand.job(job).worker) == ("RUNNING", "w1")
    assert w1.has(claim) and not w2.has(copy)
    w1.final(claim)
    hand.tick(2)
    assert hand.state(job) == "COMPLETE"
    assert hand.left() == []


def test_what_cannot_be_believed_is_kept_and_counted(hand: Hand, w1: Worker, case: Case) -> None:
    _, claim = case
    (w1.home / "reports" / f"{claim.key}.3-final").write_bytes(b"garbage")
    hand.tick()
    kept = sorted(hand.data.joinpath("bad").iterdir())
    assert [p.read_bytes() for p in kept if not p.name.endswith(".why.txt")] == [b"garbage"]
    (why,) = [p.read_text() for p in kept if p.name.endswith(".why.txt")]
    assert "worker w1" in why and "not a report" in why
    assert any("bad/: 1 files" in f for f in hand.primary.findings())


def test_results_beyond_the_room_there_is_wait_and_do_not_fill_the_disk(
    hand: Hand, w1: Worker, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied all the same, a hole of 8 TiB would take the ledger's last bytes, again and again."""
    _, claim = case
    copied: list[object] = []
    monkeypatch.setattr(hand.primary._files, "free", lambda: primary_files.RESERVE + 2 * 1024**2)
    monkeypatch.setattr(hand.primary._pool, "submit", lambda work, *args: work(*args))
    monkeypatch.setattr("primary.intake.copy_believed", lambda *args: copied.append(args))
    hole(w1.home / "log" / f"{claim.key}.log")
    log = FileFact(8 * 1024**4, "ab" * 32)
    w1.say(claim, FinalReport(**w1.facts(claim), end="failed", failure="model", log=log))
    hand.tick(2)
    assert not copied
    assert w1.delivered(claim)


def test_a_started_report_under_a_final_name_is_refused(hand: Hand, w1: Worker, case: Case) -> None:
    _, claim = case
    path = w1.home / "reports" / f"{claim.key}.3-final"
    path.write_bytes(encode(StartedReport(**w1.facts(claim))))
    hand.tick(3)
    assert not path.exists()


def test_an_attempt_that_is_given_back_leaves_nothing_in_the_job_s_place(
    hand: Hand, w1: Worker, w2: Worker, case: Case
) -> None:
    """Its log is not the next attempt's, and its output is not the job's."""
    job, claim = case
    log, output = w1.log(claim, b"of attempt 1\n"), w1.output(claim, zipped("attempt 1"))
    w1.final(claim, end="killed", reason="the machine went down", log=log, output=output)
    hand.tick()
    assert hand.job(job).attempt == 2
    hand.tick()
    again = w2.claim()
    w2.started(again)
    w2.log(again, b"of attempt 2\n")
    hand.tick()
    assert hand.read(job, "job_log.txt") == b"of attempt 2\n"
    w2.final(again, end="failed", failure="model", reason="no", log=fact(b"of attempt 2\n"))
    hand.tick()
    assert hand.state(job) == "FAILED"
    with pytest.raises(NoSuchFile):
        hand.read(job, "output.zip")


def test_results_that_are_being_copied_do_not_overwrite_the_next_attempt_s(
    hand: Hand, w1: Worker, w2: Worker, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow copy of attempt 1, whose claim vanished meanwhile; attempt 2 is faster."""
    job, claim = case
    work: list[Callable[[], object]] = []
    monkeypatch.setattr(hand.primary._pool, "submit", lambda f, *a: work.append(lambda: f(*a)))
    w1.final(claim, output=w1.output(claim, b"1" * 2 * 1024**2))
    hand.tick()
    files = hand.primary._files
    real = files.place

    def place(*args: Any) -> None:
        monkeypatch.setattr(files, "place", real)
        hand.primary._dispatch.retire("w1", claim.key, [claim])  # its worker changed its mind
        hand.tick(3)
        if hand.job(job).attempt == 2:
            w2.final(w2.claim())
            hand.tick()
        real(*args)

    monkeypatch.setattr(files, "place", place)
    work.pop()()
    hand.tick(2)
    done = hand.job(job)
    assert done.state == "COMPLETE" and done.output is not None
    assert fact(hand.read(job, "output.zip")).sha256 == done.output.sha256


def test_trouble_with_one_job_s_folder_does_not_hold_up_others(
    hand: Hand, w1: Worker, case: Case
) -> None:
    _, claim = case
    other = hand.submit()
    hand.tick()
    second = w1.claim()
    os.rename(hand.data / "jobs" / claim.ticket.job, hand.data / "somewhere")
    w1.final(claim)
    w1.final(second)
    hand.tick(2)
    assert hand.state(other) == "COMPLETE"
