"""A primary ticked by hand on a made-up clock, and workers moved by hand."""

from __future__ import annotations

import hashlib
import io
import os
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ledger.events import AnyEvent
from ledger.jobs import Job
from primary.server import NewJob, Primary
from spool.claims import Claims
from spool.local import LocalTransport, make_worker_folder
from spool.names import Claim
from spool.reports import AnyReport, Beat, FileFact, FinalReport, ProcessedReport, RunReport
from spool.reports import StartedReport as Started
from tests.system import wait_for

MODEL = 'command = ["true"]\n[input]\nrequired = ["count"]\n'
OK = RunReport(exit_code=0, wall_seconds=1.0)


def zipped(text: str = "5", name: str = "count") -> bytes:
    """The same bytes at any time of day."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(zipfile.ZipInfo(name), text)
    return data.getvalue()


class Hand:
    """One primary on ``root``. ``tick`` moves its clock; ``crash`` and ``open`` restart it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.models = root / "models"
        self.now = time.monotonic()  # from here on it is made up
        self.add_model("test")
        self.open()

    def add_model(self, name: str, text: str = MODEL) -> None:
        (self.models / name).mkdir(parents=True, exist_ok=True)
        (self.models / name / "model.toml").write_text(text)

    def open(self, **options: Any) -> None:
        """Its leases begin at ``now``: the made-up clock, instead of the machine's."""
        self.primary = Primary.open(self.data, self.models, clock=lambda: self.now, **options)
        self.primary._nodes.restart_leases(self.now)

    def crash(self) -> None:
        """What ``kill -9`` leaves is what is on disk: only the lock has to go."""
        self.primary.close()

    def restart(self) -> None:
        self.crash()
        self.open()

    def tick(self, times: int = 1, step: float = 1.0) -> None:
        for _ in range(times):
            self.now += step
            self.primary.tick(self.now)

    def settle(self) -> None:
        """As at the start: two scans, and what they publish."""
        self.tick(3)

    def pass_time(self, seconds: float, alive: Callable[[], object] = lambda: None) -> None:
        """In steps below the gap at which leases start afresh; ``alive`` is called at each."""
        until = self.now + seconds
        while self.now < until:
            alive()
            self.tick(step=min(20.0, until - self.now))

    # --- jobs

    def submit(self, data: bytes | None = None, model: str = "test") -> Job:
        upload = self.primary.receive()
        try:
            upload.write(zipped() if data is None else data)
            return self.primary.submit(NewJob(name="a job", model=model, by="ann"), upload)
        finally:
            upload.discard()

    def job(self, job: Job) -> Job:
        return self.primary.job(job.id)

    def state(self, job: Job) -> str:
        return str(self.job(job).state)

    def kinds(self, job: Job) -> list[str]:
        """The kinds of its events, oldest first."""
        return [type(event).__name__ for event in self.events(job)]

    def events(self, job: Job) -> list[AnyEvent]:
        return [record.event for record in self.primary.history(job.id)]

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Tick until it holds: where the copying pool takes part."""

        def ticked() -> object:
            self.tick(step=0.01)
            return condition()

        wait_for(ticked, what)

    def read(self, job: Job, name: Any) -> bytes:
        with self.primary.open_file(self.job(job), name) as found:
            return found.file.read()

    # --- the spool

    @property
    def spool(self) -> Path:
        return self.data / "spool"

    @property
    def drop(self) -> Path:
        return self.spool / "models/test/drop"

    def new(self, model: str = "test") -> list[str]:
        return sorted(os.listdir(self.spool / "models" / model / "new"))

    def left(self) -> list[str]:
        """All files in the spool but beats and the bell, relative to it."""
        found = (p for p in self.spool.rglob("*") if p.is_file())
        return sorted(
            str(p.relative_to(self.spool)) for p in found if p.name not in ("beat.json", "bell")
        )

    def worker(self, name: str = "w1", instance: str = "1" * 16) -> Worker:
        return Worker(self, name, instance)


class Worker:
    """What one agent would do, step by step."""

    def __init__(self, hand: Hand, name: str, instance: str) -> None:
        make_worker_folder(hand.spool, name)
        self.home = hand.spool / "workers" / name
        self.hand = hand
        self.name, self.instance = name, instance
        self.claims = Claims(LocalTransport(hand.spool), name, instance)
        self.counter = 0

    def beat(self, *held: Claim, **more: Any) -> None:
        self.counter += 1
        said: dict[str, Any] = {
            "host": "here",
            "node_url": "file://here",
            "pid": 1,
            "slots": 1,
            "version": "0",
        }
        self.claims.beat(
            Beat(
                instance=self.instance,
                counter=self.counter,
                claims=tuple(map(str, held)),
                **(said | more),
            )
        )

    def claim(self, model: str = "test") -> Claim:
        """The oldest ticket."""
        for ticket, where in self.claims.tickets([model]):
            claim = self.claims.claim(ticket, where)
            if claim is not None:
                return claim
        raise AssertionError("there was nothing to claim")

    def facts(self, claim: Claim) -> dict[str, Any]:
        return {
            "claim": str(claim),
            "instance": self.instance,
            "host": "here",
            "node_url": "file://here",
            "run_dir": "/runs/x",
        }

    def say(self, claim: Claim, report: AnyReport) -> None:
        self.claims.report(claim.key, report)

    def started(self, claim: Claim) -> None:
        self.say(claim, Started(**self.facts(claim)))

    def processed(self, claim: Claim) -> None:
        self.say(claim, ProcessedReport(**self.facts(claim), run=OK))

    def log(self, claim: Claim, data: bytes) -> FileFact:
        self.claims.drop_log(claim.key)
        self.claims.send_log(claim.key, 0, data)
        return fact(data)

    def output(self, claim: Claim, data: bytes) -> FileFact:
        path = self.hand.root / f"{self.name}-output"
        path.write_bytes(data)
        self.claims.send_output(claim.key, path)
        return fact(data)

    def final(self, claim: Claim, **fields: Any) -> None:
        """A final report of a run that ended well, but for ``fields``."""
        said: dict[str, Any] = {"end": "ok", "run": OK}
        if fields.get("end", "ok") == "ok":
            if "log" not in fields:
                said["log"] = self.log(claim, b"log\n")
            if "output" not in fields:
                said["output"] = self.output(claim, zipped("result"))
        self.say(claim, FinalReport(**self.facts(claim), **(said | fields)))

    def has(self, claim: Claim) -> bool:
        return claim in self.claims.held()

    def delivered(self, claim: Claim) -> bool:
        return claim.key in self.claims.delivered()

    def stops(self) -> set[str]:
        return set(self.claims.stops())


def fact(data: bytes) -> FileFact:
    return FileFact(len(data), hashlib.sha256(data).hexdigest())


def lie() -> FileFact:
    """Of a file that is not there."""
    return fact(b"something else")


def running(hand: Hand, worker: Worker) -> tuple[Job, Claim]:
    """A job that ``worker`` runs, and its claim."""
    job = hand.submit()
    hand.tick()
    claim = worker.claim()
    worker.beat(claim)
    worker.started(claim)
    hand.tick()
    assert hand.state(job) == "RUNNING"
    return job, claim


@contextmanager
def by_hand(root: Path) -> Iterator[Hand]:
    hand = Hand(root)
    try:
        yield hand
    finally:
        hand.primary.close()
