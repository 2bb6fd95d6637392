"""What stands in for threads, events, pools, clocks and ids in the modules under test."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import Future
from types import SimpleNamespace
from typing import Any

import pytest

import engine.agent
import engine.attempt
import engine.beats
import engine.catalog
import engine.claiming
import engine.complaints
import engine.holding
import primary.files
import primary.server
import primary.submission
from engine.attempt import Attempt
from tests.protocol.baton import Actor, Baton, current

SECONDS = 10.0  # by which the clock advances from round to round


class _Event:
    """An event on which nobody ever blocks: to wait is to end one's turn."""

    def __init__(self, baton: Callable[[], Baton]) -> None:
        self._baton = baton
        self._set = False

    def set(self) -> None:
        self._set = True

    def clear(self) -> None:
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def wait(self, _timeout: float | None = None) -> bool:
        self._baton().turn()
        return self._set


class StandIns:
    """Threads are actors, waiting is the end of a turn, time is the number of the round."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._baton: Baton | None = None
        self._ids = itertools.count()
        self._patch_threads(patch)
        self._patch_clocks(patch)

    def renew(self) -> None:
        """For the next schedule: everything is counted from the beginning."""
        self._baton = None
        self._ids = itertools.count()

    @property
    def baton(self) -> Baton:
        assert self._baton is not None, "no schedule is being played"
        return self._baton

    @baton.setter
    def baton(self, baton: Baton) -> None:
        self._baton = baton

    @property
    def now(self) -> float:
        """Seconds on the explorer's clock."""
        return self._baton.round * SECONDS if self._baton else 0.0

    def spawn(self, name: str, body: Callable[[], object]) -> Actor:
        """Another thread of the process whose thread this is."""
        actor = current()
        assert actor is not None
        return self.baton.spawn(actor.group, f"{actor.group.name}.{name}", body)

    def join(self, actor: Actor | None) -> None:
        for _ in range(5):
            if actor is None or actor.ended:
                return
            self.baton.turn()

    # --- inside ------------------------------------------------------------------------

    def _patch_threads(self, patch: pytest.MonkeyPatch) -> None:
        stage = self

        class Thread:
            """``threading.Thread`` as an actor of the group that starts it."""

            def __init__(self, target: Callable[[], object], name: str, daemon: bool) -> None:
                self._target, self._name, self._daemon = target, name, daemon
                self._actor: Actor | None = None

            def start(self) -> None:
                self._actor = stage.spawn(self._name, self._target)

            def join(self, **_: object) -> None:
                stage.join(self._actor)

        def start(attempt: Attempt) -> None:
            attempt.__dict__["actor"] = stage.spawn(f"run{attempt.key[-6:]}", attempt.run)

        def alive(attempt: Attempt) -> bool:
            return not attempt.__dict__["actor"].ended

        def join(attempt: Attempt, **_: object) -> None:
            stage.join(attempt.__dict__["actor"])

        shim = SimpleNamespace(
            Thread=Thread, Event=lambda: _Event(lambda: stage.baton), Lock=threading.Lock
        )
        for module in (engine.agent, engine.attempt, engine.beats, engine.holding):
            patch.setattr(module, "threading", shim)
        patch.setattr(Attempt, "start", start)
        patch.setattr(Attempt, "is_alive", alive)
        patch.setattr(Attempt, "join", join)
        patch.setattr(primary.server, "ThreadPoolExecutor", lambda *_, **__: _Pool(stage))
        patch.setattr(primary.server, "Watch", lambda *_: None)

    def _patch_clocks(self, patch: pytest.MonkeyPatch) -> None:
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=None)
        ours = (engine.agent, engine.attempt, engine.beats, engine.catalog, engine.complaints)
        for module in (*ours, engine.holding, engine.claiming, primary.server):
            patch.setattr(module, "time", clock)
        ids = SimpleNamespace(uuid4=lambda: uuid.UUID(int=next(self._ids), version=4))
        for module in (primary.submission, primary.files):
            patch.setattr(module, "uuid", ids)


class _Pool:
    """``ThreadPoolExecutor`` as actors of the primary."""

    def __init__(self, stand_ins: StandIns) -> None:
        self._stand_ins = stand_ins
        self._count = itertools.count()

    def submit(self, work: Callable[..., object], *args: Any) -> Future[None]:
        self._stand_ins.spawn(f"pool{next(self._count)}", lambda: work(*args))
        return Future()

    def shutdown(self, **_: object) -> None:
        pass
