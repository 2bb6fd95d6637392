"""Bugs that are put into the processes of a ward, each by the name of its function here.

Every interpreter of the ward calls one at its start (``ward.Ward``). Windows are
widened, so that few kills meet them; each bug is a rule of the code that was left out.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, BinaryIO

WINDOW = 0.5  # seconds


def lets_go_of_a_drop_too_early() -> None:
    """A dropped zip is removed once it was opened, before its job is in the ledger."""
    from spool.drops import DropFolder

    real = DropFolder.open

    def open_(self: DropFolder, job: str, name: str) -> BinaryIO:
        file = real(self, job, name)
        self.done(job, name)
        time.sleep(WINDOW)
        return file

    DropFolder.open = open_  # type: ignore[method-assign]


def completes_before_the_results_are_there() -> None:
    """The end is entered first; log and output are copied then, if nobody dies in between."""
    from primary.intake import Intake

    real = Intake._accept

    def accept(self: Intake, worker: str, name: Any, *rest: Any) -> None:
        adopt, retire = self._adopt, self._dispatch.retire
        kept: list[tuple[Any, ...]] = []
        mine: dict[str, Any] = {"_adopt": lambda *_, **__: None}
        vars(self).update(mine)
        vars(self._dispatch)["retire"] = lambda *found: kept.append(found)
        try:
            real(self, worker, name, *rest)
        finally:
            del vars(self)["_adopt"], vars(self._dispatch)["retire"]
        if kept:
            time.sleep(WINDOW)
            adopt(worker, name, rest[1], late=None)
            retire(*kept[0])

    Intake._accept = accept  # type: ignore[method-assign]


def believes_an_attempt_that_is_over() -> None:
    """What a lost worker still delivers ends the attempt that was begun in its place."""
    from ledger.jobs import Job
    from primary.intake import Intake
    from primary.rules import Ignore, accept
    from spool.reports import FinalReport

    real = Intake.late

    def late(self: Intake, worker: str, name: Any, claims: Any) -> None:
        read = self._read(worker, name)
        if read is None or not isinstance(read[1], FinalReport):
            return real(self, worker, name, claims)
        report = read[1]
        self._adopt(worker, name, report, late=None)

        def decide(lookup: Any) -> Any:
            job: Job | None = lookup(name.job)
            events = accept(job, worker, report, 100) if job and not job.final else ()
            return () if isinstance(events, Ignore) else events

        self._ledger.append(decide)
        return self._dispatch.retire(worker, name.key, claims)

    Intake.late = late  # type: ignore[method-assign]


def leaves_the_runs_of_a_dead_runner() -> None:
    """Followed as a process tree, and not ended when the runner dies, nor by the next one."""
    from engine import init, lost, sandbox

    sandbox.probe = lambda _: sandbox.TREE
    init._Init.kill_all = lambda _: None  # type: ignore[method-assign]
    lost._end_marked = lambda _: ()


def begins_a_run_again() -> None:
    """An agent that was restarted begins what it holds anew, whether it was begun or not."""
    import shutil

    from engine.rundir import RunDir
    from engine.runs import Engine

    real = Engine.begin

    def begin(self: Engine, key: str) -> None:
        run = RunDir(self._runs / key)
        if run.was_begun():
            for name in ("run.json", "exit.reserved", "exit.json", "log"):
                Path(run.path, name).unlink(missing_ok=True)
            for name in ("input", "output", "tmp"):
                shutil.rmtree(run.path / name, ignore_errors=True)
        real(self, key)

    Engine.begin = begin  # type: ignore[method-assign]


BUGS = (
    lets_go_of_a_drop_too_early,
    completes_before_the_results_are_there,
    believes_an_attempt_that_is_over,
    leaves_the_runs_of_a_dead_runner,
)
