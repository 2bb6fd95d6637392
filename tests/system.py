"""A real primary with real workers, for the tests that want the whole system."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from client.api import Client

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 60.0  # seconds until a wait fails; generous, for slow machines

# A model that counts at ten a second, and notes each of its starts in a shared file.
COUNT = """#!/bin/bash
echo "$MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" >> "$STARTS"
n=$(cat "$1/count")
for ((i = 1; i <= n; i++)); do echo "$i"; sleep 0.1; done
echo "$MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" > "$2/result.txt"
"""


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    """The first true value of ``condition``; fails, saying ``what``, when patience ends."""
    until = time.monotonic() + patience
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > until:
            raise AssertionError(f"waited {patience:.0f} s in vain for {what}")
        time.sleep(0.02)


class System:
    """A primary process and its workers, on one data directory."""

    def __init__(self, root: Path) -> None:
        self.data = root / "data"
        self.models = root / "models"
        self.starts = root / "starts"
        self.starts.touch()
        self.root = root
        self.process: subprocess.Popen[str] | None = None
        self.workers: list[subprocess.Popen[str]] = []
        self._remote: dict[str, subprocess.Popen[str]] = {}
        self.states = [self.data / "local-worker"]
        self.address = ""
        self.program: tuple[str, ...] = ("modelrunner",)  # the module that ``start`` runs
        self.models.mkdir()
        self.client = Client("http://127.0.0.1:1")

    # --- models and inputs -------------------------------------------------------------

    def add_model(self, name: str, script: str = COUNT, more: str = "", env: str = "") -> None:
        folder = self.models / name
        folder.mkdir()
        (folder / "model.toml").write_text(
            f'title = "{name}"\ndescription = "for tests"\ncommand = ["./run.sh"]\n{more}\n'
            f'[env]\nSTARTS = "{self.starts}"\n{env}\n'
        )
        (folder / "run.sh").write_text(script)
        (folder / "run.sh").chmod(0o755)

    def zip(self, name: str = "in", **files: str) -> Path:
        path = self.root / f"{name}.zip"
        path.unlink(missing_ok=True)
        folder = self.root / f"zip-{name}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        shutil.make_archive(str(path.with_suffix("")), "zip", folder)
        return path

    def started(self) -> list[str]:
        """The keys of all starts of the counting model, in order."""
        return self.starts.read_text().split()

    # --- processes ---------------------------------------------------------------------

    def start(self, slots: int = 0, *options: str) -> Client:
        """Start the primary; a client for it once it listens."""
        command = [sys.executable, "-m", *self.program, "serve", f"--data={self.data}"]
        command += ["--listen=127.0.0.1:0", f"--models={self.models}", f"--slots={slots}"]
        # an option given twice: the last one holds
        with (self.root / "serve.err").open("a") as errors:
            self.process = subprocess.Popen(
                [*command, *options], stdout=subprocess.PIPE, stderr=errors, text=True
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if ready := re.search(r"http://\S+", line):
                self.address = ready[0].rstrip("/")
                self.client = Client(self.address)
                return self.client
        error = (self.root / "serve.err").read_text()
        raise AssertionError(f"the primary ended with {self.process.wait()}: {error}")

    def start_worker(
        self,
        name: str,
        slots: int = 1,
        state: str = "",
        *,
        models: Path | None = None,
        ready: bool = True,
        options: Sequence[str] = (),
    ) -> subprocess.Popen[str]:
        """Start a worker; ``ready``: wait until it says that it is."""
        home = self.root / f"state-{state or name}"
        self.states.append(home)
        worker = subprocess.Popen(
            [
                *(sys.executable, "-m", "worker_agent", f"--primary={self.data / 'spool'}"),
                *(f"--models={models or self.models}", f"--name={name}", f"--slots={slots}"),
                *(f"--state={home}", *options),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.workers.append(worker)
        if ready:
            assert worker.stdout is not None
            said = worker.stdout.readline()
            assert "is ready" in said, said + worker.stdout.read()
        return worker

    def start_remote_worker(
        self,
        name: str,
        url: str,
        environment: Mapping[str, str],
        *,
        prefix: Sequence[str] = (),
        slots: int = 1,
        models: Path | None = None,
        state: str = "",
        ready: bool = True,
    ) -> subprocess.Popen[str]:
        """Start a worker that reaches the spool at ``url``, an ``sftp://`` address.

        ``environment``: with the HOME whose ``.ssh`` is used. ``prefix`` goes before
        the command, such as ``ip netns exec NAME``. What it says goes to NAME.said.
        """
        home = self.root / f"state-{state or name}"
        self.states.append(home)
        with self._said(name).open("w") as said:
            worker = subprocess.Popen(
                [
                    *(*prefix, sys.executable, "-m", "worker_agent", f"--primary={url}"),
                    *(f"--models={models or self.models}", f"--name={name}", f"--slots={slots}"),
                    f"--state={home}",
                ],
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                env=dict(environment),
            )
        self.workers.append(worker)
        self._remote[name] = worker
        if ready:
            self.wait_ready(name)
        return worker

    def wait_ready(self, name: str) -> None:
        """Until the remote worker says that it is ready; it must not end before."""

        def is_ready() -> bool:
            said = self._said(name).read_text()
            assert self._remote[name].poll() is None, f"worker {name} ended: {said}"
            return "is ready" in said

        wait_for(is_ready, f"worker {name} to be ready")

    def _said(self, name: str) -> Path:
        return self.root / f"{name}.said"

    def kill_primary(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        _close(self.process)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=PATIENCE)
        if self.process is not None:
            _close(self.process)

    def agent(self, state: Path | None = None) -> int | None:
        """The living agent of a state directory."""
        return self._find("worker_agent", state or self.states[0])

    def runner(self, state: Path | None = None) -> int | None:
        """The living runner of a state directory: the oldest process of its name."""
        return self._find("engine.runner", state or self.states[0])

    def _find(self, module: str, state: Path) -> int | None:
        found = []
        for process in psutil.process_iter(["cmdline", "status", "create_time"]):
            words = process.info["cmdline"] or []
            living = process.info["status"] != psutil.STATUS_ZOMBIE
            if living and module in words and any(str(state) in w for w in words):
                found.append((process.info["create_time"], process.pid))
        return min(found)[1] if found else None

    def end(self) -> None:
        """End all that was started here, whatever state it is in."""
        self.stop()
        for worker in self.workers:
            worker.kill()
            worker.wait()
            _close(worker)
        for state in self.states:
            for find in (self.agent, self.runner):
                pid = find(state)
                if pid is not None:
                    os.kill(pid, signal.SIGKILL)

    # --- jobs --------------------------------------------------------------------------

    def submit(self, model: str, source: Path) -> str:
        return str(self.client.submit(model, source)["uuid"])

    def status(self, job: str) -> str:
        return str(self.client.job(job)["status"])

    def wait_status(self, job: str, *wanted: str) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            found = dict(self.client.job(job))
            return found if found["status"] in wanted else None

        found: dict[str, Any] = wait_for(reached, f"{wanted} of job {job}")
        return found

    def output(self, job: str) -> dict[str, str]:
        """The files of the job's output, by name."""
        target = self.root / f"{job}.out.zip"
        self.client.download(job, "output.zip", target)
        shutil.unpack_archive(target, self.root / f"{job}.out")
        return {p.name: p.read_text() for p in (self.root / f"{job}.out").iterdir()}


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdout is not None:
        process.stdout.close()
