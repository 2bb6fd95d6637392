"""Wrong keys: a few are free, then it takes ever longer, for one sender and for nobody else."""

from __future__ import annotations

import pytest

from web import tries
from web.tries import FIRST, FORGET, FREE, LONGEST, Tries, network


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(clock: Clock) -> Tries:
    return Tries(clock)


def test_a_few_are_free_and_then_it_takes_longer_each_time(guard: Tries, clock: Clock) -> None:
    for _ in range(FREE - 1):
        assert guard.failed("192.0.2.1") == 0.0
    assert guard.wait("192.0.2.1") == 0.0
    waits = []
    for _ in range(12):
        waits.append(guard.failed("192.0.2.1"))
        assert guard.wait("192.0.2.1") == waits[-1]
        clock.now += waits[-1]
        assert guard.wait("192.0.2.1") == 0.0
    assert waits[:3] == [FIRST, 2 * FIRST, 4 * FIRST]
    assert waits == sorted(waits) and waits[-1] == LONGEST
    assert guard.wait("192.0.2.2") == 0.0, "nobody else waits"


def test_all_is_forgotten_after_a_while(guard: Tries, clock: Clock) -> None:
    for _ in range(40):
        guard.failed("192.0.2.1")
    clock.now += FORGET + 1
    assert guard.failed("192.0.2.1") == 0.0


def test_memory_is_bounded(guard: Tries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tries, "MANY", 100)
    for n in range(1000):
        guard.failed(f"10.0.{n // 256}.{n % 256}")
    assert len(guard._failed) == 100
    for _ in range(FREE):  # whoever is at it now is not forgotten for old ones
        guard.failed("10.9.9.9")
    assert guard.wait("10.9.9.9") == FIRST


@pytest.mark.parametrize(
    ("address", "counted"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("unknown", "unknown"),
        ("x" * 1000, "x" * 100),
    ],
)
def test_what_counts_as_one_sender(address: str, counted: str) -> None:
    assert network(address) == counted
