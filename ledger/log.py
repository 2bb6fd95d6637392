"""The ledger: the one place where events become facts.

``append`` lets a caller decide under the log's lock, against the newest state,
and returns when the event is on disk *and* on the board. Threads that wait at
the same moment share one write and one sync: whoever comes first leads, and
takes along all who are waiting by then.

The order of effects: seal, write, sync; then the board; then the waiters.
Between the decision and the sync an event is *pending*: ``decide`` sees it (in
the overlay above the board), readers do not. If a write is refused, everything
pending fails with it, for it was decided on what then did not happen.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

from ledger.board import Board
from ledger.codec import BadLine, hash_of, members, seal_members, unseal
from ledger.disk import Disk
from ledger.errors import LedgerDamaged, LedgerError, LedgerFull, LedgerStopped, NoSuchRecord
from ledger.events import AnyEvent, Record
from ledger.jobs import Job, fold
from ledger.rebuild import board_of
from ledger.segments import SEGMENT_SIZE, Segments
from ledger.times import stamp

Lookup = Callable[[str], Job | None]
_NO_ROOM = {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE}
Decide = Callable[[Lookup], Sequence[AnyEvent]]


def _now() -> datetime:
    return datetime.now(UTC)


def _ignore(_done: int, _total: int) -> None:
    pass


class _Entry:
    """One caller's events on their way to the disk."""

    __slots__ = ("error", "jobs", "lead", "left", "records", "sealing", "woken")

    def __init__(self, records: list[Record], sealing: list[bytes], jobs: dict[str, Job]) -> None:
        self.records = records  # without batch and hash until they are sealed
        self.sealing = sealing  # the events' encoded members
        self.jobs = jobs  # the newest of each job
        self.error: LedgerError | None = None
        self.lead = False  # woken to lead the next batch, not because this one is done
        self.left = False  # its caller was interrupted and will not lead
        self.woken = threading.Lock()
        self.woken.acquire()


class Ledger:
    """The open ledger of one data directory. Thread-safe.

    ``torn`` says in a sentence what was cut off a torn end at the start, if
    anything; ``board`` answers all questions about jobs.
    """

    def __init__(self, segments: Segments, board: Board, clock: Callable[[], datetime]) -> None:
        self.board = board
        self.torn = segments.torn
        self._segments = segments
        self._clock = clock
        self._lock = threading.Lock()
        self._quiet = threading.Condition(self._lock)  # told when nobody leads any more
        self._news = threading.Condition()  # told when the board has moved
        self._overlay: dict[str, Job] = {}
        self._pending: list[_Entry] = []
        self._next = segments.end + 1
        self._leading = False
        self._stopped = ""

    @classmethod
    def open(
        cls,
        folder: Path,
        board_path: Path,
        *,
        clock: Callable[[], datetime] = _now,
        progress: Callable[[int, int], None] | None = None,
        segment_size: int = SEGMENT_SIZE,
        disk: Disk | None = None,
    ) -> Ledger:
        """Lock, check and recover the ledger in ``folder``, and bring its board up to date.

        ``progress`` is called with (records done, records in all) while the
        board is caught up or rebuilt. Raises LedgerLocked, LedgerDamaged,
        LedgerStopped, LedgerFull and OSError.
        """
        segments = Segments.open(folder, segment_size=segment_size, disk=disk)
        try:
            board = board_of(segments, board_path, progress or _ignore)
        except BaseException:
            segments.close()
            raise
        return cls(segments, board, clock)

    def append(self, decide: Decide) -> list[Record]:
        """Append the events that ``decide(lookup)`` returns; their records, once readers see them.

        ``decide`` runs under the log's lock, so it must be quick and must not
        call ``append``; ``lookup(job id)`` shows it the newest state, pending
        events included. What it raises, an illegal event (IllegalTransition,
        StaleAttempt) or one that cannot be kept (BadEvent) appends nothing.
        Raises LedgerFull when the events were taken back, and LedgerStopped
        when nobody can say: then this process must end.
        """
        with self._lock:
            entry = self._enter(decide)
            if entry is None:
                return []
            self._pending.append(entry)
            lead, self._leading = not self._leading, True
        if not lead:
            lead = self._await(entry)
        if lead:
            self._commit()
        if entry.error is not None:
            raise entry.error
        return entry.records

    @property
    def stopped(self) -> str:
        """Why nothing is taken any more: closed, a sync failed, no disk; "" while all is well."""
        return self._stopped

    def look(self) -> None:
        """See whether the disk is still there; if not, ``stopped`` says so from now on.

        Most of what a dead disk was asked before is answered from memory, so a primary
        that is idle, or only read from, would not notice.
        """
        why = self._segments.gone()
        if not why:
            return
        with self._lock:
            self._stopped = self._stopped or (
                f"{self._segments.folder} cannot be written any more ({why}), so this process "
                "must end; a restart finds out what is on its disk"
            )
        with self._news:
            self._news.notify_all()

    def wait(self, after: int, timeout: float) -> int:
        """The newest sequence number on the board, as soon as it is past ``after``.

        At the latest after ``timeout`` seconds, or when the ledger is closed.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while self.board.head()[0] <= after and not self._stopped:
                left = deadline - time.monotonic()
                if left <= 0:
                    break
                self._news.wait(left)
        return self.board.head()[0]

    def read(self, seq: int) -> Record:
        """Raises NoSuchRecord, also for a record that is not yet synced, and LedgerDamaged."""
        if not 1 <= seq <= self.board.head()[0]:
            raise NoSuchRecord(f"There is no record {seq} in the ledger")
        return self._unseal(seq, self._segments.read(seq))

    def history(self, job: Job) -> list[Record]:
        """All records of ``job``, oldest first. Raises as ``read`` does."""
        return [self.read(seq) for seq in job.records]

    def iterate(self, after: int, limit: int) -> list[Record]:
        """Up to ``limit`` records after ``after``, oldest first. Raises as ``read`` does."""
        count = max(0, min(limit, self.board.head()[0] - after))
        found = islice(self._segments.iterate(after), count)
        return [self._unseal(after + n, line) for n, line in enumerate(found, 1)]

    def close(self) -> None:
        """Let the batch under way end, refuse later ones, give the lock back. Idempotent."""
        with self._quiet:
            self._stopped = self._stopped or "The ledger is closed"
            while self._leading:
                self._quiet.wait()
        with self._news:
            self._news.notify_all()
        self.board.close()
        self._segments.close()

    # --- under the lock

    def _enter(self, decide: Decide) -> _Entry | None:
        """Run ``decide`` and give its events their places; nothing has happened if this raises."""
        if self._stopped:
            raise LedgerStopped(self._stopped)
        known, changed = dict[str, Job | None](), dict[str, Job]()

        def lookup(job: str) -> Job | None:
            if job not in known:  # what `decide` has read, the fold need not read again
                known[job] = self._overlay.get(job) or self.board.job(job)
            return known[job]

        events = decide(lookup)
        if not events:
            return None
        now = stamp(self._clock())
        records = list[Record]()
        for seq, event in enumerate(events, self._next):
            record = Record(seq, now, event, 0, "")
            known[event.job] = changed[event.job] = fold(lookup(event.job), record)
            records.append(record)
        entry = _Entry(records, [members(event) for event in events], changed)
        self._overlay.update(changed)
        self._next += len(records)
        return entry

    def _pass_on(self) -> None:
        """Let the first who waits lead the next batch; if nobody does, the next to come leads."""
        for entry in self._pending:
            if not entry.left:
                entry.lead = True
                entry.woken.release()
                return
        self._leading = False
        self._quiet.notify_all()

    # --- outside the lock: followers wait, one leads

    def _await(self, entry: _Entry) -> bool:
        """Wait until ``entry`` is done, or is to lead: which is the answer."""
        try:
            entry.woken.acquire()
        except BaseException:  # Ctrl-C: the events may still come true, but nobody is left to lead
            with self._lock:
                entry.left = True
            if entry.lead:
                self._commit()
            raise
        return entry.lead

    def _commit(self) -> None:
        """Write, sync and show all that is pending, then wake who waited for it."""
        with self._lock:
            batch, self._pending = self._pending, []
        try:
            self._write(batch)
        except BaseException as e:
            batch = self._fail(batch, e)
            if not isinstance(e, LedgerFull | LedgerStopped):
                raise
        else:
            with self._lock:
                self._settle(batch)
                self._pass_on()
        finally:
            for entry in batch:
                if entry.woken.locked():
                    entry.woken.release()
            with self._news:
                self._news.notify_all()

    def _write(self, batch: list[_Entry]) -> None:
        first, previous = self._segments.end + 1, self._segments.hash
        lines, jobs = list[bytes](), dict[str, Job]()
        for entry in batch:
            sealed = list[Record]()
            for record, encoded in zip(entry.records, entry.sealing, strict=True):
                line = seal_members(record.seq, record.time, encoded, first, previous)
                previous = hash_of(line)
                lines.append(line)
                sealed.append(Record(record.seq, record.time, record.event, first, previous))
            entry.records = sealed
            jobs.update(entry.jobs)
        self._segments.append(lines)
        try:
            origin = batch[0].records[0].hash if first == 1 else None
            self.board.apply(jobs.values(), self._segments.end, previous, origin)
        except sqlite3.Error as e:
            # Nobody has seen these records yet, so where the board has no room for
            # them the ledger can still take them back.
            if getattr(e, "sqlite_errorcode", 0) not in _NO_ROOM or not self.board.unchanged():
                raise LedgerStopped(
                    f"The board {self.board.path} cannot be written ({e}), so this process must "
                    "end; a restart catches up, or builds the board anew"
                ) from e
            self._segments.take_back()
            raise LedgerFull(
                f"There is no room for the board {self.board.path} ({e}). Nothing was recorded; "
                "make room, and it goes on by itself"
            ) from e

    def _settle(self, batch: list[_Entry]) -> None:
        """The board has it: what is not pending again leaves the overlay."""
        for entry in batch:
            for id, job in entry.jobs.items():
                if self._overlay.get(id) is job:
                    del self._overlay[id]

    def _fail(self, batch: list[_Entry], error: BaseException) -> list[_Entry]:
        """Nothing of ``batch`` is true, nor what was decided on top of it meanwhile."""
        full = isinstance(error, LedgerFull)
        with self._lock:
            failed = batch + self._pending
            self._pending = []
            self._overlay.clear()
            self._next = self._segments.end + 1
            if not full:
                self._stopped = (
                    str(error)
                    if isinstance(error, LedgerStopped)
                    else f"The ledger stopped: {error!r}. This process must end; a restart goes on"
                )
            for entry in failed:
                entry.error = LedgerFull(str(error)) if full else LedgerStopped(self._stopped)
            self._leading = False
            self._quiet.notify_all()
        return failed

    def _unseal(self, seq: int, line: bytes) -> Record:
        try:
            return unseal(line, None)
        except BadLine as e:
            raise LedgerDamaged(str(self._segments.folder), 0, f"record {seq}: {e}") from e
