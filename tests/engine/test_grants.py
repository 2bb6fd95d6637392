"""Models that stand in the worker's folder, and whose queues do not let it in."""

from __future__ import annotations

import logging

import pytest

from engine.grants import SHOWN, Grants
from spool.errors import Refused
from spool.names import Ticket
from tests.engine.house import Crew, House
from tests.lossy import Loss
from tests.system import wait_for

NO = Refused("Permission denied", "check the account's rights on the primary's machine")


def forbid(crew: Crew, *models: str, verb: str = "names") -> None:
    """Their queues are closed from now on; all others are open."""

    def loses(called: str, path: str) -> Loss:
        closed = any(f"models/{model}/new" in path for model in models)
        return NO if called == verb and closed else None

    crew.line.loses = loses


def waits(house: House, ticket: Ticket, model: str) -> bool:
    return (house.dispatch.root / f"models/{model}/new/{ticket}").exists()


# --- what is remembered ------------------------------------------------------------------


def test_a_refusal_is_news_once_and_asked_again_later() -> None:
    grants = Grants()
    assert "m" in grants
    assert grants.refuse("m", 30.0, may_list=False)
    assert "m" not in grants
    assert not grants.may_ask("m", 29.0)
    assert grants.may_ask("other", 29.0)
    assert grants.may_ask("m", 30.0)
    assert not grants.refuse("m", 60.0, may_list=False)
    assert not grants.may_ask("m", 30.0)
    assert grants.missing(["m", "a", "other"]) == "not granted: m"
    assert grants.missing(["a"]) == ""


def test_what_lets_us_in_is_told_once() -> None:
    grants = Grants()
    grants.refuse("m", 30.0, may_list=False)
    assert grants.listed(["m"], 29.0) == []  # it was refused since
    assert grants.listed(["other"], 30.0) == []  # it was not asked for
    assert grants.listed(["m"], 30.0) == ["m"]
    assert grants.listed(["m"], 30.0) == []
    assert "m" in grants


def test_a_queue_that_is_seen_and_gives_nothing_is_not_open() -> None:
    grants = Grants()
    grants.refuse("m", 30.0, may_list=True)
    assert grants.listed(["m"], 30.0) == []
    assert "m" not in grants
    assert grants.taken("m") == ["m"]
    assert grants.taken("m") == []
    assert "m" in grants


def test_many_are_not_all_named() -> None:
    grants = Grants()
    models = [f"m{n:03}" for n in range(SHOWN + 5)]
    for model in models:
        grants.refuse(model, 1.0, may_list=False)
    said = grants.missing(models)
    assert f"m{SHOWN - 1:03} and 5 more" in said
    assert f"m{SHOWN:03}" not in said


# --- what the worker does ----------------------------------------------------------------


@pytest.mark.parametrize("verb", ["names", "move"])
def test_many_that_are_not_granted_pause_nothing_and_are_said_once(
    house: House, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    closed = [f"closed{n}" for n in range(5)]
    for model in closed:
        house.add_model(model)
    crew = Crew(house)
    forbid(crew, *closed, verb=verb)
    left = [(house.publish(model), model) for model in closed]
    with caplog.at_level(logging.WARNING), crew:
        for _ in range(3):
            job = house.publish()
            crew.ring()
            assert house.final(job).end == "ok"
            house.retire(job)
        wait_for(lambda: "not granted" in house.beat().error, "a beat that says so")
        wait_for(lambda: list(house.beat().models) == ["m"], "a beat without them")
        beat = house.beat()
        assert beat.error == "not granted: " + ", ".join(closed)
        assert beat.paused == ""
        for model in closed:  # bells rang, and these queues were let be
            assert crew.line.count("names", f"models/{model}/") == 1
    assert all(waits(house, *one) for one in left)
    said = [r.getMessage() for r in caplog.records if "Permission denied" in r.getMessage()]
    assert len(said) == len(closed)


def test_a_worker_of_which_nothing_is_granted_says_that_it_is_paused(house: House) -> None:
    crew = Crew(house)
    forbid(crew, "m")
    left = house.publish()
    with crew:
        wait_for(lambda: house.home.joinpath("reports/beat.json").exists(), "a beat")
        wait_for(lambda: house.beat().paused == "not granted: m", "a beat that says so")
        assert house.beat().models == {}
        assert waits(house, left, "m")


@pytest.mark.parametrize("verb", ["names", "move"])
def test_what_is_granted_later_is_taken_up(house: House, verb: str) -> None:
    house.options["rescan"] = 0.2
    house.add_model("late")
    crew = Crew(house)
    forbid(crew, "late", verb=verb)
    job = house.publish("late")
    with crew:
        wait_for(lambda: crew.line.count(verb, "models/late/") >= 3, "it to be asked again")
        wait_for(lambda: "late" not in house.beat().models, "a beat without it")
        crew.line.up()  # nobody rings
        assert house.final(job).end == "ok"
        wait_for(lambda: sorted(house.beat().models) == ["late", "m"], "a beat with it")
        wait_for(lambda: house.beat().error == "", "a beat that says nothing of it")


def test_forged_inputs_of_many_models_pause_no_other(house: House) -> None:
    """Who is granted some models can forge their tickets, and must not harm the others."""
    house.add_model("n")
    for n in range(6):
        house.publish("mn"[n % 2], forged=b"bad")
    with Crew(house) as crew:
        reports = house.home / "reports"
        wait_for(lambda: len(list(reports.glob("*.3-final"))) == 6, "all given back")
        wait_for(lambda: "model n" in house.beat().paused, "the pauses to be told")
        assert "of different models" not in house.beat().paused
        house.add_model("other")
        job = house.publish("other")
        crew.ring()
        assert house.final(job).end == "ok"
