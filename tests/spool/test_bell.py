"""The bell wakes when it rings and when it is back; to watch it costs one request a look."""

from __future__ import annotations

from pathlib import Path

import pytest

from spool.bell import BellWatch
from spool.dispatch import Dispatch
from spool.errors import Gone, SpoolError, Unreachable
from spool.local import LocalTransport
from tests.lossy import LossyTransport
from tests.system import wait_for


class Ears:
    """What a watch told."""

    def __init__(self, root: Path) -> None:
        self.dispatch = Dispatch(root / "spool")
        self.dispatch.lay_out([])
        self.line = LossyTransport(LocalTransport(root / "spool"))
        self.woken = 0
        self.told: list[SpoolError | None] = []
        self.watch = BellWatch(self.line, self.wake, told=self.told.append, idle=0.01)

    def wake(self) -> None:
        self.woken += 1


@pytest.fixture
def ears(tmp_path: Path) -> Ears:
    return Ears(tmp_path)


def test_the_first_look_wakes_and_then_only_a_ring(ears: Ears) -> None:
    ears.watch.look()
    assert ears.woken == 1  # whatever was published before
    for _ in range(5):
        ears.watch.look()
    assert ears.woken == 1
    ears.dispatch.ring()
    ears.watch.look()
    ears.watch.look()
    assert ears.woken == 2
    assert ears.line.calls == [("check", "bell")] * 8


def test_a_look_that_fails_in_an_unknown_way_does_not_end_the_watch(
    ears: Ears, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: str) -> int | None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ears.line, "check", broken)
    ears.watch.start()
    wait_for(lambda: "no look at the bell" in caplog.text, "the failure to be logged")
    monkeypatch.undo()
    wait_for(lambda: ears.woken, "the next look")
    ears.watch.stop()


def test_it_wakes_when_the_bell_can_be_seen_again(ears: Ears) -> None:
    ears.watch.look()
    ears.line.down()
    for _ in range(3):
        ears.watch.look()
    assert ears.woken == 1
    assert [type(e) for e in ears.told] == [type(None), *[Unreachable] * 3]
    ears.line.up()
    ears.watch.look()
    assert ears.woken == 2  # it may have rung meanwhile
    assert ears.told[-1] is None


def test_a_bell_that_is_gone_is_told(ears: Ears) -> None:
    (ears.dispatch.root / "bell").unlink()
    ears.watch.look()
    assert isinstance(ears.told[-1], Gone)
    assert ears.woken == 0


def test_a_bell_that_was_made_anew_wakes(ears: Ears) -> None:
    for _ in range(3):
        ears.dispatch.ring()
    ears.watch.look()
    (ears.dispatch.root / "bell").write_bytes(b"")
    ears.watch.look()
    assert ears.woken == 2


def test_the_thread_looks_until_it_is_stopped(ears: Ears) -> None:
    ears.watch.start()
    wait_for(lambda: ears.woken == 1, "the first look")
    ears.dispatch.ring()
    wait_for(lambda: ears.woken == 2, "the ring")
    ears.watch.stop()
    seen = len(ears.line.calls)
    ears.dispatch.ring()
    assert len(ears.line.calls) == seen
    assert ears.woken == 2


def test_a_look_that_hangs_does_not_hold_up_the_end(ears: Ears) -> None:
    ears.line.hangs.set()
    ears.watch.start()
    wait_for(lambda: ears.line.calls, "a look that hangs")
    ears.watch.stop(patience=0.05)
    ears.line.freed.set()
    wait_for(lambda: ears.told, "the look's end")
