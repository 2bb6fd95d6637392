"""Why a job waits: its place in the queue, and a sentence for whoever asks why nothing happens.

Pure but for ``Queues``, which asks board, workers and loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

import msgspec

from ledger.board import Board, Query
from ledger.jobs import Job, State
from primary.holders import Holder, Holders, about
from primary.loop import Loop
from primary.nodes import Node, Nodes
from primary.submission import Submissions
from spool.manifest import Model
from spool.names import shown

NAMED = 3  # workers that a sentence names
LONGEST = 200  # characters that it repeats of what a worker or an error says
REMEMBERED = 10_000  # jobs of which the model is kept in memory


class Waiting(msgspec.Struct, frozen=True):
    """``place`` is how many jobs of its model are before it; ``why`` a sentence without its stop.

    Of a job that is not queued yet: how many there are now.
    """

    place: int
    why: str


class Seat(NamedTuple):
    """A worker that has the job's model, as its last beat told and the last scan saw."""

    name: str
    liveness: str
    silence: float  # seconds
    slots: int
    busy: int  # claims that it holds
    same: int  # of these, how many are of the job's model
    paused: str  # why it claims nothing of the job's model; "" if it does


class View(NamedTuple):
    """All that the sentence is made from."""

    place: int
    seats: tuple[Seat, ...] = ()
    holder: Holder | None = None
    parallel: int = 1  # runs of the model that one worker may have at once
    offered: bool = True  # its ticket was made
    withheld: str = ""  # why none can be made
    starting: bool = False  # it has not heard of all workers yet
    broken: str = ""  # why the primary does nothing at all
    no_room: bool = False  # its input was not fetched: the primary's disk was full


def why(job: Job, view: View) -> str:
    """Why ``job``, CREATED or QUEUED, waits."""
    if view.broken:
        return f"the primary cannot work on its queues: {shown(view.broken, LONGEST)}"
    if job.state is State.CREATED:
        return _created(job, view)
    if view.holder is not None:
        reason = view.holder.remark or _taken(job, view.holder.worker)
    elif job.kill_wanted:
        reason = "it is to be killed: the primary takes it out of the queue"
    else:
        reason = _queued(view)
    return reason + _again(job)


def _created(job: Job, view: View) -> str:
    if job.kill_wanted:
        return "it is to be killed, and its input is not fetched any more"
    if job.url is None:
        return "the primary has not entered all of it yet"
    if view.no_room:
        return (
            "its input could not be fetched, since the primary's disk is full; "
            "it is tried again within a minute"
        )
    return f"its input is being fetched from {shown(urlsplit(job.url).hostname or 'the web')}"


def _taken(job: Job, worker: str) -> str:
    if job.kill_wanted:
        return f"it is to be killed: worker {worker}, which has taken it, is told to stop"
    return f"worker {worker} has taken it and fetches its input"


def _queued(view: View) -> str:
    if view.starting:
        return "the primary has just started, and looks at its queues and workers first"
    living = [seat for seat in view.seats if seat.liveness in ("alive", "unreachable")]
    ready = [seat for seat in living if seat.liveness == "alive" and not seat.paused]
    before = _before(view.place)
    if not ready:
        return _and(_nobody(living, view.seats), before)
    if view.withheld:
        return _and(
            f"the primary cannot offer it to workers: {shown(view.withheld, LONGEST)}", before
        )
    free = [seat for seat in ready if seat.busy < seat.slots]
    if not free:
        return _and(before, _all_busy(ready))
    if all(seat.same >= view.parallel for seat in free):
        return _and(before, _all_parallel(free, view.parallel))
    if before:
        return before
    if not view.offered:
        return "the primary is about to offer it to the workers"
    return f"it is offered to the workers; {_names(free)} can take it and will look in a moment"


def _nobody(living: Sequence[Seat], seats: Sequence[Seat]) -> str:
    """Why no worker with this model takes anything."""
    if len(living) == 1:
        return f"the only worker with this model, {living[0].name}, {_state(living[0])}"
    told = [f"{seat.name} {_state(seat)}" for seat in living or seats]
    if len(told) > NAMED:
        told = [*told[:NAMED], f"and {len(told) - NAMED} more"]
    if not living:
        return "no living worker has this model" + (f" ({', '.join(told)})" if told else "")
    return f"no worker with this model takes jobs now: {', '.join(told)}"


def _state(seat: Seat) -> str:
    if seat.liveness == "alive":
        return f"is paused: {shown(seat.paused, LONGEST)}"
    if seat.liveness == "stopped":
        return "is stopped"
    return f"has been silent for {about(seat.silence)}"


def _all_busy(ready: Sequence[Seat]) -> str:
    slots = sum(seat.slots for seat in ready)
    if slots == 1:
        return f"the only slot of the only worker with this model, {ready[0].name}, is busy"
    whose = "the only worker" if len(ready) == 1 else "the workers"
    count = "both slots" if slots == 2 else f"all {slots} slots"
    return f"{count} of {whose} with this model, {_names(ready)}, are busy"


def _all_parallel(free: Sequence[Seat], parallel: int) -> str:
    """There are slots, but not for one more run of this model."""
    runs = "one job" if parallel == 1 else f"{parallel} jobs"
    if len(free) == 1:
        return f"worker {free[0].name} runs at most {runs} of this model at a time, and does so now"
    return f"workers run at most {runs} of this model at a time, and {_names(free)} do so now"


def _before(place: int) -> str:
    if place == 0:
        return ""
    return (
        "1 job of this model is before it"
        if place == 1
        else (f"{place:,} jobs of this model are before it")
    )


def _and(*parts: str) -> str:
    return ", and ".join(filter(None, parts))


def _again(job: Job) -> str:
    """A job that was given up needs a word about that, whatever it waits for now."""
    if job.attempt == 1 or not job.reason:
        return ""
    return f"; this is attempt {job.attempt}, since {shown(job.reason, LONGEST)}"


def _names(seats: Sequence[Seat]) -> str:
    names = [seat.name for seat in seats]
    if len(names) > NAMED:
        names = [*names[:NAMED], f"{len(names) - NAMED} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def seats_of(
    model: str, nodes: Iterable[Node], parallel: int, model_of: Callable[[str], str | None]
) -> tuple[Seat, ...]:
    """The workers among ``nodes`` that have ``model``. ``model_of`` tells that of a job."""
    seats, limited = [], True
    for node in nodes:
        if node.node_type != "WORKER" or model not in node.models:
            continue
        same = 0
        # Once one worker can run it, nobody asks what the others run.
        if limited and node.liveness == "alive" and len(node.jobs) < node.slots:
            same = sum(model_of(id) == model for id in node.jobs)
            limited = same >= parallel
        seats.append(
            Seat(
                node.name,
                node.liveness,
                node.last_seen or 0.0,
                node.slots,
                len(node.jobs),
                same,
                _paused_for(model, node.paused),
            )
        )
    return tuple(seats)


def _paused_for(model: str, paused: str) -> str:
    """``paused``, unless it is about other models alone; see ``engine.pauses.Pauses.why``."""
    of_others = paused.startswith("model ") and f"model {model}: " not in paused
    return "" if of_others and ", of different models," not in paused else paused


class Queues:
    """Why jobs wait, asked of everybody who knows a part of it. Thread-safe."""

    def __init__(
        self,
        board: Board,
        nodes: Nodes,
        holders: Holders,
        loop: Loop,
        submissions: Submissions,
        models: Callable[[], Mapping[str, Model]],
    ) -> None:
        self._board = board
        self._nodes = nodes
        self._holders = holders
        self._loop = loop
        self._submissions = submissions
        self._models = models
        self._model_of: dict[str, str] = {}  # by job: it never changes

    def waiting(self, job: Job, now: float, broken: str) -> Waiting | None:
        """None unless the job is CREATED or QUEUED. ``broken``: why the primary does nothing."""
        if job.state is State.CREATED:
            queued = Query(states=frozenset({State.QUEUED}), model=job.model)
            no_room = self._submissions.waits_for_room(job.id)
            view = View(self._board.count(queued), broken=broken, no_room=no_room)
        elif job.state is State.QUEUED:
            view = self._view(job, now, broken)
        else:
            return None
        return Waiting(view.place, why(job, view))

    def _view(self, job: Job, now: float, broken: str) -> View:
        model = self._models().get(job.model)
        parallel = model.parallel if model else 1
        return View(
            place=self._board.place(job),
            seats=seats_of(job.model, self._nodes.shown(now), parallel, self._of_job),
            holder=self._holders.of(job, now),
            parallel=parallel,
            offered=self._loop.offered(job),
            withheld=self._loop.withheld.get(job.model, ""),
            starting=not self._loop.settled,
            broken=broken,
        )

    def _of_job(self, id: str) -> str | None:
        """The model of the job ``id``, remembered: every page of a waiting job asks each second.

        None of no job of ours.
        """
        known = self._model_of.get(id)
        if known is None and (job := self._board.job(id)) is not None:
            if len(self._model_of) >= REMEMBERED:
                self._model_of.clear()
            known = self._model_of[id] = job.model
        return known
