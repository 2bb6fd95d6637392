"""Beats, leases and claims that nobody holds, on a made-up clock."""

from __future__ import annotations

import sys
import threading

from primary.nodes import DEFAULT_LEASE, MAX_INSTANCES, Nodes
from primary.rules import BEATS_WITHOUT
from spool.names import Claim, Ticket
from spool.reports import Beat, encode

MINE, OTHER = "1" * 16, "2" * 16


def claim(n: int = 1, instance: str = MINE) -> Claim:
    return Claim(Ticket(n, 1, f"0b6f3c1e-5b0a-4b62-9d7f-{n:012d}", "ab" * 32), instance)


def beat(counter: int, *claims: Claim, instance: str = MINE, **more: object) -> bytes:
    said = {"host": "h", "node_url": "u", "pid": 1, "slots": 2, "version": "0"} | more
    beat = Beat(instance=instance, counter=counter, claims=tuple(map(str, claims)), **said)  # type: ignore[arg-type]
    return encode(beat)


def look(nodes: Nodes, now: float, raw: bytes | None, *claims: Claim) -> None:
    """One tick: the beat is read first, then the claims are listed."""
    nodes.heard("w1", raw, now)
    nodes.sighted(("w1", c) for c in claims)


def test_only_a_change_of_content_is_a_sign_of_life() -> None:
    nodes = Nodes(0.0)
    look(nodes, 10.0, beat(1))
    for now in (20.0, 30.0):
        look(nodes, now, beat(1))
    assert nodes.silence("w1", MINE, 40.0) == 30.0
    look(nodes, 40.0, beat(2))
    assert nodes.silence("w1", MINE, 40.0) == 0.0


def test_a_lease_begins_at_the_start_for_whom_we_never_heard() -> None:
    nodes = Nodes(100.0)
    assert nodes.silence("unknown", MINE, 130.0) == 30.0
    look(nodes, 130.0, None)
    assert nodes.silence("w1", MINE, 140.0) == 40.0


def test_a_new_claim_is_a_sign_of_life_and_an_old_one_is_not() -> None:
    nodes = Nodes(0.0)
    look(nodes, 5000.0, None, claim(1))
    assert nodes.silence("w1", MINE, 5000.0) == 0.0
    look(nodes, 5010.0, None, claim(1))
    assert nodes.silence("w1", MINE, 5010.0) == 10.0
    look(nodes, 5020.0, None, claim(1), claim(2))
    assert nodes.silence("w1", MINE, 5020.0) == 0.0
    assert nodes.silence("w1", OTHER, 5020.0) == 5020.0


def test_all_leases_start_afresh() -> None:
    nodes = Nodes(0.0)
    look(nodes, 10.0, beat(1), claim())
    for n in range(BEATS_WITHOUT - 1):
        look(nodes, 20.0, beat(2 + n), claim())
    nodes.restart_leases(5000.0)
    assert nodes.silence("w1", MINE, 5000.0) == 0.0
    look(nodes, 5001.0, beat(10), claim())
    assert not nodes.disowned("w1", claim()), "the beats without it are counted anew"


def test_two_later_beats_of_its_own_instance_disown_a_claim() -> None:
    nodes = Nodes(0.0)
    look(nodes, 1.0, beat(1), claim())
    assert not nodes.disowned("w1", claim())
    look(nodes, 2.0, beat(2), claim())
    look(nodes, 3.0, beat(2), claim())  # seen twice, but one beat
    assert not nodes.disowned("w1", claim())
    look(nodes, 4.0, beat(3), claim())
    assert nodes.disowned("w1", claim())


def test_beats_before_its_first_sighting_do_not_count() -> None:
    nodes = Nodes(0.0)
    for n in range(5):
        look(nodes, float(n), beat(n))
    look(nodes, 5.0, beat(5), claim())
    look(nodes, 6.0, beat(6), claim())
    assert not nodes.disowned("w1", claim())


def test_a_beat_that_names_it_starts_the_count_again() -> None:
    nodes = Nodes(0.0)
    look(nodes, 0.0, beat(0), claim())
    for n in range(1, 10):
        look(nodes, float(n), beat(n, claim()) if n % 2 else beat(n), claim())
        assert not nodes.disowned("w1", claim())


def test_another_instance_s_beats_say_nothing_about_it() -> None:
    nodes = Nodes(0.0)
    look(nodes, 0.0, beat(0), claim())
    for n in range(5):
        look(nodes, n * 10.0, beat(n, instance=OTHER), claim())
    assert not nodes.disowned("w1", claim())
    assert nodes.silence("w1", MINE, 40.0) == 40.0
    assert nodes.silence("w1", OTHER, 40.0) == 0.0


def test_a_claim_that_comes_back_is_seen_for_the_first_time() -> None:
    nodes = Nodes(0.0)
    look(nodes, 0.0, beat(0), claim())
    look(nodes, 1.0, beat(1), claim())
    look(nodes, 2.0, beat(2))
    look(nodes, 3.0, beat(3), claim())
    assert not nodes.disowned("w1", claim())
    assert not nodes.disowned("nobody", claim())


def test_a_wrong_beat_is_shown_and_no_sign_of_life() -> None:
    nodes = Nodes(0.0)
    look(nodes, 0.0, beat(1, progress={claim().key: 7}))
    look(nodes, 50.0, b"{")
    assert nodes.silence("w1", MINE, 50.0) == 50.0
    (node,) = nodes.shown(50.0)
    assert "not a beat" in node.error
    assert nodes.progress("w1", claim().key) == 7
    look(nodes, 60.0, beat(2))
    assert nodes.shown(60.0)[0].error == ""
    assert nodes.progress("w1", claim().key) is None
    assert nodes.progress("nobody", claim().key) is None


def test_how_workers_are_shown() -> None:
    nodes = Nodes(0.0)
    look(nodes, 0.0, beat(1, free_disk=5, models={"m": "v"}), claim())
    moments = {0.0: ("alive", "RUNNING"), 30.0: ("unreachable", "RUNNING")}
    moments |= {DEFAULT_LEASE: ("lost", "STOPPED")}
    for now, shown in moments.items():
        (node,) = nodes.shown(now)
        assert (node.liveness, node.status) == shown
        assert (node.last_seen, node.free_disk, node.models) == (now, 5, {"m": "v"})
    look(nodes, 1.0, beat(2))
    assert nodes.shown(1.0)[0].status == "WAITING"
    look(nodes, 1.0, beat(3, stopped=True))
    assert (nodes.shown(1.0)[0].liveness, nodes.shown(1.0)[0].status) == ("stopped", "STOPPED")


def test_a_folder_without_a_beat_is_shown_as_such_and_a_removed_one_is_not() -> None:
    nodes = Nodes(0.0)
    look(nodes, 0.0, None)
    nodes.heard("a-first", beat(1), 0.0)
    assert [n.name for n in nodes.shown(0.0)] == ["a-first", "w1"]
    assert (nodes.shown(0.0)[1].liveness, nodes.shown(0.0)[1].status) == ("new", "STOPPED")
    nodes.forget(["w1"])
    assert [n.name for n in nodes.shown(0.0)] == ["w1"]


def test_showing_while_the_tick_thread_goes_on() -> None:
    nodes = Nodes(0.0)
    claims = [claim(n) for n in range(200)]
    look(nodes, 0.0, beat(1), *claims)
    errors: list[BaseException] = []
    done = threading.Event()

    def show() -> None:
        try:
            while not done.is_set():
                nodes.shown(0.0)
        except RuntimeError as e:
            errors.append(e)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=show)
    thread.start()
    try:
        for n in range(300):
            look(nodes, 0.0, beat(n), *claims[n % 100 :])
    finally:
        done.set()
        thread.join()
        sys.setswitchinterval(before)
    assert errors == []


def test_a_beat_that_is_no_file_is_shown_until_it_is_one_again() -> None:
    nodes = Nodes(0.0, version="1")
    look(nodes, 0.0, beat(1, version="1"))
    assert not nodes.shown(0.0)[0].outdated
    nodes.heard("w1", None, 10.0, "beat.json: not a regular file")
    (node,) = nodes.shown(10.0)
    assert (node.error, node.last_seen) == ("beat.json: not a regular file", 10.0)
    look(nodes, 20.0, beat(1, version="1"))
    assert nodes.shown(20.0)[0].error == "" and nodes.silence("w1", MINE, 20.0) == 20.0
    look(nodes, 30.0, beat(2, version="2"))
    assert nodes.shown(30.0)[0].outdated


def test_a_name_that_is_taken_over_again_and_again_is_not_remembered_without_end() -> None:
    nodes = Nodes(0.0)
    for n in range(500):
        look(nodes, float(n), beat(n, instance=f"{n:016x}"))
    assert len(nodes._workers["w1"].changed) == MAX_INSTANCES
    assert nodes.silence("w1", f"{499:016x}", 500.0) == 1.0
