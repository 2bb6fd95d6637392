"""Which schedules are played: all with one deviation, then as many deeper ones as there is time for.

Every history offers at each of its points what else could have happened there;
a schedule's children add one deviation behind its last one. The first level
is played whole. Deeper ones are drawn with a fixed seed until the count is
reached, so that a larger count goes on where a smaller one stopped.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from facts import wrongs
from world import Scenario, Stage, World

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

    played: Counter[int] = field(default_factory=Counter)
    whole: int = 0  # up to this number of deviations nothing was left out
    found: list[Found] = field(default_factory=list)

    def __str__(self) -> str:
        levels = ", ".join(f"{n} with {depth}" for depth, n in sorted(self.played.items()))
        return (
            f"{self.played.total()} schedules ({levels} deviations; "
            f"exhaustive up to {self.whole})"
        )


def explore(
    stage: Stage, scenario: Scenario, count: int, *, first: bool = True, seed: int = 1
) -> Exploration:
    """Play schedules of ``scenario``: every one with a single deviation, and ``count`` deeper.

    ``first``: stop at the first that breaks a promise.
    """
    done = Exploration()
    level: list[Schedule] = [()]
    for depth in range(scenario.depth + 1):
        chooser = random.Random(seed + depth)
        if depth > 1:
            chooser.shuffle(level)
            done.whole = depth if len(level) <= count else depth - 1
            level = level[:count]
        else:
            done.whole = depth
        following: list[Schedule] = []
        for schedule in level:
            world = stage.play(scenario, dict(schedule))
            done.played[depth] += 1
            broken = wrongs(world)
            if broken:
                done.found.append(Found(scenario.name, schedule, broken, world.baton.history))
                if first:
                    return done
            elif depth < scenario.depth:
                following += _children(scenario, schedule, world)
        level = following
    return done


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
