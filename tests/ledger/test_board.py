"""What can be asked of the board, held against the same question asked of a plain list."""

from __future__ import annotations

import random
import sqlite3
import threading
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import msgspec
import pytest

from ledger import queries
from ledger.board import Board, Page, Query
from ledger.codec import GENESIS
from ledger.jobs import FINAL, GivenUp, Job, State
from ledger.rebuild import build
from ledger.times import normal, stamp

MODELS = ["test", "test_2", "glpsol"]


def created(seq: int) -> str:
    """A job a minute; the clock is set back twice, and is once a year ahead for one job."""
    year = 2025 if seq == 250 else 2024
    minutes = seq - 60 * (100 <= seq < 140) - 30 * (seq >= 200)
    return stamp(datetime(year, 5, 1, tzinfo=UTC) + timedelta(minutes=minutes, seconds=seq % 60))


def made(seq: int, chance: random.Random) -> Job:
    """Some job; its sequence number decides nothing else."""
    state = chance.choice(list(State))
    ended = f"2024-05-{chance.randrange(1, 29):02}T09:30:00.000000Z"
    return Job(
        id=str(uuid.UUID(int=chance.getrandbits(128))),
        name=chance.choice(["Größe", "100%", "a_b", "aXb", r"back\slash", "Run", "run 2", "'; --"]),
        model=chance.choice(MODELS),
        state=state,
        by="ann",
        source="drop",
        drop=chance.choice([None, "a.zip"]),
        seq=seq,
        created=created(seq),
        updated=ended,
        queued_seq=None if state == State.CREATED else chance.randrange(10**6),
        kill_by=chance.choice([None, "bob"]),
        ended=ended if state in FINAL else None,
        purged=state in FINAL and chance.random() < 0.3,
        worker=chance.choice([None, "w1"]) if state in FINAL else None,
        given_up=tuple(
            GivenUp(n + 1, "w2", "2024-05-01T00:00:00.000000Z", f"2024-05-{n:02}T00:00:00.000000Z")
            for n in range(1, chance.randrange(1, 4))
        ),
    )


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    build(tmp_path / "board.sqlite", [], lambda _: None)
    board = Board.open(tmp_path / "board.sqlite")
    assert board is not None
    yield board
    board.close()


@pytest.fixture
def jobs(board: Board) -> list[Job]:
    """Jobs on the board, newest first; all were another job's self before."""
    chance = random.Random(1)
    first = [made(seq, chance) for seq in range(1, 301)]
    board.apply(first, 300, "1" * 64, "2" * 64)
    kept = msgspec.structs.replace
    second = [
        kept(made(job.seq, chance), id=job.id, name=job.name, model=job.model) for job in first
    ]
    board.apply(second[:200], 301, "3" * 64)
    board.apply(second[200:], 302, "4" * 64)
    return second[::-1]


def matches(job: Job, query: Query) -> bool:
    text = (query.text or "").lower()
    return (
        (not query.states or job.state in query.states)
        and (query.model is None or job.model == query.model)
        and (query.text is None or text in job.name.lower() or job.id.startswith(text))
        and (query.since is None or normal(query.since) <= job.created)
        and (query.until is None or job.created < normal(query.until))
    )


def pages(board: Board, query: Query) -> Iterator[Page]:
    while True:
        page = board.jobs(query)
        yield page
        if page.next is None:
            return
        query = msgspec.structs.replace(query, before=page.next)


QUERIES = [
    Query(states=states, model=model, text=text)
    for states, model, text in product(
        [frozenset[State](), frozenset({State.QUEUED}), FINAL, frozenset(State)],
        [None, "test", "test_2", "nothing"],
        [None, "", "run", "0%", "%", "_", "a_b", "\\", "'", "größe"[:2], "nowhere"],
    )
]


def test_every_query(board: Board, jobs: list[Job]) -> None:
    for query in QUERIES:
        expected = [job for job in jobs if matches(job, query)]
        assert board.count(query) == len(expected)
        for limit in (1, 7, 300, 1000):
            if limit == 1 and len(expected) > 20:
                continue
            found = list(pages(board, msgspec.structs.replace(query, limit=limit)))
            assert [job for page in found for job in page.jobs] == expected
            assert all(len(page.jobs) == limit for page in found[:-1])


MOMENTS = [
    None,
    "2020-01-01",
    created(1),
    "2024-05-01T00:40:00Z",
    created(100),
    "2024-05-01T01:40:30.5Z",
    created(140),
    "2024-05-01T04:15:00+02:00",
    created(299),
    "2024-05-02",
    created(250),
    "2030-01-01",
]


@pytest.mark.parametrize("many", [0, 200])
def test_every_query_within_a_time(
    board: Board, jobs: list[Job], monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    """Also with more steps back than are searched between."""
    monkeypatch.setattr(queries, "MANY_STEPS", many)
    wanted = [Query(), Query(model="test"), Query(states=FINAL), Query(text="run")]
    wanted.append(Query(model="test_2", states=frozenset({State.KILLED}), text="a"))
    for query, since, until in product(wanted, MOMENTS, MOMENTS):
        query = msgspec.structs.replace(query, since=since, until=until)
        expected = [job for job in jobs if matches(job, query)]
        assert board.count(query) == len(expected)
        query = msgspec.structs.replace(query, limit=1 + len(expected) // 2)
        assert [job for page in pages(board, query) for job in page.jobs] == expected


def test_a_cursor_from_elsewhere_leads_no_further_than_the_time(
    board: Board, jobs: list[Job]
) -> None:
    query = Query(until=created(50), before=10**9, limit=1000)
    assert board.jobs(query).jobs == tuple(job for job in jobs if job.created < created(50))


def test_a_time_that_is_none(board: Board) -> None:
    for time in ("", "yesterday", "2024-13-01", "0001-01-01T00:00:00+05:00"):
        with pytest.raises(ValueError, match=r"Invalid isoformat|month must be|years 1 to 9999"):
            board.jobs(Query(since=time))


def test_text_finds_the_beginning_of_an_id(board: Board, jobs: list[Job]) -> None:
    for length in (6, 8, 36):
        assert jobs[5] in board.jobs(Query(text=jobs[5].id[:length])).jobs
    assert board.jobs(Query(text=jobs[5].id[3:])).jobs == ()
    assert board.jobs(Query(text=jobs[5].id[:8].upper())).jobs == (jobs[5],)


def test_limits_are_limited(board: Board, jobs: list[Job]) -> None:
    assert len(board.jobs(Query(limit=0)).jobs) == len(board.jobs(Query(limit=-5)).jobs) == 1
    assert len(board.jobs(Query(limit=10**9)).jobs) == len(jobs)


def test_one_job(board: Board, jobs: list[Job]) -> None:
    assert [board.job(job.id) for job in jobs] == jobs
    assert board.job(str(uuid.uuid4())) is None


def test_counts(board: Board, jobs: list[Job]) -> None:
    expected = {state: sum(job.state == state for job in jobs) for state in State}
    assert board.counts() == expected


def test_the_queue(board: Board, jobs: list[Job]) -> None:
    queued = [job for job in jobs if job.state == State.QUEUED]
    assert board.queued_models() == sorted({job.model for job in queued})
    for model in [*MODELS, "nothing"]:
        expected = sorted(
            (job for job in queued if job.model == model), key=lambda job: job.queued_seq or 0
        )
        assert board.queue(model, 1000) == expected
        assert board.queue(model, 3) == expected[:3]
        assert [board.place(job) for job in expected] == list(range(len(expected)))


def test_what_the_primary_looks_after(board: Board, jobs: list[Job]) -> None:
    oldest = jobs[::-1]
    assert board.created() == [job for job in oldest if job.state == State.CREATED]
    assert board.active() == [j for j in oldest if j.state in (State.RUNNING, State.PROCESSED)]
    assert board.kill_wanted() == [job for job in oldest if job.kill_by and not job.final]
    dropped = [job for job in jobs if job.drop and not job.purged]
    assert board.dropped() == dropped
    assert board.dropped(limit=4) == dropped[:4]
    assert board.dropped("test") == [job for job in dropped if job.model == "test"]


def test_what_ran_and_what_was_lost(board: Board, jobs: list[Job]) -> None:
    time = "2024-05-15T00:00:00.000000Z"
    expected = [job for job in jobs if job.worker and job.ended and job.ended >= time]
    assert any(job.purged for job in expected), "a run is shown although its files are gone"
    found = board.ran_since(time, 1000)
    assert sorted(found, key=lambda job: -job.seq) == expected
    assert [job.ended for job in found] == sorted((job.ended or "" for job in found), reverse=True)
    assert board.ran_since(time, 2) == found[:2]
    late = "2024-05-02T00:00:00.000000Z"
    expected = [job for job in jobs if job.given_up and job.given_up[-1].ended >= late]
    found = board.lost_since(late, 1000)
    assert expected and sorted(found, key=lambda job: -job.seq) == expected
    assert board.lost_since(late, 2) == found[:2]


def test_retention(board: Board, jobs: list[Job]) -> None:
    time = "2024-05-15T00:00:00.000000Z"
    expected = [job for job in jobs if job.ended and job.ended < time and not job.purged]
    found = board.final_before(time, 1000)
    assert sorted(found, key=lambda job: -job.seq) == expected
    assert [job.ended for job in found] == sorted(job.ended or "" for job in found)
    assert board.final_before(time, 2) == found[:2]


def test_nothing_depends_on_how_many_there_are(board: Board, jobs: list[Job]) -> None:
    """The statements are answered from an index: none scans or sorts the table."""
    assert jobs
    seen: list[str] = []
    with board._reader() as connection:
        connection.set_trace_callback(seen.append)
    board.jobs(Query())
    board.jobs(Query(text="run"))
    board.queue("test", 3)
    board.created()
    board.active()
    board.kill_wanted()
    board.dropped()
    board.final_before("2025", 1)
    board.ran_since("2024", 1)
    board.lost_since("2024", 1)
    board.job("x")
    waits = next(job for job in jobs if job.state == State.QUEUED)
    board.place(waits)
    for times in (("2024-05-01", "2024-05-02"), ("2024-05-01T02:00Z", None)):
        for states, model in product([frozenset[State](), FINAL], [None, "test"]):
            query = Query(states=states, model=model, since=times[0], until=times[1])
            board.jobs(query)
            board.count(query)
    with board._reader() as connection:
        connection.set_trace_callback(None)
        for sql in seen:
            plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}")]
            assert not [step for step in plan if step == "SCAN jobs"], (sql, plan)
    assert len(seen) > 50


def test_an_apply_that_fails_changes_nothing(board: Board, jobs: list[Job]) -> None:
    again = msgspec.structs.replace(jobs[0], seq=999)  # another job's id
    counts = board.counts()
    fresh = made(1000, random.Random(3))
    with pytest.raises(sqlite3.IntegrityError):
        board.apply([fresh, again], 303, "5" * 64)
    assert board.unchanged()
    assert (board.head(), board.counts()) == ((302, "4" * 64), counts)
    assert board.job(fresh.id) is None
    board.apply([fresh], 303, "5" * 64)
    assert board.jobs(Query(limit=1)).jobs == (fresh,)


def test_head_and_origin_last(board: Board, jobs: list[Job]) -> None:
    assert jobs and board.head() == (302, "4" * 64)
    board.close()
    again = Board.open(board.path)
    assert again is not None
    assert (again.head(), again.origin) == ((302, "4" * 64), "2" * 64)
    again.close()


def test_an_empty_board(board: Board) -> None:
    assert (board.head(), board.origin) == ((0, GENESIS), GENESIS)
    assert board.jobs(Query()) == Page((), None)
    assert set(board.counts().values()) == {0}


def test_reads_from_many_threads_while_it_changes(board: Board, jobs: list[Job]) -> None:
    problems: list[BaseException] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                assert len(board.jobs(Query(limit=50)).jobs) == 50
                assert sum(board.counts().values()) >= len(jobs)
        except BaseException as e:  # noqa: BLE001 (threads keep their errors to themselves)
            problems.append(e)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    chance = random.Random(2)
    for seq in range(400, 440):
        board.apply([made(seq, chance)], seq, "6" * 64)
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []


def test_a_closed_board(board: Board) -> None:
    board.close()
    board.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        board.counts()
