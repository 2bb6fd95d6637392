"""What the primary knows of its workers: beats, leases, claims that nobody holds.

Time is the primary's own monotonic clock, handed in by the caller; only a
*changed* beat, or a new claim, counts as a sign of life, so no clock is
compared with another machine's. After a restart, or a long gap between ticks, all leases start
afresh.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
import psutil

from primary.rules import BEATS_WITHOUT, Liveness, judge
from spool.errors import Unbelievable
from spool.manifest import Model
from spool.names import Claim, is_plain, shown
from spool.reports import Beat, decode_beat

DEFAULT_LEASE = 900.0  # seconds; equals the default in spool.manifest
MAX_INSTANCES = 64  # of one worker whose signs of life are remembered
MAX_MODELS = 256  # of one worker that are shown
MAX_ERROR = 500  # characters of a worker's words that are shown

log = logging.getLogger(__name__)


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A machine as the nodes page shows it.

    ``last_seen`` is in seconds on the primary's clock, sizes are in bytes. What a
    worker said of itself is in one line and capped: no name of its choosing drives
    a terminal. ``outdated``: its version is not the primary's. ``new``: granted, and not
    started yet. ``error`` is the last one it told of, or why its beat is not believed
    (then ``unbelieved`` has it too).
    """

    name: str
    node_url: str
    node_type: Literal["PRIMARY", "WORKER"]
    status: Literal["WAITING", "RUNNING", "STOPPED"]
    liveness: Literal["alive", "unreachable", "lost", "stopped", "new"]
    host: str = ""
    models: dict[str, str] = {}
    version: str = ""
    outdated: bool = False
    slots: int = 0
    jobs: tuple[str, ...] = ()
    last_seen: float | None = None
    free_disk: int = 0
    free_memory: int = 0
    paused: str = ""
    error: str = ""
    unbelieved: str = ""
    pid: int = 0


class _Watch:
    """A claim seen in a ``cur/``, and how many beats since then left it out."""

    __slots__ = ("left_out",)

    def __init__(self) -> None:
        self.left_out = 0


class _Worker:
    """One worker's folder: its last beat, and when each instance last gave a sign of life."""

    __slots__ = ("beat", "changed", "doubted", "looked", "raw", "watches", "wrong")

    def __init__(self) -> None:
        self.looked = 0.0
        self.raw = b""
        self.beat: Beat | None = None
        self.wrong = ""
        self.doubted = False  # ``wrong`` is about the file, not about the bytes of ``raw``
        self.changed: dict[str, float] = {}
        self.watches: dict[Claim, _Watch] = {}


class Nodes:
    """All workers. Used by the primary's one tick thread; ``shown`` by any."""

    def __init__(self, now: float, version: str = "") -> None:
        self._workers: dict[str, _Worker] = {}
        self._epoch = now
        self._version = version

    def restart_leases(self, now: float) -> None:
        """All leases start afresh: the silence may have been ours."""
        self._epoch = now
        for worker in self._workers.values():
            for watch in worker.watches.values():
                watch.left_out = 0

    def heard(self, name: str, raw: bytes | None, now: float, wrong: str = "") -> None:
        """The beat that lies in the worker's folder; None if there is none, or none to believe.

        ``wrong`` says why it is not believed.
        """
        worker = self._workers.setdefault(name, _Worker())
        worker.looked = now
        if wrong:
            self._doubt(name, worker, wrong)
        elif raw == worker.raw and worker.beat is not None and worker.doubted:
            worker.wrong, worker.doubted = "", False
        if raw is None or raw == worker.raw:
            return
        worker.raw = raw
        try:
            beat = decode_beat(raw)
        except Unbelievable as e:
            self._doubt(name, worker, str(e))
            worker.doubted = False  # it is these bytes that are wrong
            return
        worker.beat, worker.wrong, worker.doubted = beat, "", False
        worker.changed[beat.instance] = now
        while len(worker.changed) > MAX_INSTANCES:  # a name that is taken over again and again
            del worker.changed[min(worker.changed, key=worker.changed.__getitem__)]
        held = set(beat.claims)
        for claim, watch in worker.watches.items():
            if claim.instance == beat.instance:
                watch.left_out = 0 if str(claim) in held else watch.left_out + 1

    def sighted(self, claims: Iterable[tuple[str, Claim]]) -> None:
        """The claims of a scan that was made after the beats were read.

        A claim's beats are counted from its first sighting on, so one that was
        made just before or after a beat is never taken for a lost one. And a new
        claim is a sign of life itself: a worker claims before its first beat.
        """
        now: dict[str, set[Claim]] = {}
        for name, claim in claims:
            now.setdefault(name, set()).add(claim)
        for name, worker in self._workers.items():
            seen = now.get(name, set())
            for claim in worker.watches.keys() - seen:
                del worker.watches[claim]
            for claim in seen - worker.watches.keys():
                worker.watches[claim] = _Watch()
                worker.changed[claim.instance] = worker.looked

    def forget(self, names: Iterable[str]) -> None:
        """Drop the workers whose folders are gone."""
        for name in self._workers.keys() - set(names):
            del self._workers[name]

    def disowned(self, name: str, claim: Claim) -> bool:
        """Whether its own instance has left the claim out of enough beats."""
        watch = self._watch(name, claim)
        return watch is not None and watch.left_out >= BEATS_WITHOUT

    def silence(self, name: str, instance: str, now: float) -> float:
        """Seconds since the instance's last sign of life, on our clock."""
        worker = self._workers.get(name)
        last = worker.changed.get(instance, self._epoch) if worker else self._epoch
        return now - max(last, self._epoch)

    def stopped(self, name: str, instance: str) -> bool:
        """Whether the instance said, in its last beat, that it ends."""
        worker = self._workers.get(name)
        beat = worker.beat if worker else None
        return beat is not None and beat.instance == instance and beat.stopped

    def claims(self) -> list[tuple[str, Claim]]:
        """Those that the last scan saw, with their workers."""
        # Copies, each made at one go: the tick thread goes on meanwhile.
        workers = list(self._workers.items())
        return [(name, claim) for name, worker in workers for claim in tuple(worker.watches)]

    def progress(self, name: str, key: str) -> int | None:
        worker = self._workers.get(name)
        return worker.beat.progress.get(key) if worker and worker.beat else None

    def shown(self, now: float) -> list[Node]:
        return [self._node(name, w, now) for name, w in sorted(self._workers.items())]

    def _doubt(self, name: str, worker: _Worker, why: str) -> None:
        if worker.wrong != why:  # said once, not at every look
            log.warning("beat of worker %s: %s", name, shown(why, MAX_ERROR))
        worker.wrong, worker.doubted = why, True

    def _watch(self, name: str, claim: Claim) -> _Watch | None:
        worker = self._workers.get(name)
        return worker.watches.get(claim) if worker else None

    def _node(self, name: str, worker: _Worker, now: float) -> Node:
        beat = worker.beat
        # A copy first, made at one go: the tick thread goes on meanwhile.
        jobs = tuple(sorted({c.ticket.job for c in tuple(worker.watches)}))
        if beat is None:
            return self._silent_node(name, worker, jobs, now)
        silence = self.silence(name, beat.instance, now)
        liveness: Liveness | Literal["stopped"] = judge(silence, DEFAULT_LEASE)
        if beat.stopped:
            liveness = "stopped"
        running: Literal["RUNNING", "WAITING"] = "RUNNING" if jobs else "WAITING"
        return Node(
            name=name,
            node_url=shown(beat.node_url),
            node_type="WORKER",
            status="STOPPED" if liveness in ("lost", "stopped") else running,
            liveness=liveness,
            host=shown(beat.host),
            models=_models(beat),
            version=shown(beat.version, 64),
            outdated=beat.version != self._version,
            slots=beat.slots,
            jobs=jobs,
            last_seen=silence,
            free_disk=beat.free_disk,
            free_memory=beat.free_memory,
            # Who is gone claims nothing anyway: what held it up then is no news now.
            paused="" if liveness in ("lost", "stopped") else shown(beat.paused, MAX_ERROR),
            error=shown(worker.wrong or beat.error, MAX_ERROR),
            unbelieved=shown(worker.wrong, MAX_ERROR),
            pid=beat.pid,
        )

    def _silent_node(self, name: str, worker: _Worker, jobs: tuple[str, ...], now: float) -> Node:
        """A worker without a beat that could be read: its claims alone are signs of life."""
        instances = {claim.instance for claim in tuple(worker.watches)}
        silence = min((self.silence(name, i, now) for i in instances), default=None)
        liveness: Liveness | Literal["new"] = "lost" if worker.wrong else "new"
        if silence is not None:
            liveness = judge(silence, DEFAULT_LEASE)
        return Node(
            name=name,
            node_url="",
            node_type="WORKER",
            status="RUNNING" if liveness in ("alive", "unreachable") else "STOPPED",
            liveness=liveness,
            jobs=jobs,
            last_seen=silence,
            error=shown(worker.wrong, MAX_ERROR),
            unbelieved=shown(worker.wrong, MAX_ERROR),
        )


def of_primary(
    models: Mapping[str, Model], version: str, free_disk: int, *, busy: bool, error: str
) -> Node:
    """The primary itself; ``busy`` while a job runs anywhere."""
    host = socket.gethostname()
    return Node(
        name="primary",
        node_url=f"file://{host}",
        node_type="PRIMARY",
        status="RUNNING" if busy else "WAITING",
        liveness="alive",
        host=host,
        models={name: model.version for name, model in models.items()},
        version=version,
        last_seen=0.0,
        free_disk=free_disk,
        free_memory=psutil.virtual_memory().available,
        error=error,
    )


def _models(beat: Beat) -> dict[str, str]:
    """Those that can be a model's name, with their versions."""
    named = sorted(name for name in beat.models if is_plain(name))[:MAX_MODELS]
    return {name: shown(beat.models[name], 64) for name in named}
