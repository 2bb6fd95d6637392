"""What the page of the models shows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from ledger.board import Query
from ledger.jobs import State
from primary.nodes import Node
from primary.server import Primary
from spool.inputfiles import InputFile
from spool.manifest import Model
from web import words
from web.problems import Problem

INDEX_FROM = 6  # more models than this have a list of links above them


class Offer(NamedTuple):
    """A model as a card. ``state`` is the badge's class, ``word`` what it says, ``why`` why."""

    model: Model
    has_example: bool
    state: str
    word: str
    why: str


def context(
    primary: Primary, *, checked: str = "", problem: Problem | None = None
) -> dict[str, object]:
    """The values of ``views/models.html``; ``checked``: the model that an input was checked for."""
    models = sorted(primary.models().values(), key=lambda model: words.order(model.title))
    workers = primary.nodes()[1:]
    return {
        "offers": [offer(primary, model, workers) for model in models],
        "errors": primary.model_errors(),
        "checked": checked,
        "problem": problem,
        "expected": expected,
        "index_from": INDEX_FROM,
    }


def expected(file: InputFile) -> str:
    """What one file of the input must be, in words."""
    parts = [file.description] if file.description else []
    if file.columns:
        parts.append(f"its first line must name {', '.join(file.columns)}")
    if file.pattern is not None and not file.description:
        parts.append(f"its text must match {file.pattern}")
    return "; ".join(parts)


def offer(primary: Primary, model: Model, workers: Iterable[Node]) -> Offer:
    """The model, and whether a job of it would run now."""
    running = primary.count(
        Query(model=model.name, states=frozenset({State.RUNNING, State.PROCESSED}))
    )
    waiting = primary.count(
        Query(model=model.name, states=frozenset({State.CREATED, State.QUEUED}))
    )
    state, word, why = readiness(model.name, workers, running, waiting)
    return Offer(model, primary.has_example(model.name), state, word, why)


def readiness(
    model: str, workers: Iterable[Node], running: int, waiting: int
) -> tuple[str, str, str]:
    """Whether a job of the model would run now: the badge's class, its words, and what follows."""
    having = [node for node in workers if model in node.models and node.liveness == "alive"]
    if not having:
        why = "A job will wait until one comes."
        if waiting:
            why = f"{words.many(waiting, 'job')} wait{'s' if waiting == 1 else ''} for one."
        return "UNREACHABLE", "no worker has this model now", why
    if all(node.paused for node in having):
        return "PAUSED", "paused", f"Its worker takes no job now: {having[0].paused}"
    if running or waiting:
        counts = [f"{running:,} running"] if running else []
        counts += [f"{waiting:,} waiting"] if waiting else []
        return "BUSY", f"busy: {', '.join(counts)}", ""
    return "READY", "ready", ""
