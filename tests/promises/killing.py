"""Who is killed, how often and when: chosen by a seed, each victim by a thread of its own."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Mapping

from tests.promises.ward import LOCAL, REMOTE, Strike, Ward

# Seconds from one kill to the next, of which one pair is chosen each time: some die while they
# are being started, some in the midst of their work, and some may get a little done.
PAUSES = ((0.02, 0.4), (0.2, 1.5), (0.2, 1.5), (1.0, 4.0))
KINDS = ("primary", "agent", "runner", "sshd's child")


class Killer(threading.Thread):
    """Kills one victim ``wanted`` times, unless all is ``over`` before."""

    def __init__(
        self, kind: str, strike: Strike, wanted: int, rng: random.Random, over: threading.Event
    ) -> None:
        super().__init__(name=f"killer of {kind}", daemon=True)
        self.kind, self._strike, self._wanted = kind, strike, wanted
        self._rng, self._over = rng, over
        self.kills = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while self.kills < self._wanted and not self._over.is_set():
                self._over.wait(self._rng.uniform(*self._rng.choice(PAUSES)))
                self.kills += self._strike(self._rng)
        except BaseException as e:  # noqa: BLE001  told by who waits for us
            self.error = e
            self._over.set()


def killers(
    ward: Ward, wanted: Mapping[str, int], seed: str, over: threading.Event
) -> list[Killer]:
    """One for each victim of the ward; ``wanted`` is by kind."""

    def agent(name: str) -> Strike:
        return lambda rng: ward.strike_agent(name, rng, over.wait)

    victims: list[tuple[str, str, Strike, int]] = [
        ("primary", "", ward.strike_primary, wanted["primary"]),
        ("sshd's child", "", ward.strike_session, wanted["sshd's child"]),
    ]
    for name, part in ((LOCAL, 0), (REMOTE, 1)):
        victims.append(("agent", name, agent(name), (wanted["agent"] + part) // 2))
        strike: Strike = lambda _, name=name: ward.strike_runner(name)  # type: ignore[misc]
        victims.append(("runner", name, strike, (wanted["runner"] + part) // 2))
    return [
        Killer(kind, strike, times, random.Random(f"{seed} {kind} {name}"), over)
        for kind, name, strike, times in victims
    ]


def by_kind(found: list[Killer]) -> Counter[str]:
    kills: Counter[str] = Counter()
    for killer in found:
        kills[killer.kind] += killer.kills
    return kills
