"""What a worker runs on, scripted: its runner, and the state directory that outlives agents.

The agent above it is the real one, ``engine.agent.Agent`` with its
``engine.attempt.Attempt`` threads. Below it stands a runner that starts no
processes: a run is an entry here, which ends after some rounds or when its
stop marker lies there, and leaves ``log`` and ``output/`` as a model would.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal

from engine.contract import Exit, Stage
from engine.errors import EngineError
from engine.runs import Engine
from engine.state import State
from ledger.jobs import Job
from primary.rules import ticket_of
from spool.claims import Claims
from spool.local import LocalTransport
from spool.names import Claim
from spool.reports import Beat, FileFact, FinalReport
from tests.protocol.baton import Baton, Step


class ScriptedState(State):
    """A state directory whose lock is the explorer's business."""

    def __init__(self, path: Path, instance: str) -> None:
        self.path, self.instance = path, instance
        (path / "runs").mkdir(parents=True, exist_ok=True)

    def exists(self) -> bool:
        return True

    def free(self) -> int:
        return 2**40


@dataclass
class Run:
    """One run, as its runner knows it."""

    directory: Path
    stage: Literal["running", "ended", "lost"] = "running"
    left: int = 0  # rounds until it ends by itself
    ended: Exit | None = None


@dataclass
class Machine:
    """One worker's own disk, and the runner on it."""

    worker: str
    instance: str
    path: Path
    rounds: int  # how long a run takes
    runs: dict[str, Run] = field(default_factory=dict)
    executions: dict[str, int] = field(default_factory=dict)
    wrongs: list[str] = field(default_factory=list)

    @property
    def busy(self) -> bool:
        return any(run.stage == "running" for run in self.runs.values())

    def executing(self, job: str) -> list[str]:
        """The keys of this job's runs that go on right now."""
        return [k for k, r in self.runs.items() if r.stage == "running" and k.startswith(job)]

    def begin(self, key: str, directory: Path) -> bool:
        """False if a stop was wanted before it began."""
        (directory / "exit.reserved").touch()
        if (directory / "stop").exists():
            self.runs[key] = Run(directory, "ended", ended=Exit(ending="stopped", reason="early"))
            return False
        self.executions[key] = self.executions.get(key, 0) + 1
        self.runs[key] = Run(directory, left=self.rounds)
        (directory / "output").mkdir()
        (directory / "log").write_text(f"begun {key}\n")
        return True

    def advance(self) -> None:
        """One round passes for all runs."""
        for name, run in self.runs.items():
            if run.stage != "running":
                continue
            run.left -= 1
            if not run.directory.is_dir():
                self.wrongs.append(f"{self.worker} lost the directory of {name} while it ran")
                run.stage = "lost"
            elif (run.directory / "stop").exists():
                self._finish(name, run, Exit(ending="stopped", reason="a stop was wanted"))
            elif run.left <= 0:
                self._finish(name, run, Exit(ending="exited", reason="", exit_code=0))

    def die(self) -> None:
        """The runner is killed: its runs die with it."""
        for run in self.runs.values():
            if run.stage == "running":
                run.stage = "lost"

    def _finish(self, key: str, run: Run, end: Exit) -> None:
        (run.directory / "output" / "output.txt").write_text(key)
        with (run.directory / "log").open("a") as log:
            log.write(f"ended {key}\n")
        run.stage, run.ended = "ended", end


class ScriptedEngine(Engine):
    """The agent's side of that runner: the interface of ``engine.runs.Engine``."""

    def __init__(self, machine: Machine, baton: Baton, begun: Callable[[str], None]) -> None:
        self._machine = machine
        self._baton = baton
        self._begun = begun

    def connect(self) -> None:
        pass

    def lacking(self) -> str:
        return ""

    def begin(self, key: str) -> None:
        directory = self._checked(key)
        if not (directory / "exit.reserved").exists():
            self._baton.point(Step(f"begin {key[-6:]}", self._machine.path.name, changes=True))
            with self._baton.aside():
                if self._machine.begin(key, directory):
                    self._begun(key)

    def stop(self, key: str, reason: str) -> None:
        directory = self._checked(key)
        if not (directory / "stop").exists():
            (directory / "stop").write_text(reason)

    def stage(self, key: str) -> Stage | None:
        run = self._machine.runs.get(key)
        directory = self._machine.path / "runs" / key
        if not directory.is_dir():
            return None
        return run.stage if run else "ready"

    def exit(self, key: str) -> Exit | None:
        return self._machine.runs[key].ended

    def keys(self) -> list[str]:
        return sorted(entry.name for entry in (self._machine.path / "runs").iterdir())

    def wait(self, key: str, timeout: float) -> bool:  # noqa: ARG002 - a turn takes as long as it takes
        if self.stage(key) not in ("ended", "lost"):
            self._baton.turn()
        return self.stage(key) in ("ended", "lost")

    def wake(self, key: str) -> None:
        pass  # every waiter looks in every round

    def forget(self, key: str) -> None:
        pass  # it remembers nothing that the machine does not

    def _checked(self, key: str) -> Path:
        directory = self._machine.path / "runs" / key
        if not directory.is_dir():
            raise EngineError(f"{key!r}: no run directory {directory}")
        return directory


class Liar:
    """A worker that says it ran what another runs: without a claim, then with a second one."""

    def __init__(self, spool: Path, worker: str, baton: Baton) -> None:
        self._claims = Claims(LocalTransport(spool), worker, "c" * 16)
        self._cur = spool / "workers" / worker / "cur"
        self._jobs = spool.parent / "jobs"
        self._baton = baton

    def lie(self, running: Callable[[], Job | None]) -> None:
        while (job := running()) is None:
            self._baton.turn()
        ticket = ticket_of(job)
        assert ticket is not None
        claim = Claim(ticket, "c" * 16)
        forged = b"forged"
        fact = FileFact(len(forged), sha256(forged).hexdigest())
        report = FinalReport(claim=str(claim), instance="c" * 16, end="ok", log=fact, output=fact)
        source = self._cur.parent / "forged"
        for forging in (False, True):
            with self._baton.aside():
                source.write_bytes(forged)
                if forging:
                    # As from an earlier attempt that it had: no other file is believed.
                    genuine = self._jobs / claim.ticket.job / "input.zip"
                    (self._cur / str(claim)).hardlink_to(genuine)
            self._claims.send_log(claim.key, 0, forged)
            self._claims.send_output(claim.key, source)
            self._claims.report(claim.key, report)
            self._baton.turn()
        while True:
            self._claims.beat(
                Beat(
                    instance="c" * 16, counter=1, host="c", node_url="", pid=1, slots=1, version=""
                )
            )
            self._baton.turn()
