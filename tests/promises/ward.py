"""A primary, two workers (one over a real sshd) and all that can be killed of them.

Whatever is killed is started again by the same hand; what ends by itself is a finding.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from client.api import Client
from engine import procs
from tests.sshd import Sshd, free_port
from tests.system import ROOT, System, wait_for

# The input's file ``plan``: a token, seconds to sleep, and the exit code. It says what it was
# given, and which attempt it was, in its log and in its output.
MODEL = """#!/bin/sh
echo "$MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" >> "$STARTS"
read -r token seconds code < "$1/plan"
echo "begun $token"
sleep "$seconds"
echo "$token $MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" > "$2/result"
echo "done $token"
exit "$code"
"""
MORE = "parallel = 4\ngrace = 1\nattempts = 100"  # killed workers must not use a job up
MODELS = {"work": MORE, "brief": f"{MORE}\nlease = 2"}  # of the second one, workers are lost
SLOTS = 2  # of each worker
DOWN = 4.0  # seconds that an agent stays away at times: longer than that lease
AWAY = 0.2  # of an agent's deaths are followed by such an absence
LOCAL, REMOTE = "near", "far"


class Kept:
    """A process that is started again after each kill; what it says goes to ``said``."""

    def __init__(self, command: list[str], environment: Mapping[str, str], said: Path) -> None:
        self._command, self._environment = command, dict(environment)
        self.said = said
        self._process: subprocess.Popen[bytes] | None = None
        self._said_before = 0  # bytes

    def start(self) -> None:
        with self.said.open("ab") as said:
            self._said_before = said.tell()
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=self._environment,
                cwd=ROOT,
            )

    def is_ready(self) -> bool:
        """Whether it has said so since it was started."""
        with self.said.open("rb") as said:
            said.seek(self._said_before)
            return b" is ready" in said.read()

    def kill(self) -> None:
        """With KILL. It must not have ended by itself before."""
        self.check()
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        code = self._process.poll() if self._process is not None else None
        last = self.said.read_text(errors="replace")[-2000:] if code is not None else ""
        assert code is None, f"{self.said.stem} ended by itself with {code}: {last}"

    def stop(self) -> None:
        """With TERM, and without it if that takes too long."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class Ward:
    """One data directory and the processes around it. ``bug`` is a name in ``seeded``."""

    def __init__(self, root: Path, bug: str = "") -> None:
        root.mkdir()
        self.root = root
        self.system = System(root)
        for model, more in MODELS.items():
            self.system.add_model(model, MODEL, more)
        self.port = free_port()
        self.client = Client(f"http://127.0.0.1:{self.port}", tries=1, timeout=20.0)
        self.system.client = self.client
        self._environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        if bug:
            _seed(root / "bug", bug)
            self._environment["PYTHONPATH"] = f"{root / 'bug'}:{ROOT}"
        serve = ["modelrunner", "serve", f"--data={self.system.data}"]
        serve += [f"--listen=127.0.0.1:{self.port}", f"--models={self.system.models}"]
        self.primary = self._kept("primary", serve)
        spool = self.system.data / "spool"
        spool.mkdir(parents=True)
        self._sshd = Sshd(root / "sshd", spool)
        self.agents = {
            LOCAL: self._agent(LOCAL, str(spool)),
            REMOTE: self._agent(REMOTE, self._sshd.url),
        }

    # --- beginning and end -------------------------------------------------------------

    def start(self) -> None:
        """The primary, sshd and the workers; when this returns, all are being started."""
        self.primary.start()
        wait_for((self.system.data / "spool" / "bell").exists, "the primary to lay out its spool")
        for agent in self.agents.values():
            agent.start()

    def stop(self) -> None:
        """All of it, in good order: workers first, so that they can say goodbye."""
        for kept in (*self.agents.values(), self.primary):
            kept.stop()
        self._sshd.stop()

    def left(self) -> list[psutil.Process]:
        """The living processes that have to do with this folder, but for ourselves."""
        mark = str(self.root).encode()
        found = []
        for process in procs.everything():
            words = b""
            for file in ("cmdline", "environ"):
                try:
                    words += Path(f"/proc/{process.pid}/{file}").read_bytes()
                except OSError:
                    continue
            if mark in words and process.pid != os.getpid():
                found.append(psutil.Process(process.pid))
        return found

    def end(self) -> None:
        """Whatever state it is in."""
        self.stop()
        for process in self.left():
            process.kill()

    # --- what can be killed ------------------------------------------------------------

    def strike_primary(self, _: random.Random) -> bool:
        self.primary.kill()
        self.primary.start()
        return True

    def strike_agent(self, name: str, pause: Callable[[float], object], rng: random.Random) -> bool:
        """``pause`` waits for so many seconds, unless all is over."""
        self.agents[name].kill()
        if rng.random() < AWAY:
            pause(DOWN)
        self.agents[name].start()
        return True

    def runner(self, name: str) -> procs.Process | None:
        """The living runner of an agent, if there is one at present."""
        try:
            pid = int((self.state(name) / "runner.lock").read_text() or 0)
        except (OSError, ValueError):
            return None  # none was there yet, or one is just beginning
        found = procs.look(pid) if pid else None
        dead = found is None or found.name != "mr-runner" or found.state == "Z"
        return None if dead else found

    def strike_runner(self, name: str, _: random.Random) -> bool:
        """Its agent starts another one, as soon as there is something to run."""
        found = self.runner(name)
        if found is not None:
            procs.send(found, signal.SIGKILL)
        return found is not None

    def has_session(self) -> bool:
        return bool(self._sshd.sessions())

    def strike_session(self, rng: random.Random) -> bool:
        """One process of one connection of sshd: whoever it talked to must dial again."""
        sessions = self._sshd.sessions()
        if sessions:
            rng.choice(sessions).kill()
        return bool(sessions)

    def check(self) -> None:
        """None has ended by itself."""
        for kept in (self.primary, *self.agents.values()):
            kept.check()

    # --- inside ------------------------------------------------------------------------

    def state(self, name: str) -> Path:
        return self.root / f"state-{name}"

    def _agent(self, name: str, spool: str) -> Kept:
        words = ["worker_agent", f"--primary={spool}", f"--models={self.system.models}"]
        words += [f"--name={name}", f"--slots={SLOTS}", f"--state={self.state(name)}"]
        home = self._sshd.environment(self.root / "home")["HOME"]
        return self._kept(name, words, {"HOME": home, "SSH_AUTH_SOCK": ""})

    def _kept(self, name: str, words: list[str], more: Mapping[str, str] | None = None) -> Kept:
        environment = {**self._environment, **(more or {})}
        return Kept([sys.executable, "-m", *words], environment, self.root / f"{name}.said")


def _seed(folder: Path, bug: str) -> None:
    """Every interpreter of the ward imports this before anything else, also the runner's."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        f"from tests.promises import seeded\n\nseeded.{bug}()\n"
    )
