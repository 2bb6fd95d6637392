"""Run directories that nobody needs any more.

They are removed when nothing is claimed, or when there are many. Measured: ext4
passes over each inode that was deleted in the last minutes, one by one, so that
after some thousand deletions a no-op job takes half as long again.
"""

from __future__ import annotations

import shutil
from collections import deque
from collections.abc import Callable, Collection

from engine.errors import EngineError
from engine.runs import Engine
from engine.state import State

IDLE = 5.0  # seconds without a claim until they are removed
MANY, KEPT = 32, 256  # of them that are removed at once, and that are kept while it is busy
LOOK = 2.0  # seconds between looks for directories that nobody gave us
ROOM = 1024 * 1024 * 1024  # bytes free, below which none is kept


class Leftovers:
    """The retired run directories of one state directory. Used by the agent's loop only."""

    def __init__(self, engine: Engine, state: State, complain: Callable[[str], None]) -> None:
        self._engine = engine
        self._state = state
        self._complain = complain
        self._kept: deque[str] = deque()
        self._look_at = 0.0

    def add(self, key: str) -> None:
        """A run that nobody waits for: ended if it goes on, else kept until it is cleared."""
        if self._engine.stage(key) == "running":
            try:
                self._engine.stop(key, "the primary gave the attempt up")
            except EngineError as e:
                self._complain(f"{key}: {e} (tried again)")
        else:
            self._kept.append(key)
            self._engine.forget(key)

    def look(self, carried: Collection[str], now: float) -> None:
        """Find those whose claims were retired while no agent looked; ``carried`` are none."""
        if now >= self._look_at:
            self._look_at = now + LOOK
            for key in set(self._engine.keys()) - set(carried) - set(self._kept):
                self.add(key)

    def clear(self, idle: float) -> None:
        """Remove some, if it is time; ``idle`` is in seconds since the last claim."""
        if self._state.free() < ROOM:
            most = len(self._kept)
        elif idle > IDLE:
            most = MANY
        else:
            most = len(self._kept) - KEPT
        for _ in range(min(most, len(self._kept))):
            shutil.rmtree(self._state.run_folder(self._kept.popleft()), ignore_errors=True)
