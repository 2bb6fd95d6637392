"""Agent and runner as two services: what a reboot does to them, and what systemd hears."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.unit import Unit
from tests.system import System, wait_for

UNIT = ("--runner", "unit")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_after_a_reboot_the_job_runs_again_at_once(system: System, number: signal.Signals) -> None:
    """Not when its lease is over, which is a quarter of an hour."""
    system.start()
    state = system.root / "state-w1"
    (state / "runs").mkdir(parents=True)
    with Unit(state) as unit:
        worker = system.start_worker("w1", options=UNIT)
        job = system.submit("count", system.zip(count="20"))
        wait_for(lambda: system.started() == [f"{job}.1"], "the model to start")
        worker.send_signal(number)
        worker.wait()
        unit.stop(number)
        unit.start()
        system.start_worker("w1", options=UNIT)
        end = system.wait_status(job, "COMPLETE", "FAILED", "KILLED")
        assert (end["status"], end["attempt"]) == ("COMPLETE", 2)
        assert system.started() == [f"{job}.1", f"{job}.2"]


class Ear:
    """systemd's end of a notification socket."""

    def __init__(self, path: Path) -> None:
        self.words: list[str] = []
        self.environment = {**os.environ, "NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "60000000"}
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(60)

    def hears(self, word: str) -> None:
        """Wait for a word that begins so."""
        while not any(said.startswith(word) for said in self.words):
            self.words += self._socket.recv(65536).decode().split("\n")

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    ear = Ear(tmp_path / "notify")
    yield ear
    ear.close()


def test_an_unreachable_primary_is_no_failed_start(system: System, ear: Ear) -> None:
    """And no hang: the watchdog goes on hearing of it."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "worker_agent", "--primary=sftp://nobody@127.0.0.1:1/"),
            *(f"--models={system.models}", "--name=w1", f"--state={system.root / 'state-w1'}"),
        ],
        env=ear.environment,
        stderr=subprocess.DEVNULL,
    ) as worker:
        ear.hears("READY=1")
        assert "STATUS=connecting to sftp://nobody@127.0.0.1:1/" in ear.words
        ear.hears("STATUS=cannot reach the primary: ")
        for _ in range(2):
            ear.words.clear()
            ear.hears("WATCHDOG=1")
        worker.terminate()
        ear.hears("STOPPING=1")
        assert worker.wait() == 0


def test_what_runner_and_runs_do_with_the_socket(system: System, ear: Ear) -> None:
    """The runner speaks for itself; what it runs does not know of it."""
    system.add_model("env", "#!/bin/sh\nenv\n")
    system.start()
    state = system.root / "state-w1"
    (state / "runs").mkdir(parents=True)
    with Unit(state, ear.environment) as unit:
        ear.hears("READY=1")
        system.start_worker("w1", options=UNIT)
        job = system.submit("env", system.zip(count="1"))
        system.wait_status(job, "COMPLETE")
        said = system.client.log(job).data
        assert b"MODELRUNNER_JOB_ID" in said
        assert b"NOTIFY" not in said
        assert b"WATCHDOG" not in said
        inits = Path(f"/proc/{unit.pid}/task/{unit.pid}/children").read_text().split()
        assert inits
        unit.stop()
        ear.hears("STOPPING=1")
        assert "WATCHDOG=1" not in ear.words
