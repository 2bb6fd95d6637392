"""What the page of the nodes shows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import NamedTuple

from ledger.jobs import Job
from primary.errors import UnknownJob
from primary.nodes import Node
from primary.server import Primary
from primary.timeline import Run, Timeline
from web import daypicture
from web.daypicture import Picture

NAMED = 20  # jobs of one worker that are listed; the list of jobs has all
ROWS = 200  # runs in the table beside the picture
MODELS = 6  # of a node that stand there at once; more are folded away
SHARE = 20  # the picture of the day is not made anew before so many times what it took


class Running(NamedTuple):
    """A job that a worker has now; ``progress`` is in percent."""

    job: Job
    progress: int | None


class Card(NamedTuple):
    """A node as a card. ``state`` is the badge's class, ``word`` what it says, ``why`` why."""

    node: Node
    state: str
    word: str
    why: str
    running: tuple[Running, ...]
    more: int


class Day:
    """The last day and its picture, for all who have the page open. Thread-safe.

    To draw thousands of runs takes a while, and pages that stay open ask again at each news of
    the ledger: so a busy day is drawn for a part of the time at most, a quiet one always anew.
    """

    def __init__(self, primary: Primary, clock: Callable[[], float] = time.monotonic) -> None:
        self._primary, self._clock = primary, clock
        self._lock = threading.Lock()
        self._made: tuple[Timeline, Picture] | None = None
        self._until = 0.0

    def drawn(self) -> tuple[Timeline, Picture]:
        with self._lock:
            began = self._clock()
            if self._made is None or began >= self._until:
                timeline = self._primary.timeline()
                self._made = timeline, daypicture.draw(timeline)
                ended = self._clock()
                self._until = ended + SHARE * (ended - began)
            return self._made


def context(primary: Primary, of: Day, now: datetime | None = None) -> dict[str, object]:
    """The values of ``views/nodes.html``; ``of`` is kept from page to page."""
    now = now or datetime.now(UTC)
    seq = primary.wait(0, 0)
    nodes = primary.nodes()
    day, picture = of.drawn()
    return {
        "cards": [_card(primary, node) for node in nodes],
        "workers": len(nodes) - 1,
        "findings": primary.findings(),
        "day": day,
        "picture": picture,
        "runs": newest(day.runs, ROWS),
        "models_at_once": MODELS,
        "seq": seq,
        "now": now,
    }


def newest(runs: Iterable[Run], most: int) -> list[Run]:
    """The runs that began last, the very last first."""
    return sorted(runs, key=lambda run: (run.started, run.job), reverse=True)[:most]


def _card(primary: Primary, node: Node) -> Card:
    running = []
    for id in node.jobs[:NAMED]:
        try:
            job = primary.job(id)
        except UnknownJob:  # a claim of no job of ours: the findings say so
            continue
        if not job.final:
            running.append(Running(job, primary.progress(job)))
    state, word, why = told(node)
    return Card(node, state, word, why, tuple(running), max(0, len(node.jobs) - NAMED))


def told(node: Node) -> tuple[str, str, str]:
    """A node's state: the badge's class, its words, and why it is so or what follows."""
    if node.node_type == "PRIMARY":
        return "READY", "serving", ""
    if node.liveness == "new":
        return "NEW", "not started yet", "It has an account here and has never been heard of."
    if node.liveness == "stopped":
        return "STOPPED", "stopped", "It said that it ends. Start it again on its machine."
    if node.liveness == "lost":
        return "LOST", "lost", "Its jobs run elsewhere. Look at its machine and its connection."
    if node.liveness == "unreachable":
        why = "It has not been heard of lately; what it runs may go on."
        return "UNREACHABLE", "unreachable", why
    if node.paused:
        return "PAUSED", "paused", f"It claims nothing: {node.paused}"
    if node.jobs:
        return "BUSY", f"busy, {len(node.jobs)} of {max(node.slots, len(node.jobs))}", ""
    return "READY", "ready", ""
