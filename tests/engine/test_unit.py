"""An agent beside a runner that somebody else keeps, a unit of systemd for instance."""

from __future__ import annotations

import logging
import signal
from pathlib import Path

import pytest

from engine import procs
from tests.engine.house import Crew, House
from tests.engine.unit import Unit
from tests.system import wait_for

LONG = "#!/bin/sh\necho up\nwhile [ ! -e $2/go ]; do sleep 0.02; done\n"
TIDY = "#!/bin/sh\ntrap 'echo tidy; exit 0' TERM\necho up\nwhile :; do sleep 0.02; done\n"


@pytest.fixture
def house(tmp_path: Path) -> House:
    """With a state directory, where a unit's runner may be before its agent."""
    house = House(tmp_path)
    (tmp_path / "state" / "runs").mkdir(parents=True)
    return house


def begun(house: House, model: str, script: str) -> tuple[str, Path]:
    """The key and the run directory of a job of this model, which is published."""
    house.add_model(model, script)
    key = house.publish(model).key
    return key, house.root / "state" / "runs" / key


def test_an_agent_waits_for_its_runner_and_claims_nothing_meanwhile(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    ticket = house.publish()
    state = house.root / "state"
    with caplog.at_level(logging.WARNING), Crew(house, keeper="unit") as crew:
        wait_for((house.home / "reports/beat.json").exists, "a beat")
        crew.ring()
        assert f"no runner serves {state}" in house.beat().paused
        assert "no runner serves" in crew.agent.hindrance()
        assert house.held() == []
        with Unit(state) as unit:
            assert house.final(ticket).end == "ok"
            wait_for(lambda: crew.agent.hindrance() == "", "all to be well")
            pid = unit.pid
            crew.agent.stop()
            crew.wait_ended()
            crew.engine.close(stop_runner_if_idle=False)
            assert procs.look(pid) is not None
            assert unit.starts == 1
    said = [r.getMessage() for r in caplog.records if "no runner" in r.getMessage()]
    assert len(said) == 1, "once, not at every look"


def test_a_runner_that_is_started_again_costs_no_job_a_pause(house: House) -> None:
    """Its end and its next start lie between a claim and its beginning."""
    with Unit(house.root / "state") as unit, Crew(house, keeper="unit") as crew:
        house.final(house.publish())
        fetched = crew.line.count("fetch")

        def loses(verb: str, _: str) -> None:
            if verb == "fetch" and crew.line.count("fetch") == fetched + 1:
                unit.stop()

        crew.line.loses = loses
        ticket = house.publish()
        crew.ring()
        wait_for(house.report(ticket, "started").exists, "an attempt that waits for a runner")
        unit.start()
        assert house.final(ticket).end == "ok"
        assert crew.agent.voice.last() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_next_agent_and_runner_give_back_what_died_with_them(
    house: House, number: signal.Signals
) -> None:
    """As after a reboot: the agent ended first, then the runner."""
    key, run = begun(house, "long", TIDY)
    with Unit(house.root / "state") as unit:
        with Crew(house, keeper="unit"):
            wait_for((run / "run.json").exists, "the run")
        assert not (run / "final.json").exists()
        unit.stop(number)
        assert (run / "exit.json").exists() == (number == signal.SIGTERM)
        with Crew(house, keeper="unit"):
            unit.start()
            report = house.home / "reports" / f"{key}.3-final"
            wait_for(report.exists, "the attempt to be given back")
            assert b'"lost"' in report.read_bytes()
    assert ("tidy" in (run / "log").read_text()) == (number == signal.SIGTERM)


def test_at_a_shutdown_an_agent_that_ends_after_its_runner_gives_back(house: House) -> None:
    """systemd ends the runner, and right after it the agent, which has no time to look twice."""
    key, run = begun(house, "long", TIDY)
    waiting = house.publish("long")
    with Unit(house.root / "state") as unit, Crew(house, keeper="unit") as crew:
        wait_for((run / "run.json").exists, "the run")
        unit.stop()
        crew.agent.stop()
        crew.wait_ended()
        assert b'"lost"' in (house.home / "reports" / f"{key}.3-final").read_bytes()
        assert [claim.key for claim in house.held()] == [key], "nothing new was taken"
        assert waiting.key != key


def test_what_was_claimed_and_not_begun_is_given_back_at_the_end(house: House) -> None:
    ticket = house.publish()
    crew = Crew(house)
    crew.line.loses = lambda verb, _: "request" if verb == "fetch" else None
    with crew:
        wait_for(lambda: crew.line.count("fetch") > 1, "tries to have its input")
    final = house.final(ticket)
    assert (final.end, final.run) == ("lost", None)


def test_a_loop_that_hangs_shows_no_sign_of_life(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a watchdog can end it: its beats go on. To wait for a primary is no hang."""
    monkeypatch.setattr("engine.agent.RETRY", (0.01, 0.02))
    turns: list[str] = []
    house.options["turned"] = lambda: turns.append("turned")
    with Crew(house) as crew:
        crew.line.down()
        crew.ring()
        wait_for(lambda: not crew.agent.voice.reachable, "the primary to be away")
        before = len(turns)
        wait_for(lambda: len(turns) > before + 2, "turns")
        assert "cannot reach the primary" in crew.agent.hindrance()
        crew.line.up()
        wait_for(lambda: crew.agent.hindrance() == "", "all to be well")
        hung: list[int] = []

        def hang(verb: str, _: str) -> None:
            if verb == "names" and not hung:
                hung.append(len(turns))
                crew.line.freed.wait(60)

        crew.line.loses = hang
        crew.ring()
        beats = crew.line.count("move", "beat.json")
        wait_for(lambda: hung and crew.line.count("move", "beat.json") > beats + 3, "beats")
        assert len(turns) == hung[0]
        crew.line.freed.set()
        wait_for(lambda: len(turns) > hung[0], "it to go on")
