"""The house under test, cut into actors: one primary, its clients, two workers and their runners.

The primary is the real one, opened on a real directory and ticked with the
explorer's clock; the agents are the real ones, with scripted runners beneath
them. Threads, events and clocks of theirs are the baton's.
"""

from __future__ import annotations

import io
import shutil
import traceback
import zipfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest

import engine.agent
import engine.catalog
import primary.intake
import primary.rules
from ledger.events import Killed, Record
from ledger.jobs import Job, State
from primary.errors import TooLate
from primary.server import NewJob, Primary
from spool.claims import Claims
from spool.local import LocalTransport, make_worker_folder
from spool.manifest import load_all
from spool.names import key
from tests.protocol.baton import Actor, Baton, Group, Plan, Point, Step
from tests.protocol.machines import Liar, Machine, ScriptedEngine, ScriptedState
from tests.protocol.scenarios import Scenario
from tests.protocol.stand_ins import StandIns
from tests.protocol.syscalls import Syscalls

LEASE = 60  # seconds
SMALL = primary.intake.SMALL
KEPT = 70.0  # seconds, in place of the 24 hours for which a PROCESSED job's worker may be silent


class World:
    """One schedule's house."""

    def __init__(
        self, stand_ins: StandIns, scenario: Scenario, root: Path, models: Path, upload: bytes
    ) -> None:
        self.scenario = scenario
        self.data = root / "data"
        self.data.mkdir(parents=True)
        self.machines = [
            Machine(worker, instance, root / _state(_named(worker, instance)), scenario.rounds)
            for worker, instance in scenario.agents
        ]
        self.acknowledged: list[str] = []
        self.kills: list[str] = []
        self.dead_keys: set[str] = set()  # attempts whose kill was confirmed
        self.wrongs: list[str] = []  # what was wrong already when it happened
        self.ghosts: list[str] = []  # runs of attempts given up, when their job was killed
        self.refused: set[str] = set()  # instances whose agent ended by itself
        self.primary: Primary | None = None
        self.baton: Baton = None  # type: ignore[assignment]
        self._stand_ins = stand_ins
        self._models = models
        self._input = upload
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
        main: Group = self.baton.group("primary", lambda: self._rise(main), self._fall)
        for machine in self.machines:
            self._group_of(machine)
        for machine in self.machines:
            runner = f"{_name(machine)}.runner"
            self._lone_group(runner, partial(self._run, machine))
        if self.scenario.liar:
            make_worker_folder(self.data / "spool", "c")
            liar = Liar(self.data / "spool", "c", self.baton)
            self._lone_group("c", lambda: liar.lie(self._running))

    def _group_of(self, machine: Machine) -> None:
        name = _name(machine)
        group: Group = self.baton.group(
            name,
            lambda: void(self.baton.spawn(group, name, lambda: self._work(machine))),
            lambda: None,
        )

    def _lone_group(self, name: str, body: Callable[[], object]) -> None:
        group: Group = self.baton.group(
            name, lambda: void(self.baton.spawn(group, name, body)), lambda: None
        )

    def _opened(self) -> Primary:
        return Primary.open(self.data, self._models)

    def _rise(self, group: Group) -> None:
        self.baton.spawn(group, "primary", self._serve)

    def _serve(self) -> None:
        if self.primary is None:
            self.primary = self._opened()
        if self._unasked:
            self._stand_ins.spawn("http", self._ask)
        while True:
            self.primary.tick(self._stand_ins.now)
            self.baton.turn()

    def _ask(self) -> None:
        """HTTP requests; a client that got no answer asks no second time."""
        while self._unasked and self.primary is not None:
            self._unasked -= 1
            self._submit(self.primary)

    def _submit(self, to: Primary) -> None:
        upload = to.receive()
        try:
            upload.write(self._input)
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
        claims = Claims(LocalTransport(self.data / "spool"), machine.worker, machine.instance)
        claims.sweep()
        agent = engine.agent.Agent(
            claims,
            ScriptedEngine(machine, self.baton, self._begun),
            ScriptedState(machine.path, machine.instance),
            self._models,
            slots=2,
            rescan=0.0,  # as if somebody rang at every turn
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
        return bool(step.where) and _touches(other.group.name, step.where)

    def deeds(self, actor: Actor, step: Step) -> list[str]:
        """What a visitor may do at this point."""
        found: list[str] = []
        group = actor.group.name
        if group == "primary":
            # A kill meets the primary only where it looks at the board.
            looks = step.turn or not (step.beat or step.what.startswith("listdir"))
            if looks and self.primary is not None:
                found += [f"kill:{n}" for n in range(len(self.acknowledged))]
            if step.changes or step.turn:
                found.append("crash")
        elif not group.endswith("runner") and group != "c":
            if step.changes and (step.where or not step.beat):
                found.append("crash")
            if (step.where and step.changes) or step.turn:
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
                for run in machine.executing(event.job):
                    older = run != key(event.job, event.attempt)
                    (self.ghosts if older else self.wrongs).append(
                        f"{event.job[-4:]}.{event.attempt} is killed and confirmed, "
                        f"but {run[-6:]} runs on at {machine.worker}"
                    )

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


class Stage:
    """Patches the modules under test once, and then plays one schedule after the other."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._syscalls = Syscalls(root / "run", patch)
        self._stand_ins = StandIns(patch)
        self._input = _input_zip()
        self._lay_out_models()
        models = load_all(root / "models")
        patch.setattr(engine.catalog, "load_all", lambda _root: models)
        patch.setattr(primary.rules, "PROCESSED_LEASE", KEPT)
        patch.setattr(primary.intake, "SMALL", SMALL)  # so that it is put back

    def play(
        self,
        scenario: Scenario,
        plan: Plan,
        choose: Callable[[int, Point], str | None] | None = None,
    ) -> World:
        """One schedule, from an empty directory until everything is at rest.

        ``choose`` decides in place of the plan, if it is given.
        """
        self._stand_ins.renew()
        run = self._root / "run"
        if run.exists():
            shutil.rmtree(run)
        world = World(self._stand_ins, scenario, run, self._root / "models", self._input)
        world.baton = self._stand_ins.baton = self._syscalls.baton = Baton(
            choose or (lambda index, _point: plan.get(index)),
            meets=world.meets,
            deeds=world.deeds,
            do=world.do,
            finished=world.finished,
        )
        self._syscalls.recorded = world.recorded
        primary.intake.SMALL = -1 if scenario.pooled else SMALL
        try:
            world.raise_up()
            world.baton.run()
            if world.baton.error is not None:
                trace = traceback.format_exception(world.baton.error)[-8:]
                world.wrongs.append("".join(trace))
        finally:
            self._syscalls.baton = None
            world.close()
        return world

    def _lay_out_models(self) -> None:
        folder = self._root / "models" / "m"
        folder.mkdir(parents=True)
        (folder / "run").write_text("#!/bin/sh\n")
        (folder / "run").chmod(0o755)
        (folder / "model.toml").write_text(
            f'command = ["./run"]\nlease = {LEASE}\nattempts = 9\nparallel = 2\n'
        )


@cache
def _touches(group: str, places: str) -> bool:
    """Whether a group ever looks at, or changes, what lies in one of these places."""
    return any(_touches_one(group, place) for place in places.split())


def _touches_one(group: str, where: str) -> bool:
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
