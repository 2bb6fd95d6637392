"""A log on its way: looked at often, sent seldom, whole in the end. The clock is ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.shipping import AFTER_FAILURE, Shipping
from spool.claims import LOG_CHUNK, Claims
from spool.dispatch import Dispatch
from spool.errors import Unreachable
from spool.local import LocalTransport, make_worker_folder
from tests.lossy import LossyTransport

KEY = "0b6f3c1e-5b0a-4b62-9d7f-0123456789ab.1"


class Way:
    def __init__(self, root: Path) -> None:
        dispatch = Dispatch(root / "spool")
        dispatch.lay_out([])
        make_worker_folder(dispatch.root, "w1")
        self.line = LossyTransport(LocalTransport(dispatch.root))
        self.claims = Claims(self.line, "w1", "1" * 16)
        self.log = root / "log"
        self.arrived = dispatch.root / f"workers/w1/log/{KEY}.log"
        self.progress: list[int] = []

    def shipping(self, pace: float) -> Shipping:
        return Shipping(self.claims, KEY, self.log, pace, self.progress.append)

    def write(self, data: bytes) -> None:
        with self.log.open("ab") as file:
            file.write(data)

    @property
    def appends(self) -> int:
        return self.line.count("append")


@pytest.fixture
def way(tmp_path: Path) -> Way:
    return Way(tmp_path)


def test_lines_that_trickle_are_collected(way: Way) -> None:
    shipping = way.shipping(1.0)
    shipping.begin(resumed=False)
    for quarter in range(40):
        way.write(b"line\n")
        shipping.look(quarter / 4)
    assert way.appends == 10
    shipping.finish(200, anew=False)
    assert way.arrived.read_bytes() == b"line\n" * 40
    assert way.line.count("check") == 0


def test_a_log_that_does_not_grow_is_not_sent(way: Way) -> None:
    shipping = way.shipping(0.0)
    shipping.begin(resumed=False)
    shipping.look(0.0)  # there is none yet
    assert way.appends == 0
    way.write(b"")
    for now in range(10):
        shipping.look(float(now))
    assert way.appends == 1  # the empty file, once
    assert way.arrived.read_bytes() == b""
    way.write(b"x")
    for now in range(10, 20):
        shipping.look(float(now))
    assert way.appends == 2


def test_a_flood_does_not_wait(way: Way) -> None:
    shipping = way.shipping(3600.0)
    shipping.begin(resumed=False)
    way.write(b"first\n")
    shipping.look(0.0)
    way.write(b"x" * LOG_CHUNK)
    shipping.look(0.25)
    assert way.arrived.stat().st_size == 6 + LOG_CHUNK


def test_what_could_not_be_sent_is_sent_later_from_there(way: Way) -> None:
    shipping = way.shipping(0.0)
    shipping.begin(resumed=False)
    way.write(b"one ")
    shipping.look(0.0)
    way.write(b"two ")
    way.line.down()
    shipping.look(1.0)
    tried = way.appends
    shipping.look(1.1)  # not at every look
    assert way.appends == tried
    way.line.up()
    shipping.look(1.1 + AFTER_FAILURE)
    assert way.arrived.read_bytes() == b"one two "


@pytest.mark.parametrize("lost", ["request", "answer"])
def test_a_lost_append_is_repeated_and_changes_nothing(way: Way, lost: str) -> None:
    shipping = way.shipping(0.0)
    way.write(b"one ")
    way.line.lose_once("append", "log/", lost)  # type: ignore[arg-type]
    with pytest.raises(Unreachable):
        shipping.finish(4, anew=False)
    shipping.finish(4, anew=False)
    assert way.arrived.read_bytes() == b"one "


def test_another_agent_goes_on_where_the_first_one_stood(way: Way) -> None:
    way.write(b"one ")
    first = way.shipping(0.0)
    first.begin(resumed=False)
    first.look(0.0)
    way.write(b"two")
    second = way.shipping(0.0)
    second.begin(resumed=True)
    second.look(0.0)
    assert way.arrived.read_bytes() == b"one two"
    assert way.appends == 2


@pytest.mark.parametrize("lies", [b"falsified!!", b"lon"], ids=["longer", "of another's hand"])
def test_what_was_not_believed_begins_anew(way: Way, lies: bytes) -> None:
    way.write(b"log")
    way.arrived.write_bytes(lies)
    way.shipping(0.0).finish(3, anew=len(lies) == 3)
    assert way.arrived.read_bytes() == b"log"


def test_progress_is_heard_as_it_is_sent(way: Way) -> None:
    shipping = way.shipping(0.0)
    shipping.begin(resumed=False)
    way.write(b"::progress 5\nwork\n::progress 40 half\n")
    shipping.look(0.0)
    assert way.progress == [40]
