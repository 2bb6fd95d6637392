"""Which schedules are played: all with one deviation, then as many deeper ones as one asks for.

Last come wild ones, with a handful of deviations each.

Every history offers at each of its points what else could have happened there;
a schedule's children add one deviation behind its last one. The first level
is played whole. Deeper ones are drawn with a fixed seed until the count is
reached, so that a larger count goes on where a smaller one stopped.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tests.protocol.baton import Point
from tests.protocol.facts import wrongs
from tests.protocol.scenarios import Scenario
from tests.protocol.world import Stage, World

Schedule = tuple[tuple[int, str], ...]


@dataclass
class Found:
    """A schedule that broke a promise."""

    scenario: str
    schedule: Schedule
    wrongs: list[str]
    history: list[str]

    def __str__(self) -> str:
        told = [line for line in self.history if "beat.json" not in line and "listdir" not in line]
        lines = [f"scenario {self.scenario}, schedule {self.schedule}", *self.wrongs, "", *told]
        return "\n".join(lines)


@dataclass
class Exploration:
    """What was played, by the number of deviations, and what was found."""

    ghosts: bool = False
    played: Counter[int] = field(default_factory=Counter)
    whole: int = 0  # up to this number of deviations nothing was left out
    found: list[Found] = field(default_factory=list)

    def saw(self, world: World, schedule: Schedule) -> bool:
        """Count a schedule; True if it broke a promise."""
        self.played[len(schedule)] += 1
        broken = wrongs(world) + (world.ghosts if self.ghosts else [])
        if broken:
            self.found.append(Found(world.scenario.name, schedule, broken, world.baton.history))
        return bool(broken)

    def __str__(self) -> str:
        levels = ", ".join(f"{n} with {depth}" for depth, n in sorted(self.played.items()))
        return (
            f"{self.played.total()} schedules ({levels} deviations; exhaustive up to {self.whole})"
        )


def explore(
    stage: Stage, scenario: Scenario, count: int, *, seed: int = 1, ghosts: bool = False
) -> Exploration:
    """Play schedules of ``scenario``: every one with a single deviation, and ``count`` deeper.

    Then half as many wild ones, which keep to no bound of their own. Stops at
    the first that breaks a promise. ``ghosts``: a confirmed kill must be true of
    the attempts, too, that were given up before.
    """
    done = Exploration(ghosts)
    level: list[Schedule] = [()]
    for depth in range(scenario.depth + 1):
        if depth > 1:
            random.Random(seed + depth).shuffle(level)
            done.whole = depth if len(level) <= count else depth - 1
            level = level[:count]
        else:
            done.whole = depth
        following: list[Schedule] = []
        for schedule in level:
            world = stage.play(scenario, dict(schedule))
            if done.saw(world, schedule):
                return done
            if depth < scenario.depth:
                following += _children(scenario, schedule, world)
        level = following
    for n in range(count // 2):
        world = stage.play(scenario, {}, _wild(scenario, random.Random(seed + n)))
        if done.saw(world, tuple(sorted(world.baton.taken.items()))):
            break
    return done


def _wild(scenario: Scenario, dice: random.Random) -> Callable[[int, Point], str | None]:
    """Deviates at any point with a chance of one in ten, and of each kind twice its budget."""
    left = {kind: 2 * n for kind, n in scenario.budget.items()}

    def choose(_index: int, point: Point) -> str | None:
        if not point.options or dice.random() > 0.1:
            return None
        choice = dice.choice(point.options)
        if left.get(kind(choice), 0) < 1:
            return None
        left[kind(choice)] -= 1
        return choice

    return choose


def _children(scenario: Scenario, schedule: Schedule, world: World) -> Iterator[Schedule]:
    spent = Counter(kind(choice) for _, choice in schedule)
    focus = re.compile(scenario.focus) if scenario.focus else None
    last = schedule[-1][0] if schedule else -1
    for index, point in enumerate(world.baton.points):
        if index > last:
            for choice in point.options:
                if focus and not focus.search(f"{point.actor} {point.step.what} {choice}"):
                    continue
                if spent[kind(choice)] < scenario.budget.get(kind(choice), 0):
                    yield (*schedule, (index, choice))


def kind(choice: str) -> str:
    """The kind of a deviation, as budgets name it."""
    return choice.partition(":")[0]
