"""What can befall a worker's link in a phase of a job, and what must be true afterwards."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from spool import names
from tests.stations import TRANSFER, Station
from tests.system import System, wait_for

RUNNING = ("run", "log", "put", "report")  # phases in which the model has begun
PATIENCE = 150.0  # seconds until a job must have ended after its fault was over


class Outcome(NamedTuple):
    """Of one phase and fault. ``wrong``: what was not as it should be, or ""."""

    wrong: str
    seconds: float = 0.0  # from the fault's beginning until the job had ended
    quiet: float = 0.0  # from the moment it could be healed until the worker beat again


# --- what befalls them -----------------------------------------------------------------
# Each returns how long the worker was quiet once it could be reached again.


def cut_5(station: Station) -> float:
    station.cut()
    time.sleep(5)  # this is how long the fault lasts: it waits for nothing
    station.network.mend()
    return station.beat_again()


def cut_60(station: Station) -> float:
    station.cut()
    until = time.monotonic() + 60
    wait_for(lambda: station.liveness() == "unreachable", f"{station.name}: unreachable")
    assert station.system.status(station.job) in ("QUEUED", "RUNNING")
    time.sleep(max(0.0, until - time.monotonic()))
    assert station.liveness() == "unreachable"
    station.network.mend()
    return station.beat_again()


def gone(station: Station) -> float:
    """Another worker does the job; the first one comes back when all is over."""
    spare = _taken_over(station)
    _ended(station)
    spare.terminate()
    spare.wait()
    station.network.mend()
    return station.beat_again()


def back(station: Station) -> float:
    """The first one comes back while the other worker is at it, and what it has is kept aside."""
    station.hold.touch()
    spare = _taken_over(station)
    station.network.mend()
    quiet = station.beat_again()
    if station.name in RUNNING:
        late = station.system.data / "jobs" / station.job / "late" / "1" / "output.zip"
        wait_for(late.exists, f"{station.name}: the late result")
        assert _key(late) == f"{station.job}.1"
    wait_for(station.is_clean, f"{station.name}: to be retired")
    if station.name != "ticket":
        assert station.system.status(station.job) == "RUNNING", "of the other worker"
    station.hold.unlink()
    _ended(station)
    spare.terminate()
    spare.wait()
    return quiet


def _taken_over(station: Station) -> subprocess.Popen[str]:
    """The worker is lost for good, as far as the primary can tell; another has its job."""
    station.cut()
    wait_for(lambda: station.liveness() == "unreachable", f"{station.name}: unreachable")
    name = f"spare-{station.name}"
    spare = station.system.start_worker(name, models=station.models)
    wait_for(
        lambda: station.system.client.job(station.job)["worker"] == name,
        f"{station.name}: another worker to take over",
    )
    return spare


def killed(station: Station) -> float:
    station.kill()
    return station.beat_again()


def frozen(station: Station) -> float:
    """Frozen for as long as the job lasts, and thawed when all is over."""
    frozen = station.freeze()
    quiet = station.beat_again()
    _ended(station)
    wait_for(lambda: not station.files(names.CUR), f"{station.name}: retired")
    for process in frozen:
        process.resume()
    station.beat_again()  # those that are still wanted go on, the others end
    _ended(station)
    return quiet


FAULTS: Mapping[str, Callable[[Station], float]] = {
    "cut-5": cut_5,
    "killed": killed,
    "frozen": frozen,
    "cut-60": cut_60,
    "gone": gone,
    "back": back,
}


# --- what must be true ------------------------------------------------------------------


def suffer(station: Station, fault: str) -> Outcome:
    """One job of the station, with the fault in its phase."""
    lost = fault in ("gone", "back")
    station.submit(f"{station.name}-brief" if lost else station.name)
    began = time.monotonic()
    to = station.phase.to
    before = station.network.received(to) if to else 0
    quiet = FAULTS[fault](station)
    end = _ended(station)
    seconds = time.monotonic() - began
    assert end["status"] == "COMPLETE", end["reason"]
    # A ticket that nobody had claimed is taken by the other worker as it is.
    attempts = (1, 2) if lost and station.name == "ticket" else (1 + lost,)
    assert end["attempt"] in attempts, f"attempt {end['attempt']}: {_story(station)}"
    _check_results(station, end["attempt"])
    wait_for(lambda: station.liveness() == "alive", f"{station.name}: alive again")
    wait_for(station.is_clean, f"{station.name}: a clean spool, not {station.left()}")
    if to and not lost:
        rest = station.network.received(to) - before
        assert rest < TRANSFER, f"{rest} bytes after the fault: it was begun anew"
    return Outcome("", seconds, quiet)


def _ended(station: Station) -> dict[str, Any]:
    def ended() -> dict[str, Any] | None:
        found = dict(station.system.client.job(station.job))
        return found if found["status"] in ("COMPLETE", "FAILED", "KILLED") else None

    found: dict[str, Any] = wait_for(ended, f"{station.name}: the end of its job", PATIENCE)
    return found


def _check_results(station: Station, attempt: int) -> None:
    system, job = station.system, station.job
    path = system.root / f"{job}.zip"
    system.client.download(job, "output.zip", path)
    assert _key(path) == f"{job}.{attempt}"
    with zipfile.ZipFile(path) as output:
        digest = hashlib.sha256(output.read("data")).hexdigest()
        assert output.read("sum").decode().split()[0] == digest
    system.client.download(job, "job_log.txt", path)
    assert path.read_bytes() == station.phase.plan.log(), "the log is not what the model wrote"


def _key(output: Path) -> str:
    """Which run made this output."""
    with zipfile.ZipFile(output) as file:
        return file.read("key").decode().strip()


def check_ledger(system: System, jobs: Iterable[str]) -> None:
    """Each job has ended once, and was started as often as the ledger says."""
    kinds: Counter[tuple[str, str]] = Counter()
    started, ends = [], {}
    for record in records(system):
        kinds[record["job"], record["kind"]] += 1
        if record["kind"] == "Completed":
            ends[record["job"]] = record["attempt"]
        if record["kind"] == "Started":
            started.append(f"{record['job']}.{record['attempt']}")
    for job in jobs:
        assert kinds[job, "Completed"] == 1
        assert kinds[job, "Failed"] + kinds[job, "Killed"] == 0
    ran = system.started()
    assert len(ran) == len(set(ran)), "an attempt was started twice"
    assert len(started) == len(set(started))
    assert set(started) <= set(ran)
    for key in set(ran) - set(started):  # by a worker that was lost, and heard of it too late
        job, attempt = names.split_key(key)
        assert attempt < ends[job], f"{key} was started, and the ledger does not know"


def verify_ledger(system: System) -> None:
    """The keeper's own check: the chain, and the hashes of the files of finished jobs."""
    verified = subprocess.run(
        [sys.executable, "-m", "modelrunner", "ledger", "verify", f"--data={system.data}"],
        capture_output=True,
        text=True,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


def check_nothing_strange(system: System) -> None:
    def findings() -> list[str]:
        return [f for f in system.client.doctor() if not f.startswith("disk:")]

    wait_for(lambda: not findings(), "the doctor to find nothing")
    assert list((system.data / "bad").iterdir()) == []
    assert list((system.data / "incoming").iterdir()) == []


def completed(system: System) -> list[str]:
    return [r["job"] for r in records(system) if r["kind"] == "Completed"]


def records(system: System) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for segment in sorted((system.data / "ledger").glob("*.jsonl"))
        for line in segment.read_bytes().splitlines()
    ]


def _story(station: Station) -> list[str]:
    return [
        f"{r['kind']} {r.get('attempt', '')} {r.get('reason', '')}".strip()
        for r in records(station.system)
        if r["job"] == station.job
    ]


def run_sheet(
    stations: Sequence[Station], sheet: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], Outcome]:
    """Every fault on the sheet (phase: faults, one after the other), all phases at once."""
    outcomes: dict[tuple[str, str], Outcome] = {}

    def go_through(station: Station) -> None:
        wrong = ""
        for fault in sheet[station.name]:
            if wrong:
                wrong = "not tried, because of the one before"
                outcomes[station.name, fault] = Outcome(wrong)
                continue
            try:
                outcomes[station.name, fault] = suffer(station, fault)
            except Exception:  # noqa: BLE001 - told as the outcome, by whoever asked for it
                wrong = f"{traceback.format_exc()}\n{_story(station)}"
                outcomes[station.name, fault] = Outcome(wrong)

    threads = [threading.Thread(target=go_through, args=(s,)) for s in stations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
