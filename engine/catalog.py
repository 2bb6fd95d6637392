"""The models that a worker runs: what their folder holds now, what is paused or not granted."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from engine.contract import Exit
from engine.grants import Grants
from engine.pauses import Pauses
from spool.errors import SpoolError
from spool.manifest import Model, load_all


class Catalog:
    """Reloaded by the thread of the beats, and where a link was switched; read by all.

    ``only``: the models to run; empty: all that the folder holds.
    """

    def __init__(
        self, root: Path, complain: Callable[[str], None], only: Collection[str] = ()
    ) -> None:
        self._root = root
        self._complain = complain
        self._only = frozenset(only)
        self._pauses = Pauses()
        self.grants = Grants()
        self.models: dict[str, Model] = {}

    def reload(self) -> None:
        """See what the folder holds now; what is wrong with it is complained of."""
        try:
            models, errors = load_all(self._root)
        except (SpoolError, OSError) as e:
            self._complain(str(e))
            return
        if self._only:
            models = {name: model for name, model in models.items() if name in self._only}
            missing = self._only - models.keys() - errors.keys()
            errors = {name: why for name, why in errors.items() if name in self._only}
            errors |= dict.fromkeys(sorted(missing), f"it is not in {self._root}")
        for name, why in errors.items():
            self._complain(f"model {name}: {why}")
        before, self.models = _states(self.models), models
        if _states(models) != before:
            self._pauses.models_changed()

    def current(self, known: Model) -> Model:
        """A model as it is now: a link may lead to another version since it was read.

        The version before may be removed as soon as no order names it.
        """
        if os.path.realpath(self._root / known.name) == str(known.folder):
            return known
        self.reload()
        return self.models.get(known.name, known)

    def versions(self) -> dict[str, str]:
        """Of the models whose jobs may come here: nobody is to wait for us with the others."""
        return {n: v for n, v in _versions(self.models).items() if n in self.grants}

    def shortest_lease(self) -> float | None:
        """Seconds; None if no model has one."""
        leases = [model.lease for model in self.models.values() if model.lease is not None]
        return min(leases, default=None)

    def with_room(self, running: Iterable[str]) -> frozenset[str]:
        """The models of which one more may run beside ``running``."""
        busy = Counter(running)
        now = time.monotonic()
        return frozenset(
            name
            for name, model in self.models.items()
            if busy[name] < model.parallel
            and not self._pauses.paused(name, now)
            and self.grants.may_ask(name, now)
        )

    def trouble(self, model: str, text: str) -> None:
        """A run of it could not even be begun: after some, nothing more of it is claimed."""
        self._pauses.failed(model, text, time.monotonic())

    def bad_input(self, model: str, text: str) -> None:
        """An input of it was not to be had: after some, nothing more of this model is claimed."""
        self._pauses.bad_input(model, text, time.monotonic())

    def note_ending(self, model: str, end: Exit) -> None:
        """Count runs that never started: such a worker would swallow the queue."""
        if end.ending == "not-started":
            self.trouble(model, end.reason)
        else:
            self._pauses.started(model)

    def paused(self) -> str:
        """What is paused and why, for the nodes page."""
        if self.models and not self.versions():
            return self.not_granted()
        return self._pauses.why(time.monotonic())

    def not_granted(self) -> str:
        """The models here whose jobs this worker may not take; "" if there are none."""
        return self.grants.missing(self.models)


def _versions(models: dict[str, Model]) -> dict[str, str]:
    return {name: model.version for name, model in models.items()}


def _states(models: dict[str, Model]) -> dict[str, tuple[str, Path]]:
    """Where these differ, somebody has been at a model, or has switched the link to it."""
    return {name: (model.version, model.folder) for name, model in models.items()}
