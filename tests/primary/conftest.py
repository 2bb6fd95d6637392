"""A primary that is ticked by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.primary.hand import Hand, Worker, by_hand


@pytest.fixture
def hand(tmp_path: Path) -> Iterator[Hand]:
    with by_hand(tmp_path) as made:
        made.settle()
        yield made


@pytest.fixture
def w1(hand: Hand) -> Worker:
    return hand.worker("w1", "1" * 16)


@pytest.fixture
def w2(hand: Hand) -> Worker:
    return hand.worker("w2", "2" * 16)
