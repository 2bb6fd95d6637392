"""The read model: every job as the fold left it, in SQLite, ready to be asked.

Derived. What is here comes from the ledger and can be made from it again, so
``synchronous=NORMAL`` is safe: a power cut may cost the newest transactions,
but never their order or the file, and since the last applied sequence number
and hash are written in the same transaction as the jobs, the board always
knows where it must catch up from. It reaches its disk behind the ledger, and
so can never know of a record that the ledger has lost.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from ledger import schema
from ledger.jobs import Job, State
from ledger.queries import Page, Query, Span, count_of, page_of, span_of

__all__ = ["Board", "Page", "Query", "decode", "row"]

_QUEUED = schema.CODE[State.QUEUED]

MAX_PAGE = 10_000
"""Jobs in one page at most."""


class Board:
    """One open board. Reads from any thread; ``apply`` from one at a time."""

    def __init__(self, path: Path, writer: sqlite3.Connection, origin: str) -> None:
        self.path = path
        self.origin = origin
        """The hash of the chain's first record; GENESIS while there is none."""
        self._writer = writer
        self._idle: list[sqlite3.Connection] = []
        self._pool = threading.Lock()
        self._closed = False
        seq, digest = writer.execute("SELECT seq, hash FROM head").fetchone()
        self._head: tuple[int, str] = (seq, digest)

    @classmethod
    def open(cls, path: Path) -> Board | None:
        """The board at ``path``; None where there is none that could be used."""
        if not path.is_file():
            return None
        writer = _connect(path)
        try:
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute("PRAGMA synchronous=NORMAL")
            (version,) = writer.execute("PRAGMA user_version").fetchone()
            if version == schema.VERSION:
                (origin,) = writer.execute("SELECT origin FROM head").fetchone()
                return cls(path, writer, origin)
        except (sqlite3.DatabaseError, TypeError):
            pass  # no database, half made, or damaged: all the same to us
        writer.close()
        return None

    def close(self) -> None:
        """Idempotent. Reads that are under way end first or fail."""
        with self._pool:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in [*idle, self._writer]:
            connection.close()

    # --- the writer

    def apply(
        self, jobs: Collection[Job], seq: int, digest: str, origin: str | None = None
    ) -> None:
        """Make ``jobs`` and the head, record ``seq`` with its hash, true in one transaction.

        ``origin`` is the first record's hash, when that is among the new ones.
        Raises sqlite3.Error, and then nothing has changed.
        """
        writer = self._writer
        try:
            writer.execute("BEGIN IMMEDIATE")
            writer.executemany(schema.UPSERT, map(row, jobs))
            writer.execute("UPDATE head SET seq = ?, hash = ?", (seq, digest))
            if origin is not None:
                writer.execute("UPDATE head SET origin = ?", (origin,))
            writer.execute("COMMIT")
        except BaseException:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise
        self.origin = origin or self.origin
        self._head = (seq, digest)

    def unchanged(self) -> bool:
        """Whether the file, too, is still at ``head``, after ``apply`` raised; False if unsure."""
        try:
            found = self._writer.execute("SELECT seq, hash FROM head").fetchone()
        except sqlite3.Error:
            return False
        return bool(found == self._head)

    # --- reads

    def head(self) -> tuple[int, str]:
        """Sequence number and hash of the last record applied; (0, GENESIS) if none."""
        return self._head

    def job(self, id: str) -> Job | None:
        found = self._jobs("SELECT job FROM jobs WHERE id = ?", (id,))
        return found[0] if found else None

    def jobs(self, query: Query) -> Page:
        """One page of what ``query`` finds. Raises ValueError for a time that is none."""
        limit = max(1, min(query.limit, MAX_PAGE))
        found = self._jobs(*page_of(query, self._span(query), limit + 1))
        more = len(found) > limit
        return Page(tuple(found[:limit]), found[limit - 1].seq if more else None)

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        rows = dict(self._rows("SELECT state, sum(n) FROM counts GROUP BY state"))
        return {state: rows.get(schema.CODE[state], 0) for state in State}

    def count(self, query: Query) -> int:
        """How many jobs ``query`` finds, its cursor and limit aside. Raises as ``jobs`` does."""
        (n,) = self._rows(*count_of(query, self._span(query)))[0]
        return int(n)

    def queue(self, model: str, limit: int) -> list[Job]:
        """The QUEUED jobs of ``model``, the first in the queue first."""
        return self._jobs(
            "SELECT job FROM jobs INDEXED BY open WHERE open = ? AND model = ? "
            "ORDER BY queued_seq LIMIT ?",
            (_QUEUED, model, limit),
        )

    def queued_models(self) -> list[str]:
        """The models that have a QUEUED job."""
        sql = "SELECT model FROM counts WHERE state = ? AND n > 0 ORDER BY model"
        return [model for (model,) in self._rows(sql, (_QUEUED,))]

    def place(self, job: Job) -> int:
        """How many jobs stand before ``job`` in the queue of its model.

        Counted from the nearer end: whoever came last into a long queue asks most often.
        """
        place = job.queued_seq or 0
        queue = "FROM jobs INDEXED BY open WHERE open = ?1 AND model = ?2"
        values = (_QUEUED, job.model, place)
        ((first, last),) = self._rows(
            f"SELECT (SELECT min(queued_seq) {queue}), (SELECT max(queued_seq) {queue})", values[:2]
        )
        if first is None or place - first <= last - place:
            sql = f"SELECT count(*) {queue} AND queued_seq < ?3"
        else:
            sql = (
                "SELECT (SELECT n FROM counts WHERE state = ?1 AND model = ?2) - "
                f"(SELECT count(*) {queue} AND queued_seq >= ?3)"
            )
        ((n,),) = self._rows(sql, values)
        return int(n or 0)

    def created(self) -> list[Job]:
        """The jobs whose input is still to come, oldest first."""
        return self._open(State.CREATED)

    def active(self) -> list[Job]:
        """The jobs that a worker has: RUNNING and PROCESSED, oldest first."""
        return self._open(State.RUNNING, State.PROCESSED)

    def kill_wanted(self) -> list[Job]:
        """The jobs whose kill was requested and that have not ended, oldest first."""
        return self._jobs("SELECT job FROM jobs INDEXED BY killing WHERE killing ORDER BY seq")

    def dropped(self, model: str | None = None, *, limit: int = 1000) -> list[Job]:
        """The jobs that came through a drop folder and are not purged, newest first."""
        return self._jobs(
            "SELECT job FROM jobs INDEXED BY dropped WHERE dropped AND (?1 IS NULL OR model = ?1) "
            "ORDER BY seq DESC LIMIT ?2",
            (model, limit),
        )

    def dropped_open(self) -> list[Job]:
        """The jobs that came through a drop folder and have not ended, newest first."""
        return self._jobs(
            "SELECT job FROM jobs INDEXED BY dropped WHERE dropped AND open IS NOT NULL "
            "ORDER BY seq DESC"
        )

    def final_before(self, time: str, limit: int) -> list[Job]:
        """The jobs that ended before ``time`` (as records write it) and are not purged.

        The one that ended first comes first.
        """
        return self._jobs(
            "SELECT job FROM jobs INDEXED BY kept WHERE kept < ? ORDER BY kept LIMIT ?",
            (time, limit),
        )

    def ran_since(self, time: str, limit: int) -> list[Job]:
        """The jobs that a worker ran to their end at ``time`` or later; the last to end first."""
        return self._jobs(
            "SELECT job FROM jobs INDEXED BY ran WHERE ran >= ? ORDER BY ran DESC LIMIT ?",
            (time, limit),
        )

    def lost_since(self, time: str, limit: int) -> list[Job]:
        """The jobs of which a run was given up at ``time`` or later; the last one first."""
        return self._jobs(
            "SELECT job FROM jobs INDEXED BY lost WHERE lost >= ? ORDER BY lost DESC LIMIT ?",
            (time, limit),
        )

    def _span(self, query: Query) -> Span:
        with self._reader() as connection:
            return span_of(connection, query)

    def _open(self, *states: State) -> list[Job]:
        codes = ", ".join(str(schema.CODE[state]) for state in states)
        return self._jobs(
            f"SELECT job FROM jobs INDEXED BY open WHERE open IN ({codes}) ORDER BY seq"
        )

    def _jobs(self, sql: str, values: Sequence[Any] = ()) -> list[Job]:
        return [decode(blob) for (blob,) in self._rows(sql, values)]

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._reader() as connection:
            return connection.execute(sql, values).fetchall()

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of one's own: as many are kept as ever read at once."""
        with self._pool:
            if self._closed:
                raise sqlite3.ProgrammingError(f"The board {self.path} is closed")
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = _connect(self.path)
        try:
            yield connection
        finally:
            with self._pool:
                if not self._closed:
                    self._idle.append(connection)
                    connection = None
            if connection is not None:
                connection.close()


_encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Job).decode


def row(job: Job) -> tuple[Any, ...]:
    """The values of ``schema.UPSERT`` for ``job``."""
    state = schema.CODE[job.state]
    return (
        job.seq,
        job.id,
        job.name,
        job.model,
        state,
        None if job.final else state,
        job.queued_seq,
        job.created,
        job.kill_wanted and not job.final,
        job.drop is not None and not job.purged,
        None if job.purged else job.ended,
        None if job.worker is None else job.ended,
        job.given_up[-1].ended if job.given_up else None,
        _encode(job),
    )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
