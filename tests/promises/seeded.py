"""Bugs that are put into the processes of a ward, each by the name of its function here.

Every interpreter of the ward calls one at its start (``ward.Ward``). Windows are
widened, so that few kills meet them; each bug is a rule of the code that was left out.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, BinaryIO

WINDOW = 0.5  # seconds


def _put(owner: Any, name: str, new: Any) -> None:
    """In the place of what the code has there."""
    setattr(owner, name, new)


def lets_go_of_a_drop_too_early() -> None:
    """A dropped zip is removed once it was opened, before its job is in the ledger."""
    from spool.drops import DropFolder

    real = DropFolder.open

    def open_(self: DropFolder, job: str, name: str) -> BinaryIO:
        file = real(self, job, name)
        self.done(job, name)
        time.sleep(WINDOW)
        return file

    _put(DropFolder, "open", open_)


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

    _put(Intake, "_accept", accept)


def leaves_the_runs_of_a_dead_runner() -> None:
    """Followed as a process tree, and not ended when the runner dies, nor by the next one."""
    from engine import init, lost, sandbox

    _put(sandbox, "probe", lambda _: sandbox.TREE)
    _put(init._Init, "kill_all", lambda _: None)
    _put(lost, "_end_marked", lambda _: ())


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

    _put(Engine, "begin", begin)
