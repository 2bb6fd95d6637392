"""Which board goes with which ledger: catching up, building anew, and refusing."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from ledger import rebuild
from ledger.codec import GENESIS, hash_of, seal
from ledger.errors import LedgerDamaged, LedgerError
from ledger.events import AnyEvent, Requeued
from ledger.jobs import Job, State, fold
from ledger.log import Decide, Ledger
from ledger.reading import segment_name
from ledger.recovery import check

Open = Callable[..., Ledger]
Life = Callable[..., list[AnyEvent]]

TIME = "2024-05-01T09:30:00.000000Z"


def one(event: AnyEvent) -> Decide:
    return lambda _lookup: [event]


def fill(ledger: Ledger, life: Life, jobs: int = 3, name: str = "a job") -> None:
    for number in range(jobs):
        for event in life(name=name)[: 4 if number else 2]:
            ledger.append(one(event))


def refold(folder: Path) -> dict[str, Job]:
    jobs: dict[str, Job] = {}
    for record in check(folder, 0, GENESIS):
        jobs[record.event.job] = fold(jobs.get(record.event.job), record)
    return jobs


def assert_true(ledger: Ledger, data: Path) -> None:
    """The board says exactly what the ledger's records make."""
    jobs = refold(data / "ledger")
    assert {id: ledger.board.job(id) for id in jobs} == jobs
    assert sum(ledger.board.counts().values()) == len(jobs)
    for state in State:
        assert ledger.board.counts()[state] == sum(j.state == state for j in jobs.values())
    last = max((n for job in jobs.values() for n in job.records), default=0)
    assert ledger.board.head()[0] == last


class Seen:
    """The progress that an opening made."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))


@pytest.fixture
def data(tmp_path: Path, open_ledger: Open, life: Life) -> Path:
    """A data directory with ten records in several segments, and its board. Closed."""
    ledger = open_ledger(segment_size=700)
    fill(ledger, life)
    ledger.close()
    return tmp_path


def test_a_new_one(tmp_path: Path, open_ledger: Open) -> None:
    ledger = open_ledger()
    assert (ledger.board.head(), ledger.torn) == ((0, GENESIS), None)
    assert_true(ledger, tmp_path)


def test_an_up_to_date_board_is_only_opened(data: Path, open_ledger: Open) -> None:
    seen = Seen()
    assert_true(open_ledger(progress=seen), data)
    assert seen.calls == []


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize("behind", [1, 4, 9])
def test_a_board_that_is_behind_catches_up(
    data: Path, open_ledger: Open, monkeypatch: pytest.MonkeyPatch, behind: int, chunk: int
) -> None:
    """As after a power cut, which may cost the board its newest transactions."""
    whole = b"".join(p.read_bytes() for p in sorted((data / "ledger").glob("*.jsonl")))
    lines = whole.splitlines(keepends=True)
    for path in [*(data / "ledger").glob("*.jsonl"), data / "board.sqlite"]:
        path.unlink()
    path = data / "ledger" / segment_name(1)
    path.write_bytes(b"".join(lines[:-behind]))
    open_ledger().close()
    path.write_bytes(whole)
    monkeypatch.setattr(rebuild, "CHUNK", chunk)
    monkeypatch.setattr(rebuild, "build", None)
    seen = Seen()
    assert_true(open_ledger(progress=seen), data)
    assert seen.calls[-1] == (10, 10)
    assert len(seen.calls) == -(-behind // chunk)


def destroy_nothing(board: Path) -> None:
    board.unlink()


def half(board: Path) -> None:
    board.write_bytes(board.read_bytes()[: board.stat().st_size // 2])


def noise(board: Path) -> None:
    board.write_bytes(b"this is no database" * 500)


def empty(board: Path) -> None:
    board.write_bytes(b"")


def older_version(board: Path) -> None:
    with closing(sqlite3.connect(board)) as db:
        db.executescript("PRAGMA user_version = 999")


def from_before_the_timeline(board: Path) -> None:
    """As version 1 wrote it: up to date, and without what is asked of it now."""
    with closing(sqlite3.connect(board)) as db:
        db.executescript(
            "DROP TRIGGER steps_back_new; DROP TABLE steps_back; DROP INDEX ran; DROP INDEX lost;"
            "ALTER TABLE jobs DROP COLUMN ran; ALTER TABLE jobs DROP COLUMN lost;"
            "ALTER TABLE jobs DROP COLUMN created; PRAGMA user_version = 1"
        )


def half_built(board: Path) -> None:
    with closing(sqlite3.connect(board)) as db:
        db.executescript("DELETE FROM head")


@pytest.mark.parametrize("chunk", [1, 3, 1000])
@pytest.mark.parametrize(
    "damage",
    [destroy_nothing, noise, empty, older_version, from_before_the_timeline, half_built, half],
)
def test_a_missing_or_damaged_board_is_built_anew(
    data: Path,
    open_ledger: Open,
    life: Life,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path], None],
    chunk: int,
) -> None:
    damage(data / "board.sqlite")
    monkeypatch.setattr(rebuild, "CHUNK", chunk)
    monkeypatch.setattr(rebuild, "CACHE", 0 if chunk == 1 else 1000)
    seen = Seen()
    ledger = open_ledger(progress=seen)
    assert_true(ledger, data)
    assert seen.calls[-1] == (10, 10)
    fill(ledger, life)
    assert_true(ledger, data)
    assert_true(open_ledger(), data)


class Jumps:
    """A clock that often stands still, and is set back now and then."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self) -> datetime:
        self.calls += 1
        hours = -5 if self.calls % 7 == 0 else 0
        return datetime(2024, 5, 1, tzinfo=UTC) + timedelta(minutes=self.calls // 9, hours=hours)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_a_board_built_anew_is_the_one_that_was_kept_up(
    tmp_path: Path, open_ledger: Open, life: Life, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """In every column of every table, also where the clock was set back and runs were lost."""
    ledger = open_ledger(clock=Jumps())
    for number in range(20):
        events = life()
        lost = Requeued(job=events[0].job, attempt=1, reason="w1 is lost")
        for event in (*events[:3], lost) if number % 3 else events:
            ledger.append(one(event))
    ledger.close()
    live = tables(tmp_path / "board.sqlite")
    assert len(live["steps_back"]) > 2
    (tmp_path / "board.sqlite").unlink()
    monkeypatch.setattr(rebuild, "CHUNK", chunk)
    open_ledger().close()
    assert tables(tmp_path / "board.sqlite") == live


def tables(board: Path) -> dict[str, list[tuple[Any, ...]]]:
    with closing(sqlite3.connect(board)) as db:
        db.execute("DELETE FROM counts WHERE n = 0")  # what once was there: says nothing
        names = [n for (n,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {name: sorted(db.execute(f"SELECT * FROM {name}"), key=repr) for name in names}


def test_a_board_of_another_chain_is_built_anew(
    tmp_path: Path, data: Path, open_ledger: Open, life: Life
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with closing(Ledger.open(other / "ledger", other / "board.sqlite")) as ledger:
        fill(ledger, life, jobs=9, name="another")
    shutil.copy(other / "board.sqlite", data / "board.sqlite")
    assert_true(open_ledger(), data)


def test_a_board_of_another_branch_is_built_anew(data: Path, open_ledger: Open, life: Life) -> None:
    """The ledger was restored from a backup, and went on from there."""
    shutil.copytree(data / "ledger", data / "backup")
    old = open_ledger()
    fill(old, life, name="lost with the disk")
    old.close()
    (data / "board.sqlite").rename(data / "old.sqlite")
    shutil.rmtree(data / "ledger")
    (data / "backup").rename(data / "ledger")
    new = open_ledger()
    fill(new, life, jobs=9, name="since the backup")
    new.close()
    (data / "old.sqlite").rename(data / "board.sqlite")
    assert_true(open_ledger(), data)


@pytest.mark.parametrize("lost", [1, 5, 10])
def test_a_ledger_shorter_than_its_board_is_refused(
    data: Path, open_ledger: Open, lost: int
) -> None:
    folder = data / "ledger"
    lines = b"".join(p.read_bytes() for p in sorted(folder.glob("*.jsonl"))).splitlines(True)
    for path in folder.glob("*.jsonl"):
        path.unlink()
    if lost < 10:
        (folder / segment_name(1)).write_bytes(b"".join(lines[:-lost]))
    board = (data / "board.sqlite").read_bytes()
    with pytest.raises(LedgerDamaged, match=f"ends with record {10 - lost}.*up to record 10"):
        open_ledger()
    assert (data / "board.sqlite").read_bytes() == board
    (data / "board.sqlite").unlink()  # as the hint says
    assert_true(open_ledger(), data)


def test_every_flipped_byte_of_the_last_acknowledged_record_is_refused(
    data: Path, open_ledger: Open
) -> None:
    """No later batch proves that it was synced, but the board does."""
    path = max((data / "ledger").glob("*.jsonl"))
    whole = path.read_bytes()
    start = whole[:-1].rfind(b"\n") + 1
    for at in range(start, len(whole)):
        wrong = bytearray(whole)
        wrong[at] ^= 1 << (at % 8)
        path.write_bytes(wrong)
        with pytest.raises(LedgerDamaged) as e:
            open_ledger()
        assert (e.value.file, e.value.line) == (str(path), whole[:at].count(b"\n") + 1)
        assert path.read_bytes() == wrong
    path.write_bytes(whole)
    assert_true(open_ledger(), data)


def test_a_torn_end_behind_the_board_is_cut_and_told(data: Path, open_ledger: Open) -> None:
    path = max((data / "ledger").glob("*.jsonl"))
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":11,"time":')
    ledger = open_ledger()
    assert ledger.torn is not None and "record 11" in ledger.torn and ".torn" in ledger.torn
    assert path.read_bytes() == whole
    assert_true(ledger, data)


@pytest.mark.parametrize("board", [True, False])
@pytest.mark.parametrize("which", ["twice", "too early"])
def test_rightly_sealed_nonsense_is_refused(
    data: Path, open_ledger: Open, life: Life, which: str, board: bool
) -> None:
    """A bug, or a hand that can hash: the chain holds, the events do not."""
    path = max((data / "ledger").glob("*.jsonl"))
    whole = path.read_bytes()
    first = next(check(data / "ledger", 0, GENESIS)).event
    event = first if which == "twice" else life()[2]
    path.write_bytes(whole + seal(11, TIME, event, 11, hash_of(whole)))
    if not board:
        (data / "board.sqlite").unlink()
    with pytest.raises(LedgerDamaged, match=r"twice|not legal"):
        open_ledger()


def test_a_board_that_cannot_be_made(data: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be brought up to date"):
        Ledger.open(data / "ledger", data / "no such folder" / "board.sqlite")
