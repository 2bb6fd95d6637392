"""What wakes the tick."""

from __future__ import annotations

import threading
import time

from primary.alarm import Alarm, Budget

LONG = 60.0  # seconds; a test that needs them has failed


def _waited(alarm: Alarm, longest: float) -> float:
    began = time.monotonic()
    alarm.wait(longest)
    return time.monotonic() - began


def test_a_ring_before_the_wait_ends_it_at_once_and_is_used_up() -> None:
    alarm = Alarm()
    alarm.ring()
    alarm.ring()
    assert _waited(alarm, LONG) < LONG / 2
    assert _waited(alarm, 0.05) >= 0.05


def test_a_ring_within_a_while_is_not_early_and_not_forgotten() -> None:
    alarm = Alarm()
    alarm.ring(within=0.1)
    assert 0.1 <= _waited(alarm, LONG) < LONG / 2


def test_the_earliest_ring_counts_also_for_one_who_waits_already() -> None:
    alarm = Alarm()
    alarm.ring(within=LONG)
    waited: list[float] = []
    thread = threading.Thread(target=lambda: waited.append(_waited(alarm, LONG)))
    thread.start()
    alarm.ring(within=LONG / 2)
    alarm.ring()
    thread.join(LONG / 2)
    assert waited


def test_a_peer_may_ring_so_often_and_no_oftener() -> None:
    budget = Budget(burst=3, rate=2)
    assert [budget.allows("w1", 10.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert budget.allows("w2", 10.0), "another one's rings are its own"
    assert [budget.allows("w1", 10.5) for _ in range(2)] == [True, False]
    assert [budget.allows("w1", 1000.0) for _ in range(4)] == [True] * 3 + [False]
