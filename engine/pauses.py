"""When a worker stops claiming, so that it does not swallow the queue. Pure.

A model whose runs cannot be started (its command is not there, its script has
Windows line endings) is paused after three in a row; the others go on. Where
runs of different models fail one after the other the worker itself is the
reason, and it pauses for all. Inputs that are not what their tickets say pause
their model alone, however many models they are of: a worker that is granted some
models can forge tickets of these, and must not keep anybody from the others.
"""

from __future__ import annotations

QUICK_FAILURES = 3  # runs in a row that never started
PAUSE = 300.0  # seconds until one more is tried


class Pauses:
    """Counts runs that never started, by model; times are monotonic seconds."""

    def __init__(self) -> None:
        self._failed: dict[str, int] = {}  # in a row, by model
        self._row: list[str] = []  # the models of the last failures, of whichever model
        self._until: dict[str, float] = {}  # "" is the worker itself
        self._why: dict[str, str] = {}

    def started(self, model: str) -> None:
        """A run of ``model`` got as far as its command."""
        self._row.clear()
        self._forget("")
        self._failed.pop(model, None)
        self._forget(model)

    def failed(self, model: str, reason: str, now: float) -> None:
        """A run of ``model`` could not be started; "" where the model is not known."""
        self._count(model, reason, now)
        self._row = [*self._row, model][-QUICK_FAILURES:]
        if len(self._row) == QUICK_FAILURES and len(set(self._row)) > 1:
            self._pause("", f"{QUICK_FAILURES} runs in a row, of different models,", reason, now)

    def bad_input(self, model: str, reason: str, now: float) -> None:
        """An input of ``model`` was not to be had: that says nothing of other models."""
        self._count(model, reason, now)

    def models_changed(self) -> None:
        """Somebody has been at the models: worth a try."""
        self._failed.clear()
        self._row.clear()
        self._until.clear()
        self._why.clear()

    def paused(self, model: str, now: float) -> bool:
        """Whether no run of ``model`` may be claimed now."""
        return any(now < self._until.get(who, 0.0) for who in ("", model))

    def why(self, now: float) -> str:
        """What is paused and why, for the nodes page; "" if nothing is."""
        return "; ".join(self._why[who] for who, until in self._until.items() if now < until)

    def _count(self, model: str, reason: str, now: float) -> None:
        self._failed[model] = self._failed.get(model, 0) + 1
        if self._failed[model] >= QUICK_FAILURES:
            self._pause(model, f"{self._failed[model]} runs in a row", reason, now)

    def _pause(self, who: str, how_often: str, reason: str, now: float) -> None:
        self._until[who] = now + PAUSE
        whose = f"model {who}: " if who else ""
        self._why[who] = f"{whose}{how_often} could not be started: {reason}"

    def _forget(self, who: str) -> None:
        self._until.pop(who, None)
        self._why.pop(who, None)
