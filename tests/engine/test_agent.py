"""The agent on a line that loses things: nothing is lost with them, and nothing asked in vain."""

from __future__ import annotations

import logging
import time
from pathlib import Path

import msgspec
import pytest

import engine.beats
from engine.agent import LEAVE
from spool.claims import Claims
from spool.errors import Flooded, Refused
from spool.local import LocalTransport
from spool.names import Claim
from spool.reports import decode_report
from tests.engine.house import Crew, House
from tests.lossy import Loss
from tests.system import wait_for

LONG = "#!/bin/sh\nwhile [ ! -e $2/go ]; do sleep 0.02; done\n"


def let_end(crew: Crew, key: str) -> None:
    """The long model of this run may end, once it is there."""
    run = crew.home.run_folder(key)
    wait_for((run / "run.json").exists, "the run")
    (run / "output" / "go").touch()


def done(house: House) -> list[str]:
    return [p.name for p in (house.home / "reports").glob("*.3-final")]


def test_a_job_goes_through(house: House) -> None:
    ticket = house.publish()
    with Crew(house) as crew:
        final = house.final(ticket)
        assert (final.end, final.reason) == ("ok", "")
        assert (house.home / f"log/{ticket.key}.log").read_bytes() == b"hello\n"
        assert house.report(ticket, "started").exists()
        assert crew.line.count("names", "models/") == 1  # nobody has rung since


def test_an_idle_agent_asks_for_nothing_but_its_beats(house: House) -> None:
    for n in range(20):
        house.add_model(f"m{n}")
    with Crew(house) as crew:
        wait_for(lambda: crew.line.count("move", "beat.json") >= 2, "beats")
        before = len(crew.line.calls)
        beats = crew.line.count("move", "beat.json")
        wait_for(lambda: crew.line.count("move", "beat.json") >= beats + 4, "more beats")
        verbs = {(verb, path.split("/")[2]) for verb, path in crew.line.calls[before:]}
        assert verbs <= {("store", "tmp"), ("move", "tmp")}
        listed = crew.line.count("names", "models/")
        crew.ring()
        wait_for(lambda: crew.line.count("names", "models/") == listed + 21, "a look")


def test_a_full_agent_looks_for_no_tickets(house: House) -> None:
    house.add_model("long", LONG)
    ticket, following = house.publish("long"), house.publish("long")
    with Crew(house) as crew:
        wait_for(house.report(ticket, "started").exists, "the start")
        listed = crew.line.count("names", "/new")
        own = crew.line.count("names", "/cur")
        crew.ring()
        wait_for(lambda: crew.line.count("names", "/cur") > own, "a look")
        assert crew.line.count("names", "/new") == listed
        for key in (ticket.key, following.key):  # the slot is free, and nobody has to ring
            let_end(crew, key)
        house.final(following)


def test_a_queue_that_was_dry_is_listed_again_only_after_a_ring(house: House) -> None:
    house.add_model("long", LONG)
    ticket = house.publish("long")
    with Crew(house) as crew:
        wait_for(house.report(ticket, "started").exists, "the start")
        listed = crew.line.count("names", "/new")
        late = house.publish("long")
        let_end(crew, ticket.key)
        house.final(ticket)
        wait_for(
            lambda: not crew.agent._holding.attempts[ticket.key].is_alive(), "the delivery's end"
        )
        assert crew.line.count("names", "/new") == listed
        crew.ring()
        wait_for(lambda: late in {claim.ticket for claim in house.held()}, "the claim")
        let_end(crew, late.key)
        house.final(late)


@pytest.mark.parametrize("slots", [1, 3])
def test_after_a_lost_race_it_looks_again_soon(tmp_path: Path, slots: int) -> None:
    house = House(tmp_path, slots=slots)
    others = LocalTransport(house.dispatch.root)
    crew = Crew(house)
    first = house.publish()

    def race(verb: str, path: str) -> Loss:
        """Another worker is faster, and a moment later there is another ticket."""
        if verb == "move" and str(first) in path and crew.line.count("move", str(first)) == 1:
            others.move(f"models/m/new/{first}", "elsewhere")
            house.publish()
        return None

    crew.line.loses = race
    with crew:
        wait_for(lambda: len(done(house)) == 1, "the second job")
        assert crew.line.count("names", "/new") >= 2


def test_a_claim_whose_answer_was_lost_is_carried_on(house: House) -> None:
    ticket = house.publish()
    crew = Crew(house)
    crew.line.lose_once("move", "models/")
    with crew:
        assert house.final(ticket).end == "ok"
    assert crew.line.count("move", "models/") == 1


def test_a_claim_that_comes_about_late_is_named_in_beats_and_carried_on(house: House) -> None:
    """A connection that hung carries its rename out when nobody waits for it any more."""
    ticket = house.publish()
    crew = Crew(house)

    def loses(verb: str, path: str) -> Loss:
        return "request" if verb == "move" and "models/" in path else None

    crew.line.loses = loses
    with crew:
        claim = str(Claim(ticket, crew.home.instance))
        wait_for(lambda: crew.line.count("move", "beat.json"), "a beat")
        crew.line.up()
        hidden = house.root / "hidden"  # the ticket cannot be claimed in another way
        (house.dispatch.root / f"models/m/new/{ticket}").rename(hidden)
        beats = house.beat().counter
        wait_for(lambda: house.beat().counter > beats + 3, "beats")
        assert claim in house.beat().claims
        hidden.rename(house.home / "cur" / claim)
        crew.ring()
        assert house.final(ticket).end == "ok"


def test_a_claim_without_an_order_is_given_back_and_costs_nothing(house: House) -> None:
    """The agent was killed between its claim and the order; a claim does not say its model."""
    ticket = house.publish()
    crew = Crew(house)
    Claims(LocalTransport(house.dispatch.root), "w1", crew.home.instance).claim(ticket, "m")
    with crew:
        final = house.final(ticket)
        assert (final.end, final.run) == ("lost", None)
        assert not house.report(ticket, "started").exists()


@pytest.mark.parametrize("forged", [b"another input", b"x" * 300_000], ids=["small", "large"])
def test_a_forged_input_is_fetched_twice_and_given_back(house: House, forged: bytes) -> None:
    ticket = house.publish(forged=forged)
    with Crew(house) as crew:
        final = house.final(ticket)
        assert (final.end, final.run) == ("lost", None)
        assert "hash" in final.reason
        assert not house.report(ticket, "started").exists()
        assert crew.line.count("fetch") == 2
        assert not (crew.home.run_folder(ticket.key) / "input.zip").exists()


def test_an_input_that_no_disk_can_hold_is_not_fetched(house: House) -> None:
    ticket = house.publish(forged=b"x")
    with (house.root / "jobs" / f"{ticket.job}.zip").open("r+b") as sparse:
        sparse.truncate(2**43)
    with Crew(house) as crew:
        final = house.final(ticket)
        assert (final.end, final.run) == ("lost", None)
        assert str(2**43) in final.reason
        assert crew.line.count("fetch") == 0


def test_a_kill_does_not_wait_for_a_long_transfer(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.fetching.LONG", 0)
    ticket = house.publish()
    crew = Crew(house)
    crew.line.loses = lambda verb, _path: _hang(crew) if verb == "fetch" else None
    with crew:
        wait_for(lambda: _hung(crew), "a transfer that takes for ever")
        house.dispatch.stop("w1", ticket.key, "killed by somebody")
        crew.ring()
        assert house.final(ticket).end == "killed"
        assert not (crew.home.run_folder(ticket.key) / "run.json").exists()


def test_three_bad_inputs_pause_their_model_alone(house: House) -> None:
    house.add_model("other")
    for _ in range(3):
        house.publish(forged=b"bad")
    with Crew(house) as crew:
        wait_for(lambda: len(done(house)) == 3, "three given back")
        wait_for(lambda: "model m" in house.beat().paused, "the pause to be told")
        left, other = house.publish(), house.publish("other")
        crew.ring()
        assert house.final(other).end == "ok"
        assert (house.dispatch.root / f"models/m/new/{left}").exists()


@pytest.mark.parametrize("verb", ["names", "move"])
def test_the_rights_in_one_queue_keep_nobody_from_the_others(house: House, verb: str) -> None:
    house.add_model("other")
    crew = Crew(house)
    no = Refused("models/m/new: Permission denied", "ask")
    crew.line.loses = lambda called, path: no if called == verb and "models/m/" in path else None
    left, other = house.publish(), house.publish("other")
    with crew:
        assert house.final(other).end == "ok"
        wait_for(lambda: house.beat().error == "not granted: m", "a beat that says so")
    assert (house.dispatch.root / f"models/m/new/{left}").exists()


def test_a_flooded_queue_is_not_one_that_was_not_granted(house: House) -> None:
    """It is listed again at the next ring, not only after a pause."""
    house.add_model("other")
    crew = Crew(house)
    flood = Flooded("models/m/new: more than 10000 names", "the keeper clears it")
    crew.line.loses = lambda verb, path: (
        flood if verb == "names" and "models/m/new" in path else None
    )
    left, other = house.publish(), house.publish("other")
    with crew:
        assert house.final(other).end == "ok"
        wait_for(lambda: "more than 10000 names" in house.beat().error, "a beat that says so")
        assert "m" in house.beat().models
        crew.line.up()
        crew.ring()
        assert house.final(left).end == "ok"


def test_an_account_that_is_refused_pauses_no_model(house: House) -> None:
    crew = Crew(house)
    ticket = house.publish()
    no = Refused("accepted no key", "ask")
    crew.line.loses = lambda _verb, _path: no
    with crew:
        wait_for(lambda: len(crew.line.calls) > 3, "tries")
        crew.line.up()
        assert house.final(ticket).end == "ok"


def test_what_was_retired_is_never_claimed_again(house: House) -> None:
    ticket = house.publish()
    with Crew(house) as crew:
        house.final(ticket)
        house.retire(ticket)
        crew.ring()
        wait_for(lambda: not crew.agent.busy, "it to be forgotten")
        house.dispatch.publish(house.root / "jobs" / f"{ticket.job}.zip", "m", ticket)
        following = house.publish()
        crew.ring()
        assert house.final(following).end == "ok"
        assert (house.dispatch.root / f"models/m/new/{ticket}").exists()


def test_delivered_and_retired_while_the_answer_was_lost(house: House) -> None:
    """The primary was quick: nothing of the attempt may be put there anew."""
    ticket = house.publish()
    crew = Crew(house)
    crew.line.lose_once("move", "3-final")
    with crew:
        house.final(ticket)
        house.retire(ticket)
        wait_for(lambda: not crew.agent.busy, "it to be forgotten")
        assert house.files() == []
    assert crew.line.count("move", "3-final") == 1


@pytest.mark.parametrize("what", ["request", "answer"])
@pytest.mark.parametrize(
    ("verb", "part"),
    [
        ("store", "1-started"),
        ("move", "1-started"),
        ("append", "log/"),
        ("store", ".zip"),
        ("move", "out/"),
        ("store", "3-final"),
        ("move", "3-final"),
        ("fetch", "cur/"),
        ("names", "cur"),
        ("check", "cur/"),
    ],
)
def test_whatever_is_lost_the_job_ends_once_and_leaves_nothing(
    house: House, verb: str, part: str, what: Loss
) -> None:
    ticket = house.publish()
    crew = Crew(house)
    crew.line.lose_once(verb, part, what)
    with crew:
        final = house.final(ticket)
        assert final.end == "ok"
        for fact, path in ((final.log, f"log/{ticket.key}.log"), (final.output, _out(ticket.key))):
            assert fact is not None
            assert (house.home / path).stat().st_size == fact.size
        wait_for(
            lambda: not crew.agent._holding.attempts[ticket.key].is_alive(), "the delivery's end"
        )
        house.retire(ticket)
        crew.ring()
        wait_for(lambda: not crew.agent.busy, "it to be forgotten")
        wait_for(lambda: house.files() == [], "nothing to be left")


def _out(key: str) -> str:
    return f"out/{key}.zip"


def test_an_output_that_is_there_is_not_sent_again(house: House) -> None:
    ticket = house.publish()
    crew = Crew(house)
    crew.line.lose_once("move", "out/")
    with crew:
        house.final(ticket)
    assert crew.line.count("store", f"{ticket.key}.zip") == 1
    assert crew.line.count("move", "out/") == 1


def test_an_agent_that_is_started_again_goes_on_with_the_output(house: House) -> None:
    ticket = house.publish()
    crew = Crew(house)
    crew.line.loses = lambda verb, path: "request" if verb == "move" and "out/" in path else None
    with crew:
        wait_for(lambda: crew.line.count("move", "out/"), "the output to be sent")
        crew.line.down()
    again = Crew(house)
    assert f"tmp/{again.home.instance}-{ticket.key}.zip" in house.files()
    again.claims.sweep()  # as at every start
    with again:
        final = house.final(ticket)
    assert final.output is not None
    assert (house.home / _out(ticket.key)).stat().st_size == final.output.size
    assert again.line.count("store", f"{ticket.key}.zip") == 0  # all of it was there
    assert not [name for name in house.files() if name.startswith("tmp/")]


def test_the_half_of_an_output_that_nobody_wants_any_more_is_removed(house: House) -> None:
    ticket = house.publish()
    crew = Crew(house)
    crew.line.loses = lambda verb, path: "request" if verb == "move" and "out/" in path else None
    with crew:
        wait_for(lambda: crew.line.count("move", "out/"), "the output to be sent")
        crew.line.down()
    again = Crew(house)
    again.claims.sweep()
    again.line.loses = lambda verb, _: "request" if verb == "append" else None
    with again:  # it gets no further than the log
        wait_for(lambda: again.line.count("append", "log/"), "a try")
        house.retire(ticket)
        again.ring()
        wait_for(lambda: house.files() == [], "nothing to be left")


def test_a_report_that_was_not_believed_is_delivered_again(house: House) -> None:
    ticket = house.publish()
    with Crew(house) as crew:
        house.final(ticket)
        wait_for(
            lambda: not crew.agent._holding.attempts[ticket.key].is_alive(), "the delivery's end"
        )
        (house.home / f"log/{ticket.key}.log").write_bytes(b"falsified")
        house.report(ticket, "final").unlink()
        crew.ring()
        house.final(ticket)
        assert (house.home / f"log/{ticket.key}.log").read_bytes() == b"hello\n"


def test_results_wait_until_the_line_is_back_and_it_is_said_once(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    house.add_model("long", LONG)
    ticket = house.publish("long")
    with caplog.at_level(logging.WARNING), Crew(house) as crew:
        wait_for(house.report(ticket, "started").exists, "the start")
        crew.line.down()
        let_end(crew, ticket.key)
        wait_for((crew.home.run_folder(ticket.key) / "final.json").exists, "the end")
        failed = len(crew.line.calls)
        wait_for(lambda: len(crew.line.calls) > failed + 10, "tries")
        crew.line.up()
        assert house.final(ticket).end == "ok"
        wait_for(lambda: "reachable again" in caplog.text, "the news")
        wait_for(lambda: "could not be reached for" in house.beat().error, "a beat that says so")
    said = [r.getMessage() for r in caplog.records if "cannot reach" in r.getMessage()]
    assert len(said) == 1


def test_a_start_that_could_not_be_told_is_told_later(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.attempt.SAY_AGAIN", 0.0)
    house.add_model("long", LONG)
    ticket = house.publish("long")
    crew = Crew(house)
    crew.line.lose_once("store", "1-started", "request")
    with crew:
        wait_for(house.report(ticket, "started").exists, "the start")
        assert decode_report(house.report(ticket, "started").read_bytes()).claim
        let_end(crew, ticket.key)
        house.final(ticket)


def test_a_silent_model_s_log_is_made_once(house: House) -> None:
    house.add_model("silent", "#!/bin/sh\nsleep 1\n")
    ticket = house.publish("silent")
    with Crew(house) as crew:
        assert house.final(ticket).log is not None
        assert (house.home / f"log/{ticket.key}.log").read_bytes() == b""
        assert crew.line.count("append", "log/") == 1


def test_beats_and_looks_do_not_wait_for_each_other(house: House) -> None:
    with Crew(house) as crew:
        wait_for(lambda: crew.line.count("move", "beat.json"), "a beat")
        crew.line.loses = lambda _verb, path: _hang(crew) if "beat" in path else None
        wait_for(lambda: _hung(crew), "a beat that hangs")
        ticket = house.publish()
        crew.ring()
        assert house.final(ticket).end == "ok"
        crew.line.freed.set()


def _hang(crew: Crew) -> Loss:
    crew.line.calls.append(("hung", ""))
    crew.line.freed.wait(60)
    return "request"


def _hung(crew: Crew) -> bool:
    return bool(crew.line.count("hung"))


def test_the_end_waits_for_no_line_that_hangs(house: House) -> None:
    with Crew(house) as crew:
        wait_for(lambda: crew.line.count("move", "beat.json"), "a beat")
        crew.line.hangs.set()
        wait_for(lambda: crew.line.count("store", "beat.json") > crew.line.count("move"), "a hang")
        began = time.monotonic()
        crew.agent.stop()
        crew.wait_ended()
        assert time.monotonic() - began < LEAVE + 30  # and not for ever


def test_an_agent_whose_name_was_taken_delivers_and_ends(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine.beats, "NAMESAKE", 0.1)
    with Crew(house) as crew:
        wait_for(lambda: crew.line.count("move", "beat.json"), "a beat")
        beat = house.beat()
        stranger = Claims(LocalTransport(house.dispatch.root), "w1", "9" * 16)
        while not crew.agent.refused:
            stranger.beat(msgspec.structs.replace(beat, instance="9" * 16))
            time.sleep(0.01)
        crew.wait_ended()
        assert "has taken the name" in crew.agent.refused
