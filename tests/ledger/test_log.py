"""The facade: deciding, group commit, and what callers see when the disk refuses."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from ledger.codec import GENESIS
from ledger.disk import Disk
from ledger.errors import (
    BadEvent,
    IllegalTransition,
    LedgerFull,
    LedgerLocked,
    LedgerStopped,
    NoSuchRecord,
    StaleAttempt,
)
from ledger.events import AnyEvent, Killed, KillRequested, Noted, Queued, Started, Submitted
from ledger.jobs import Job, State
from ledger.log import Ledger
from ledger.recovery import check

Open = Callable[..., Ledger]
Life = Callable[..., list[AnyEvent]]
Lookup = Callable[[str], Job | None]

DEADLINE = 30.0
"""Seconds; only a test that fails waits so long."""


class Gate:
    """A disk whose syncs wait, once ``shut``, until they are let through or told to fail."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self._go = threading.Semaphore(0)
        self._shut = False
        self._error = 0
        self.writes = 0

    def disk(self) -> Disk:
        return Disk(write=self._write, sync=self._sync)

    def shut(self) -> None:
        self._shut = True

    def let(self, error: int = 0) -> None:
        self._error = error
        self._shut = False
        self._go.release()

    def _write(self, fd: int, data: bytes | memoryview) -> int:
        self.writes += 1
        if self._shut:
            self.reached.release()
            assert self._go.acquire(timeout=DEADLINE)
            if self._error == errno.ENOSPC:
                raise OSError(errno.ENOSPC, "No space left on device")
        return os.write(fd, data)

    def _sync(self, fd: int) -> None:
        error, self._error = self._error, 0
        if error and error != errno.ENOSPC:
            raise OSError(error, os.strerror(error))
        os.fdatasync(fd)


class Caller(threading.Thread):
    """A thread that appends once."""

    def __init__(self, ledger: Ledger, decide: Callable[[Lookup], Sequence[AnyEvent]]) -> None:
        super().__init__()
        self.decided = threading.Event()
        self.error: Exception | None = None
        self.seqs: list[int] = []
        self._ledger, self._decide = ledger, decide
        self.start()

    def run(self) -> None:
        def decide(lookup: Lookup) -> Sequence[AnyEvent]:
            try:
                return self._decide(lookup)
            finally:
                self.decided.set()

        try:
            self.seqs = [record.seq for record in self._ledger.append(decide)]
        except Exception as e:  # noqa: BLE001 (whatever it is, the test looks at it)
            self.error = e

    def done(self) -> Caller:
        self.join(DEADLINE)
        assert not self.is_alive()
        return self


def events(*given: AnyEvent) -> Callable[[Lookup], Sequence[AnyEvent]]:
    return lambda _lookup: given


def test_append_and_read(open_ledger: Open, life: Life) -> None:
    now = datetime(2024, 5, 1, 11, 30, tzinfo=timezone(timedelta(hours=2)))
    ledger = open_ledger(clock=lambda: now)
    submitted, queued, started, completed = life()
    records = ledger.append(events(submitted, queued))
    assert [r.event for r in records] == [submitted, queued]
    assert [(r.seq, r.batch, r.time) for r in records] == [
        (1, 1, "2024-05-01T09:30:00.000000Z"),
        (2, 1, "2024-05-01T09:30:00.000000Z"),
    ]
    records += ledger.append(events(started)) + ledger.append(events(completed))
    assert [r.batch for r in records] == [1, 1, 3, 4]
    for reopen in (False, True):
        again = open_ledger() if reopen else ledger
        assert again.board.head() == (4, records[-1].hash)
        job = again.board.job(submitted.job)
        assert job and job.state == State.COMPLETE
        assert again.history(job) == [again.read(n) for n in range(1, 5)] == records
        assert again.iterate(1, 2) == records[1:3]
        assert again.iterate(0, 99) == records
        assert again.iterate(4, 9) == again.iterate(9, 9) == again.iterate(0, 0) == []
        assert again.torn is None
        with pytest.raises(NoSuchRecord):
            again.read(5)


def test_nothing_decided_nothing_appended(open_ledger: Open) -> None:
    ledger = open_ledger()
    assert ledger.append(events()) == []
    assert ledger.board.head() == (0, GENESIS)


def test_what_may_not_be_appends_nothing(open_ledger: Open, life: Life) -> None:
    ledger = open_ledger()
    submitted, queued, started, _ = life()
    ledger.append(events(submitted))
    late = Killed(job=submitted.job, attempt=2, confirmed=True, reason="")
    bad = Queued(job=submitted.job, input=7)  # type: ignore[arg-type]
    for wrong, error in (
        ([queued, started, submitted], IllegalTransition),
        ([started], IllegalTransition),
        ([queued, late], StaleAttempt),
        ([bad], BadEvent),
        ([*life(), submitted], IllegalTransition),
    ):
        with pytest.raises(error):
            ledger.append(events(*wrong))

    def fails(_lookup: Lookup) -> Sequence[AnyEvent]:
        raise KeyError("decided otherwise")

    with pytest.raises(KeyError, match="decided otherwise"):
        ledger.append(fails)
    assert ledger.board.head()[0] == 1
    assert [r.seq for r in ledger.append(events(queued, started))] == [2, 3]


def test_decide_sees_what_is_pending_and_readers_do_not(open_ledger: Open, life: Life) -> None:
    gate = Gate()
    ledger = open_ledger(disk=gate.disk())
    submitted, queued, started, _ = life()
    ledger.append(events(submitted))
    gate.shut()
    first = Caller(ledger, events(queued))
    assert gate.reached.acquire(timeout=DEADLINE)
    seen: list[Job | None] = []

    def decide(lookup: Lookup) -> Sequence[AnyEvent]:
        seen.append(lookup(submitted.job))
        return [started]

    second = Caller(ledger, decide)
    assert second.decided.wait(DEADLINE)
    assert seen[0] and seen[0].state == State.QUEUED
    job = ledger.board.job(submitted.job)
    assert job and job.state == State.CREATED
    assert ledger.wait(1, 0.01) == ledger.board.head()[0] == 1
    with pytest.raises(NoSuchRecord):
        ledger.read(2)
    gate.let()
    assert (first.done().seqs, second.done().seqs) == ([2], [3])
    assert ledger.wait(2, DEADLINE) == 3


def test_waiting_threads_share_one_write(open_ledger: Open, life: Life) -> None:
    gate = Gate()
    ledger = open_ledger(disk=gate.disk())
    ledger.append(events(*life()))
    gate.shut()
    callers = [Caller(ledger, events(*life()[:2]))]
    assert gate.reached.acquire(timeout=DEADLINE)
    callers += [Caller(ledger, events(*life()[:2])) for _ in range(8)]
    for caller in callers:
        assert caller.decided.wait(DEADLINE)
    with ledger._lock:  # the last of them has taken its place in the batch
        pass
    gate.let()
    seqs = sorted(seq for caller in callers for seq in caller.done().seqs)
    assert seqs == list(range(5, 23))
    assert gate.writes == 3
    assert [r.batch for r in ledger.iterate(4, 99)] == [5, 5] + [7] * 16


def test_a_full_disk_fails_all_that_is_pending_and_nothing_more(
    open_ledger: Open, life: Life
) -> None:
    gate = Gate()
    ledger = open_ledger(disk=gate.disk())
    submitted, queued, started, _ = life()
    ledger.append(events(submitted))
    gate.shut()
    first = Caller(ledger, events(queued))
    assert gate.reached.acquire(timeout=DEADLINE)
    second = Caller(ledger, events(started))  # legal only on top of the first
    assert second.decided.wait(DEADLINE)
    with ledger._lock:
        pass
    gate.let(errno.ENOSPC)
    assert isinstance(first.done().error, LedgerFull)
    assert isinstance(second.done().error, LedgerFull)
    assert ledger.board.head()[0] == 1
    with pytest.raises(IllegalTransition):
        ledger.append(events(started))
    assert [r.seq for r in ledger.append(events(queued, started))] == [2, 3]
    assert open_ledger().board.head()[0] == 3


def test_a_failed_sync_ends_it(open_ledger: Open, life: Life) -> None:
    gate = Gate()
    ledger = open_ledger(disk=gate.disk())
    submitted, queued, started, _ = life()
    ledger.append(events(submitted))
    gate.shut()
    first = Caller(ledger, events(queued))
    assert gate.reached.acquire(timeout=DEADLINE)
    second = Caller(ledger, events(started))
    assert second.decided.wait(DEADLINE)
    with ledger._lock:
        pass
    gate.let(errno.EIO)
    assert isinstance(first.done().error, LedgerStopped)
    assert isinstance(second.done().error, LedgerStopped)
    with pytest.raises(LedgerStopped, match="must end"):
        ledger.append(events(queued))
    assert ledger.wait(1, DEADLINE) == 1  # answers at once
    ledger = open_ledger()
    # The bytes may have reached the disk all the same; what was not written has not.
    assert ledger.board.head()[0] in (1, 2)


def test_a_board_without_room_takes_the_ledger_back(
    open_ledger: Open, life: Life, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ledger = open_ledger()
    ledger.append(events(*life()))
    (pages,) = ledger.board._writer.execute("PRAGMA page_count").fetchone()
    ledger.board._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerFull, match="board"):
        ledger.append(events(*[e for _ in range(200) for e in life(name="x" * 500)]))
    assert ledger.board.head()[0] == 4
    assert len(list(check(tmp_path / "ledger", 0, GENESIS))) == 4
    ledger.board._writer.execute("PRAGMA max_page_count = 1000000")
    assert ledger.append(events(*life()))[0].seq == 5

    def broken(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(ledger.board, "apply", broken)
    for _again in range(2):
        with pytest.raises(LedgerStopped, match="I/O error"):
            ledger.append(events(*life()))
    assert open_ledger().board.head()[0] == 12  # on disk, if not on the board: a fact


def test_sixteen_threads(open_ledger: Open, life: Life, tmp_path: Path) -> None:
    ledger = open_ledger(segment_size=20_000)
    acknowledged: dict[int, str] = {}
    problems: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(12):
                for event in life():
                    for record in ledger.append(events(event)):
                        acknowledged[record.seq] = record.hash
                        assert ledger.read(record.seq) == record
                        assert ledger.board.head()[0] >= record.seq
        except BaseException as e:  # noqa: BLE001 (threads keep their errors to themselves)
            problems.append(e)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    ledger = open_ledger()
    assert ledger.board.head()[0] == len(acknowledged) == 16 * 12 * 4
    found = list(check(tmp_path / "ledger", 0, GENESIS))
    assert {record.seq: record.hash for record in found} == acknowledged
    assert len({record.batch for record in found}) < len(found)
    assert ledger.board.counts()[State.COMPLETE] == 16 * 12


def test_threads_that_race_for_one_job(open_ledger: Open, life: Life) -> None:
    ledger = open_ledger()
    submitted, queued, *_ = life()
    ledger.append(events(submitted, queued))
    job = submitted.job

    def claim(worker: str) -> Callable[[Lookup], Sequence[AnyEvent]]:
        def decide(lookup: Lookup) -> Sequence[AnyEvent]:
            found = lookup(job)
            assert found
            if found.state != State.QUEUED:
                return []
            return [Started(job=job, attempt=1, worker=worker, instance="i")]

        return decide

    callers = [Caller(ledger, claim(f"w{n}")) for n in range(12)]
    winners = [caller for caller in callers if caller.done().seqs]
    assert len(winners) == 1 and not any(caller.error for caller in callers)


def test_wait(open_ledger: Open, life: Life) -> None:
    ledger = open_ledger()
    assert ledger.wait(0, 0.0) == 0
    woken: list[int] = []
    waiter = threading.Thread(target=lambda: woken.append(ledger.wait(0, DEADLINE)))
    waiter.start()
    ledger.append(events(*life()))
    waiter.join(DEADLINE)
    assert woken == [4]
    waiter = threading.Thread(target=lambda: woken.append(ledger.wait(4, DEADLINE)))
    waiter.start()
    ledger.close()
    waiter.join(DEADLINE)
    assert woken == [4, 4]


def test_an_interrupted_caller_does_not_stop_the_others(
    open_ledger: Open, life: Life, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in a thread that waits for its batch: somebody else leads."""
    gate = Gate()
    ledger = open_ledger(disk=gate.disk())
    gate.shut()
    first = Caller(ledger, events(*life()))
    assert gate.reached.acquire(timeout=DEADLINE)

    class Interrupted:
        def acquire(self) -> None:
            raise KeyboardInterrupt

        def locked(self) -> bool:
            return False

    def interrupt(entry: Any) -> bool:
        entry.woken = Interrupted()
        return real(entry)

    real = ledger._await
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "_await", interrupt)
        with pytest.raises(KeyboardInterrupt):
            ledger.append(events(*life()))
    gate.let()
    assert first.done().seqs == [1, 2, 3, 4]
    assert ledger.append(events(*life()))[0].seq == 9
    assert ledger.board.head()[0] == 12


def test_closing(open_ledger: Open, life: Life) -> None:
    gate = Gate()
    ledger = open_ledger(disk=gate.disk())
    gate.shut()
    caller = Caller(ledger, events(*life()))
    assert gate.reached.acquire(timeout=DEADLINE)
    closer = threading.Thread(target=ledger.close)
    closer.start()
    gate.let()
    closer.join(DEADLINE)
    assert caller.done().seqs == [1, 2, 3, 4]
    with pytest.raises(LedgerStopped, match="closed"):
        ledger.append(events(*life()))
    ledger.close()


def test_two_primaries(open_ledger: Open, tmp_path: Path) -> None:
    open_ledger()
    with pytest.raises(LedgerLocked):
        Ledger.open(tmp_path / "ledger", tmp_path / "board.sqlite")


def test_a_kill_of_a_job_that_does_not_exist(open_ledger: Open) -> None:
    ledger = open_ledger()
    for event in (KillRequested(job="j", by="b"), Noted(job="j", text="t")):
        with pytest.raises(IllegalTransition):
            ledger.append(events(event))
    assert isinstance(
        ledger.append(
            events(Submitted(job="j", name="n", model="m", by="b", source="url", url="http://x"))
        )[0].event,
        Submitted,
    )


def test_a_ledger_whose_folder_goes_away_stops(
    tmp_path: Path, open_ledger: Open, life: Life
) -> None:
    ledger = open_ledger()
    ledger.append(lambda _: life())
    ledger.look()
    assert ledger.stopped == ""
    (tmp_path / "ledger").rename(tmp_path / "moved")
    ledger.look()
    assert "cannot be written any more (No such file or directory)" in ledger.stopped
    with pytest.raises(LedgerStopped, match="cannot be written any more"):
        ledger.append(lambda _: life())


def test_a_ledger_in_whose_place_another_one_lies_stops(tmp_path: Path, open_ledger: Open) -> None:
    """Else a second primary could hold the lock that lies there now."""
    ledger = open_ledger()
    (tmp_path / "ledger").rename(tmp_path / "moved")
    (tmp_path / "ledger").mkdir()
    (tmp_path / "ledger" / "LOCK").touch()
    ledger.look()
    assert "another folder lies in its place" in ledger.stopped
    assert ledger.wait(0, 60) == 0, "whoever waits is told"


def test_an_error_that_is_ours_does_not_stop_a_ledger(
    open_ledger: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = open_ledger()

    def exhausted(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", exhausted)
        ledger.look()
    assert ledger.stopped == ""
