"""The models that a worker runs: what their folder holds now, and which are paused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from engine.contract import Exit
from engine.pauses import Pauses
from spool.errors import SpoolError
from spool.manifest import Model, load_all


class Catalog:
    """Reloaded by the thread of the beats, read by all."""

    def __init__(self, root: Path, complain: Callable[[str], None]) -> None:
        self._root = root
        self._complain = complain
        self._pauses = Pauses()
        self.models: dict[str, Model] = {}

    def reload(self) -> None:
        """See what the folder holds now; what is wrong with it is complained of."""
        try:
            models, errors = load_all(self._root)
        except (SpoolError, OSError) as e:
            self._complain(str(e))
            return
        for name, why in errors.items():
            self._complain(f"model {name}: {why}")
        before, self.models = self.versions(), models
        if self.versions() != before:
            self._pauses.models_changed()

    def versions(self) -> dict[str, str]:
        return {name: model.version for name, model in self.models.items()}

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
            if busy[name] < model.parallel and not self._pauses.paused(name, now)
        )

    def trouble(self, model: str, text: str) -> None:
        """A run of it could not even be begun: after some, nothing more of it is claimed."""
        self._pauses.failed(model, text, time.monotonic())

    def note_ending(self, model: str, end: Exit) -> None:
        """Count runs that never started: such a worker would swallow the queue."""
        if end.ending == "not-started":
            self.trouble(model, end.reason)
        else:
            self._pauses.started(model)

    def paused(self) -> str:
        """What is paused and why, for the nodes page."""
        return self._pauses.why(time.monotonic())
