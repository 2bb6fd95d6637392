"""What is logged and what stands in the beats, by the clock; and pauses between tries."""

from __future__ import annotations

import pytest

from engine.backoff import Backoff
from engine.complaints import AGAIN, AGED, FRESH, MANY, Complaints


def test_the_same_words_are_logged_once_an_hour() -> None:
    said = Complaints()
    assert said.met("a", 0.0)
    assert said.met("b", 1.0)
    assert not said.met("a", 2.0)
    assert not said.met("b", 3.0)
    assert said.met("a", AGAIN)
    assert not said.met("b", AGAIN)


def test_many_different_words_are_forgotten_in_turn() -> None:
    said = Complaints()
    for n in range(MANY + 1):
        assert said.met(f"{n}", 0.0)
    assert said.met("0", 0.0)
    assert not said.met(f"{MANY}", 0.0)


def test_an_error_is_shown_with_its_age_and_then_no_more() -> None:
    said = Complaints()
    assert said.shown(0.0) == ""
    said.met("the disk is full", 0.0)
    assert said.shown(AGED) == "the disk is full"
    assert said.shown(5 * 60.0) == "the disk is full (5 min ago)"
    said.met("the disk is full", 600.0)  # met again: as fresh as ever, though not logged
    assert said.shown(600.0 + AGED) == "the disk is full"
    assert said.shown(601.0 + FRESH) == ""


def test_away_and_back_are_told_once_whoever_sees_it() -> None:
    said = Complaints()
    assert said.reached("look", 0.0) is None
    assert said.reachable
    assert said.lost("bell", "line", "cut", 10.0)
    assert not said.lost("look", "line", "cut, too", 11.0)
    assert not said.lost("bell", "line", "cut", 12.0)
    assert not said.reachable
    assert said.reached("bell", 20.0) is None  # the other one is still away
    assert said.reached("look", 70.0) == 70.0  # since the last answer that came
    assert said.reached("look", 71.0) is None
    assert said.reachable
    assert said.shown(72.0) == "the primary could not be reached for 70 s"
    assert said.shown(71.0 + FRESH) == ""
    assert said.lost("beat", "line", "cut", 2000.0)


def test_an_outage_counts_from_the_last_answer_whoever_got_it() -> None:
    said = Complaints()
    said.reached("look", 90.0)
    said.reached("bell", 100.0)
    said.lost("beat", "line", "no answer for 30 s", 135.0)
    assert said.reached("bell", 150.0) is None  # of those that do not miss it
    assert said.reached("beat", 160.0) == 60.0
    said.lost("beat", "line", "cut", 165.0)
    assert said.reached("beat", 170.0) == 10.0


def test_another_kind_of_reason_is_news_once() -> None:
    said = Complaints()
    assert said.lost("look", "line", "cut", 0.0)
    assert said.lost("look", "account", "no key is accepted", 1.0)
    assert not said.lost("look", "line", "cut again", 2.0)
    assert not said.lost("beat", "account", "no key is accepted", 3.0)
    assert said.shown(3.0) == "no key is accepted"
    assert said.reached("look", 4.0) is None
    assert said.reached("beat", 4.0) == 4.0
    assert said.lost("look", "account", "no key is accepted", 5.0)


def test_what_was_logged_before_an_outage_is_logged_again_after_it() -> None:
    said = Complaints()
    said.met("a", 0.0)
    said.lost("look", "line", "cut", 1.0)
    said.reached("look", 2.0)
    assert said.met("a", 3.0)


@pytest.mark.parametrize("seed", ["a", "b", "c"])
def test_pauses_double_up_to_the_longest_and_begin_anew(seed: str) -> None:
    pauses = Backoff(0.5, 30.0, seed)
    for n in range(12):
        full = min(30.0, 0.5 * 2**n)
        assert full / 2 <= pauses.next() <= full
    pauses.reset()
    assert pauses.next() <= 0.5


def test_no_two_come_back_in_the_same_moment() -> None:
    assert len({Backoff(0.5, 30.0, f"{n:016x}").next() for n in range(100)}) > 90
