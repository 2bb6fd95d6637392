"""People who submit to a primary that dies again and again, and what they were promised."""

from __future__ import annotations

import random
import shutil
import threading
import time
import zipfile
from pathlib import Path
from typing import NamedTuple

from client.errors import ClientError, Unreachable
from tests.promises.ward import Ward
from tests.promises.witness import Witness

ACTIVE = 8  # jobs at most that a submitter has under way
PAUSE = 0.05  # seconds until somebody whom nobody answered asks again


class Plan(NamedTuple):
    """What a job is to do, and what befalls it. ``kill``: seconds after its acknowledgement."""

    token: str
    model: str
    seconds: float
    code: int
    kill: float | None
    drop: bool


class Mix(NamedTuple):
    """Which shares of the jobs are of the brief lease, fail, are killed, are dropped."""

    brief: float = 0.3
    fail: float = 0.1
    kill: float = 0.2
    drop: float = 0.1

    def plan(self, rng: random.Random, token: str) -> Plan:
        brief, drop = rng.random() < self.brief, rng.random() < self.drop
        return Plan(
            token,
            "brief" if brief else "work",
            rng.choice((0.2, 3.0, 3.0) if brief else (0.0, 0.0, 0.1, 0.5, 1.0)),
            3 if rng.random() < self.fail else 0,
            rng.uniform(0.0, 1.0) if rng.random() < self.kill and not drop else None,
            drop,
        )


class Load(threading.Thread):
    """One submitter. ``acknowledged`` are the jobs that it was promised, by token."""

    def __init__(
        self, ward: Ward, witness: Witness, mix: Mix, seed: str, over: threading.Event
    ) -> None:
        super().__init__(name=f"load {seed}", daemon=True)
        self._ward, self._witness, self._mix, self._over = ward, witness, mix, over
        self._rng = random.Random(seed)
        self._prefix = seed.replace(" ", "-")
        self._to_kill: dict[str, float] = {}  # jobs and the monotonic time of their kill
        self.plans: dict[str, Plan] = {}  # by token: all that may be there
        self.acknowledged: dict[str, str] = {}  # job by token; of a drop, "" until it is taken
        self.killed: set[str] = set()  # jobs whose kill was acknowledged
        self.refused: set[str] = set()  # that had ended when we asked, or had been asked before
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._kill_due()
                if self._active() < ACTIVE:
                    self._submit()
                else:
                    self._over.wait(PAUSE)
        except BaseException as e:  # noqa: BLE001  told by who waits for us
            self.error = e
            self._over.set()

    def _active(self) -> int:
        known = self._witness.jobs
        return sum(known.get(token) not in self._witness.ended for token in self.acknowledged)

    def _submit(self) -> None:
        made = self._mix.plan(self._rng, f"{self._prefix}-{len(self.plans)}")
        path = self._ward.root / "inputs" / f"{made.token}.zip"
        path.parent.mkdir(exist_ok=True)
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("plan", f"{made.token} {made.seconds} {made.code}\n")
        self.plans[made.token] = made
        if made.drop:
            self._drop(made, path)
        else:
            self._send(made, path)
        path.unlink()

    def _drop(self, made: Plan, path: Path) -> None:
        """From the moment that it has left the folder it is acknowledged; it will be."""
        folder = self._ward.system.data / "spool" / "models" / made.model / "drop"
        shutil.copyfile(path, folder / f".{made.token}.part")
        (folder / f".{made.token}.part").rename(folder / f"{made.token}.zip")
        self.acknowledged[made.token] = ""

    def _send(self, made: Plan, path: Path) -> None:
        """Until it is acknowledged; asked again under the same key it is still one job."""
        while not self._over.is_set():
            try:
                job = self._ward.client.submit(
                    made.model, path, name=made.token, idempotency_key=made.token
                )["uuid"]
            except Unreachable:
                self._over.wait(PAUSE)  # the primary is down: nothing was promised
                continue
            self.acknowledged[made.token] = job
            if made.kill is not None:
                self._to_kill[job] = time.monotonic() + made.kill
            return

    def _kill_due(self) -> None:
        now = time.monotonic()
        for job in [job for job, due in self._to_kill.items() if due <= now]:
            try:
                self._ward.client.kill(job)
            except Unreachable:
                continue  # asked again at the next turn
            except ClientError as e:
                if e.status != 409:
                    raise
                self.refused.add(job)
            else:
                self.killed.add(job)
            del self._to_kill[job]
