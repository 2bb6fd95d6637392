"""The hardened layout, whole: a primary that is not root, and workers that were granted.

Primary, sshd and agents are real processes in a ``Host``; each worker logs in with an
account of its own, made by ``modelrunner spool grant``, and runs its models as another,
ordinary account, as on a machine of its own.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import psutil

from client.api import Client
from spool.address import Address
from spool.dial import Connection, dial
from spool.wire import Wire
from tests.deploy.grants.host import DATA, PRIMARY, Host
from tests.system import PATIENCE, wait_for

MODELS = "/srv/modelrunner/models"
KEEPER = "runs-models"  # the account that agents and models run as, on their machines
LEASE = 20.0  # seconds, of the models whose workers vanish here

# What its input's files ask for: a line in the log every 0.1 s, bytes of output, an end.
RUN = """#!/bin/bash
echo "attempt $MODELRUNNER_ATTEMPT"
if [ -e "$1/hang" ] && [ "$MODELRUNNER_ATTEMPT" = 1 ]; then sleep 600; fi
for ((i = 1; i <= $(cat "$1/count"); i++)); do echo "$i"; sleep 0.1; done
cp "$1/text" "$2/text"
if [ -e "$1/size" ]; then
  head -c "$(cat "$1/size")" /dev/urandom > "$2/data"
  sha256sum < "$2/data" | cut -d' ' -f1
fi
if [ -e "$1/fail" ]; then echo "no solution"; exit 3; fi
"""


class Hardened:
    """One machine. ``grant``, then ``serve``, then ``start``; ``spool`` is the accounts' root."""

    def __init__(self, folder: Path, models: dict[str, float]) -> None:
        """``models``: each with its lease in seconds."""
        self.host = Host(folder / "host")
        self.folder = folder
        self.client = Client("http://127.0.0.1:1")
        self._primary: subprocess.Popen[str] | None = None
        self._workers: dict[str, subprocess.Popen[str]] = {}
        self._inputs = 0
        self.host.add_primary(*models)
        self.host.run("useradd", "--system", "--no-create-home", KEEPER)
        for model, lease in models.items():
            _make_model(self.host.srv / "modelrunner/models" / model, lease)
        self.host.run("chown", "-R", f"{PRIMARY}:{PRIMARY}", "/srv/modelrunner")

    # --- the primary's side --------------------------------------------------------

    def path(self, inside: str) -> Path:
        """A file inside, by its absolute path there."""
        return self.host.path(inside)

    @property
    def spool(self) -> Path:
        """The spool, to where the first grant has moved it."""
        return self.path(self.host.run("readlink", "-f", f"{DATA}/spool").stdout.strip())

    def home(self, worker: str) -> Path:
        return self.spool / "workers" / worker

    def grant(self, name: str, *models: str) -> str:
        """By the real command, as root; what it said."""
        wanted = [word for model in models for word in ("--model", model)]
        key = f"{self.host.key(name)}.pub"
        words = ("spool", "grant", name, "--key", key, "--data", DATA, *wanted)
        return self.host.modelrunner(*words).stdout

    def serve(self) -> None:
        """Start the primary, or start it anew: with the groups that its account has by now."""
        self.stop_primary()
        words = [sys.executable, "-m", "modelrunner", "serve", f"--data={DATA}"]
        words += [f"--models={MODELS}", "--listen=127.0.0.1:0"]
        with (self.folder / "serve.err").open("a") as errors:
            self._primary = subprocess.Popen(
                self.host.command(*words, user=PRIMARY),
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self.host.environment(),
            )
        assert self._primary.stdout is not None
        for line in self._primary.stdout:
            if ready := re.search(r"http://\S+", line):
                self.client = Client(ready[0].rstrip("/"))
                return
        raise AssertionError(self.said_by_primary())

    def stop_primary(self) -> None:
        if self._primary is not None:
            self._primary.send_signal(signal.SIGTERM)
            self._primary.wait(PATIENCE)
            assert self._primary.stdout is not None
            self._primary.stdout.close()
            self._primary = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """The primary stands still meanwhile."""
        assert self._primary is not None
        self._primary.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._primary.send_signal(signal.SIGCONT)

    def said_by_primary(self) -> str:
        return (self.folder / "serve.err").read_bytes().decode(errors="surrogateescape")

    def command(self, *args: str) -> tuple[int, str]:
        """(exit code, output) of a command of ``modelrunner`` about this primary."""
        ended = self.host.modelrunner(*args, "--server", self.client.server, check=False)
        return ended.returncode, ended.stdout + ended.stderr

    def node(self, name: str) -> dict[str, Any]:
        return next((dict(n) for n in self.client.status() if n["name"] == name), {})

    # --- workers -------------------------------------------------------------------

    def ssh(self, name: str) -> Path:
        """The ``~/.ssh`` of who comes with the key of ``name``."""
        folder = self.host.srv / "homes" / name / ".ssh"
        if not folder.exists():
            folder.mkdir(parents=True)
            shutil.copy(self.host.key(name), folder / "id_ed25519")
            shutil.copy(self.host.known_hosts(), folder / "known_hosts")
            self.host.run("chown", "-R", KEEPER, f"/srv/homes/{name}")
        return folder

    def agent(self, name: str, *options: str) -> list[str]:
        """The worker's command, with the models of its own machine."""
        url = f"sftp://mr-{name}@{self.host.address}:{self.host.port}/"
        words = [sys.executable, "-m", "worker_agent", f"--primary={url}", f"--name={name}"]
        words += [f"--models=/srv/homes/{name}/models", f"--state=/srv/homes/{name}/state"]
        return self.host.command(*words, *options, user=KEEPER)

    def environment(self, name: str) -> dict[str, str]:
        return {**self.host.environment(), "HOME": f"/srv/homes/{name}"}

    def furnish(self, name: str, *models: str) -> None:
        """A machine for the worker: key, known hosts, models."""
        self.ssh(name)
        for model in models:
            here = self.host.srv / "homes" / name / "models" / model
            source = self.host.srv / "modelrunner/models" / model
            shutil.copytree(source, here, dirs_exist_ok=True)

    def start(self, name: str, slots: int = 1) -> subprocess.Popen[str]:
        """Start the worker's agent; ``ready`` waits for it."""
        with self._said(name).open("a") as said:
            self._workers[name] = subprocess.Popen(
                self.agent(name, f"--slots={slots}"),
                stdout=said,
                stderr=subprocess.STDOUT,
                text=True,
                env=self.environment(name),
            )
        return self._workers[name]

    def end(self, name: str) -> None:
        """End the worker's agent; its runs go on."""
        self._workers[name].terminate()
        self._workers[name].wait(PATIENCE)
        self._said(name).unlink()

    @contextlib.contextmanager
    def away(self, *names: str) -> Iterator[None]:
        """Without these workers; afterwards they are there again."""
        for name in names:
            self.end(name)
        yield
        for name in names:
            self.start(name, slots=2)
        self.ready(*names)

    def ready(self, *names: str) -> None:
        for name in names:
            wait_for(lambda n=name: self._is_ready(n), f"worker {name}")  # type: ignore[misc]

    def _is_ready(self, name: str) -> bool:
        assert self._workers[name].poll() is None, self.said(name)
        return "is ready" in self.said(name)

    def said(self, name: str) -> str:
        return self._said(name).read_text(errors="surrogateescape")

    def _said(self, name: str) -> Path:
        return self.folder / f"{name}.said"

    def check(self, name: str) -> tuple[int, str]:
        """(exit code, what it said) of ``modelrunner-worker --check``."""
        ended = subprocess.run(
            self.agent(name, "--check"),
            capture_output=True,
            text=True,
            env=self.environment(name),
            timeout=PATIENCE,
        )
        return ended.returncode, ended.stdout + ended.stderr

    def sessions(self, worker: str) -> list[psutil.Process]:
        """The processes of sshd that serve the worker's account, and so belong to it."""
        uid = int(self.host.run("id", "-u", f"mr-{worker}").stdout)
        found = []
        for pid in self.host._inside():  # ids alone would be another machine's too
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.uids().effective == uid:
                    found.append(process)
        return found

    # --- jobs ----------------------------------------------------------------------

    def submit(self, model: str, text: str = "x", count: int = 1, **files: str) -> str:
        self._inputs += 1
        path = self.folder / f"in{self._inputs}.zip"
        with zipfile.ZipFile(path, "w") as made:
            for name, content in {"text": text, "count": str(count), **files}.items():
                made.writestr(name, content)
        return str(self.client.submit(model, path)["uuid"])

    def wait(self, job: str, *wanted: str, patience: float = PATIENCE) -> dict[str, Any]:
        def reached() -> dict[str, Any] | None:
            found = dict(self.client.job(job))
            return found if found["status"] in wanted else None

        found: dict[str, Any] = wait_for(reached, f"{wanted} of job {job}", patience)
        return found

    def output(self, job: str) -> dict[str, bytes]:
        target = self.folder / f"{job}.zip"
        self.client.download(job, "output.zip", target)
        with zipfile.ZipFile(target) as made:
            return {name: made.read(name) for name in made.namelist()}

    def history(self, job: str) -> list[str]:
        return [str(event["kind"]) for event in self.client.events(job)]

    # --- somebody hostile ----------------------------------------------------------

    def as_account(self, worker: str, program: str, *args: str) -> str:
        """Run Python as the worker's account, in the spool, without sshd; what it printed."""
        words = (sys.executable, "-c", f"import os; os.umask(0o027); {_CHDIR}\n{program}", *args)
        return self.host.run(*words, user=f"mr-{worker}").stdout

    @contextlib.contextmanager
    def wire(self, worker: str) -> Iterator[Wire]:
        """A raw SFTP session of the worker's account."""
        address = Address(self.host.address, "/", f"mr-{worker}", self.host.port)
        connection: Connection = dial(address, self.ssh(worker))
        try:
            yield Wire(connection.channel())
        finally:
            connection.shut()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.stop_primary()
        self.host.stop()
        for process in (*self._workers.values(), self._primary):
            if process is not None:
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()


_CHDIR = f"os.chdir(os.path.realpath({DATA + '/spool'!r}))"


def _make_model(folder: Path, lease: float) -> None:
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(
        f'title = "{folder.name}"\ndescription = "for tests"\ncommand = ["./run.sh"]\n'
        f"parallel = 4\nlease = {lease}\n"
    )
    (folder / "run.sh").write_text(RUN)
    (folder / "run.sh").chmod(0o755)


# --- raw packets ---------------------------------------------------------------------

REALPATH = 16


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack(">I", len(data)) + data


def code_of(kind: int, body: bytes) -> int:
    """The code of a status; 0 for any other answer, which only a request that worked gets."""
    return int(struct.unpack_from(">I", body)[0]) if kind == 101 else 0


def answers(wire: Wire, kind: int, *parts: bytes) -> list[tuple[int, bytes]]:
    """All that the server says to one packet, (kind, body); it may say nothing at all.

    A harmless question is sent behind it, whose answer ends the wait.
    """
    wire._send(kind, *parts)
    fence = wire._send(REALPATH, string("."))
    found: list[tuple[int, bytes]] = []
    while True:
        kind, body = wire._packet()
        number = struct.unpack_from(">I", body)[0]
        if number == fence and kind in (101, 104):
            return found
        found.append((kind, body[4:]))


def until_growing(folder: Path, least: int, act: Callable[[], Iterable[object]]) -> tuple[int, int]:
    """Act when a file in the folder has ``least`` bytes: (its size then, its inode)."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                info = path.stat()
                if info.st_size >= least:
                    list(act())
                    return path.stat().st_size, info.st_ino
        time.sleep(0.002)
    raise AssertionError(f"nothing came to {folder}")
