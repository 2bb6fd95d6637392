"""A deterministic scheduler: actors in threads, of which one at a time holds the baton.

An actor stops at every step point (before a file operation, before an append
to the ledger, at the end of a turn) and the plan says what happens there.
Without a word of the plan the actor goes on until its turn ends, and then the
next one in the round has the baton. So a schedule is the short list of points
at which something else happened, and running it again gives the same history.
A switch to another is offered only where the two meet: before any other step it
gives the same histories as before the next one at which they do.

What can happen at a point::

    to:NAME       NAME goes on instead; this actor waits until the round comes to it
    crash         the actor's whole group dies before the step, and is built anew later
    freeze        the group is cut off for longer than a lease, and thaws then
    anything else a visitor's deed (a kill request, the death of a runner), then the step
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

FROZEN = 9  # rounds that a frozen group misses; at 10 s each more than the lease of 60 s
DOWN = 2  # rounds until a crashed group is built anew
SETTLED = 2  # rounds without any change after which a finished world is at rest
STUCK = 40  # rounds without any change after which an unfinished world will never finish
LONGEST = 150  # rounds


class Crash(BaseException):
    """Thrown into an actor at a step point. Not an Exception: nothing may handle it."""


class Diverged(Exception):
    """A plan that does not fit the history: the schedule is not deterministic."""


class Step(NamedTuple):
    """What an actor is about to do, and ``where``: in which place that others look at, if any."""

    what: str
    where: str = ""
    changes: bool = False
    beat: bool = False  # a sign of life: it changes nothing that anybody waits for
    turn: bool = False  # no step at all, but the end of a turn


class Point(NamedTuple):
    """A point of the history: who was about to do what, and what else could happen there."""

    actor: str
    step: Step
    options: tuple[str, ...]


Plan = Mapping[int, str]
"""What happens at which point, in place of the step itself."""


class Group:
    """Actors that live and die together: a process. ``rise`` builds it anew after a crash."""

    def __init__(self, name: str, rise: Callable[[], None], fall: Callable[[], None]) -> None:
        self.name = name
        self.rise = rise
        self.fall = fall
        self.down_until: int | None = None
        self.frozen_until = 0
        self.actors: list[Actor] = []


class Actor:
    """One thread of a group."""

    def __init__(self, baton: Baton, group: Group, name: str, body: Callable[[], object]) -> None:
        self.name = name
        self.group = group
        self.dead = False  # crashed: it must not touch anything any more
        self.ended = False
        self.go = threading.Semaphore(0)
        self._baton = baton
        self._body = body
        self.thread = threading.Thread(target=self._main, name=f"actor {name}", daemon=True)

    def _main(self) -> None:
        self.go.acquire()
        _here.actor = self
        try:
            if not self.dead:
                self._body()
        except Crash:
            pass
        except BaseException as e:  # noqa: BLE001 - reported in the test's own thread
            self._baton.broken(self, e)
        finally:
            self.ended = True
            self._baton.left(self)


class _Here(threading.local):
    actor: Actor | None = None


_here = _Here()


def current() -> Actor | None:
    """The actor whose thread this is."""
    return _here.actor


class Baton:
    """One run of one schedule."""

    def __init__(
        self,
        choose: Callable[[int, Point], str | None],
        *,
        meets: Callable[[Actor, Actor, Step], bool],
        deeds: Callable[[Actor, Step], list[str]],
        do: Callable[[str], None],
        finished: Callable[[], bool],
    ) -> None:
        self.points: list[Point] = []
        self.taken: dict[int, str] = {}
        self.history: list[str] = []
        self.round = 0
        self.stuck = ""
        self.error: BaseException | None = None
        self._meets = meets
        self._deeds = deeds
        self._do = do
        self._finished = finished
        self._choose = choose
        self._actors: list[Actor] = []
        self._groups: list[Group] = []
        self._changed = 0  # the round of the last change
        self._visiting = False
        self._over = False
        self._quiet = threading.Event()

    # --- building --------------------------------------------------------------------

    def group(self, name: str, rise: Callable[[], None], fall: Callable[[], None]) -> Group:
        group = Group(name, rise, fall)
        self._groups.append(group)
        return group

    def spawn(self, group: Group, name: str, body: Callable[[], object]) -> Actor:
        """A new actor, behind the last of its group."""
        actor = Actor(self, group, name, body)
        after = [i for i, other in enumerate(self._actors) if other.group is group]
        self._actors.insert(after[-1] + 1 if after else len(self._actors), actor)
        group.actors.append(actor)
        actor.thread.start()
        return actor

    def run(self) -> None:
        """Until the world is at rest, or an actor raised an ``error``. Raises Diverged."""
        for group in self._groups:
            group.rise()
        self._resume(self._actors[0])
        self._quiet.wait()
        for actor in list(self._actors):
            self._end(actor)
        if isinstance(self.error, Diverged):
            raise self.error

    # --- called by actors --------------------------------------------------------------

    def point(self, step: Step) -> None:
        """Before ``step``. Returns when it is to be done; raises Crash when it never will be."""
        actor = current()
        if actor is None or self._visiting:
            return
        if actor.dead:
            raise Crash
        options = self._options(actor, step)
        index = len(self.points)
        point = Point(actor.name, step, options)
        self.points.append(point)
        choice = self._choose(index, point)
        if choice is not None:
            if choice not in options:
                self._fail(Diverged(f"point {index}: {choice!r} is not among {point}"))
                raise Crash
            self.taken[index] = choice
            self.history.append(f"          ** {choice}")
            self._changed = self.round
            self._deviate(actor, choice)
        elif step.turn:
            self._hand_over(actor, self._next(actor))
        if not step.turn:
            self.history.append(f"{actor.name:>10} {step.what}")
            if step.changes and step.where and not step.beat:
                self._changed = self.round

    def turn(self) -> None:
        """The actor has nothing more to do for now."""
        self.point(Step("end of turn", turn=True))

    @contextmanager
    def aside(self) -> Iterator[None]:
        """What the baton's holder does in here is no step of its own."""
        before, self._visiting = self._visiting, True
        try:
            yield
        finally:
            self._visiting = before

    def left(self, actor: Actor) -> None:
        """The actor's thread ends. Whoever was crashed or swept away holds no baton."""
        if actor in self._actors and not self._over:
            following = self._next(actor)
            self._actors.remove(actor)
            actor.group.actors.remove(actor)
            self._resume(following)

    def broken(self, actor: Actor, error: BaseException) -> None:
        """The actor raised what it must not raise."""
        error.add_note(f"raised by actor {actor.name}")
        self._fail(error)

    # --- inside ------------------------------------------------------------------------

    def _options(self, actor: Actor, step: Step) -> tuple[str, ...]:
        if self._over or (self._changed < self.round - 1 and self._finished()):
            return ()  # nothing happens any more
        default = self._next(actor, moving=False) if step.turn else actor
        options = [
            f"to:{other.name}"
            for other in self._actors
            if other is not default
            and other is not actor
            and self._ready(other)
            and (step.turn or self._meets(actor, other, step))
        ]
        return (*options, *self._deeds(actor, step))

    def _deviate(self, actor: Actor, choice: str) -> None:
        if choice.startswith("to:"):
            name = choice.removeprefix("to:")
            self._hand_over(actor, next(a for a in self._actors if a.name == name))
        elif choice == "crash":
            self._crash(actor)
            raise Crash
        elif choice == "freeze":
            actor.group.frozen_until = self.round + FROZEN
            self._hand_over(actor, self._next(actor))
        else:
            with self.aside():
                self._do(choice)
            self._changed = self.round

    def _crash(self, actor: Actor) -> None:
        """The group dies: no thread of it does anything more, and its locks are free."""
        group = actor.group
        actor.dead = True
        for other in list(group.actors):
            if other is not actor:
                self._end(other)
        with self.aside():
            group.fall()
        group.down_until = self.round + DOWN
        self._changed = self.round

    def _end(self, actor: Actor) -> None:
        """Unwind an actor that waits, without letting it touch anything."""
        if actor in self._actors:
            self._actors.remove(actor)
            actor.group.actors.remove(actor)
        actor.dead = True
        actor.go.release()
        actor.thread.join()

    def _ready(self, actor: Actor) -> bool:
        return actor.group.frozen_until <= self.round

    def _next(self, actor: Actor, *, moving: bool = True) -> Actor | None:
        """Who has the baton after ``actor``'s turn; None when the world is at rest."""
        order, at = self._actors, self._actors.index(actor)
        for other in order[at + 1 :]:
            if self._ready(other):
                return other
        if not moving:  # only asked: rounds stay as they are
            return next((a for a in order if self._ready(a)), None)
        while True:
            if not self._begin_round():
                return None
            found = next((a for a in self._actors if self._ready(a)), None)
            if found is not None:
                return found

    def _begin_round(self) -> bool:
        """False when the world is at rest, or never will be."""
        self.round += 1
        for group in self._groups:
            if group.down_until is not None and group.down_until <= self.round:
                group.down_until = None
                self._changed = self.round
                group.rise()
            if group.frozen_until == self.round:
                self._changed = self.round
        waiting = any(g.down_until or g.frozen_until > self.round for g in self._groups)
        quiet = self.round - self._changed
        if quiet >= SETTLED and not waiting and self._finished():
            return False
        if quiet >= STUCK or self.round >= LONGEST:
            self.stuck = f"no end after {self.round} rounds, {quiet} of them without a change"
            return False
        return True

    def _hand_over(self, actor: Actor, other: Actor | None) -> None:
        if other is actor:
            return
        self._resume(other)
        actor.go.acquire()
        if actor.dead:
            raise Crash

    def _resume(self, actor: Actor | None) -> None:
        if actor is None:
            self._over = True
            self._quiet.set()
        else:
            actor.go.release()

    def _fail(self, error: BaseException) -> None:
        if self.error is None:
            self.error = error
        self._over = True
        self._quiet.set()
