"""Lives of primaries, each from nothing, to be watched by strace.

    python -m tests.promises.recorded ROOT [BUG ...]

``ROOT/sound/data`` is the data directory of the long life: it submits, drops, fetches and runs
again; kills what waits and what runs; a run fails, a worker is lost and comes back late; the
primary is restarted; the ledger begins new segments. ``ROOT/BUG/data`` is that of a short one,
for which one of ``leftout.BUGS`` was put into the code.

What somebody outside is told goes to ``told`` beside the data directory, a line of JSON each, at
the moment at which they are told; ``boards/N.sqlite`` is the board as it was then.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ledger.disk import sync_file, sync_folder
from ledger.jobs import Job
from ledger.log import Ledger
from primary import fetching
from primary.server import NewJob
from spool.drops import STEADY
from spool.names import Claim
from tests.primary.hand import Hand, Worker, zipped
from tests.promises.leftout import BUGS

BESIDE = ("data/board.sqlite", "models", "boards", "told", "w1-output", "w2-output")
"""What lies beside the data directory, and the board: nothing that a power cut takes counts."""

SEGMENT = 2000  # bytes: so that there are several segments
DISLIKED = "it did not like it"
LEASE = 900.0  # seconds: the default of a model


class Life:
    """The primary, and who is told what."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        self._boards = root / "boards"
        self._boards.mkdir()
        self._told = os.open(root / "told", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._count = 0
        self.hand = Hand(root)
        self.hand.settle()
        self.worker = self.hand.worker("w1", "1" * 16)
        self.second = self.hand.worker("w2", "2" * 16)

    def tell(self, what: str, job: Job | str) -> None:
        """Somebody is told; the ledger's end at that moment is part of what is promised."""
        id = job if isinstance(job, str) else job.id
        seq = self.hand.primary._ledger._segments.end
        line = json.dumps({"what": what, "job": id, "seq": seq})
        os.write(self._told, line.encode() + b"\n")
        self._count += 1
        with (
            sqlite3.connect(self.hand.data / "board.sqlite") as board,
            sqlite3.connect(self._boards / f"{self._count}.sqlite") as copy,
        ):
            board.backup(copy)

    # --- what people do --------------------------------------------------------------

    def submit(self, text: str = "5") -> Job:
        job = self.hand.submit(zipped(text))
        self.tell("accepted", job)
        return job

    def drop(self, text: str = "7") -> Job:
        path = self.hand.drop / "a.zip"
        path.write_bytes(zipped(text))
        sync_file(path)
        sync_folder(path.parent)  # whoever dropped it has not lost it
        self.tell("dropped", text)
        self.hand.tick()
        self.hand.tick(step=STEADY)
        answer = self.hand.drop / "a.job.json"
        self.hand.until(answer.exists, "the answer")
        id: str = json.loads(answer.read_bytes())["uuid"]
        self.tell("accepted", id)
        return self.hand.primary.job(id)

    def fetch(self, text: str = "9") -> Job:
        new = NewJob(name="x", model="test", by="ann")
        job = self.hand.primary.submit_url(new, f"http://models.example/{text}.zip")
        self.tell("noted", job)
        self.hand.until(lambda: self.hand.state(job) == "QUEUED", "the fetch")
        return job

    def rerun(self, of: Job) -> Job:
        job = self.hand.primary.rerun(of.id, "ann")
        self.tell("accepted", job)
        return job

    def kill(self, job: Job) -> None:
        self.hand.primary.kill(job.id, "bob")
        self.tell("kill", job)

    # --- what workers do -------------------------------------------------------------

    def begin(self, worker: Worker) -> Claim:
        self.hand.tick()
        claim = worker.claim()
        worker.beat(claim)
        worker.started(claim)
        self.hand.tick()
        return claim

    def end(self, worker: Worker, claim: Claim, **fields: object) -> None:
        """Deliver until the claim is gone: then the worker forgets what it had."""
        worker.processed(claim)
        self.hand.tick()
        if "end" in fields:
            worker.final(claim, log=worker.log(claim, b"log\n"), **fields)
        else:
            worker.final(claim, output=worker.output(claim, zipped(f"result {claim.key}")))
        self.hand.until(lambda: not worker.has(claim), "the receipt")
        worker.beat()

    def run(self, worker: Worker) -> None:
        self.end(worker, self.begin(worker))


def long_life(life: Life) -> None:
    first = life.submit()
    life.run(life.worker)
    life.drop()
    waiting = life.submit("6")
    claim = life.begin(life.worker)
    life.kill(waiting)
    life.end(life.worker, claim)
    life.hand.tick(2)
    life.hand.restart()
    life.hand.settle()
    _ends_badly(life)
    _comes_late(life)
    life.rerun(first)
    life.run(life.second)
    life.fetch()
    life.run(life.worker)
    life.submit("8")  # it waits when the power goes
    life.hand.tick(2)


def short_life(life: Life) -> None:
    life.submit()
    life.run(life.worker)
    life.drop()
    life.submit("6")
    life.run(life.worker)
    life.submit("8")
    life.hand.tick(2)


def _ends_badly(life: Life) -> None:
    """One fails, and one is killed while it runs."""
    life.submit("1")
    life.end(life.worker, life.begin(life.worker), end="failed", failure="model", reason=DISLIKED)
    job = life.submit("2")
    claim = life.begin(life.worker)
    life.kill(job)
    life.hand.tick()
    assert claim.key in life.worker.stops()
    life.end(life.worker, claim, end="killed", reason="stopped")


def _comes_late(life: Life) -> None:
    """A worker falls silent, its job is given to another, and it comes back with a result."""
    life.submit("3")
    old = life.begin(life.worker)
    life.hand.pass_time(LEASE + 60, alive=lambda: life.second.beat())
    claim = life.begin(life.second)
    life.worker.final(old, output=life.worker.output(old, zipped("late")))
    life.hand.tick(2)
    life.end(life.second, claim)


def without_network(patch: pytest.MonkeyPatch) -> None:
    """A fetch gives what its address says; the network is tested elsewhere."""

    def fetch(url: str, write: Callable[[bytes], None], **_: object) -> None:
        write(zipped(Path(url).stem))

    patch.setattr(fetching, "fetch", fetch)
    patch.setattr(fetching, "check_url", lambda *_: None)


def main(root: Path, bugs: list[str]) -> None:
    patch = pytest.MonkeyPatch()
    without_network(patch)
    opened = Ledger.open
    patch.setattr(Ledger, "open", partial(opened, segment_size=SEGMENT))
    for bug in ("sound", *bugs):
        with patch.context() as more:
            if bug != "sound":
                BUGS[bug](more)
            life = Life(root / bug)
            (long_life if bug == "sound" else short_life)(life)
            life.hand.crash()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
