"""The situations that are explored, each with the deeds that may disturb it."""

from __future__ import annotations

import os

from world import Scenario

COUNT = int(os.environ.get("MR_EXPLORE", "100"))
"""Schedules with more than one deviation, of each scenario. ``MR_EXPLORE=5000`` takes an hour."""

CLAIMS = Scenario("claims", {"to": 2})
KILLS = Scenario("kills", {"kill": 1, "to": 2})
RESTARTS = Scenario("restarts", {"crash": 2, "kill": 1})
LOST = Scenario("lost workers", {"freeze": 1, "lose": 1, "kill": 1, "crash": 1}, depth=3)
RETIRING = Scenario(
    "retiring", {"to": 3}, depth=2, focus=r"^primary unlink \S*a/(cur|reports)|^a .*end of turn"
)
BEATS = Scenario("beats", {"to": 2}, ticks=0, focus=r"^a(\.beats)? (end of turn|rename).* to:(a|b|primary|a\.beats)$")
SUBMISSION = Scenario("submission", {"crash": 1, "to": 1}, jobs=0, asked=1)
POOL = Scenario("pool", {"to": 1, "crash": 1, "kill": 1, "freeze": 1}, pooled=True)
TWINS = Scenario(
    "two agents under one name",
    {"to": 1, "freeze": 1, "kill": 1},
    agents=(("a", "a" * 16), ("a", "d" * 16), ("b", "b" * 16)),
)
LIES = Scenario("lies", {"to": 1, "crash": 1}, liar=True)

ALL = (CLAIMS, KILLS, RESTARTS, LOST, RETIRING, BEATS, SUBMISSION, POOL, TWINS, LIES)
