"""Why nothing happens: every reason, in the words that a user reads."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
import pytest

from ledger.events import KillRequested, Submitted
from ledger.jobs import Job
from primary import waiting
from primary.holders import Holder
from primary.nodes import Node
from primary.server import NewJob
from primary.waiting import Seat, View, Waiting, seats_of, why
from spool.names import key
from tests.primary.hand import MODEL, Hand, Worker, running, zipped
from tests.primary.ledgered import ID, folded, queued

ALIVE = Holder("w1", "alive", 1.0, 899.0, "")
SILENT = Holder(
    "w1", "unreachable", 40.0, 860.0, "worker w1, which has claimed it, has been silent"
)
URL = "https://example.org:8443/a/b.zip?secret=1"


def waits(attempt: int = 1, *, killed: bool = False) -> Job:
    job = folded(queued(attempt))
    return folded([KillRequested(job=ID, by="bob")], job) if killed else job


def created(url: str | None = URL, *, killed: bool = False) -> Job:
    said = Submitted(job=ID, name="x", model="test", by="ann", source="url", url=url)
    job = folded([said])
    return folded([KillRequested(job=ID, by="bob")], job) if killed else job


def seat(name: str = "w1", liveness: str = "alive", slots: int = 1, **more: Any) -> Seat:
    said: dict[str, Any] = {"silence": 40.0, "busy": 0, "same": 0, "paused": ""}
    return Seat(name, liveness, slots=slots, **(said | more))


def full(name: str, slots: int = 1) -> Seat:
    return seat(name, slots=slots, busy=slots, same=1)


PAUSED = seat(paused="less than 512 MiB free at /var/lib/worker")
OTHER_PAUSED = seat("w2", paused="3 runs in a row could not be started: \x1b[31m" + "no " * 200)
SILENT_SEAT = seat("w3", "unreachable")
FREE = (seat(),)

SENTENCES: list[tuple[Job, View, str]] = [
    # its input is not here yet
    (created(), View(0), "its input is being fetched from example.org"),
    (created(), View(0, no_room=True), "its input could not be fetched, since the primary's disk "
     "is full; it is tried again within a minute"),
    (created(killed=True), View(0), "it is to be killed, and its input is not fetched any more"),
    (created(None), View(0), "the primary has not entered all of it yet"),
    # the primary itself
    (waits(), View(3, FREE, broken="the last tick failed: x"),
     "the primary cannot work on its queues: the last tick failed: x"),
    (created(), View(0, broken="x"), "the primary cannot work on its queues: x"),
    (waits(), View(3, starting=True),
     "the primary has just started, and looks at its queues and workers first"),
    (waits(), View(0, FREE, withheld="flooded"), "the primary cannot offer it to workers: flooded"),
    (waits(), View(0, FREE, offered=False), "the primary is about to offer it to the workers"),
    (waits(killed=True), View(0, FREE),
     "it is to be killed: the primary takes it out of the queue"),
    # somebody has it
    (waits(), View(0, FREE, ALIVE), "worker w1 has taken it and fetches its input"),
    (waits(), View(0, FREE, SILENT), SILENT.remark),
    (waits(killed=True), View(0, FREE, ALIVE),
     "it is to be killed: worker w1, which has taken it, is told to stop"),
    # nobody could
    (waits(), View(0), "no living worker has this model"),
    (waits(), View(2), "no living worker has this model, and 2 jobs of this model are before it"),
    (waits(), View(0, (seat("w1", "stopped"), seat("w2", "lost", silence=3000.0))),
     "no living worker has this model (w1 is stopped, w2 has been silent for 50 min)"),
    (waits(), View(0, (seat("w1", "stopped"), SILENT_SEAT)),
     "the only worker with this model, w3, has been silent for 40 s"),
    (waits(), View(0, (PAUSED,)), "the only worker with this model, w1, is paused: "
     "less than 512 MiB free at /var/lib/worker"),
    (waits(), View(0, (PAUSED, SILENT_SEAT)), "no worker with this model takes jobs now: w1 is "
     "paused: less than 512 MiB free at /var/lib/worker, w3 has been silent for 40 s"),
    (waits(), View(0, tuple(seat(f"w{n}", "lost") for n in range(5))),
     "no living worker has this model (w0 has been silent for 40 s, w1 has been silent for 40 s, "
     "w2 has been silent for 40 s, and 2 more)"),
    # all are at work
    (waits(), View(0, (full("w1"),)),
     "the only slot of the only worker with this model, w1, is busy"),
    (waits(), View(1, (full("w1", 2),)), "1 job of this model is before it, and both slots of the "
     "only worker with this model, w1, are busy"),
    (waits(), View(1200, (full("w1"), full("w2", 2), PAUSED)), "1,200 jobs of this model are "
     "before it, and all 3 slots of the workers with this model, w1 and w2, are busy"),
    (waits(), View(0, tuple(full(f"w{n}") for n in range(6))),
     "all 6 slots of the workers with this model, w0, w1, w2 and 3 more, are busy"),
    (waits(), View(0, (seat(slots=4, busy=1, same=1),)),
     "worker w1 runs at most one job of this model at a time, and does so now"),
    (waits(), View(0, (seat(slots=4, busy=3, same=2), seat("w2", slots=4, busy=2, same=2)),
                   parallel=2),
     "workers run at most 2 jobs of this model at a time, and w1 and w2 do so now"),
    # it goes on
    (waits(), View(2, FREE), "2 jobs of this model are before it"),
    (waits(), View(0, FREE),
     "it is offered to the workers; w1 can take it and will look in a moment"),
    (waits(2), View(0, FREE), "it is offered to the workers; w1 can take it and will look in a "
     "moment; this is attempt 2, since lost"),
    (waits(3), View(1, FREE), "1 job of this model is before it; this is attempt 3, since lost"),
    (waits(2), View(0, FREE, ALIVE),
     "worker w1 has taken it and fetches its input; this is attempt 2, since lost"),
]  # fmt: skip


@pytest.mark.parametrize(("job", "view", "sentence"), SENTENCES, ids=[s[2][:50] for s in SENTENCES])
def test_every_reason(job: Job, view: View, sentence: str) -> None:
    assert why(job, view) == sentence


def test_there_is_always_a_reason_and_it_is_one_line() -> None:
    some = [FREE[0], full("w2"), PAUSED, OTHER_PAUSED, SILENT_SEAT, seat("w4", "lost")]
    seats = [s for n in range(4) for s in itertools.combinations(some, n)]
    jobs = [waits(a, killed=k) for a in (1, 2) for k in (False, True)]
    jobs += [created(url, killed=k) for url in (URL, None, "x") for k in (False, True)]
    for job, place, who in itertools.product(jobs, (0, 1, 7), seats):
        for holder, offered, withheld in ((None, True, ""), (ALIVE, True, ""), (None, False, "x")):
            text = why(job, View(place, who, holder, 1, offered, withheld))
            assert text and not text[0].isupper() and not text.endswith(".")
            assert text.isprintable() and len(text) < 1000
            assert not [bad for bad in ("None", "  ", ", ,", "secret") if bad in text]


def node(name: str = "w1", paused: str = "", jobs: tuple[str, ...] = (), slots: int = 2) -> Node:
    return Node(
        name=name, node_url="", node_type="WORKER", status="WAITING", liveness="alive",
        models={"test": "1"}, slots=slots, jobs=jobs, paused=paused, last_seen=1.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("paused", "is_paused"),
    [
        ("", False),
        ("less than 512 MiB free at /x", True),
        ("model test: 3 runs in a row could not be started: x", True),
        ("model test_2: 3 runs in a row could not be started: x", False),
        ("model a: 3 runs in a row could not be started: x; model test: 4 runs in a row", True),
        ("model a: 3 runs in a row x; 3 runs in a row, of different models, could not be", True),
    ],
)
def test_a_pause_of_other_models_is_none_of_this_one(paused: str, is_paused: bool) -> None:
    (found,) = seats_of("test", [node(paused=paused)], 1, lambda _: None)
    assert bool(found.paused) == is_paused


def test_seats_are_of_the_model_s_workers_and_what_they_run() -> None:
    board = {"a": "test", "b": "other", "c": "test"}
    asked: list[str] = []

    def model_of(id: str) -> str | None:
        asked.append(id)
        return board.get(id)

    nodes = [
        msgspec.structs.replace(node("primary"), node_type="PRIMARY"),
        msgspec.structs.replace(node("w0"), models={"other": "1"}),
        node("w1", jobs=("a", "gone"), slots=3),
        node("w2", jobs=("b", "c"), slots=2),
        node("w3", jobs=("b",)),
        node("w4", jobs=("a",)),
    ]
    found = seats_of("test", nodes, 1, model_of)
    assert [(s.name, s.slots, s.busy, s.same) for s in found[:3]] == [
        ("w1", 3, 2, 1),
        ("w2", 2, 2, 0),
        ("w3", 2, 1, 0),
    ]
    assert asked == ["a", "gone", "b"], "w3 can run it: nobody asks any further"


# --- as the primary knows it -------------------------------------------------------------


def told(hand: Hand, job: Job) -> Waiting:
    found = hand.primary.waiting(hand.job(job))
    assert found is not None
    return found


def test_from_submission_to_the_run(hand: Hand, w1: Worker) -> None:
    first, second = hand.submit(), hand.submit()
    assert told(hand, first) == Waiting(0, "no living worker has this model")
    w1.beat(models={"test": "1"})
    hand.primary._loop._hear(["w1"], hand.now)
    assert told(hand, first).why == "the primary is about to offer it to the workers"
    hand.tick()
    assert told(hand, first).why.startswith("it is offered to the workers; w1 can take it")
    assert told(hand, second) == Waiting(1, "1 job of this model is before it")
    hand.restart()
    w1.beat(models={"test": "1"})
    assert told(hand, first).why.startswith("the primary has just started")
    hand.settle()
    assert told(hand, first).why.startswith("it is offered to the workers"), "as it was before"
    claim = w1.claim()
    w1.beat(claim, models={"test": "1"})
    hand.tick()
    assert told(hand, first).why == "worker w1 has taken it and fetches its input"
    w1.started(claim)
    hand.tick()
    assert hand.primary.waiting(hand.job(first)) is None
    busy = "the only slot of the only worker with this model, w1, is busy"
    assert told(hand, second) == Waiting(0, busy)
    w1.beat(claim, models={"test": "1"}, slots=3)
    hand.tick()
    assert told(hand, second).why.startswith("worker w1 runs at most one job of this model")
    hand.add_model("test", f"parallel = 2\n{MODEL}")
    w1.beat(claim, models={"test": "1"}, slots=3, paused="no disk")
    hand.tick()
    assert told(hand, second).why == "the only worker with this model, w1, is paused: no disk"
    w1.beat(claim, models={"test": "1"}, slots=3)
    hand.tick()
    assert told(hand, second).why.startswith("it is offered to the workers; w1 can")
    w1.final(claim)
    hand.tick(2)
    assert hand.primary.waiting(hand.job(first)) is None


def test_who_asks_again_reads_no_other_job(
    hand: Hand, w1: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, claim = running(hand, w1)
    job, board = hand.submit(), hand.primary._ledger.board
    w1.beat(claim, models={"test": "1"}, slots=3)
    hand.tick()
    before = hand.primary.waiting(job)
    assert before is not None and before.why.startswith("worker w1 runs at most one job")
    asked: list[str] = []
    monkeypatch.setattr(board, "job", asked.append)
    assert hand.primary.waiting(job) == before
    assert asked == []


def test_not_all_jobs_are_remembered(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "REMEMBERED", 2)
    hand.add_model("other")
    hand.tick()
    jobs = [hand.submit(model=model) for model in ("test", "other", "other", "test")]
    queues = hand.primary._queues
    for _ in range(2):
        assert [queues._of_job(job.id) for job in jobs] == ["test", "other", "other", "test"]
        assert len(queues._model_of) <= 2
    assert queues._of_job(ID) is None


def test_a_worker_that_is_silent_and_one_that_is_lost(hand: Hand, w1: Worker, w2: Worker) -> None:
    job = hand.submit()
    hand.tick()
    claim = w1.claim()
    w1.beat(claim, models={"test": "1"})
    hand.tick()
    hand.pass_time(40, alive=lambda: w2.beat(models={"test": "1"}))
    assert told(hand, job).why.startswith("worker w1, which has claimed it, has been silent for")
    hand.pass_time(900, alive=lambda: w2.beat(models={"test": "1"}))
    assert hand.job(job).attempt == 2
    text = told(hand, job).why
    assert text.startswith("it is offered to the workers; w2 can take it")
    assert "; this is attempt 2, since worker w1 was silent for" in text
    assert key(job.id, 1) == claim.key


def test_what_is_fetched_and_what_the_primary_cannot_publish(
    hand: Hand, w1: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand.submit()
    far = hand.primary.submit_url(NewJob(name="x", model="test", by="ann"), URL)
    assert told(hand, far) == Waiting(1, "its input is being fetched from example.org")
    hand.primary._submissions._later[far.id] = float("inf")
    assert "the primary's disk is full" in told(hand, far).why
    w1.beat(models={"blocked": "1"})
    hand.add_model("blocked")
    hand.tick()
    (hand.spool / "models" / "blocked" / "new").rmdir()
    (hand.spool / "models" / "blocked" / "new").touch()
    job = hand.submit(zipped(), model="blocked")
    hand.tick(2)
    assert told(hand, job).why.startswith("the primary cannot offer it to workers: ")

    def fail(_: object) -> None:
        raise RuntimeError("some bug")

    with monkeypatch.context() as patch:
        patch.setattr(hand.primary, "tick", fail)
        hand.primary._tick_once()
    assert "the primary cannot work on its queues" in told(hand, job).why
