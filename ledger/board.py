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

_QUEUED = schema.CODE[State.QUEUED]

MAX_PAGE = 10_000
"""Jobs in one page at most."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs, newest first.

    No ``states`` means all. ``text`` is looked for anywhere in a job's name,
    ASCII letters in either case, and at the beginning of its id. ``before``
    is the cursor: only jobs with a smaller ``seq``.
    """

    states: frozenset[State] = frozenset()
    model: str | None = None
    text: str | None = None
    before: int | None = None
    limit: int = 100


class Page(msgspec.Struct, frozen=True):
    """Some jobs. ``next`` is the ``before`` of the following page, None after the last one."""

    jobs: tuple[Job, ...]
    next: int | None


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
        limit = max(1, min(query.limit, MAX_PAGE))
        found = self._jobs(*_select(query, limit + 1))
        more = len(found) > limit
        return Page(tuple(found[:limit]), found[limit - 1].seq if more else None)

    def counts(self) -> dict[State, int]:
        """How many jobs there are in each state."""
        rows = dict(self._rows("SELECT state, sum(n) FROM counts GROUP BY state"))
        return {state: rows.get(schema.CODE[state], 0) for state in State}

    def count(self, query: Query) -> int:
        """How many jobs ``query`` finds, its cursor and limit aside."""
        where, values = _where(query)
        if query.text is None:
            sql = f"SELECT coalesce(sum(n), 0) FROM counts WHERE {where}"
        else:
            sql = f"SELECT count(*) FROM jobs INDEXED BY search WHERE {where}"
        (n,) = self._rows(sql, values)[0]
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
        """How many jobs stand before ``job`` in the queue of its model."""
        (n,) = self._rows(
            "SELECT count(*) FROM jobs INDEXED BY open "
            "WHERE open = ? AND model = ? AND queued_seq < ?",
            (_QUEUED, job.model, job.queued_seq or 0),
        )[0]
        return int(n)

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
        job.kill_wanted and not job.final,
        job.drop is not None and not job.purged,
        None if job.purged else job.ended,
        _encode(job),
    )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)


def _where(query: Query) -> tuple[str, list[Any]]:
    """The condition for all of ``query`` but its cursor."""
    terms, values = ["1"], list[Any]()
    if query.states:
        terms.append(f"state IN ({', '.join(str(schema.CODE[s]) for s in query.states)})")
    if query.model is not None:
        terms.append("model = ?")
        values.append(query.model)
    if query.text is not None:
        text = query.text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        terms.append(r"(name LIKE ? ESCAPE '\' OR id LIKE ? ESCAPE '\')")
        values += [f"%{text}%", f"{text}%"]
    return " AND ".join(terms), values


def _select(query: Query, limit: int) -> tuple[str, list[Any]]:
    """The statement for one page. Its cost depends on ``limit``, not on how many jobs there are.

    (But for ``text``: there the narrow index ``search`` is read until enough is found.)
    """
    before = 2**63 - 1 if query.before is None else query.before
    if query.text is not None:
        where, values = _where(query)
        return (
            "SELECT job FROM jobs WHERE seq IN (SELECT seq FROM jobs INDEXED BY search "
            f"WHERE {where} AND seq < ? ORDER BY seq DESC LIMIT ?) ORDER BY seq DESC",
            [*values, before, limit],
        )
    if query.model is None and not query.states:
        return "SELECT job FROM jobs WHERE seq < ? ORDER BY seq DESC LIMIT ?", [before, limit]
    # One range of an index per state, each in order already, of which the newest are taken.
    parts, values = [], []
    for state in sorted(schema.CODE[s] for s in query.states or State):
        if query.model is None:
            part = f"SELECT seq FROM jobs INDEXED BY by_state WHERE state = {state}"
        else:
            part = f"SELECT seq FROM jobs INDEXED BY by_model WHERE model = ? AND state = {state}"
            values.append(query.model)
        parts.append(f"SELECT * FROM ({part} AND seq < ? ORDER BY seq DESC LIMIT ?)")
        values += [before, limit]
    return (
        f"SELECT job FROM jobs WHERE seq IN ({' UNION ALL '.join(parts)}) "
        "ORDER BY seq DESC LIMIT ?",
        [*values, limit],
    )
