"""One ward from its start to its audit: load, kills, and then peace until all has ended."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults import verify_ledger
from tests.promises.audit import Audit
from tests.promises.killing import LOOK, Killer, by_kind, killers
from tests.promises.load import Load, Mix
from tests.promises.ward import Ward
from tests.promises.witness import Witness
from tests.system import wait_for

SUBMITTERS = 2
USUAL = Mix()
PATIENCE = 180.0  # seconds until all has ended, once nobody is killed any more


class Findings(NamedTuple):
    """Of one ward. ``wrong`` is empty where all promises were kept."""

    wrong: list[str]
    kills: Counter[str]
    jobs: Counter[str]  # by their end
    requeued: int
    fenced: int
    looks: int


class Ordeal(threading.Thread):
    """In a thread, so that several go on at once; ``findings`` after ``join``."""

    def __init__(
        self,
        root: Path,
        seed: str,
        wanted: Mapping[str, int],
        *,
        mix: Mix = USUAL,
        bug: str = "",
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(name=f"ordeal {seed}", daemon=True)
        self.ward = Ward(root, bug)
        self._patience = patience
        self._over = threading.Event()
        self._killers = killers(self.ward, wanted, seed, self._over)
        self._witness = Witness(self.ward.system.data / "ledger")
        self._loads = [
            Load(self.ward, self._witness, mix, f"{seed} {n}", self._over)
            for n in range(SUBMITTERS)
        ]
        self.wrong: list[str] = []

    def run(self) -> None:
        try:
            self.ward.start()
            self._suffer()
            self._settle()
            self.ward.stop()
            wait_for(lambda: not self.ward.left(), "the end of all its processes")
        except Exception as e:  # noqa: BLE001  one of its findings
            left = [" ".join(p.cmdline()) for p in self.ward.left()]
            self.wrong.append(f"{e!r} ({len(left)} processes left: {left[:5]})")
        finally:
            self._over.set()
            self.ward.end()

    def findings(self) -> Findings:
        """Raises what keeps the audit itself from being made."""
        self.join()
        audit = Audit(self.ward.system.data, self.ward.system.started(), self._loads)
        return Findings(
            [*self.wrong, *self._witness.wrong, *audit.run()],
            by_kind(self._killers),
            audit.ends(),
            audit.requeued,
            audit.fenced,
            self._witness.looks,
        )

    def _suffer(self) -> None:
        """Load and kills, until all kills are done."""
        threads: Sequence[Killer | Load] = [*self._killers, *self._loads]
        for thread in (self._witness, *threads):
            thread.start()
        for killer in self._killers:
            killer.join()
        self._over.set()
        for load in self._loads:
            load.join()
        for thread in threads:
            if thread.error is not None:
                raise thread.error

    def _settle(self) -> None:
        """What is promised comes true by itself, once everything is left in peace."""
        until = time.monotonic() + self._patience
        while waiting := self._unfinished():
            self.ward.check()
            assert time.monotonic() < until, f"not ended: {waiting[:20]}"
            time.sleep(LOOK)
        self._witness.close()
        wait_for(lambda: not self._complaints(), f"a content doctor, not {self._complaints()}")
        verify_ledger(self.ward.system)

    def _unfinished(self) -> list[str]:
        """Of the jobs that were acknowledged, and of those that the ledger knows besides."""
        jobs = dict(self._witness.jobs)
        told = [token for load in self._loads for token in load.acknowledged]
        return [t for t in {*told, *jobs} if jobs.get(t) not in self._witness.ended]

    def _complaints(self) -> list[str]:
        return [f for f in self.ward.client.doctor() if not f.startswith("disk:")]
