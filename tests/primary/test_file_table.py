"""Each row of the file table (DESIGN 5), the leases and kills, on a real primary.

A row's tests carry its name. Workers are moved by hand; the clock is made up.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ledger.errors import LedgerFull
from ledger.events import Killed, Requeued
from ledger.jobs import State
from primary.errors import (
    TooLate,
    UnknownJob,
)
from primary.rules import PROCESSED_LEASE
from spool.names import Claim, Ticket
from tests.primary.hand import MODEL, Hand, Worker, lie, running, zipped

LEASE = 900.0  # seconds: the default of a model
GONE = "00000000-0000-4000-8000-000000000000"


def run_to_end(hand: Hand, worker: Worker, claim: Claim) -> None:
    worker.started(claim)
    hand.tick()
    worker.final(claim)
    hand.tick(2)


# --- F0, F1, F2 --------------------------------------------------------------------------


def test_f0_what_never_became_a_job_is_removed_at_the_start(hand: Hand) -> None:
    upload = hand.primary.receive()
    upload.write(b"half")
    upload._file.close()
    orphan = hand.data / "jobs" / GONE
    orphan.mkdir()
    (orphan / "input.zip").touch()
    (hand.data / "incoming" / f"{GONE}.zip").touch()
    job = hand.submit()
    (hand.data / "incoming" / f"{job.id}.zip").touch()
    hand.restart()
    assert os.listdir(hand.data / "incoming") == []
    assert os.listdir(hand.data / "jobs") == [job.id]


def test_f0_no_name_in_incoming_leads_out_of_jobs(hand: Hand) -> None:
    job = hand.submit()
    for name in ("..zip", "...zip", "x.zip", "w1.half"):
        (hand.data / "incoming" / name).touch()
    (hand.data / "incoming/folder").mkdir()
    hand.restart()
    assert os.listdir(hand.data / "incoming") == ["folder"]
    assert hand.read(job, "input.zip") == zipped()


def test_f1_a_queued_job_is_published_after_a_restart(hand: Hand) -> None:
    hand.submit()
    hand.restart()
    hand.tick()
    assert hand.new() == [], "not before the spool is known"
    hand.tick()
    assert len(hand.new()) == 1


def test_f1_kill_before_it_was_published(hand: Hand) -> None:
    job = hand.submit()
    hand.primary.kill(job.id, "bob")
    hand.tick()
    assert hand.state(job) == "KILLED"
    assert hand.new() == []


def test_f2_a_waiting_ticket_is_taken_back_and_its_job_killed(hand: Hand) -> None:
    job = hand.submit()
    hand.tick()
    hand.primary.kill(job.id, "bob")
    hand.tick()
    killed = hand.job(job)
    assert (killed.state, killed.confirmed) == ("KILLED", True)
    assert killed.reason is not None and "bob" in killed.reason
    assert hand.new() == []


def test_f2_killed_between_unlink_and_ledger(hand: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after the ticket was unlinked: the restart finds neither, and kills (F1)."""
    job = hand.submit()
    hand.tick()
    hand.primary.kill(job.id, "bob")

    class Crash(Exception):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    monkeypatch.setattr(hand.primary._loop, "_kill_waiting", crash)
    with pytest.raises(Crash):
        hand.tick()
    assert hand.new() == []
    hand.restart()
    hand.settle()
    assert hand.kinds(job) == ["Submitted", "Queued", "KillRequested", "Killed"]


def test_f2_a_ticket_survives_restarts_and_is_not_published_twice(hand: Hand, w1: Worker) -> None:
    hand.submit()
    hand.tick()
    hand.restart()
    hand.settle()
    assert len(hand.new()) == 1
    claim = w1.claim()
    hand.restart()
    hand.tick(5)
    assert hand.new() == [] and w1.has(claim)


# --- F3 ----------------------------------------------------------------------------------


def test_f3_kill_at_the_moment_of_a_claim(
    hand: Hand, w1: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The primary saw the ticket, but its unlink finds that a worker was faster."""
    job = hand.submit()
    hand.tick()
    hand.primary.kill(job.id, "bob")
    dispatch = hand.primary._dispatch
    real = dispatch.unpublish
    claims: list[Claim] = []

    def claimed_first(model: str, ticket: Ticket) -> bool:
        claims.append(w1.claim())
        return real(model, ticket)

    monkeypatch.setattr(dispatch, "unpublish", claimed_first)
    hand.tick()
    assert hand.state(job) == "QUEUED"
    hand.tick()
    assert w1.stops() == {claims[0].key}
    w1.final(claims[0], end="killed", reason="before it began", run=None)
    hand.tick()
    assert hand.state(job) == "KILLED"
    hand.tick()
    assert hand.left() == []


def test_f3_a_new_worker_s_claim_is_not_lost_before_its_first_beat(hand: Hand) -> None:
    """An agent claims before its first beat; a primary that is long up has never heard of it."""
    hand.pass_time(2 * LEASE)
    job = hand.submit()
    hand.tick()
    w9 = hand.worker("w9", "9" * 16)
    claim = w9.claim()
    hand.tick(3)
    assert hand.kinds(job) == ["Submitted", "Queued"]
    w9.beat(claim)
    w9.started(claim)
    hand.tick()
    assert hand.state(job) == "RUNNING"


def test_f3_a_claim_whose_worker_says_nothing_is_lost_after_the_lease(
    hand: Hand, w1: Worker
) -> None:
    job = hand.submit()
    hand.tick()
    w1.claim()
    hand.tick()
    hand.pass_time(LEASE - 10)
    assert hand.job(job).attempt == 1
    hand.pass_time(11)
    requeued = hand.job(job)
    assert (requeued.state, requeued.attempt, requeued.starts) == ("QUEUED", 2, 0)
    assert requeued.reason is not None and "w1 was silent" in requeued.reason


# --- F4: leases --------------------------------------------------------------------------


def test_f4_a_silent_worker_is_unreachable_and_then_lost(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    hand.pass_time(31)
    shown = hand.primary._nodes.shown(hand.now)
    assert [n.liveness for n in shown] == ["unreachable"]
    hand.pass_time(LEASE - 40)
    assert hand.state(job) == "RUNNING"
    hand.pass_time(20)
    again = hand.job(job)
    assert (again.state, again.attempt, again.starts) == ("QUEUED", 2, 1)
    assert again.worker is None
    hand.tick()
    assert w1.stops() == {claim.key}, "F8: its worker is told"
    assert [t.attempt for t, _ in w1.claims.tickets(["test"])] == [2]


def test_f4_beats_keep_it_alive_by_their_content(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    hand.pass_time(3 * LEASE, lambda: w1.beat(claim))
    assert hand.state(job) == "RUNNING"
    beat = w1.home / "reports/beat.json"
    hand.pass_time(2 * LEASE, lambda: os.utime(beat))  # touched, but nothing new in it
    assert hand.job(job).attempt == 2


def test_f4_a_restart_or_a_long_gap_starts_all_leases_afresh(hand: Hand, w1: Worker) -> None:
    job, _ = running(hand, w1)
    hand.pass_time(LEASE - 20)
    hand.tick(step=LEASE)  # the primary itself was asleep
    hand.pass_time(LEASE - 20)
    assert hand.state(job) == "RUNNING"
    hand.restart()
    hand.pass_time(LEASE - 20)
    assert hand.state(job) == "RUNNING"
    hand.pass_time(60)  # the first tick after the restart, 20 s later, began the lease
    assert hand.job(job).attempt == 2


def test_f4_each_model_has_its_lease_and_never_is_never(hand: Hand, w1: Worker) -> None:
    hand.add_model("test", MODEL.replace("[input]", "lease = 60\n[input]"))
    hand.add_model("patient", MODEL.replace("[input]", 'lease = "never"\n[input]'))
    hand.tick()
    job, _ = running(hand, w1)
    patient = hand.submit(model="patient")
    hand.tick()
    w1.started(w1.claim("patient"))
    hand.pass_time(90)
    assert hand.job(job).attempt == 2
    hand.pass_time(10 * LEASE)
    assert hand.state(patient) == "RUNNING"


def test_f4_results_that_exist_are_waited_for_a_day(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    w1.processed(claim)
    hand.tick()
    hand.pass_time(PROCESSED_LEASE - 100)
    assert hand.state(job) == "PROCESSED"
    hand.pass_time(200)
    assert hand.job(job).attempt == 2


def test_f4_nobody_is_lost_for_a_silence_that_a_full_disk_made(
    hand: Hand, w1: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No beat can be written then: all leases start afresh when there is room again."""
    job = hand.submit()
    hand.tick()
    claim = w1.claim()
    w1.started(claim)
    w1.beat(claim)
    hand.tick()
    monkeypatch.setattr(hand.primary._files, "free", lambda: 0)
    hand.pass_time(2 * 900)
    monkeypatch.undo()
    hand.tick()
    assert hand.state(job) == "RUNNING"
    assert hand.job(job).attempt == 1
    hand.pass_time(900 + 20)
    assert hand.job(job).attempt == 2


def test_f4_the_third_lost_attempt_is_the_last(hand: Hand) -> None:
    job = hand.submit()
    for attempt in (1, 2, 3):
        hand.tick()
        worker = hand.worker(f"w{attempt}", f"{attempt}" * 16)
        claim = worker.claim()
        assert claim.ticket.attempt == attempt
        worker.started(claim)
        hand.tick()
        hand.pass_time(LEASE + 1)
    failed = hand.job(job)
    assert (failed.state, failed.failure, failed.starts) == ("FAILED", "lost", 3)
    assert failed.reason is not None and "given up after 3 started attempts" in failed.reason
    hand.tick(2)
    assert hand.left() == []


def test_f4_a_killed_job_of_a_lost_worker_is_killed_but_not_confirmed(
    hand: Hand, w1: Worker
) -> None:
    job, claim = running(hand, w1)
    hand.primary.kill(job.id, "bob")
    hand.tick()
    assert w1.stops() == {claim.key}
    hand.pass_time(LEASE + 20)
    killed = hand.job(job)
    assert (killed.state, killed.confirmed) == ("KILLED", False)


def test_f4_a_worker_that_forgot_its_claim_gives_it_back_after_two_beats(
    hand: Hand, w1: Worker
) -> None:
    job, _ = running(hand, w1)
    w1.beat()
    hand.tick()
    assert hand.job(job).attempt == 1, "that beat may have been made before the claim"
    w1.beat()
    hand.tick()
    again = hand.job(job)
    assert again.attempt == 2
    assert again.reason is not None and "does not know of its claim" in again.reason


def test_f4_a_claim_made_just_before_or_after_a_beat_is_not_given_back(
    hand: Hand, w1: Worker
) -> None:
    job = hand.submit()
    hand.tick()
    w1.beat()
    claim = w1.claim()  # after a beat that could not name it
    hand.tick()
    w1.beat()  # made before the claim, but late
    hand.tick()
    w1.beat(claim)
    hand.tick()
    w1.beat()  # one that left it out is no habit
    hand.tick()
    assert hand.job(job).attempt == 1


def test_f4_beats_of_another_instance_do_not_count_against_a_claim(hand: Hand, w1: Worker) -> None:
    """Two agents under one name, or a worker whose state directory was lost."""
    job, claim = running(hand, w1)
    namesake = hand.worker("w1", "f" * 16)
    for _ in range(5):
        namesake.beat()
        hand.tick()
    assert hand.job(job).attempt == 1
    assert w1.has(claim)
    hand.pass_time(LEASE + 20, namesake.beat)
    assert hand.job(job).attempt == 2, "nor do they keep it alive"


def test_f4_a_lost_worker_with_a_hostile_beat_is_no_trouble_to_others(
    hand: Hand, w1: Worker, w2: Worker
) -> None:
    job, claim = running(hand, w1)
    beat = w2.home / "reports/beat.json"
    hostile: list[Callable[[], object]] = [
        lambda: beat.write_bytes(b'{"x":' + b"[" * 200_000),
        lambda: beat.write_bytes(b"\xff" * 10),
        lambda: os.mkfifo(beat),
        lambda: beat.symlink_to(w1.home / "reports/beat.json"),
        lambda: [beat.touch(), os.truncate(beat, 8 * 1024**4)],  # type: ignore[func-returns-value]
    ]
    for make in hostile:
        make()
        hand.tick()
        beat.unlink()
    beat.mkdir()
    hand.tick()
    w1.final(claim)
    hand.tick()
    assert hand.state(job) == "COMPLETE"
    assert [n.status for n in hand.primary.nodes()] == ["WAITING", "RUNNING", "STOPPED"]


# --- F5, F6 ------------------------------------------------------------------------------


def test_f5_a_result_that_does_not_match_is_delivered_again(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    w1.final(claim, log=lie())
    (w1.home / "log" / f"{claim.key}.log").write_bytes(b"log\n")
    hand.tick()
    assert hand.state(job) == "RUNNING"
    assert w1.has(claim) and not w1.delivered(claim)
    assert any("were not believed" in f for f in hand.primary.findings())
    w1.final(claim)
    hand.tick()
    assert hand.state(job) == "COMPLETE"
    assert os.listdir(hand.data / "incoming") == []


def test_f6_leftovers_of_a_finished_job_are_retired_at_any_time(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    hand.primary._dispatch.retire = lambda *_: None  # type: ignore[method-assign]
    w1.final(claim)
    hand.tick()
    assert hand.state(job) == "COMPLETE" and w1.has(claim)
    hand.restart()
    hand.tick()
    assert hand.left() == []
    assert hand.read(job, "output.zip") == zipped("result")


def test_f6_a_stop_left_behind_is_removed(hand: Hand, w1: Worker) -> None:
    _, claim = running(hand, w1)
    w1.final(claim)
    hand.tick()
    (w1.home / "stop" / claim.key).touch()
    hand.tick()
    assert hand.left() == []


# --- F8, F9 ------------------------------------------------------------------------------


def test_f8_a_late_result_is_kept_and_never_counted(hand: Hand, w1: Worker, w2: Worker) -> None:
    job, old = running(hand, w1)
    hand.pass_time(LEASE + 20)
    new = w2.claim()
    assert new.ticket.attempt == 2
    w2.beat(new)
    w2.started(new)
    w1.final(old, output=w1.output(old, zipped("late")))
    hand.tick(2)
    assert hand.job(job).worker == "w2"
    late = hand.data / "jobs" / job.id / "late/1"
    assert (late / "output.zip").read_bytes() == zipped("late")
    assert not w1.has(old)
    w2.final(new)
    hand.tick(2)
    assert hand.read(job, "output.zip") == zipped("result")
    assert hand.left() == []
    assert hand.kinds(job).count("Completed") == 1


def test_f8_a_late_report_that_lies_is_not_kept(hand: Hand, w1: Worker) -> None:
    job, old = running(hand, w1)
    hand.pass_time(LEASE + 20)
    w1.final(old, log=lie())
    (w1.home / "log" / f"{old.key}.log").write_bytes(b"log\n")
    hand.tick(2)
    assert not (hand.data / "jobs" / job.id / "late").exists()


def test_f8_an_old_ticket_is_taken_back(hand: Hand, w1: Worker) -> None:
    """A ticket of the attempt before, left by a crash between Requeued and its unlink."""
    job, claim = running(hand, w1)
    hand.pass_time(LEASE + 20)
    assert hand.job(job).attempt == 2
    os.link(
        hand.data / "jobs" / job.id / "input.zip",
        hand.spool / "models/test/new" / str(claim.ticket),
    )
    hand.tick()
    assert [t.attempt for t, _ in w1.claims.tickets(["test"])] == [2]


def test_f9_a_claim_that_vanished_is_missed_twice_before_it_is_given_up(
    hand: Hand, w1: Worker
) -> None:
    job, claim = running(hand, w1)
    (w1.home / "cur" / str(claim)).unlink()
    hand.tick()
    assert hand.job(job).attempt == 1
    hand.tick()
    again = hand.job(job)
    assert (again.state, again.attempt) == ("QUEUED", 2)
    assert isinstance(hand.events(job)[-1], Requeued)


def test_f9_a_ticket_that_vanished(hand: Hand) -> None:
    job = hand.submit()
    hand.tick()
    (hand.spool / "models/test/new" / hand.new()[0]).unlink()
    hand.tick(2)
    assert (hand.state(job), hand.job(job).attempt) == ("QUEUED", 2)
    assert len(hand.new()) == 1


def test_f9_killed_when_wanted(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    hand.primary.kill(job.id, "bob")
    (w1.home / "cur" / str(claim)).unlink()
    hand.tick(3)
    event = hand.events(job)[-1]
    assert isinstance(event, Killed) and not event.confirmed


def test_f9_after_a_restart_a_running_job_is_missed_twice_too(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    hand.restart()
    hidden = w1.home / "hidden"
    os.rename(w1.home / "cur" / str(claim), hidden)
    hand.tick()
    os.rename(hidden, w1.home / "cur" / str(claim))
    hand.tick(3)
    assert hand.job(job).attempt == 1


def test_what_nobody_knows_is_shown_and_not_touched(hand: Hand, w1: Worker) -> None:
    ticket = Ticket(99, 1, GONE, "ab" * 32)
    (hand.spool / "models/test/new" / str(ticket)).touch()
    (w1.home / "cur" / str(Claim(ticket, "0" * 16))).touch()
    (w1.home / "cur/README").touch()
    hand.tick()
    found = "\n".join(hand.primary.findings())
    assert "models/test/new: 1 tickets were forged" in found
    assert "workers/w1/cur: 1 claims are not believed" in found
    (hidden,) = os.listdir(hand.spool / "models/test/new")
    assert hidden.startswith(".") and hidden.endswith(f"-{ticket}"), "out of the workers' sight"
    before = hand.left()
    hand.tick(3)
    assert hand.left() == before and len(before) == 3


def test_the_input_of_a_job_that_the_ledger_does_not_know_is_shown(hand: Hand, w1: Worker) -> None:
    ticket = Ticket(99, 1, GONE, "ab" * 32)
    (hand.data / "jobs" / GONE).mkdir()
    (hand.data / "jobs" / GONE / "input.zip").touch()
    for place in (
        hand.spool / "models/test/new" / str(ticket),
        w1.home / "cur" / str(Claim(ticket, "0" * 16)),
    ):
        os.link(hand.data / "jobs" / GONE / "input.zip", place)
    before = hand.left()
    hand.tick(3)
    assert hand.left() == before
    shown = [f for f in hand.primary.findings() if "the ledger has no such job" in f]
    assert len(shown) == 2


# --- kill --------------------------------------------------------------------------------


def test_kill_of_a_running_job(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    assert hand.primary.kill(job.id, "bob").kill_wanted
    hand.primary.kill(job.id, "bob")  # asking again is no error
    hand.tick()
    assert hand.state(job) == "RUNNING"
    assert w1.stops() == {claim.key}
    w1.final(claim, end="killed", reason="ended sleep", log=w1.log(claim, b"1\n2\n"))
    hand.tick()
    killed = hand.job(job)
    assert (killed.state, killed.confirmed) == ("KILLED", True)
    assert hand.read(job, "job_log.txt") == b"1\n2\n"
    assert hand.kinds(job).count("KillRequested") == 1
    hand.tick()
    assert hand.left() == []


def test_kill_that_came_too_late_is_noted(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    hand.primary.kill(job.id, "bob")
    w1.final(claim)
    hand.tick()
    assert hand.state(job) == "COMPLETE"
    assert hand.kinds(job)[-1] == "Noted"


def test_kill_of_a_processed_job_is_done_at_once(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    w1.processed(claim)
    hand.tick()
    assert hand.primary.kill(job.id, "bob").state is State.KILLED
    w1.final(claim)
    hand.tick(2)
    assert hand.kinds(job)[-1] == "Killed"
    assert hand.left() == []


def test_kill_of_an_unknown_or_finished_job_says_so(hand: Hand, w1: Worker) -> None:
    with pytest.raises(UnknownJob, match="nonsense"):
        hand.primary.kill("nonsense", "bob")
    job, claim = running(hand, w1)
    w1.final(claim)
    hand.tick()
    with pytest.raises(TooLate, match="it is COMPLETE"):
        hand.primary.kill(job.id, "bob")


# --- reported to the lead, to be fixed in primary/loop.py ----------------------------------


def test_f9_two_misses_that_are_not_in_a_row_do_not_count(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    hidden = w1.home / "hidden"
    for _ in range(2):
        os.rename(w1.home / "cur" / str(claim), hidden)
        hand.tick()
        os.rename(hidden, w1.home / "cur" / str(claim))
        hand.tick(3)
    assert hand.job(job).attempt == 1


def test_f9_strange_files_do_not_keep_a_lost_job_waiting(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    (w1.home / "cur" / str(claim)).unlink()
    future = Claim(claim.ticket._replace(attempt=7), w1.instance)
    (w1.home / "cur" / str(future)).touch()
    hand.tick(3)
    assert hand.job(job).attempt == 2


def test_a_ticket_moved_to_another_model_is_taken_back(hand: Hand) -> None:
    """Else the wrong model would run on it, and its results count."""
    hand.add_model("other")
    hand.tick()
    hand.submit()
    hand.tick()
    (name,) = hand.new()
    os.rename(hand.spool / "models/test/new" / name, hand.spool / "models/other/new" / name)
    hand.tick(3)
    assert hand.new("other") == []


def test_a_full_ledger_at_one_lease_does_not_hold_up_the_retirement_of_others(
    hand: Hand, w1: Worker, w2: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Retiring is what makes room again."""
    lost, _ = running(hand, w1)
    done, claim = running(hand, w2)
    assert lost.id != done.id
    hand.pass_time(LEASE - 30, lambda: w2.beat(claim))
    hand.primary._dispatch.retire, retire = lambda *_: None, hand.primary._dispatch.retire  # type: ignore[method-assign]
    w2.final(claim)
    hand.tick()
    assert hand.state(done) == "COMPLETE" and w2.has(claim)
    monkeypatch.setattr(hand.primary._dispatch, "retire", retire)

    def full(_: object) -> None:
        raise LedgerFull("no room")

    monkeypatch.setattr(hand.primary._ledger, "append", full)
    hand.tick(4, step=15.0)
    assert not w2.has(claim)


def test_a_worker_that_appears_during_the_second_scan_after_a_restart(
    hand: Hand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claim is in neither list of that scan; publishing again would run the attempt twice."""
    job = hand.submit()
    hand.tick()
    hand.restart()
    hand.tick()
    dispatch = hand.primary._dispatch
    real = dispatch.workers
    claims: list[Claim] = []

    def workers() -> list[str]:
        found = real()
        if not claims:
            claims.append(hand.worker("w9", "9" * 16).claim())
        return found

    monkeypatch.setattr(dispatch, "workers", workers)
    hand.tick()
    hand.tick()
    assert hand.new() == []
    assert hand.job(job).attempt == 1


def test_a_job_whose_input_vanished_fails_and_says_so(hand: Hand) -> None:
    """Promise 1: it will end in COMPLETE, FAILED or KILLED."""
    job = hand.submit()
    (hand.data / "jobs" / job.id / "input.zip").unlink()
    hand.tick(3)
    failed = hand.job(job)
    assert (failed.state, failed.failure) == ("FAILED", "system")


def test_f8_files_of_an_attempt_that_never_answers_are_retired_with_the_job(
    hand: Hand, w1: Worker, w2: Worker
) -> None:
    job, old = running(hand, w1)
    hand.pass_time(LEASE + 20)
    w2.final(w2.claim())
    hand.tick(2)
    assert hand.state(job) == "COMPLETE"
    assert not w1.has(old) and hand.left() == []
