"""Figures for a monitoring system, in Prometheus's text format.

Everything is read when it is asked for; only the requests are counted as they come.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ledger.board import Query
from ledger.jobs import State
from primary.nodes import Node
from primary.server import VERSION, Primary

CONTENT_TYPE = CONTENT_TYPE_LATEST

_LIVENESS = ("alive", "unreachable", "lost", "stopped", "new")


class Requests:
    """How many requests were answered, by route and status. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, int]] = Counter()

    def count(self, method: str, route: str, status: int) -> None:
        with self._lock:
            self._counts[method, route, status] += 1

    def counts(self) -> dict[tuple[str, str, int], int]:
        with self._lock:
            return dict(self._counts)


class Metrics(Collector):
    """The figures of one primary, in a registry of their own."""

    def __init__(self, primary: Primary, requests: Requests) -> None:
        self._primary, self._requests = primary, requests
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def text(self) -> bytes:
        """All figures as they are now."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: to register must not read the board."""
        return ()

    def collect(self) -> Iterator[Metric]:
        primary, nodes = self._primary, self._primary.nodes()
        yield _gauge("modelrunner_info", "Version of the primary", "version", {VERSION: 1})
        counts = {str(state): count for state, count in primary.counts().items()}
        yield _gauge("modelrunner_jobs", "Jobs by state", "state", counts)
        yield _gauge("modelrunner_queue", "Jobs that wait, by model", "model", self._queue())
        yield from _workers(nodes[1:])
        yield GaugeMetricFamily(
            "modelrunner_free_disk_bytes", "Bytes free for the data directory", nodes[0].free_disk
        )
        yield CounterMetricFamily(
            "modelrunner_ledger_records", "Records in the ledger", primary.wait(0, 0)
        )
        yield GaugeMetricFamily(
            "modelrunner_healthy",
            "1 while the primary ticks and can write",
            int(primary.healthy() is None),
        )
        yield self._answers()

    def _queue(self) -> dict[str, int]:
        queued = frozenset({State.QUEUED})
        return {
            model: self._primary.count(Query(states=queued, model=model))
            for model in sorted(self._primary.models())
        }

    def _answers(self) -> Metric:
        family = CounterMetricFamily(
            "modelrunner_http_requests",
            "Requests by route, and by the status of their answer",
            labels=("method", "route", "status"),
        )
        for (method, route, status), count in sorted(self._requests.counts().items()):
            family.add_metric((method, route, str(status)), count)
        return family


def _workers(workers: list[Node]) -> Iterator[Metric]:
    seen = Counter[str](node.liveness for node in workers)
    counts = {liveness: seen[liveness] for liveness in _LIVENESS}
    yield _gauge("modelrunner_workers", "Workers by liveness", "liveness", counts)
    alive = [node for node in workers if node.liveness == "alive"]
    yield GaugeMetricFamily(
        "modelrunner_workers_paused",
        "Living workers that claim nothing",
        sum(1 for node in alive if node.paused),
    )
    slots = sum(node.slots for node in alive)
    yield GaugeMetricFamily("modelrunner_slots", "Slots of all living workers", slots)
    busy = sum(len(node.jobs) for node in alive)
    yield GaugeMetricFamily("modelrunner_slots_busy", "Jobs that living workers have", busy)


def _gauge(name: str, text: str, label: str, values: dict[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=(label,))
    for of, value in values.items():
        family.add_metric((of,), value)
    return family
