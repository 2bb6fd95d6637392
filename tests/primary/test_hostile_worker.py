"""A worker account that is hostile: it gets nothing, falsifies nothing, and holds up no other.

It is another uid, with the folders that ``modelrunner spool grant`` gives it, and
works directly on the disk, not by SFTP alone. Where no uid matters the plain
local layout does. Each attack fails without its defence.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from ledger.events import Killed
from ledger.jobs import Job
from primary.intake import REFUSALS
from primary.rules import ticket_of
from spool import folders
from spool.claims import Claims
from spool.errors import Unbelievable
from spool.local import LocalTransport
from spool.names import Claim, ReportName, Ticket, key
from spool.reports import FinalReport
from tests.primary.hand import MODEL, Hand, Worker, lie, running, zipped

LEASE = 900.0  # seconds: the default of a model
EVIL, MODELS_GROUP = 60001, 60002  # a uid and the group of the model "test"
FLOOD = 500  # names, in place of folders.MAX_NAMES


@pytest.fixture(autouse=True)
def cap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MAX_NAMES", FLOOD)


class Foreign(LocalTransport):
    """What the worker writes belongs to its account."""

    def store(self, source: Path | bytes, path: str, *, go_on: bool = False) -> None:
        super().store(source, path, go_on=go_on)
        os.chown(self.root / path, EVIL, 0)

    def append(self, path: str, offset: int, data: bytes) -> None:
        super().append(path, offset, data)
        os.chown(self.root / path, EVIL, 0)


def grant(hand: Hand, worker: Worker, model: str = "test") -> None:
    """The worker's folders and its model's new/, as an administrator would make them."""
    worker.claims = Claims(Foreign(hand.spool), worker.name, worker.instance)
    os.chown(worker.home, 0, 0)
    worker.home.chmod(0o751)
    for name in ("cur", "tmp", "log", "out", "reports"):
        os.chown(worker.home / name, EVIL, 0)
        (worker.home / name).chmod(0o2770)
    os.chown(worker.home / "stop", 0, EVIL)
    (worker.home / "stop").chmod(0o2750)
    for name in ("new", "drop"):
        folder = hand.spool / "models" / model / name
        os.chown(folder, 0, MODELS_GROUP)
        folder.chmod(0o2770)


def attack(hand: Hand, script: str, *, fails: bool = False) -> None:
    """Run a shell script as the hostile account, in the spool; it must have worked, or not."""
    done = subprocess.run(
        ["/bin/sh", "-ec", script],
        cwd=hand.spool,  # entered by root: pytest's own folders are closed
        user=EVIL,
        group=EVIL,
        extra_groups=[MODELS_GROUP],
        umask=0o027,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode != 0) is fails, done.stderr


def forged(worker: Worker, job: Job, attempt: int = 1) -> Claim:
    """The name that a claim of the job would have in the worker's cur/: all of it is public."""
    ticket = ticket_of(job)
    assert ticket is not None
    return Claim(ticket._replace(attempt=attempt), worker.instance)


def complete(hand: Hand, worker: Worker, claim: Claim) -> None:
    worker.final(claim)
    hand.tick(2)


def tickets(hand: Hand) -> list[str]:
    """What workers see in new/."""
    return [name for name in hand.new() if not name.startswith(".")]


def findings(hand: Hand) -> str:
    return "\n".join(hand.primary.findings())


# --- forged claims -------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"anything", zipped("other")])
def test_an_own_file_with_a_claim_s_name_is_no_claim(
    hand: Hand, w1: Worker, w2: Worker, content: bytes
) -> None:
    job, claim = running(hand, w1)
    waiting = hand.submit()
    hand.tick()
    for of in (waiting, hand.job(job)):
        false = forged(w2, of)
        (w2.home / "cur" / str(false)).write_bytes(content)
        w2.final(false)
    hand.tick(2)
    assert (hand.state(waiting), hand.state(job)) == ("QUEUED", "RUNNING")
    assert hand.kinds(waiting) == ["Submitted", "Queued"]
    complete(hand, w1, claim)
    assert hand.state(job) == "COMPLETE" and hand.job(job).worker == "w1"
    assert hand.read(job, "output.zip") == zipped("result")


def test_a_forged_claim_is_shown_and_never_destroyed(hand: Hand, w1: Worker) -> None:
    job = hand.submit()
    hand.tick()
    false = forged(w1, hand.job(job))
    (w1.home / "cur" / str(false)).touch()
    hand.tick(5)
    assert (w1.home / "cur" / str(false)).exists()
    assert "workers/w1/cur: 1 claims are not believed" in findings(hand)
    hand.pass_time(2 * LEASE)
    assert hand.kinds(job) == ["Submitted", "Queued"], "no lease began, and none ended"


def test_a_claim_that_is_a_link_to_a_genuine_one(hand: Hand, w1: Worker, w2: Worker) -> None:
    job, claim = running(hand, w1)
    false = forged(w2, hand.job(job))
    (w2.home / "cur" / str(false)).symlink_to(w1.home / "cur" / str(claim))
    w2.final(false)
    hand.tick(2)
    assert hand.state(job) == "RUNNING"
    complete(hand, w1, claim)
    assert hand.job(job).worker == "w1"


def test_an_own_ticket_renamed_to_a_claim_of_another_model_s_job(hand: Hand, w1: Worker) -> None:
    """The inode is the primary's, but it is that of another input; even of the same bytes."""
    hand.add_model("secret", MODEL)
    hand.tick()
    mine, theirs = hand.submit(), hand.submit(model="secret")
    hand.tick()
    claim = w1.claim("test")
    assert claim.ticket.job == mine.id and claim.ticket.sha256 == hand.job(theirs).input.sha256  # type: ignore[union-attr]
    false = forged(w1, hand.job(theirs))
    (w1.home / "cur" / str(claim)).rename(w1.home / "cur" / str(false))
    w1.final(false)
    hand.tick()
    assert hand.kinds(theirs) == ["Submitted", "Queued"]
    assert len(hand.new("secret")) == 1
    hand.tick(2)
    assert hand.kinds(mine)[-1] == "Requeued", "its own model's job is only delayed"


def test_what_is_left_of_an_input_that_is_gone_is_retired(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    os.link(hand.data / "jobs" / job.id / "input.zip", hand.root / "left")
    complete(hand, w1, claim)
    assert hand.left() == []
    (hand.root / "left").rename(w1.home / "cur" / str(claim))
    (hand.data / "jobs" / job.id / "input.zip").unlink()
    hand.tick(2)
    assert hand.left() == []


def test_an_old_claim_renamed_to_the_new_attempt_harms_nobody(
    hand: Hand, w1: Worker, w2: Worker
) -> None:
    """It is a link of the right input: w1 could have claimed the ticket itself."""
    job, old = running(hand, w1)
    hand.pass_time(LEASE + 1)
    hand.tick(2)
    assert hand.job(job).attempt == 2
    new = forged(w1, hand.job(job), attempt=2)
    (w1.home / "cur" / str(old)).rename(w1.home / "cur" / str(new))
    theirs = w2.claim()
    w2.started(theirs)
    hand.tick()
    w1.final(new)
    hand.tick(2)
    assert hand.job(job).worker == "w2", "who started it is believed"
    complete(hand, w2, theirs)
    assert hand.state(job) == "COMPLETE"
    assert [k for k in hand.kinds(job) if k == "Completed"] == ["Completed"]


@pytest.mark.root
def test_the_account_cannot_make_a_claim_that_is_believed(hand: Hand, w1: Worker) -> None:
    """It copies, links and renames what it may reach: all that is believed is its own ticket."""
    hand.add_model("secret", MODEL)
    hand.tick()
    grant(hand, w1)
    mine, theirs = hand.submit(), hand.submit(model="secret")
    hand.tick()
    ticket = str(ticket_of(hand.job(mine)))
    false = str(forged(w1, hand.job(theirs)))
    attack(hand, "cat models/secret/new/* >/dev/null", fails=True)
    attack(hand, "ls models", fails=True)
    attack(hand, f"cat ../jobs/{theirs.id}/input.zip >/dev/null", fails=True)
    attack(hand, f"cp models/test/new/{ticket} 'workers/w1/cur/{false}'")
    hand.tick(3)
    assert hand.kinds(theirs) == ["Submitted", "Queued"]
    attack(hand, f"mv -f models/test/new/{ticket} 'workers/w1/cur/{false}'")
    hand.tick()
    assert hand.kinds(theirs) == ["Submitted", "Queued"]
    assert "claims are not believed" in findings(hand)
    attack(hand, f"echo x >>'workers/w1/cur/{false}'", fails=True)


@pytest.mark.root
def test_a_ticket_can_be_read_by_its_model_s_workers(hand: Hand, w1: Worker) -> None:
    grant(hand, w1)
    job = hand.submit()
    hand.tick()
    (name,) = hand.new()
    attack(hand, f"cat models/test/new/{name} >/dev/null; mv models/test/new/{name} workers/w1/cur")
    info = (hand.data / "jobs" / job.id / "input.zip").stat()
    assert (info.st_gid, info.st_mode & 0o777) == (MODELS_GROUP, 0o440)


# --- forged tickets ------------------------------------------------------------------------


def test_a_ticket_that_was_replaced_is_put_back(hand: Hand, w1: Worker) -> None:
    job = hand.submit()
    hand.tick()
    folder = hand.spool / "models/test/new"
    (name,) = tickets(hand)
    (folder / name).unlink()
    (folder / name).write_bytes(b"forged")
    hand.tick(5)
    (name,) = tickets(hand)
    assert (folder / name).samefile(hand.data / "jobs" / job.id / "input.zip")
    claim = w1.claim()
    w1.started(claim)
    hand.tick()
    complete(hand, w1, claim)
    assert hand.state(job) == "COMPLETE"
    assert hand.job(job).starts == 1, "it cost no started attempt"


def test_a_ticket_of_an_attempt_to_come_is_no_obstacle(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    ticket = forged(w1, hand.job(job), attempt=2).ticket
    folder = hand.spool / "models/test/new"
    (folder / str(ticket)).symlink_to("/etc/passwd")
    hand.primary._dispatch.publish(hand.data / "jobs" / job.id / "input.zip", "test", ticket)
    assert (folder / str(ticket)).samefile(hand.data / "jobs" / job.id / "input.zip")
    hand.tick()
    assert hand.new() == [], "it is not that attempt's turn"
    (folder / str(ticket)).mkdir()
    (folder / str(ticket) / "full").touch()
    w1.final(claim, end="lost", reason="x")
    hand.tick(2)
    assert hand.job(job).attempt == 2
    assert tickets(hand) == [str(ticket)] and (folder / str(ticket)).is_file()


def test_forged_tickets_take_no_room_in_the_window(hand: Hand) -> None:
    folder = hand.spool / "models/test/new"
    for n in range(100):
        (folder / str(Ticket(n, 1, f"0b6f3c1e-5b0a-4b62-9d7f-{n:012d}", "ab" * 32))).touch()
    job = hand.submit()
    hand.tick(2)
    assert tickets(hand) == [str(ticket_of(hand.job(job)))]


def test_a_worker_that_was_given_a_forged_ticket_is_rid_of_it(
    hand: Hand, w1: Worker, w2: Worker
) -> None:
    """w2 claims in good faith, finds the wrong hash, and gives it back; or even runs it."""
    job = hand.submit()
    hand.tick()
    folder = hand.spool / "models/test/new"
    for end in ("lost", "ok"):
        (name,) = tickets(hand)
        (folder / name).unlink()
        (folder / name).write_bytes(b"forged")
        claim = w2.claim()
        w2.started(claim)
        hand.tick()
        if end == "lost":
            report = FinalReport(**w2.facts(claim), end="lost", reason="the input's hash is wrong")
            w2.say(claim, report)
        else:
            w2.final(claim)
        hand.tick(4)
        assert not w2.has(claim) and not w2.delivered(claim)
        assert hand.state(job) == "QUEUED" and hand.job(job).starts == 0
    assert len(os.listdir(hand.data / "bad")) == 2, "what claimed to be a result is kept"
    claim = w1.claim()
    w1.started(claim)
    hand.tick()
    complete(hand, w1, claim)
    assert hand.state(job) == "COMPLETE"


def test_a_kill_is_not_confirmed_by_a_forged_ticket(
    hand: Hand, w1: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody took the real one, and put another file there, after the scan saw it."""
    job = hand.submit()
    hand.tick()
    hand.primary.kill(job.id, "bob")
    (name,) = hand.new()
    dispatch = hand.primary._dispatch
    real = dispatch.unpublish
    claims: list[Claim] = []

    def swapped(model: str, ticket: Ticket) -> bool:
        claims.append(w1.claim())
        (hand.spool / "models/test/new" / name).write_bytes(b"forged")
        return real(model, ticket)

    monkeypatch.setattr(dispatch, "unpublish", swapped)
    hand.tick()
    assert hand.state(job) == "QUEUED"
    monkeypatch.setattr(dispatch, "unpublish", real)
    hand.tick()
    assert w1.stops() == {claims[0].key}
    w1.final(claims[0], end="killed")
    hand.tick(2)
    assert hand.state(job) == "KILLED"


# --- floods --------------------------------------------------------------------------------


def flood(folder: Path) -> None:
    for n in range(FLOOD + 1):
        os.close(os.open(folder / f"{n}", os.O_CREAT | os.O_WRONLY))


@pytest.mark.parametrize("folder", ["cur", "reports", "log"])
def test_a_flooded_folder_holds_up_nobody_else(
    hand: Hand, w1: Worker, w2: Worker, folder: str
) -> None:
    job, claim = running(hand, w1)
    lost, _ = running(hand, w2)
    flood(w2.home / folder)
    complete(hand, w1, claim)
    assert hand.state(job) == "COMPLETE"
    assert f"workers/w2/{folder}: more than {FLOOD} names" in findings(hand)
    # It goes on beating, but what it holds cannot be seen: that is as silent as silence.
    hand.pass_time(LEASE - 60, alive=w2.beat)
    assert hand.state(lost) == "RUNNING"
    hand.pass_time(120, alive=w2.beat)
    hand.tick(3)
    assert hand.job(lost).attempt == 2
    again = w1.claim()
    w1.started(again)
    hand.tick()
    complete(hand, w1, again)
    assert hand.state(lost) == "COMPLETE"


def test_a_worker_that_can_be_seen_again_in_time_loses_nothing(hand: Hand, w1: Worker) -> None:
    job, claim = running(hand, w1)
    for _ in range(3):
        (w1.home / "reports").rename(w1.home / "away")
        (w1.home / "reports").mkdir()
        flood(w1.home / "reports")
        hand.pass_time(LEASE / 2)
        shutil.rmtree(w1.home / "reports")
        (w1.home / "away").rename(w1.home / "reports")
        w1.beat(claim)
        hand.tick()
    complete(hand, w1, claim)
    assert hand.kinds(job) == ["Submitted", "Queued", "Started", "Processed", "Completed"]


def test_a_silent_worker_that_cannot_be_seen_is_lost_by_its_silence(hand: Hand, w1: Worker) -> None:
    job, _ = running(hand, w1)
    hand.pass_time(LEASE - 100)
    flood(w1.home / "cur")
    hand.pass_time(120)
    assert hand.job(job).attempt == 2, "its silence began before the flood"


def test_the_run_of_a_worker_that_cannot_be_seen_is_stopped_when_it_is_killed(
    hand: Hand, w1: Worker
) -> None:
    job, claim = running(hand, w1)
    flood(w1.home / "cur")
    hand.tick()
    hand.primary.kill(job.id, "bob")
    hand.tick()
    assert w1.stops() == {claim.key}
    hand.pass_time(LEASE + 60, alive=w1.beat)
    assert hand.events(job)[-1].__class__ is Killed
    assert hand.job(job).confirmed is False


def test_a_flooded_queue_holds_up_its_own_model_alone(hand: Hand, w1: Worker) -> None:
    hand.add_model("other", MODEL)
    hand.tick()
    waits = hand.submit()
    hand.tick()
    flood(hand.spool / "models/test/new")
    job = hand.submit(model="other")
    hand.tick(5)
    assert "nothing of model test is published or missed" in findings(hand)
    claim = w1.claim("other")
    w1.started(claim)
    hand.tick()
    complete(hand, w1, claim)
    assert hand.state(job) == "COMPLETE"
    assert hand.kinds(waits) == ["Submitted", "Queued"]
    hand.primary.kill(waits.id, "bob")
    hand.tick()
    assert hand.state(waits) == "KILLED", "its ticket is taken back without a listing"


def test_false_reports_are_refused_at_a_pace(hand: Hand, w1: Worker, w2: Worker) -> None:
    job, claim = running(hand, w1)
    gone = [f"0b6f3c1e-5b0a-4b62-9d7f-{n:012d}" for n in range(400)]
    for id in gone:
        (w2.home / "reports" / str(ReportName(id, 1, "final"))).write_bytes(b"{}")
    w1.final(claim)
    hand.tick()
    assert hand.state(job) == "COMPLETE", "nobody waits behind them"
    assert len(os.listdir(w2.home / "reports")) == len(gone) - REFUSALS
    hand.tick()
    assert len(os.listdir(w2.home / "reports")) == len(gone) - 2 * REFUSALS
    assert len(findings(hand)) < 50_000


# --- what lies in a file's place -----------------------------------------------------------

TRAPS = {
    "a FIFO": "mkfifo {0}",
    "a folder": "mkdir -p {0}/full/of",
    "a link": "ln -s /etc/passwd {0}",
    "a hole": "truncate -s 8T {0}",
    "a closed file": "touch {0}; chmod 000 {0}",
    "two links": "touch {0}; ln {0} {0}.second",
    "a socket": "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"{0}\")'",
}


@pytest.mark.root
@pytest.mark.parametrize("trap", TRAPS)
def test_no_trap_holds_the_primary_up(hand: Hand, w1: Worker, w2: Worker, trap: str) -> None:
    grant(hand, w2)
    own, theirs = running(hand, w2)
    job, claim = running(hand, w1)
    assert hand.state(own) == "RUNNING"
    final = ReportName(own.id, 1, "final")
    (w2.home / "reports/beat.json").unlink()
    (w2.home / "reports" / str(ReportName(own.id, 1, "started"))).unlink(missing_ok=True)
    for path in ("reports/beat.json", f"reports/{final}", f"log/{theirs.key}.log"):
        attack(hand, TRAPS[trap].format(f"workers/w2/{path}"))
    if trap != "a closed file":  # which root can read
        with pytest.raises(Unbelievable):
            hand.primary._dispatch.beat("w2")
    begun = time.monotonic()
    complete(hand, w1, claim)
    assert time.monotonic() - begun < 60, "nothing was waited for"
    assert hand.state(job) == "COMPLETE" and hand.state(own) == "RUNNING"
    node = next(node for node in hand.primary.nodes() if node.name == "w2")
    assert "beat" in node.error
    hand.pass_time(LEASE + 1)
    hand.tick(2)
    assert hand.job(own).attempt == 2


@pytest.mark.root
@pytest.mark.parametrize("trap", [name for name in TRAPS if name != "a closed file"])
def test_no_trap_in_a_result_s_place_is_believed(hand: Hand, w1: Worker, trap: str) -> None:
    grant(hand, w1)
    job, claim = running(hand, w1)
    attack(hand, TRAPS[trap].format(f"workers/w1/out/{claim.key}.zip"))
    w1.final(claim, log=lie(), output=lie())
    hand.tick(2)
    assert hand.state(job) == "RUNNING" and not w1.delivered(claim)


@pytest.mark.root
@pytest.mark.usefixtures("w2")
def test_the_account_writes_nothing_outside_its_folders(hand: Hand, w1: Worker) -> None:
    grant(hand, w1)
    job = hand.submit()
    hand.tick()
    for path in ("bell", "x", "models/x", "models/test/x", "models/test/.aside/x", "workers/x"):
        attack(hand, f"echo x >{path}", fails=True)
    for path in ("workers/w1/x", "workers/w1/stop/x", "workers/w2/cur/x", "../ledger/x"):
        attack(hand, f"echo x >{path}", fails=True)
    attack(hand, "mv workers/w1/stop workers/w1/tmp/stop", fails=True)
    attack(hand, "rmdir workers/w1/out", fails=True)
    attack(hand, "ls ../jobs || ls ../bad || ls ../incoming || ls ../ledger", fails=True)
    attack(hand, "cat ../board.sqlite", fails=True)
    assert hand.state(job) == "QUEUED"


@pytest.mark.root
def test_names_that_are_not_text_stop_no_listing(hand: Hand, w1: Worker, w2: Worker) -> None:
    grant(hand, w2)
    job, claim = running(hand, w1)
    for folder in ("cur", "reports", "log", "out"):
        for name in (r"a\nb\033[2J", r"\377"):
            attack(hand, f"touch \"workers/w2/{folder}/$(printf '{name}')\"")
    attack(hand, "touch models/test/new/$(printf '\\033[2J\\377')")
    complete(hand, w1, claim)
    assert hand.state(job) == "COMPLETE"
    assert "\033" not in findings(hand)


# --- what a worker says of itself ----------------------------------------------------------


def test_a_worker_s_words_are_shown_in_one_line_and_capped(hand: Hand, w1: Worker) -> None:
    trick = "a\033[2J\x9b2J\u202e\nb"
    job = hand.submit()
    hand.tick()
    claim = w1.claim()
    w1.beat(
        claim, host=trick, node_url=trick, version=trick, paused=trick * 200, error=trick * 200,
        models={trick: trick, "test": trick},
    )  # fmt: skip
    hand.tick()
    node = next(node for node in hand.primary.nodes() if node.name == "w1")
    said = [node.host, node.node_url, node.version, node.paused, node.error, *node.models]
    assert all(text.isprintable() and len(text) <= 500 for text in (*said, *node.models.values()))
    assert list(node.models) == ["test"] and node.outdated
    assert all(line.isprintable() for line in hand.primary.findings())
    facts = w1.facts(claim) | {"host": trick, "node_url": trick, "run_dir": trick}
    log = w1.log(claim, b"")
    w1.say(claim, FinalReport(**facts, end="failed", failure="model", reason=trick, log=log))
    hand.tick()
    told = hand.job(job)
    assert told.state == "FAILED"
    assert all(str(t).isprintable() for t in (told.reason, told.host, told.node_url, told.run_dir))


def test_progress_of_another_s_job_is_nobody_s_business(hand: Hand, w1: Worker, w2: Worker) -> None:
    job, _ = running(hand, w1)
    w2.beat(progress={key(job.id, 1): 99})
    hand.tick()
    assert hand.primary.progress(hand.job(job)) is None


# --- the drop folder -----------------------------------------------------------------------


@pytest.mark.root
def test_a_dropper_cannot_lead_an_answer_elsewhere(hand: Hand, w1: Worker) -> None:
    grant(hand, w1)
    victim = hand.data / "ledger" / "victim"
    victim.write_text("precious")
    (hand.drop / "a.zip").write_bytes(zipped())
    for name in (".half.a.job.json", ".half.a.why.txt", ".half.a.output.zip"):
        attack(hand, f"ln -s '{victim}' models/test/drop/{name}")
    attack(hand, "mkfifo models/test/drop/b.job.json; ln -s /etc models/test/drop/c.zip")
    hand.until(lambda: "a.job.json" in os.listdir(hand.drop), "its answer")
    assert victim.read_text() == "precious"
    answer = hand.drop / "a.job.json"
    assert not answer.is_symlink()
    info = answer.stat()
    assert (info.st_gid, info.st_mode & 0o777) == (MODELS_GROUP, 0o640)


@pytest.mark.root
def test_the_results_can_be_read_by_the_folder_s_group(hand: Hand, w1: Worker) -> None:
    grant(hand, w1)
    (hand.drop / "a.zip").write_bytes(zipped())
    hand.until(lambda: hand.new(), "a ticket")
    claim = w1.claim()
    w1.started(claim)
    hand.tick()
    complete(hand, w1, claim)
    hand.tick()
    for name in ("a.output.zip", "a.log.txt", "a.job.json"):
        attack(hand, f"cat models/test/drop/{name} >/dev/null")
        attack(hand, f"echo x >>models/test/drop/{name}", fails=True)


def test_a_flooded_drop_folder_is_shown_and_holds_up_nobody(hand: Hand, w1: Worker) -> None:
    flood(hand.drop)
    job, claim = running(hand, w1)
    complete(hand, w1, claim)
    assert hand.state(job) == "COMPLETE"
    assert f"drop folder: test/drop: more than {FLOOD} names" in findings(hand)


# --- an honest worker under another account ------------------------------------------------


@pytest.mark.root
def test_an_honest_account_runs_its_jobs_in_the_granted_folders(hand: Hand, w1: Worker) -> None:
    grant(hand, w1)
    job = hand.submit()
    hand.tick()
    pid = os.fork()
    if pid == 0:  # in the child: the worker's own code, as its account
        code = 1
        try:
            os.chdir(hand.spool)
            os.setgroups([MODELS_GROUP])
            os.setresgid(EVIL, EVIL, EVIL)
            os.setresuid(EVIL, EVIL, EVIL)
            os.umask(0o027)
            w1.claims = Claims(LocalTransport(Path()), "w1", w1.instance)
            claim = w1.claim()
            w1.claims.send_log(claim.key, 0, b"log\n")
            w1.claims.report(
                claim.key,
                FinalReport(
                    **w1.facts(claim), end="failed", failure="model", reason="x",
                    log=w1.log(claim, b"log\n"),
                ),
            )  # fmt: skip
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    hand.tick(2)
    assert hand.state(job) == "FAILED" and hand.job(job).worker == "w1"
    assert hand.read(job, "job_log.txt") == b"log\n"
    assert hand.left() == []


# --- a spool that lies elsewhere -----------------------------------------------------------


def run_one(hand: Hand) -> None:
    job = hand.submit()
    hand.tick()
    worker = hand.worker("w9", "9" * 16)
    claim = worker.claim()
    worker.started(claim)
    hand.tick()
    complete(hand, worker, claim)
    assert hand.state(job) == "COMPLETE"
    assert hand.read(job, "output.zip") == zipped("result")
    assert hand.left() == []


def test_a_spool_that_was_moved_and_linked_is_the_same(hand: Hand) -> None:
    hand.crash()
    hand.spool.rename(hand.root / "moved")
    hand.spool.symlink_to(hand.root / "moved")
    hand.open()
    hand.settle()
    assert hand.primary._dispatch.root == hand.root / "moved"
    run_one(hand)


def test_a_spool_on_another_file_system_costs_copies(
    hand: Hand, caplog: pytest.LogCaptureFixture
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        if os.stat(elsewhere).st_dev == hand.data.stat().st_dev:
            pytest.skip("needs two file systems")
        hand.crash()
        shutil.rmtree(hand.spool)
        hand.spool.symlink_to(elsewhere)
        hand.open()
        assert "on another file system" in caplog.text
        hand.settle()
        run_one(hand)
        (hand.drop / "a.zip").write_bytes(zipped())
        hand.until(lambda: tickets(hand), "a ticket")
        hand.restart()
        hand.settle()
        claim = hand.worker("w8", "8" * 16).claim()
        worker = hand.worker("w8", "8" * 16)
        complete(hand, worker, claim)
        hand.tick()
        assert (hand.drop / "a.output.zip").read_bytes() == zipped("result")
