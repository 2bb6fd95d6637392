"""A primary under load whose disk loses its power again and again, and what must hold then."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

import psutil

import ledger.commands
from ledger.codec import GENESIS
from ledger.events import Completed, Queued
from ledger.recovery import TornEnd, check
from spool.names import parse_ticket
from tests.promises.loopdisk import LoopDisk
from tests.promises.outlasting import Outlasting, log_of, output_of
from tests.promises.senders import Senders, digest
from tests.system import PATIENCE, System, wait_for

MODEL = "far"  # run by the worker that outlasts the cuts
SENDERS = 3
MOST = 8  # submissions that are waited for before a cut
LATER = 0.1  # seconds after them, at most; half of the primaries live as long after the cut
# What a cut may leave for an operator to read: a torn end that was cut off, and what a
# worker had not yet synced and is not believed. It delivers that again.
TOLD = ("ledger: The end of", "bad/: ")


class PowerCuts:
    """One system on one disk. ``seed`` decides what can be decided; the moments are not ours."""

    def __init__(self, root: Path, kind: str, seed: int, program: tuple[str, ...] = ()) -> None:
        root.mkdir()
        self.seed, self.cuts = seed, 0
        self._rng = random.Random(seed)
        self.disk = LoopDisk(root, kind)
        self.system = System(root)
        self.system.program = program or self.system.program
        self.system.data = self.disk.place / "data"
        self.system.states = [self.system.data / "local-worker"]
        self.system.add_model(MODEL)
        self.senders = Senders(MODEL, SENDERS, seed)
        self.worker = Outlasting(root, self.system.data / "spool", MODEL)
        self._checked: set[str] = set()  # jobs that have ended, with whole files
        self._fetched: set[str] = set()  # jobs whose input was downloaded and was right
        self.records = 0

    def begin(self, slots: int = 0) -> None:
        self.system.start(slots)
        self.worker.start()
        self.senders.go(self.system.address)

    def cut(self) -> None:
        """One cut at a random moment, and all that must hold after it."""
        more, later, lives = self._rng.randrange(1, MOST), self._rng.random(), self._rng.random()
        assert self.senders.wait(more), "nothing is acknowledged"
        threading.Event().wait(later * LATER)  # a moment, and not for anything
        self.cuts += 1
        self.disk.cut()
        if lives < 0.5:
            threading.Event().wait(lives * 2 * LATER)  # so long it may see EIO everywhere
        self.senders.hold()
        self.system.kill_primary()
        self.go_on()

    def go_on(self) -> None:
        """The power is back, and nothing that ran before."""
        with self.worker.there:
            self.disk.return_power()
        try:
            self.look_at_files()
            self.system.start()
            self.look_at_jobs()
        except AssertionError as e:
            raise AssertionError(f"seed {self.seed}, cut {self.cuts}: {e}") from e
        self.senders.go(self.system.address)

    def look_at_files(self) -> None:
        """As they lie there before any primary has put anything right."""
        data = self.system.data
        inputs, outputs = self._ledgered()
        for folder in (data / "jobs").iterdir():
            if folder.name not in self._checked:
                self._look_at_folder(folder, inputs.get(folder.name), outputs.get(folder.name))
        for job in inputs.keys() - {folder.name for folder in (data / "jobs").iterdir()}:
            raise AssertionError(f"job {job} is in the ledger and has no folder")
        for path in (data / "spool" / "models" / MODEL / "new").iterdir():
            ticket = parse_ticket(path.name)
            assert ticket is not None, f"{path} is no ticket"
            assert digest(path.read_bytes()) == ticket.sha256, f"{path} is half an input"

    def look_at_jobs(self) -> None:
        """What users see: every job that was acknowledged, with the input that was sent."""
        acknowledged = dict(self.senders.acknowledged)
        shown = {job["uuid"] for job in self.system.client.all_jobs()}
        lost = acknowledged.keys() - shown
        assert not lost, f"acknowledged, and lost: {sorted(lost)}"
        for job in acknowledged.keys() - self._fetched:
            found = digest(self._file(job, "input.zip"))
            assert found == acknowledged[job], f"job {job} has another input than was sent"
            self._fetched.add(job)

    def settle(self) -> None:
        """Nothing more is sent, and all that was ends."""
        self.senders.hold()

        def open_jobs() -> list[str]:
            return [j["uuid"] for j in self.system.client.all_jobs() if j["status"] != "COMPLETE"]

        wait_for(lambda: not open_jobs(), "all jobs to end", 2 * PATIENCE)

    def end(self) -> None:
        """All jobs go on to their ends, each with one result that is whole."""
        self.settle()
        wait_for(lambda: not self._findings(), "doctor to find nothing")
        self.look_at_jobs()
        attempts = {job["uuid"]: job["attempt"] for job in self.system.client.all_jobs()}
        self.system.stop()
        assert self.system.process is not None and self.system.process.returncode == 0
        report = ledger.commands.verify(self.system.data)
        assert report.sound, report.findings
        assert all(count == 1 for count in self._ends().values())
        for job, attempt in attempts.items():
            key, folder = f"{job}.{attempt}", self.system.data / "jobs" / job
            assert (folder / "output.zip").read_bytes() == output_of(key), key
            assert (folder / "job_log.txt").read_bytes() == log_of(key), key
        assert not self.worker.wrong, self.worker.wrong
        assert not self.senders.wrong, self.senders.wrong
        self.records = report.records

    def close(self) -> None:
        self.senders.close()
        self.worker.close()
        self.system.end()
        self.disk.close()

    # --- inside ------------------------------------------------------------------------

    def _findings(self) -> list[str]:
        return [line for line in self.system.client.doctor() if not line.startswith(TOLD)]

    def _ledgered(self) -> tuple[dict[str, str], dict[str, Completed]]:
        """The hash of each job's input, and its end, from what can be read of the ledger."""
        inputs: dict[str, str] = {}
        outputs: dict[str, Completed] = {}
        try:
            for record in check(self.system.data / "ledger", 0, GENESIS):
                match record.event:
                    case Queued(job=job, input=input):
                        inputs[job] = input.sha256
                    case Completed() as end:
                        outputs[end.job] = end
        except TornEnd:
            pass
        return inputs, outputs

    def _look_at_folder(self, folder: Path, input: str | None, end: Completed | None) -> None:
        found = {path.name: path for path in folder.iterdir() if path.is_file()}
        if input is not None:
            assert digest(found["input.zip"].read_bytes()) == input, f"{folder}: half an input"
        if end is not None and end.log and end.output:
            wanted = {"job_log.txt": end.log.sha256, "output.zip": end.output.sha256}
            for name, sha256 in wanted.items():
                assert digest(found[name].read_bytes()) == sha256, f"{folder}: half of {name}"
            self._checked.add(folder.name)
        elif end is None and "output.zip" in found:
            # Its event was lost with the cut: the file was moved here whole.
            whole = {output_of(f"{folder.name}.{attempt}") for attempt in (1, 2, 3)}
            assert found["output.zip"].read_bytes() in whole, f"{folder}: half an output"

    def _file(self, job: str, name: str) -> bytes:
        with urlopen(f"{self.system.address}/data/{job}/{name}", timeout=PATIENCE) as answer:
            return bytes(answer.read())

    def _ends(self) -> Counter[str]:
        ends = Counter[str]()
        for line in ledger.commands.export(self.system.data):
            record = json.loads(line)
            if record["kind"] in ("Completed", "Failed", "Killed"):
                ends[record["job"]] += 1
        return ends


class End(NamedTuple):
    """How a primary ended by itself."""

    code: int
    seconds: float
    cpu: float  # seconds, up to the last look before its end
    said: str


def end_of(system: System, patience: float = PATIENCE) -> End:
    """Waits until the primary has ended by itself."""
    process, began = system.process, time.monotonic()
    assert process is not None
    watched = psutil.Process(process.pid)
    used = [sum(watched.cpu_times()[:2])]

    def ended() -> bool:
        with suppress(psutil.Error):
            if watched.status() != psutil.STATUS_ZOMBIE:
                used.append(sum(watched.cpu_times()[:2]))
        return process.poll() is not None

    wait_for(ended, "the primary to end by itself", patience)
    seconds = time.monotonic() - began
    system.stop()  # what is left of it here
    said = (system.root / "serve.err").read_text()
    return End(int(process.returncode), seconds, used[-1] - used[0], said)
