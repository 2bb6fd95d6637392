"""The house under test, cut into actors: one primary, its clients, two workers and their runners.

The primary is the real one, opened on a real directory and ticked with the
explorer's clock; the agents are the real ones, with scripted runners beneath
them. Threads, events and clocks of theirs are the baton's.
"""

from __future__ import annotations

import io
import itertools
import shutil
import traceback
import uuid
import zipfile
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import engine.attempt
import primary.files
import primary.intake
import primary.loop
import primary.rules
import primary.server
import primary.submission
import worker_agent
from baton import Actor, Baton, Group, Plan, Point, Step, current
from engine.attempt import Attempt
from ledger.events import Killed, Record
from ledger.jobs import Job, State
from machines import Liar, Machine, ScriptedEngine, ScriptedState
from primary.errors import TooLate
from primary.server import NewJob, Primary
from spool.claims import Claims
from spool.local import LocalTransport, make_worker_folder
from spool.manifest import load_all
from spool.names import key
from syscalls import Syscalls

SECONDS = 10.0  # by which the clock advances from round to round
LEASE = 60  # seconds
SMALL = primary.intake.SMALL
KEPT = 70.0  # seconds, in place of the 24 hours for which a PROCESSED job's worker may be silent


@dataclass(frozen=True)
class Scenario:
    """What is there, and how often each deed may disturb it.

    ``jobs`` are submitted before the exploration begins, ``asked`` during it.
    ``budget`` says how often each kind of deviation may happen in one schedule,
    ``depth`` how many there may be in all. ``agents`` are (worker, instance).
    """

    name: str
    budget: dict[str, int]
    depth: int = 2
    jobs: int = 1
    asked: int = 0
    agents: tuple[tuple[str, str], ...] = (("a", "a" * 16), ("b", "b" * 16))
    pooled: bool = False  # results are copied by the pool, beside the tick
    ticks: int = 2  # before the exploration begins: two of them settle and publish
    liar: bool = False  # a third worker forges what it can, once the job runs elsewhere
    focus: str = ""  # deviate only where this pattern is found in "<actor> <step> <choice>"


class _Event:
    """An event on which nobody ever blocks: to wait is to end one's turn."""

    def __init__(self, baton: Callable[[], Baton]) -> None:
        self._baton = baton
        self._set = False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, timeout: float | None = None) -> bool:
        self._baton().turn()
        return self._set


class Stage:
    """Patches the modules under test once, and then plays one schedule after the other."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.syscalls = Syscalls(root / "run", patch)
        self._input = _input_zip()
        self._lay_out_models()
        self._models = load_all(root / "models")
        self._baton: Baton | None = None
        self._ids = itertools.count()
        self._patch_threads(patch)
        self._patch_clocks(patch)
        patch.setattr(worker_agent, "load_all", lambda _root: self._models)
        patch.setattr(primary.rules, "PROCESSED_LEASE", KEPT)
        patch.setattr(primary.intake, "SMALL", SMALL)  # so that it is put back

    def play(
        self,
        scenario: Scenario,
        plan: Plan,
        choose: Callable[[int, Point], str | None] | None = None,
    ) -> World:
        """One schedule, from an empty directory until everything is at rest."""
        self._ids = itertools.count()
        self._baton = None
        run = self.root / "run"
        if run.exists():
            shutil.rmtree(run)
        world = World(self, scenario, run)
        world.baton = self._baton = Baton(
            plan, meets=world.meets, deeds=world.deeds, do=world.do, finished=world.finished, choose=choose
        )
        self.syscalls.baton = world.baton
        self.syscalls.recorded = world.recorded
        primary.intake.SMALL = -1 if scenario.pooled else SMALL
        try:
            world.raise_up()
            world.baton.run()
            if world.baton.error is not None:
                trace = traceback.format_exception(world.baton.error)[-8:]
                world.wrongs.append("".join(trace))
        finally:
            self.syscalls.baton = None
            world.close()
        return world

    @property
    def baton(self) -> Baton:
        assert self._baton is not None, "no schedule is being played"
        return self._baton

    @property
    def now(self) -> float:
        """Seconds on the explorer's clock."""
        return self._baton.round * SECONDS if self._baton else 0.0

    # --- inside ------------------------------------------------------------------------

    def _lay_out_models(self) -> None:
        folder = self.root / "models" / "m"
        folder.mkdir(parents=True)
        (folder / "run").write_text("#!/bin/sh\n")
        (folder / "run").chmod(0o755)
        (folder / "model.toml").write_text(f'command = ["./run"]\nlease = {LEASE}\nparallel = 2\n')

    def _patch_threads(self, patch: pytest.MonkeyPatch) -> None:
        stage = self

        class Thread:
            """``threading.Thread`` as an actor of the group that starts it."""

            def __init__(self, target: Callable[[], object], name: str, daemon: bool) -> None:
                self._target, self._name, self._daemon = target, name, daemon
                self._actor: Actor | None = None

            def start(self) -> None:
                self._actor = stage.spawn(self._name, self._target)

            def join(self, timeout: float | None = None) -> None:
                stage.join(self._actor)

        def start(attempt: Attempt) -> None:
            attempt.__dict__["actor"] = stage.spawn(f"run{attempt.key[-6:]}", attempt.run)

        def alive(attempt: Attempt) -> bool:
            return not attempt.__dict__["actor"].ended

        def join(attempt: Attempt, timeout: float | None = None) -> None:
            stage.join(attempt.__dict__["actor"])

        real = worker_agent.threading
        shim = SimpleNamespace(
            Thread=Thread, Event=lambda: _Event(lambda: stage.baton), Lock=real.Lock
        )
        patch.setattr(worker_agent, "threading", shim)
        patch.setattr(engine.attempt, "threading", shim)
        patch.setattr(Attempt, "start", start)
        patch.setattr(Attempt, "is_alive", alive)
        patch.setattr(Attempt, "join", join)
        patch.setattr(primary.server, "ThreadPoolExecutor", lambda *_, **__: _Pool(stage))
        patch.setattr(primary.server, "Watch", lambda *_: None)

    def _patch_clocks(self, patch: pytest.MonkeyPatch) -> None:
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=None)
        for module in (worker_agent, engine.attempt, primary.server):
            patch.setattr(module, "time", clock)
        ids = SimpleNamespace(uuid4=lambda: uuid.UUID(int=next(self._ids), version=4))
        for module in (primary.submission, primary.files):
            patch.setattr(module, "uuid", ids)

    def spawn(self, name: str, body: Callable[[], object]) -> Actor:
        actor = current()
        assert actor is not None
        return self.baton.spawn(actor.group, f"{actor.group.name}.{name}", body)

    def join(self, actor: Actor | None) -> None:
        for _ in range(5):
            if actor is None or actor.ended:
                return
            self.baton.turn()

    @property
    def input(self) -> bytes:
        return self._input


class _Pool:
    """``ThreadPoolExecutor`` as actors of the primary."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._count = itertools.count()

    def submit(self, work: Callable[..., object], *args: Any) -> Future[None]:
        self._stage.spawn(f"pool{next(self._count)}", lambda: work(*args))
        return Future()

    def shutdown(self, **_: object) -> None:
        pass


class World:
    """One schedule's house."""

    def __init__(self, stage: Stage, scenario: Scenario, root: Path) -> None:
        self.scenario = scenario
        self.data = root / "data"
        self.data.mkdir(parents=True)
        self.machines = [
            Machine(worker, instance, root / _state(_named(worker, instance)))
            for worker, instance in scenario.agents
        ]
        self.acknowledged: list[str] = []
        self.kills: list[str] = []
        self.dead_keys: set[str] = set()  # attempts whose kill was confirmed
        self.wrongs: list[str] = []  # what was wrong already when it happened
        self.refused: set[str] = set()  # instances whose agent ended by itself
        self.primary: Primary | None = None
        self.baton: Baton = None  # type: ignore[assignment]
        self._stage = stage
        self._unasked = scenario.asked

    # --- the actors ----------------------------------------------------------------------

    def raise_up(self) -> None:
        """Everything before the exploration begins, then the groups."""
        first = self._opened()
        for _ in range(self.scenario.jobs):
            self._submit(first)
        for _ in range(self.scenario.ticks):
            first.tick(0.0)
        for machine in self.machines:
            make_worker_folder(self.data / "spool", machine.worker)
        self.primary = first
        main = self.baton.group("primary", lambda: self._rise(main), self._fall)
        for machine in self.machines:
            self._group_of(machine)
        for machine in self.machines:
            runner = f"{_name(machine)}.runner"
            self._lone_group(runner, lambda m=machine: self._run(m))  # type: ignore[misc]
        if self.scenario.liar:
            make_worker_folder(self.data / "spool", "c")
            liar = Liar(self.data / "spool", "c", self.baton)
            self._lone_group("c", lambda: liar.lie(self._running))

    def _group_of(self, machine: Machine) -> None:
        name = _name(machine)
        group = self.baton.group(
            name,
            lambda: void(self.baton.spawn(group, name, lambda: self._work(machine))),
            lambda: None,
        )

    def _lone_group(self, name: str, body: Callable[[], object]) -> None:
        group = self.baton.group(
            name, lambda: void(self.baton.spawn(group, name, body)), lambda: None
        )

    def _opened(self) -> Primary:
        return Primary.open(self.data, self._stage.root / "models")

    def _rise(self, group: Group) -> None:
        self.baton.spawn(group, "primary", self._serve)

    def _serve(self) -> None:
        if self.primary is None:
            self.primary = self._opened()
        if self._unasked:
            self._stage.spawn("http", self._ask)
        while True:
            self.primary.tick(self._stage.now)
            self.baton.turn()

    def _ask(self) -> None:
        """HTTP requests; a client that got no answer asks no second time."""
        while self._unasked and self.primary is not None:
            self._unasked -= 1
            self._submit(self.primary)

    def _submit(self, to: Primary) -> None:
        upload = to.receive()
        try:
            upload.write(self._stage.input)
            job = to.submit(NewJob(name="x", model="m", by="me"), upload)
            self.acknowledged.append(job.id)
        finally:
            upload.discard()

    def _fall(self) -> None:
        """The primary is killed: what it held is free again."""
        if self.primary is not None:
            self.primary._ledger.close()
            self.primary = None

    def _work(self, machine: Machine) -> None:
        claims = Claims(
            LocalTransport(self.data / "spool"), machine.worker, machine.instance
        )
        claims.sweep()
        agent = worker_agent.Agent(
            claims,
            ScriptedEngine(machine, self.baton, self._begun),
            ScriptedState(machine.path, machine.instance),
            self._stage.root / "models",
            slots=2,
        )
        agent.run()
        self.refused.add(machine.instance)

    def _begun(self, run: str) -> None:
        if run in self.dead_keys:
            self.wrongs.append(f"{run[-6:]} is begun after its kill was confirmed")

    def _running(self) -> Job | None:
        """The first job, once it is known to run."""
        job = self.primary.job(self.acknowledged[0]) if self.primary else None
        return job if job is not None and job.state is State.RUNNING else None

    def _run(self, machine: Machine) -> None:
        while True:
            if machine.busy:
                self.baton.point(Step("the runs go on", machine.path.name, changes=True))
                with self.baton.aside():
                    machine.advance()
            self.baton.turn()

    # --- the deeds ------------------------------------------------------------------------

    def meets(self, actor: Actor, other: Actor, step: Step) -> bool:
        """Whether ``other`` may see or change what ``step`` is about."""
        if actor.group is other.group:
            return bool(step.where)  # they share their process's memory, too
        return any(_touches(other.group.name, where) for where in step.where.split())

    def deeds(self, actor: Actor, step: Step) -> list[str]:
        """What a visitor may do at this point."""
        found: list[str] = []
        group = actor.group.name
        if group == "primary":
            # A kill meets the primary only where it looks at the board.
            looks = step.turn or not (step.beat or step.what.startswith("listdir"))
            if looks and self.primary is not None:
                found += [f"kill:{n}" for n in range(len(self.acknowledged))]
            if step.changes:
                found.append("crash")
        elif not group.endswith("runner") and group != "c":
            if step.changes and (step.where or not step.beat):
                found.append("crash")
            if step.where and step.changes or step.turn:
                found.append("freeze")
                if any(m.busy for m in self.machines if _name(m) == group):
                    found.append(f"lose:{group}")
        return found

    def do(self, deed: str) -> None:
        kind, _, what = deed.partition(":")
        if kind == "kill":
            assert self.primary is not None
            job = self.acknowledged[int(what)]
            try:
                self.primary.kill(job, "me")
            except TooLate:
                return
            self.kills.append(job)
        elif kind == "lose":
            next(m for m in self.machines if _name(m) == what).die()

    def recorded(self, record: Record) -> None:
        """The primary accepted an event: is it true at this very moment?"""
        event = record.event
        attempt = getattr(event, "attempt", 0)
        self.baton.history.append(f"{'':>12} = {type(event).__name__} {event.job[-4:]}.{attempt}")
        if isinstance(event, Killed) and event.confirmed:
            self.dead_keys.add(key(event.job, event.attempt))
            for machine in self.machines:
                self.wrongs += [
                    f"{event.job[-4:]}.{attempt} is killed and confirmed, "
                    f"but {run[-6:]} runs on at {machine.worker}"
                    for run in machine.executing(event.job)
                ]

    def finished(self) -> bool:
        """Whether every job that anybody was told of has ended."""
        return (
            self.primary is not None
            and not self._unasked
            and all(self.primary.job(id).final for id in self.acknowledged)
        )

    def close(self) -> None:
        """What is left can be looked at by anybody now."""
        if self.primary is not None:
            self.primary._ledger.close()


def _touches(group: str, where: str) -> bool:
    """Whether a group ever looks at, or changes, what lies there."""
    if group == "primary":
        return where == "new" or "/" in where
    if group.endswith(".runner"):
        return where == _state(group.removesuffix(".runner"))
    return where in ("new", _state(group)) or where.startswith(f"{group[0]}/")


def _state(name: str) -> str:
    """The state directory of an agent."""
    return f"{name}.state"


def void(_: object) -> None:
    """For a lambda whose value nobody wants."""


def _name(machine: Machine) -> str:
    """The group's name: the worker's, and the instance's where two share one name."""
    return _named(machine.worker, machine.instance)


def _named(worker: str, instance: str) -> str:
    return worker if worker == instance[0] else worker + "2"


def _input_zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr(zipfile.ZipInfo("input.txt"), "1")
    return file.getvalue()
