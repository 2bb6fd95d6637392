"""From records to a board: catching up, and building one anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from itertools import islice
from pathlib import Path

from ledger import schema
from ledger.board import Board, decode, row
from ledger.codec import GENESIS
from ledger.disk import sync_file, sync_folder
from ledger.errors import IllegalTransition, LedgerDamaged, LedgerError, StaleAttempt
from ledger.events import Record, Submitted
from ledger.jobs import Job, fold
from ledger.recovery import TornEnd, check
from ledger.segments import Segments

CHUNK = 20_000
"""Records folded in memory before the board hears of them."""

CACHE = 50_000
"""Jobs kept from one chunk to the next, so that most are never read back."""

CHECKED = 100_000
"""Records of a ledger that is checked whole at every start, which takes a third of a second;
of a longer one only those after the board's head are, and ``verify`` checks the rest."""

Progress = Callable[[int, int], None]
"""Called with the number of records done, and of all."""


def board_of(segments: Segments, path: Path, progress: Progress) -> Board:
    """The board of a ledger just opened, up to date; recovers the ledger on the way.

    Raises LedgerDamaged, LedgerFull, and LedgerError where SQLite cannot work there.
    """
    report = partial(_report, progress, segments.newest())
    try:
        board = Board.open(path)
        if board is not None:
            try:
                if _made_from(segments, board):
                    seq, digest = board.head()
                    if seq <= CHECKED:
                        _check_all(segments, seq)
                    catch_up(board, segments.recover(seq, digest, seq), report)
                    return board
            except BaseException:
                board.close()
                raise
            board.close()
        build(path, segments.recover(0, GENESIS, 0), report)
        board = Board.open(path)
    except sqlite3.Error as e:
        raise LedgerError(
            f"The board {path} cannot be brought up to date: {e}. See that there is room and that "
            "it may be written; the board itself may be deleted, it comes back from the ledger"
        ) from e
    if board is None:
        raise LedgerError(f"The board {path} was made, but cannot be opened")
    return board


def _report(progress: Progress, total: int, done: int) -> None:
    progress(done, max(done, total))


def _made_from(segments: Segments, board: Board) -> bool:
    """Whether ``board`` is the board of this ledger, at whatever age.

    Raises LedgerDamaged where the ledger lost a record that the board has applied.
    """
    seq, digest = board.head()
    if seq == 0:
        return False  # building is faster than catching up
    first, head = segments.checked(1), segments.checked(seq)
    if first is not None and first.hash != board.origin:
        return False
    if first is not None and head is not None:
        return head.hash == digest
    _check_all(segments, seq)
    return False


def _check_all(segments: Segments, applied: int) -> None:
    """Check every record. Raises LedgerDamaged for one that the board has ``applied``."""
    with suppress(TornEnd):  # the end, which recovery cuts
        for _record in check(segments.folder, 0, GENESIS, applied):
            pass


def catch_up(board: Board, records: Iterable[Record], progress: Callable[[int], None]) -> None:
    """Fold ``records``, those after the board's head, into ``board``.

    Raises LedgerDamaged for a record that is not legal where it stands.
    """
    for jobs, chunk in _folded(records, board.job):
        last = chunk[-1]
        with _once(last):
            board.apply(jobs, last.seq, last.hash, _origin(chunk))
        progress(last.seq)


def build(path: Path, records: Iterable[Record], progress: Callable[[int], None]) -> None:
    """Make a new board at ``path`` from all the ledger's ``records``, in place of an old one.

    It is made beside: the old one is all that knows what was acknowledged, and goes
    only once the ledger was found good. Indexes are made at the end, and nothing is
    synced until then. Raises as ``catch_up`` does.
    """
    new = path.with_name(path.name + ".new")
    _remove(new)
    with closing(sqlite3.connect(new, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=OFF")
        db.execute("PRAGMA synchronous=OFF")
        db.executescript(schema.TABLES)
        head, origin = (0, GENESIS), GENESIS
        for jobs, chunk in _folded(records, partial(_find, db)):
            last = chunk[-1]
            with _once(last):
                db.execute("BEGIN")
                db.executemany(schema.UPSERT, map(row, jobs))
                db.execute("COMMIT")
            head, origin = (last.seq, last.hash), _origin(chunk) or origin
            progress(last.seq)
        db.executescript(f"BEGIN; {schema.INDEXES} COMMIT;")
        db.execute(f"PRAGMA user_version={schema.VERSION}")
        db.execute("INSERT INTO head VALUES (?, ?, ?)", (*head, origin))
    sync_file(new)
    _remove(path)  # its write-ahead log, too, which must not meet another file
    new.rename(path)
    sync_folder(path.parent)


def _remove(board: Path) -> None:
    for suffix in ("-wal", "-shm", "-journal", ""):
        board.with_name(board.name + suffix).unlink(missing_ok=True)


def _find(db: sqlite3.Connection, id: str) -> Job | None:
    found = db.execute("SELECT job FROM jobs WHERE id = ?", (id,)).fetchone()
    return decode(found[0]) if found else None


def _origin(chunk: list[Record]) -> str | None:
    """The hash of the chain's first record, where it is in ``chunk``."""
    return chunk[0].hash if chunk[0].seq == 1 else None


@contextmanager
def _once(last: Record) -> Iterator[None]:
    try:
        yield
    except sqlite3.IntegrityError as e:
        reason = f"a job was submitted twice ({e})"
        raise LedgerDamaged(f"the records up to {last.seq}", 0, reason) from e


def _folded(
    records: Iterable[Record], find: Callable[[str], Job | None]
) -> Iterator[tuple[list[Job], list[Record]]]:
    """The jobs that each chunk of ``records`` changed, and the chunk."""
    cache: dict[str, Job] = {}
    source = iter(records)
    while chunk := list(islice(source, CHUNK)):
        changed: dict[str, Job] = {}
        for record in chunk:
            job = record.event.job
            before = changed.get(job) or cache.get(job)
            if before is None and not isinstance(record.event, Submitted):
                before = find(job)  # a job submitted twice is found by the table's UNIQUE
            try:
                changed[job] = fold(before, record)
            except (IllegalTransition, StaleAttempt) as e:
                raise LedgerDamaged(f"record {record.seq}", 0, str(e)) from e
        yield list(changed.values()), chunk
        cache.update(changed)
        cache = {id: job for id, job in cache.items() if not job.final}
        if len(cache) > CACHE:
            cache.clear()
