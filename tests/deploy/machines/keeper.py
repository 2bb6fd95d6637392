"""The keeper of three machines: hosts.toml, models, the command line, and jobs over HTTP."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from client.api import Client
from client.errors import ClientError
from tests.machines import Machines
from tests.system import ROOT, wait_for

SECONDS = 240  # for one command; a test has 300 in all
GATE = "srv/open"  # a run goes on until its machine has this file
LEASE = 8  # seconds that a machine may be silent

RUN = f"""#!/bin/bash
while [ ! -e /{GATE} ]; do sleep 0.1; done
{{ echo "on $(hostname)"; cat "${{0%/*}}/made"; cat "$1/word"; }} | tee "$2/result.txt"
"""
SETUP = """#!/bin/sh
echo "set up on $(hostname) by $(id -un)" > "${0%/*}/made"
"""
# What goes into a copy of the checkout: all that it is made of, and nothing that tools left.
_PARTS = ("setup.py", "pyproject.toml", "requirements.lock", "modelrunner.py", "worker_agent.py")
_PACKAGES = ("primary", "ledger", "spool", "engine", "web", "client", "deploy")


class Keeper:
    """Works in ``folder``, on the keeper's side of the machines' network.

    ``cache`` has the wheels: nothing can be downloaded from there.
    """

    def __init__(self, folder: Path, machines: Machines, cache: Path) -> None:
        self.folder = folder
        self.machines = machines
        self.models = folder / "models"
        self.models.mkdir(parents=True)
        self._environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ},
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(cache),
        }
        self.server = ""

    # --- what the keeper has -----------------------------------------------------------

    def hosts(self, text: str) -> None:
        """Write hosts.toml; ``{alpha}`` stands for that machine's address."""
        for name, machine in self.machines.machines.items():
            text = text.replace(f"{{{name}}}", machine.address)
        (self.folder / "hosts.toml").write_text(text)

    def add_model(self, name: str, *, run: str = RUN, setup: str = SETUP) -> None:
        """A model that runs until its machine's gate opens; its setup notes where it ran."""
        folder = self.models / name
        folder.mkdir(exist_ok=True)
        (folder / "model.toml").write_text(
            f'title = "{name}"\ndescription = "for tests"\ncommand = ["./run.sh"]\n'
            f"lease = {LEASE}\nparallel = 4\n"
        )
        for file, text in (("run.sh", run), ("setup", setup)):
            (folder / file).write_text(text)
            (folder / file).chmod(0o755)

    def checkout(self, name: str, file: str, more: str) -> Path:
        """A copy of ours with a few lines more at the end of a file: another version."""
        copy = self.folder / name
        copy.mkdir()
        for part in _PARTS:
            shutil.copy(ROOT / part, copy / part)
        for package in _PACKAGES:
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, copy / package, ignore=ignored)
        with (copy / file).open("a") as source:
            source.write(more)
        return copy

    def deploy(self, *words: str, code: int = 0) -> str:
        """What ``modelrunner deploy`` says, both to its output and to its errors."""
        ended = subprocess.run(
            [
                *(*self.machines.lan.on_keeper, sys.executable, "-m", "modelrunner", "deploy"),
                *("--hosts", str(self.folder / "hosts.toml"), "--ssh", str(self.machines.ssh)),
                *("--offline", *words),
            ],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=SECONDS,
            umask=0o077,  # as careful keepers have it: hosts' services must read all the same
        )
        sys.stdout.write(f"--- deploy {' '.join(words)}: {ended.returncode}\n{ended.stdout}\n")
        assert ended.returncode == code, ended.stdout
        assert "Traceback" not in ended.stdout, ended.stdout
        return ended.stdout

    # --- jobs --------------------------------------------------------------------------

    def ask(self, what: str, *given: Any) -> Any:
        """A method of the client, called from the keeper's side of the network."""
        with self.machines.lan.inside():
            return getattr(Client(self.server), what)(*given)

    def submit(self, model: str, word: str) -> str:
        """The job; ``word`` comes back in its result."""
        source = self.folder / f"{word}.zip"
        with zipfile.ZipFile(source, "w") as file:
            file.writestr("word", f"{word}\n")
        return str(self.ask("submit", model, source)["uuid"])

    def job(self, job: str) -> dict[str, Any]:
        return dict(self.ask("job", job))

    def wait(self, job: str, *wanted: str) -> dict[str, Any]:
        """The job as it is in one of those states; the primary may be away meanwhile."""

        def reached() -> dict[str, Any] | None:
            try:
                found = self.job(job)
            except ClientError:
                return None
            over = found["status"] in ("COMPLETE", "FAILED", "KILLED")
            assert not over or found["status"] in wanted, found
            return found if found["status"] in wanted else None

        found: dict[str, Any] = wait_for(reached, f"{wanted} of job {job}")
        return found

    def result(self, job: str) -> list[str]:
        """The lines of its result, once it is complete."""
        self.wait(job, "COMPLETE")
        target = self.folder / f"{job}.txt"
        self.ask("output", job, "result.txt", target)
        return target.read_text().splitlines()

    def versions(self) -> dict[str, str]:
        """The version of each node that lives, by its name; the primary has its own."""
        nodes = self.ask("status")
        return {node["name"]: node["version"] for node in nodes if node["liveness"] == "alive"}

    def open(self, *names: str) -> None:
        """Runs on these machines come to their end."""
        for name in names:
            self.machines[name].path(GATE).touch()

    def shut(self, *names: str) -> None:
        """Runs on these machines go on and on."""
        for name in names:
            self.machines[name].path(GATE).unlink(missing_ok=True)
