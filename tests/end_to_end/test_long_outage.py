"""Primary, sshd or link away for long, while remote workers go on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from primary.loop import WINDOW
from spool import names
from tests.faults import check_ledger, completed
from tests.network import PRIMARY, network
from tests.sshd import Sshd, sshd
from tests.system import System, wait_for

pytestmark = pytest.mark.needs("openssh-server")

SLOTS = 4
WAITING = 2 * SLOTS + WINDOW + 20  # jobs: those that run, those in the window, and more

# Waits until the gate is open, then leaves a mark.
GATED = """#!/bin/bash
echo "$MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" >> "$STARTS"
until [ -e "$GATE" ]; do sleep 0.1; done
echo "$MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" | tee "$2/result.txt"
"""


@pytest.fixture
def server(system: System, tmp_path: Path) -> Iterator[Sshd]:
    """Beside a primary that runs, with the model ``gated``."""
    gate = f'GATE = "{tmp_path / "gate"}"'
    system.add_model("gated", GATED, f"parallel = {SLOTS}", gate)
    system.start()
    with sshd(tmp_path / "sshd", system.data / "spool") as server:
        yield server


def start_workers(system: System, server: Sshd) -> None:
    for name in ("w1", "w2"):
        start_worker(system, server, name)


def start_worker(system: System, server: Sshd, name: str) -> None:
    environment = server.environment(system.root / "home")
    system.start_remote_worker(name, server.url, environment, slots=SLOTS)


def open_gate(system: System) -> None:
    (system.root / "gate").touch()


def finals(system: System) -> set[str]:
    """The keys of all final reports that lie in the spool."""
    workers = system.data / "spool" / names.WORKERS
    found = (names.parse_report(p.name) for p in workers.glob(f"*/{names.REPORTS}/*"))
    return {name.key for name in found if name and name.kind == "final"}


def claimed(system: System) -> set[str]:
    workers = system.data / "spool" / names.WORKERS
    found = (names.parse_claim(p.name) for p in workers.glob(f"*/{names.CUR}/*"))
    return {claim.key for claim in found if claim}


def kept(system: System) -> set[str]:
    """The keys of the runs whose results lie whole on a worker's own disk."""
    return {p.parent.name for p in system.root.glob("state-*/runs/*/final.json")}


def check_all(system: System, jobs: list[str]) -> None:
    for job in jobs:
        end = system.wait_status(job, "COMPLETE", "FAILED", "KILLED")
        assert (end["status"], end["attempt"]) == ("COMPLETE", 1), end["reason"]
    check_ledger(system, jobs)
    assert sorted(completed(system)) == sorted(jobs)
    assert sorted(system.started()) == sorted(f"{job}.1" for job in jobs)
    for job in jobs[:: len(jobs) // 5]:
        assert system.output(job) == {"result.txt": f"{job}.1\n"}
        assert system.client.log(job).data == f"{job}.1\n".encode()
    wait_for(lambda: not claimed(system) and not finals(system), "all to be retired")


def test_the_primary_is_away_for_an_hours_worth_of_work(system: System, server: Sshd) -> None:
    start_workers(system, server)
    zip_file = system.zip(count="1")
    jobs = [system.submit("gated", zip_file) for _ in range(WAITING)]
    new = system.data / "spool" / names.new_folder("gated")
    wait_for(lambda: len(system.started()) == 2 * SLOTS, "every slot to be busy")
    wait_for(lambda: len(list(new.iterdir())) == WINDOW, "a full window")
    system.kill_primary()
    open_gate(system)
    wait_for(lambda: len(finals(system)) == 2 * SLOTS + WINDOW, "all that could be done", 120)
    assert list(new.iterdir()) == []
    assert len(completed(system)) == 0, "nobody was there to take it down"
    system.start()
    check_all(system, jobs)


def test_primary_and_sshd_are_away_and_the_results_are_kept(system: System, server: Sshd) -> None:
    start_workers(system, server)
    zip_file = system.zip(count="1")
    jobs = [system.submit("gated", zip_file) for _ in range(3 * SLOTS)]
    wait_for(lambda: len(system.started()) == 2 * SLOTS, "every slot to be busy")
    system.kill_primary()
    server.stop()
    open_gate(system)
    held = claimed(system)
    assert len(held) == 2 * SLOTS
    wait_for(lambda: kept(system) == held, "the runs to end")
    assert finals(system) == set()
    # One worker goes on; the other is started again meanwhile, and finds what it has.
    system.workers[0].kill()
    system.workers[0].wait()
    server.start()
    start_worker(system, server, "w1")
    wait_for(lambda: held <= finals(system), "the results to be delivered")
    system.start()
    check_all(system, jobs)


@pytest.mark.root
@pytest.mark.needs("iproute2")
def test_a_kill_during_a_cut_is_confirmed_only_afterwards(system: System) -> None:
    system.start()
    with ExitStack() as stack:
        wire = stack.enter_context(network())
        server = Sshd(
            system.root / "sshd", system.data / "spool", host=PRIMARY, prefix=wire.on_primary
        )
        stack.callback(server.stop)
        environment = server.environment(system.root / "home")
        system.start_remote_worker("w1", server.url, environment, prefix=wire.on_worker)
        job = system.submit("count", system.zip(count="900"))
        system.wait_status(job, "RUNNING")
        wire.cut()
        system.client.kill(job)
        stop = system.data / "spool" / names.worker_folder("w1") / names.STOP
        wait_for(lambda: os.listdir(stop), "the primary to ask for it")
        assert system.client.job(job)["kill_requested"] is True
        assert system.status(job) == "RUNNING", "nobody could confirm that it is gone"
        wire.mend()
        assert system.wait_status(job, "KILLED")["confirmed"] is True
