"""Idempotency keys: whoever is not told what became of a submission may send it again.

The job's id is made from the key, so the ledger itself knows the key, after a
restart too, and nothing more is written. In memory is only which keys are under
way now: two that come at once must not both enter the job, nor touch the files
of each other, which lie under its id.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from ledger.errors import LedgerStopped
from ledger.events import Digest, Submitted
from ledger.jobs import Job
from primary.errors import KeyBusy, KeyReused

NAMESPACE = uuid.UUID("59414573-2f42-50f7-ad82-a8dfc1bc7fb8")
"""Fixed for ever: with another one every key would be forgotten."""


def job_of(key: str) -> str:
    """The id of the job that ``key`` enters."""
    return str(uuid.uuid5(NAMESPACE, key))


class Keys:
    """The keys under way, by the ids of their jobs. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy: set[str] = set()

    @contextmanager
    def held(self, key: str | None) -> Iterator[None]:
        """Nobody else enters the job of ``key`` meanwhile; None is nobody's. Raises KeyBusy."""
        if key is None:
            yield
            return
        job = job_of(key)
        with self._lock:
            if job in self._busy:
                raise KeyBusy
            self._busy.add(job)
        try:
            yield
        except LedgerStopped:
            raise  # the job may be in the ledger or not: until the restart nobody touches its files
        except BaseException:
            self._let_go(job)
            raise
        else:
            self._let_go(job)

    def _let_go(self, job: str) -> None:
        with self._lock:
            self._busy.discard(job)


def again(job: Job, asked: Submitted, input: Digest | None) -> Job:
    """``job``, which the key of ``asked`` entered before, if the same is asked for again.

    ``input`` is what came with it; None where it is fetched. Raises KeyReused, or KeyBusy
    where a crash has not let the first come to its end yet.
    """
    if job.input is None and job.source != "url" and not job.final:
        raise KeyBusy
    different = {
        "name": job.name != asked.name,
        "model": job.model != asked.model,
        "job that it repeats": job.rerun_of != asked.rerun_of,
        "input": job.url != asked.url or (input is not None and job.input != input),
    }
    for what, is_so in different.items():
        if is_so:
            raise KeyReused(job.id, what)
    return job
