"""When a worker stops claiming, by enumeration of who fails after whom."""

from __future__ import annotations

import itertools

import pytest

from engine.pauses import PAUSE, QUICK_FAILURES, Pauses


def test_one_broken_model_pauses_itself_and_no_other() -> None:
    pauses = Pauses()
    for n in range(QUICK_FAILURES):
        assert not pauses.paused("broken", 0.0), n
        pauses.failed("broken", "no such file: ./run.sh", 0.0)
    assert pauses.paused("broken", PAUSE - 1)
    assert not pauses.paused("good", 0.0)
    assert "model broken" in pauses.why(0.0)
    assert "./run.sh" in pauses.why(0.0)


@pytest.mark.parametrize("row", [*itertools.product("ab", repeat=QUICK_FAILURES)])
def test_different_models_in_a_row_pause_the_worker(row: tuple[str, ...]) -> None:
    pauses = Pauses()
    for model in row:
        pauses.failed(model, "no space left", 0.0)
    assert pauses.paused("other", 0.0) == (len(set(row)) > 1)


@pytest.mark.parametrize("row", [*itertools.product("ab", repeat=2 * QUICK_FAILURES)])
def test_bad_inputs_pause_their_own_models_alone(row: tuple[str, ...]) -> None:
    pauses = Pauses()
    for model in row:
        pauses.bad_input(model, "the input's hash is not the ticket's", 0.0)
    assert not pauses.paused("other", 0.0)
    for model in "ab":
        assert pauses.paused(model, 0.0) == (row.count(model) >= QUICK_FAILURES)


def test_one_more_is_tried_after_the_pause_and_a_start_ends_it() -> None:
    pauses = Pauses()
    for _ in range(QUICK_FAILURES):
        pauses.failed("m", "why", 0.0)
    assert not pauses.paused("m", PAUSE)
    assert pauses.why(PAUSE) == ""
    pauses.failed("m", "why", PAUSE)
    assert pauses.paused("m", PAUSE), "one more failure is enough now"
    pauses.started("m")
    assert not pauses.paused("m", PAUSE)
    pauses.failed("m", "why", PAUSE)
    assert not pauses.paused("m", PAUSE), "counted anew"


def test_changed_models_end_every_pause() -> None:
    pauses = Pauses()
    for model in "mmmnn":
        pauses.failed(model, "why", 0.0)
    pauses.models_changed()
    assert not pauses.paused("m", 0.0)
    assert pauses.why(0.0) == ""
