"""A name that was used before: who is dead is not met, and who lives is."""

from __future__ import annotations

import socket
import threading
import time

import msgspec
import pytest

import engine.beats
from engine.beats import namesake, who
from spool.claims import Claims
from spool.local import LocalTransport
from spool.reports import Beat
from tests.engine.house import Crew, House
from tests.system import wait_for

OTHER = "9" * 16
BEAT = Beat(
    instance=OTHER, counter=7, host="elsewhere", node_url="u", pid=4711, slots=1, version="0"
)


def stranger(house: House) -> Claims:
    return Claims(LocalTransport(house.dispatch.root), "w1", OTHER)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.beats, "NAMESAKE", 0.1)  # seconds


@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "killed"])
def test_the_beat_of_a_dead_one_takes_no_name_away(house: House, stopped: bool) -> None:
    """What lay there before our first beat is nobody who lives: that was asked at the start."""
    stranger(house).beat(msgspec.structs.replace(BEAT, stopped=stopped))
    ticket = house.publish()
    with Crew(house) as crew:
        assert house.final(ticket).end == "ok"
        wait_for(lambda: house.beat().instance == crew.home.instance, "a beat of its own")
        counter = house.beat().counter
        wait_for(lambda: house.beat().counter > counter + 2, "more beats")
        assert crew.agent.refused == ""


def test_one_that_says_goodbye_has_not_taken_the_name(house: House) -> None:
    """It had the name for a while, and ended: ours goes on."""
    with Crew(house) as crew:
        wait_for(lambda: crew.line.count("move", "beat.json"), "a beat")
        looked = crew.line.count("read", "beat.json")
        crew.line.loses = lambda verb, _: say_goodbye() if verb == "read" else None

        def say_goodbye() -> None:
            stranger(house).beat(msgspec.structs.replace(BEAT, stopped=True))

        wait_for(lambda: crew.line.count("read", "beat.json") > looked + 2, "looks")
        assert crew.agent.refused == ""


def test_no_look_before_a_beat_of_our_own_has_gone_out(house: House) -> None:
    crew = Crew(house)
    crew.line.loses = lambda verb, path: (
        "request" if (verb, path[-9:]) == ("move", "beat.json") else None
    )
    with crew:
        wait_for(lambda: crew.line.count("move", "beat.json") > 2, "beats that are lost")
        assert crew.line.count("read", "beat.json") == 0
        crew.line.up()
        wait_for(lambda: crew.line.count("read", "beat.json"), "a look")


@pytest.mark.parametrize(
    ("host", "words"),
    [
        (socket.gethostname(), "another worker on this machine (process 4711)"),
        ("elsewhere", "another machine (elsewhere)"),
    ],
)
def test_where_the_other_one_is(house: House, host: str, words: str) -> None:
    beat = msgspec.structs.replace(BEAT, host=host)
    assert who(beat) == words
    with Crew(house) as crew:
        wait_for(lambda: crew.line.count("move", "beat.json"), "a beat")
        while not crew.agent.refused:
            stranger(house).beat(beat)
            time.sleep(0.01)
        crew.wait_ended()
        assert crew.agent.refused == f"{words} has taken the name 'w1'"


def test_at_the_start_the_living_are_told_from_the_dead(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.beats, "NAMESAKE", 0.2)
    ours = Claims(LocalTransport(house.dispatch.root), "w1", "1" * 16)
    stopping = threading.Event()
    assert namesake(ours, stopping, 0.01) is None
    stranger(house).beat(BEAT)
    assert namesake(ours, stopping, 0.01) is None  # it does not change: dead
    monkeypatch.setattr(engine.beats, "NAMESAKE", 60.0)
    beats = threading.Event()

    def live() -> None:
        counter = BEAT.counter
        while not beats.wait(0.02):
            counter += 1
            stranger(house).beat(msgspec.structs.replace(BEAT, counter=counter))

    thread = threading.Thread(target=live)
    thread.start()
    try:
        found = namesake(ours, stopping, 0.01)
        assert found is not None
        assert found.instance == OTHER
    finally:
        beats.set()
        thread.join()
    stranger(house).beat(msgspec.structs.replace(BEAT, stopped=True))
    assert namesake(ours, stopping, 0.01) is None  # at once
