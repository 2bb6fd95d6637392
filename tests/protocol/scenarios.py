"""The situations that are explored, each with the deeds that may disturb it."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class Scenario:
    """What is there, and how often each deed may disturb it.

    ``jobs`` are submitted before the exploration begins, ``asked`` during it.
    ``budget`` says how often each kind of deviation may happen in one schedule,
    ``depth`` how many there may be in all. ``agents`` are (worker, instance).
    """

    name: str
    budget: dict[str, int]
    depth: int = 2
    jobs: int = 1
    asked: int = 0
    agents: tuple[tuple[str, str], ...] = (("a", "a" * 16), ("b", "b" * 16))
    pooled: bool = False  # results are copied by the pool, beside the tick
    ticks: int = 2  # before the exploration begins: two of them settle and publish
    liar: bool = False  # a third worker forges what it can, once the job runs elsewhere
    rounds: int = 2  # how long a run takes
    focus: str = ""  # deviate only where this pattern is found in "<actor> <step> <choice>"


COUNT = int(os.environ.get("MR_EXPLORE", "25"))
"""Schedules with more than one deviation, of each scenario. ``MR_EXPLORE=5000`` takes an hour."""

_ANY = {"to": 2, "kill": 1, "crash": 1, "freeze": 1, "lose": 1}

CLAIMS = Scenario(
    "claims",
    _ANY,
    focus=r"^(primary|a)(?!.*runner$)|^b (listdir models|rename models)",
)
"""Two workers and one job: every switch, kill, crash, freeze and lost runner, at every point of
the primary and of the worker that claims (the other one only looks, and is late)."""

KILLS = Scenario(
    "a kill at the moment of a claim",
    _ANY,
    focus=r"kill|^primary (unlink|rename|append).* to:[ab]$|^[ab] rename models.* to:primary$",
)
RESTARTS = Scenario("restarts", {"crash": 2, "kill": 1})
LOST = Scenario("lost workers", {"freeze": 1, "lose": 1, "kill": 1, "crash": 1}, depth=3)
AWAY = Scenario(
    "a claim without a word",
    {"freeze": 1, "crash": 1},
    focus=r"^primary .* crash$|^a\.run\S+ rename .*1-started freeze$",
)
RETIRING = Scenario(
    "retiring", {"to": 2}, focus=r"^primary unlink \S*a/(cur|reports)|^a .*end of turn"
)
BEATS = Scenario(
    "a claim beside a beat",
    {"to": 2},
    ticks=0,
    focus=r"^a end of turn to:(primary|a\.run\S+)$|^a\.beats rename .*to:primary$",
)
SCANS = Scenario(
    "a claim beside a scan",
    {"to": 2},
    focus=r"^primary listdir \S*(a/cur|a/reports|m/new) to:|^[ab] rename models",
)
SUBMISSION = Scenario(
    "submission",
    {"crash": 1, "to": 1, "kill": 1},
    jobs=0,
    asked=1,
    focus=r"crash|^primary\.http|^primary .* to:primary\.http$",
)
POOL = Scenario(
    "results copied beside the tick",
    {"to": 1, "crash": 1, "kill": 1, "freeze": 1},
    pooled=True,
    focus=r"pool|kill|^a\S* .*(crash|freeze)$",
)
TWINS = Scenario(
    "two agents under one name",
    {"to": 1, "freeze": 1, "kill": 1},
    agents=(("a", "a" * 16), ("a", "d" * 16), ("b", "b" * 16)),
    focus=r"^a2?(\.beats)? .*beat\.json|^a2? rename|freeze|kill",
)
LIES = Scenario(
    "lies",
    {"to": 1, "crash": 1},
    liar=True,
    focus=r"^c |^primary (append|rename|unlink).*crash$|to:c$",
)
PAIR = Scenario(
    "two jobs",
    {"freeze": 1, "lose": 1, "kill": 1, "crash": 1},
    jobs=2,
    focus=r"^primary (append|link|rename|unlink|read)|rename models|1-started",
)

GHOSTS = Scenario(
    "a kill while a lost attempt runs on",
    {"freeze": 1, "kill": 1},
    rounds=25,
    focus=r"^a\.run\S+ write \S*a/log.* freeze$|kill",
)

ALL = (
    *(CLAIMS, KILLS, RESTARTS, LOST, AWAY, RETIRING, BEATS, SCANS),
    *(SUBMISSION, POOL, TWINS, LIES, PAIR),
)
