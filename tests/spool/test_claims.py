"""The worker's side: one claim for each ticket, and everything it says is whole."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from spool import reports
from spool.claims import Claims
from spool.dispatch import Dispatch
from spool.errors import Gone, NoSpace, Refused, Unbelievable, Unreachable
from spool.local import LocalTransport, make_worker_folder
from spool.names import Claim, Ticket
from spool.reports import Beat, FinalReport, ProcessedReport, RunReport, StartedReport
from tests.lossy import Loss, LossyTransport

JOB = "0b6f3c1e-5b0a-4b62-9d7f-0123456789ab"


def ticket(seq: int, attempt: int = 1) -> Ticket:
    return Ticket(seq, attempt, JOB[:-8] + f"{seq:08d}", "ab" * 32)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    dispatch = Dispatch(tmp_path / "spool")
    dispatch.lay_out(["test", "other"])
    return dispatch.root


def worker(root: Path, name: str = "w1", instance: str = "1" * 16) -> Claims:
    make_worker_folder(root, name)
    return Claims(LocalTransport(root), name, instance)


def put(root: Path, what: Ticket, model: str = "test") -> None:
    (root / "models" / model / "new" / str(what)).write_bytes(b"zip")


def beat(instance: str = "1" * 16, counter: int = 1) -> Beat:
    return Beat(
        instance=instance, counter=counter, host="h", node_url="u", pid=1, slots=1, version="0"
    )


def test_tickets_come_oldest_first_over_all_models(root: Path) -> None:
    claims = worker(root)
    put(root, ticket(10), "other")
    put(root, ticket(9))
    put(root, ticket(100))
    put(root, ticket(11, attempt=3))
    (root / "models/test/new/README").touch()
    found = claims.tickets(["test", "other", "unknown"])
    assert [(t.seq, m) for t, m in found] == [
        (9, "test"),
        (10, "other"),
        (11, "test"),
        (100, "test"),
    ]


def test_a_claim_moves_the_input_into_cur(root: Path, tmp_path: Path) -> None:
    claims = worker(root)
    put(root, ticket(1))
    claim = claims.claim(ticket(1), "test")
    assert claim == Claim(ticket(1), "1" * 16)
    assert claims.tickets(["test"]) == []
    assert claims.held() == [claim]
    claims.fetch_input(claim, tmp_path / "input.zip")
    assert (tmp_path / "input.zip").read_bytes() == b"zip"
    assert claims.claim(ticket(1), "test") is None  # nobody's any more
    assert claims.claim(ticket(2), "test") is None


def test_of_two_workers_one_gets_each_ticket(root: Path) -> None:
    rounds = 60
    for n in range(rounds):
        put(root, ticket(n))
    start = threading.Barrier(3)
    won: dict[str, list[Claim]] = {}

    def run(name: str, instance: str) -> None:
        claims = worker(root, name, instance)
        start.wait()
        mine = (claims.claim(t, m) for t, m in claims.tickets(["test"]))
        won[name] = [c for c in mine if c]
        assert sorted(won[name]) == claims.held()

    threads = [threading.Thread(target=run, args=(f"w{n}", f"{n}" * 16)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    all_won = [c.ticket.seq for claims in won.values() for c in claims]
    assert sorted(all_won) == list(range(rounds))


def test_another_instance_s_claims_are_not_ours(root: Path) -> None:
    old = worker(root, instance="0" * 16)
    put(root, ticket(1))
    old.claim(ticket(1), "test")
    assert worker(root).held() == []


def test_a_folder_that_is_gone_does_not_look_like_retired_claims(root: Path) -> None:
    claims = worker(root)
    os.rename(root / "workers", root / "elsewhere")
    with pytest.raises(Gone):
        claims.held()


def test_reports_lie_under_their_own_names_and_are_whole(root: Path) -> None:
    claims = worker(root)
    key = ticket(1).key
    said: list[reports.AnyReport] = [
        StartedReport(claim="c", instance="i"),
        ProcessedReport(claim="c", instance="i", run=RunReport(exit_code=0)),
    ]
    for report in said:
        claims.report(key, report)
    assert claims.delivered() == set()
    claims.report(key, FinalReport(claim="c", instance="i", end="ok"))
    claims.report(key, FinalReport(claim="c", instance="i", end="ok"))  # delivered again
    assert claims.delivered() == {key}
    found = sorted(os.listdir(root / "workers/w1/reports"))
    assert found == [f"{key}.1-started", f"{key}.2-processed", f"{key}.3-final"]
    assert os.listdir(root / "workers/w1/tmp") == []
    data = (root / "workers/w1/reports" / found[0]).read_bytes()
    assert reports.decode_report(data) == said[0]


def test_a_full_disk_leaves_no_report(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = worker(root)
    key = ticket(1).key

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(NoSpace):
            claims.report(key, StartedReport(claim="c", instance="i"))
        with pytest.raises(NoSpace):
            claims.send_log(key, 0, b"x")
    assert os.listdir(root / "workers/w1/reports") == []
    claims.report(key, StartedReport(claim="c", instance="i"))  # room again
    assert os.listdir(root / "workers/w1/reports") == [f"{key}.1-started"]


def test_the_log_grows_by_offset_and_can_begin_anew(root: Path) -> None:
    claims = worker(root)
    key = ticket(1).key
    assert claims.log_size(key) == 0
    claims.send_log(key, 0, b"one ")
    claims.send_log(key, 4, b"two")
    claims.send_log(key, 4, b"two")  # its answer was lost
    assert claims.log_size(key) == 7
    assert (root / f"workers/w1/log/{key}.log").read_bytes() == b"one two"
    claims.drop_log(key)
    claims.drop_log(key)
    assert claims.log_size(key) == 0


def test_an_output_is_whole_or_absent(root: Path, tmp_path: Path) -> None:
    claims = worker(root)
    source = tmp_path / "output.zip"
    source.write_bytes(b"results")
    key = ticket(1).key
    seen: list[list[str]] = []
    real = os.rename

    def rename(old: str, new: str) -> None:
        seen.append(os.listdir(root / "workers/w1/out"))
        real(old, new)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", rename)
        claims.send_output(key, source)
    assert seen == [[]]
    assert (root / f"workers/w1/out/{key}.zip").read_bytes() == b"results"
    assert source.exists()  # kept until the claim is retired


def test_a_beat_is_replaced_and_read_back(root: Path) -> None:
    claims = worker(root)
    assert claims.last_beat() is None
    claims.beat(beat(counter=1))
    claims.beat(beat(counter=2))
    assert claims.last_beat() == beat(counter=2)
    namesake = worker(root, instance="2" * 16)
    assert namesake.last_beat() == beat(counter=2)
    (root / "workers/w1/reports/beat.json").write_bytes(b"{")
    with pytest.raises(Unbelievable):
        claims.last_beat()


def test_stops_are_listed_by_key(root: Path) -> None:
    claims = worker(root)
    assert list(claims.stops()) == []
    Dispatch(root).stop("w1", ticket(1).key, "killed")
    (root / "workers/w1/stop/README").touch()
    assert list(claims.stops()) == [ticket(1).key]


def test_sweeping_removes_the_halves_of_this_instance_alone(root: Path) -> None:
    claims = worker(root)
    tmp = root / "workers/w1/tmp"
    for name in (f"{claims.instance}-beat.json", f"{'2' * 16}-beat.json", "README"):
        (tmp / name).touch()
    claims.send_log(ticket(1).key, 0, b"x")
    for _ in range(2):
        claims.sweep()
    assert sorted(os.listdir(tmp)) == [f"{'2' * 16}-beat.json", "README"]
    assert claims.log_size(ticket(1).key) == 1


def test_sweeping_keeps_the_outputs_of_what_is_still_held(root: Path) -> None:
    claims = worker(root)
    for seq in (1, 2):
        put(root, ticket(seq))
        claim = claims.claim(ticket(seq), "test")
        assert claim is not None
        for name in (f"{claim.key}.zip", f"1-{claim.key}.3-final"):
            (root / "workers/w1/tmp" / f"{claims.instance}-{name}").write_bytes(b"half")
    Dispatch(root).retire("w1", ticket(2).key, [Claim(ticket(2), claims.instance)])
    (root / f"workers/w1/tmp/{claims.instance}-{ticket(2).key}.zip").touch()
    claims.sweep()
    assert os.listdir(root / "workers/w1/tmp") == [f"{claims.instance}-{ticket(1).key}.zip"]


def test_every_half_has_a_name_of_its_own(root: Path) -> None:
    """A connection that hung may thaw and move the half of an earlier try."""
    make_worker_folder(root, "w1")
    line = LossyTransport(LocalTransport(root))
    claims = Claims(line, "w1", "1" * 16)
    report = FinalReport(claim="c", instance="i", end="ok")
    for _ in range(3):
        claims.report(ticket(1).key, report)
        claims.beat(beat())
    stored = [path for verb, path in line.calls if verb == "store"]
    assert len(set(stored)) == len(stored) == 6
    assert all(Path(path).name.startswith("1" * 16) for path in stored)


def test_halves_that_were_not_moved_are_removed_later(root: Path) -> None:
    make_worker_folder(root, "w1")
    line = LossyTransport(LocalTransport(root))
    claims = Claims(line, "w1", "1" * 16)
    claims.tidy()
    assert line.calls == []  # nothing to do, nothing asked
    line.loses = lambda verb, _: "request" if verb == "move" else None
    with pytest.raises(Unreachable):
        claims.beat(beat())
    with pytest.raises(Unreachable):
        claims.send_output(ticket(1).key, Path(__file__))
    assert len(os.listdir(root / "workers/w1/tmp")) == 2
    line.up()
    claims.tidy()
    assert len(os.listdir(root / "workers/w1/tmp")) == 1  # the output goes on in its half
    claims.abandon_output(ticket(1).key)
    claims.tidy()
    assert os.listdir(root / "workers/w1/tmp") == []
    before = len(line.calls)
    claims.tidy()
    assert len(line.calls) == before


def test_a_half_that_a_connection_makes_when_it_thaws_is_removed_then(root: Path) -> None:
    make_worker_folder(root, "w1")
    line = LossyTransport(LocalTransport(root))
    claims = Claims(line, "w1", "1" * 16)
    line.lose_once("store", "", "request")
    with pytest.raises(Unreachable):
        claims.beat(beat())
    claims.tidy()  # it is not there yet
    (root / "workers/w1/tmp" / f"{claims.instance}-1-beat.json").touch()
    (root / "workers/w1/tmp/README").touch()
    claims.tidy()
    assert os.listdir(root / "workers/w1/tmp") == ["README"]


@pytest.mark.parametrize("lost", ["request", "answer"])
@pytest.mark.parametrize("verb", ["store", "move"])
def test_an_output_is_sent_once_whatever_was_lost(root: Path, verb: str, lost: Loss) -> None:
    make_worker_folder(root, "w1")
    line = LossyTransport(LocalTransport(root))
    claims = Claims(line, "w1", "1" * 16)
    source = root.parent / "output.zip"
    source.write_bytes(b"results" * 1000)
    key = ticket(1).key
    line.lose_once(verb, "", lost)
    with pytest.raises(Unreachable):
        claims.send_output(key, source)
    claims.send_output(key, source, again=True)
    assert (root / f"workers/w1/out/{key}.zip").read_bytes() == source.read_bytes()
    assert os.listdir(root / "workers/w1/tmp") == []
    again = 2 if (verb, lost) == ("store", "request") else 1
    assert line.count("store") == again


def test_a_retired_claim_has_no_size(root: Path) -> None:
    claims = worker(root)
    put(root, ticket(1))
    claim = claims.claim(ticket(1), "test")
    assert claim is not None
    assert claims.input_size(claim) == 3
    Dispatch(root).retire("w1", claim.key, [claim])
    assert claims.input_size(claim) is None


def test_a_queue_that_may_not_be_listed_hides_no_other(root: Path) -> None:
    make_worker_folder(root, "w1")
    line = LossyTransport(LocalTransport(root))
    claims = Claims(line, "w1", "1" * 16)
    put(root, ticket(1), "other")
    no = Refused("models/test/new: Permission denied", "ask")
    line.loses = lambda _, path: no if "models/test" in path else None
    refused: list[str] = []
    found = claims.tickets(["test", "other"], lambda model, _: refused.append(model))
    assert found == [(ticket(1), "other")]
    assert refused == ["test"]
    with pytest.raises(Refused):
        claims.tickets(["test", "other"])
