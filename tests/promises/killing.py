"""Who is killed, how often and when: chosen by a seed, each victim by a thread of its own."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from tests.promises.ward import LOCAL, REMOTE, Ward

# Seconds from one kill to the next, of which one pair is chosen each time: some die while they
# are being started, some in the midst of their work, and some may get a little done.
PAUSES = ((0.0, 0.3), (0.1, 1.0), (0.1, 1.0), (1.0, 3.0))
AT_WORK = 0.75  # of the pauses begin when the victim is at work; the others when it was started
LOOK = 0.05  # seconds
KINDS = ("primary", "agent", "runner", "sshd's child")


class Victim(NamedTuple):
    """``works``: whether there is something of it to kill, up and running.

    ``strike`` kills it now and starts it again; False if there was nothing to kill.
    """

    kind: str
    works: Callable[[], object]
    strike: Callable[[random.Random], bool]


class Killer(threading.Thread):
    """Kills one victim ``wanted`` times, unless all is ``over`` before."""

    def __init__(
        self, victim: Victim, wanted: int, rng: random.Random, over: threading.Event
    ) -> None:
        super().__init__(name=f"killer of {victim.kind}", daemon=True)
        self.kind, self._victim, self._wanted = victim.kind, victim, wanted
        self._rng, self._over = rng, over
        self.kills = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.kills < self._wanted and not self._over.is_set():
                patient = self._rng.random() < AT_WORK
                while patient and not self._victim.works() and not self._over.wait(LOOK):
                    pass
                self._over.wait(self._rng.uniform(*self._rng.choice(PAUSES)))
                self.kills += self._victim.strike(self._rng)
        except BaseException as e:  # noqa: BLE001  told by who waits for us
            self.error = e
            self._over.set()


def killers(
    ward: Ward, wanted: Mapping[str, int], seed: str, over: threading.Event
) -> list[Killer]:
    """One for each victim of the ward; ``wanted`` is by kind."""

    victims = [
        (Victim("primary", ward.primary.is_ready, ward.strike_primary), wanted["primary"]),
        (Victim("sshd's child", ward.has_session, ward.strike_session), wanted["sshd's child"]),
    ]
    for name, part in ((LOCAL, 0), (REMOTE, 1)):
        victims += [
            (
                Victim(
                    "agent",
                    ward.agents[name].is_ready,
                    partial(ward.strike_agent, name, over.wait),
                ),
                (wanted["agent"] + part) // 2,
            ),
            (
                Victim("runner", partial(ward.runner, name), partial(ward.strike_runner, name)),
                (wanted["runner"] + part) // 2,
            ),
        ]
    return [
        Killer(victim, times, random.Random(f"{seed} {n}"), over)
        for n, (victim, times) in enumerate(victims)
    ]


def by_kind(found: list[Killer]) -> Counter[str]:
    kills: Counter[str] = Counter()
    for killer in found:
        kills[killer.kind] += killer.kills
    return kills
