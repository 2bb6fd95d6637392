"""Whether a primary keeps its promises on what a power cut has left: the real one, opened there."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from ledger.codec import GENESIS
from ledger.commands import verify
from ledger.errors import LedgerError
from ledger.jobs import Job, State
from ledger.reading import lines
from ledger.recovery import check
from primary.errors import PrimaryError
from primary.loop import _by_job
from primary.rows import row_of
from primary.rules import Seen
from spool import names
from spool.errors import SpoolError
from tests.primary.hand import Hand, Worker, zipped
from tests.promises.platter import Names, Op, Said
from tests.promises.platter import State as Left
from tests.promises.recorded import DISLIKED

TICKS = 400  # until everything has ended; a lease of 900 s is waited for in steps of 20


class Told(NamedTuple):
    """What somebody was told, and the ledger's last record at that moment.

    ``received`` is told by a claim that goes: ``job`` is the key of its run then, and of a
    ``dropped`` zip, which is promised nothing but to be kept, what is in it.
    """

    what: str
    job: str
    seq: int


class Reference(NamedTuple):
    """The recorded life: its ledger's lines, its boards, and its jobs' inputs."""

    lines: list[bytes]
    boards: Path
    models: Path


def reference(root: Path) -> Reference:
    return Reference(list(lines(root / "data" / "ledger")), root / "boards", root / "models")


def told_of(left: Left) -> list[Told]:
    return [Told(**json.loads(text)) for text in left.said]


def receipts(ops: Iterable[Op]) -> Iterator[Op]:
    """The same, with what a worker learns when a claim of its own goes."""
    for op in ops:
        yield op
        if isinstance(op, Names) and len(op.changes) == 1 and op.changes[0][2] is None:
            claim = names.parse_claim(op.changes[0][1])
            if claim is not None:
                yield Said(json.dumps({"what": "received", "job": claim.key, "seq": 0}))


def wrongs(left: Left, of: Reference, room: Path, *, board: bool, onwards: bool) -> list[str]:
    """Every promise that is broken on this state, a line each.

    It is laid out in the folder ``room``, which is made and removed; with ``board`` beside the
    board of that moment. ``onwards``: see that all jobs come to their end.
    """
    room.mkdir()
    try:
        (room / "models").symlink_to(of.models)
        left.lay_out(room)
        data = room / "data"
        lines_told = sum(told.what != "received" for told in told_of(left))
        if board and lines_told and data.is_dir():
            shutil.copy(of.boards / f"{lines_told}.sqlite", data / "board.sqlite")
        return [*_tickets(data), *_opened(room, told_of(left), of, onwards=onwards)]
    finally:
        shutil.rmtree(room)


def _tickets(data: Path) -> Iterator[str]:
    """A worker may take them before the primary is there again."""
    for path in data.glob("spool/models/*/new/*"):
        ticket = names.parse_ticket(path.name)
        if ticket is not None and _hash(path) != ticket.sha256:
            yield f"{path.name} in new/ is not whole"


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _opened(room: Path, promised: list[Told], of: Reference, *, onwards: bool) -> list[str]:
    try:
        hand = _Again(room)
    except (LedgerError, PrimaryError, SpoolError, OSError) as e:
        return [f"the primary does not start: {type(e).__name__}: {e}"]
    try:
        found = [*_kept(hand, promised, of), *_rows(hand), *_whole(hand.data)]
        if onwards and not found:
            found += _ends(hand, promised)
        return found
    finally:
        hand.primary.close()


class _Again(Hand):
    """The primary after the cut, on models that are there."""

    def add_model(self, name: str, text: str = "") -> None:
        del name, text


def _kept(hand: Hand, promised: list[Told], of: Reference) -> Iterator[str]:
    """Whatever anybody was told of is in the ledger, the same to the byte."""
    now = list(lines(hand.data / "ledger"))
    for told in promised:
        if len(now) < told.seq or now[: told.seq] != of.lines[: told.seq]:
            where = f"record {told.seq}, of which {len(now)} are left"
            yield f"job {told.job[-4:]}: {told.what} at {where}"
            return
    board = hand.primary._ledger.board
    for what, job, _ in promised:
        if what == "received":
            id, attempt = names.split_key(job)
            found = board.job(id)
            if found is None or not (found.final or found.attempt > attempt):
                yield f"run {job[-6:]}: its worker was told that its results are kept"
        elif what == "dropped":
            yield from _dropped(hand, job)
        elif board.job(job) is None:
            yield f"job {job[-4:]} is not on the board"


def _dropped(hand: Hand, text: str) -> Iterator[str]:
    """It is a job, or in its folder, and not both: what was set aside for its job is not there."""
    sha256 = hashlib.sha256(zipped(text)).hexdigest()
    jobs = [job for job in _jobs(hand) if job.input and job.input.sha256 == sha256]
    there = [path.name for path in hand.drop.iterdir() if _hash(path) == sha256]
    there = [name for name in there if not any(name.startswith(f".{job.id}.") for job in jobs)]
    if len(jobs) + len(there) != 1:
        yield f"the dropped {text!r} is {len(jobs)} jobs, and {there} in its folder"


def _rows(hand: Hand) -> Iterator[str]:
    """Every job is in a row of the file table, and has its input where it needs one."""
    seen = _by_job(hand.primary._dispatch.scan(["test"], []))
    for job in _jobs(hand):
        if row_of(job, seen.get(job.id, Seen())) is None:
            yield f"job {job.id[-4:]}, {job.state}: {seen.get(job.id)} is no row of the file table"
        path = hand.data / "jobs" / job.id / "input.zip"
        if job.input is not None and not (path.exists() and _hash(path) == job.input.sha256):
            yield f"job {job.id[-4:]}, {job.state}: its input is not whole"
    for id in seen:
        if hand.primary._ledger.board.job(id) is None:
            yield f"files of {id[-4:]}, which is no job"
    if left := [path.name for path in (hand.data / "incoming").iterdir()]:
        yield f"left in incoming/: {left}"


def _whole(data: Path) -> Iterator[str]:
    """The ledger, and the files of whatever has ended, are as the ledger says."""
    for finding in verify(data).findings:
        if finding.fatal:
            yield f"{finding.where}: {finding.what}"


def _jobs(hand: Hand) -> list[Job]:
    records = check(hand.data / "ledger", 0, GENESIS)
    ids = dict.fromkeys(record.event.job for record in records)
    return [hand.primary.job(id) for id in ids]


# --- onwards -----------------------------------------------------------------------


def _ends(hand: Hand, promised: list[Told]) -> Iterator[str]:
    """With two workers that do their duty, each job ends, rightly."""
    workers = [hand.worker("w1", "1" * 16), hand.worker("w2", "2" * 16)]
    for _ in range(TICKS):
        hand.tick(step=20.0)
        if all(job.final for job in _jobs(hand)) and not any(w.claims.held() for w in workers):
            break
        for worker in workers:
            _work(worker)
    killed = {told.job for told in promised if told.what == "kill"}
    for job in _jobs(hand):
        yield from _end(hand, job, killed)
    yield from _whole(hand.data)


def _work(worker: Worker) -> None:
    """Take what waits, and deliver whatever it holds: an agent that has lost its memory."""
    for ticket, model in worker.claims.tickets(["test"]):
        worker.claims.claim(ticket, model)
    held = worker.claims.held()
    worker.beat(*held)
    stops = worker.stops()
    for claim in held:
        if claim.key in worker.claims.delivered():
            continue
        if claim.key in stops:
            worker.final(claim, end="killed", reason="stopped")
        else:
            worker.final(claim, output=worker.output(claim, zipped(f"result {claim.key}")))


def _end(hand: Hand, job: Job, killed: set[str]) -> Iterator[str]:
    name = f"job {job.id[-4:]}"
    if not job.final:
        yield f"{name} is still {job.state}"
    elif job.state is State.COMPLETE:
        made = zipfile.ZipFile(io.BytesIO(hand.read(job, "output.zip"))).read("count")
        if made != f"result {names.key(job.id, job.attempt)}".encode():
            yield f"{name} has the result of another: {made!r}"
    elif job.id in killed and job.state is not State.KILLED:
        yield f"{name} was to be killed, and is {job.state}"
    elif job.state is State.KILLED and not job.kill_wanted:
        yield f"{name} is KILLED, and nobody asked: {job.reason}"
    elif job.state is State.FAILED and job.reason != DISLIKED:
        yield f"{name} failed, and was good: {job.reason}"
