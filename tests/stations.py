"""Workers on wires of their own, each for one phase of a job.

A ``Station`` is one worker in a network namespace of its own, its sshd on the other
side of a veth pair, and models that nobody else runs: so many phases can fail at
the same time, each at its own moment. The moment is seen on the disk, or, where it
is shorter than a look, made to last: a relay before the sshd holds the very answer
that tells the worker of the step.
"""

from __future__ import annotations

import os
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil

from spool import names
from tests.network import PRIMARY, WORKER, Network, network
from tests.relay import Relay
from tests.sshd import Sshd
from tests.system import PATIENCE, System, wait_for

LEASE = 45.0  # seconds until a worker is lost, in the models that end ``-brief``

# A second attempt waits as long as the file HOLD is there.
# Its input's file ``plan``: steps of 0.1 s, lines of a kilobyte in each, bytes of output.
MODEL = """#!/bin/bash
echo "$MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" >> "$STARTS"
while [ "$MODELRUNNER_ATTEMPT" != 1 ] && [ -e "$HOLD" ]; do sleep 0.1; done
read -r steps lines size < "$1/plan"
line=$(printf '%01000d' 0)
for ((i = 1; i <= steps; i++)); do
  for ((j = 1; j <= lines; j++)); do echo "$i $j $line"; done
  sleep 0.1
done
echo "$MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" > "$2/key"
head -c "$size" /dev/urandom > "$2/data"
sha256sum < "$2/data" > "$2/sum"
"""


class Plan(NamedTuple):
    """What a job does: steps of 0.1 s, lines in each, bytes of output; bytes of its input."""

    steps: int = 2
    lines: int = 1
    output: int = 1_000
    ballast: int = 0

    def log(self) -> bytes:
        line = b"0" * 1000
        steps = range(1, self.steps + 1)
        return b"".join(
            b"%d %d %s\n" % (i, j, line) for i in steps for j in range(1, self.lines + 1)
        )


class Phase(NamedTuple):
    """``seen``: whether the job of the station is in it. ``kbit``: of the wire; 0 is fast.

    ``held``: the answer to the step that began it is held until the fault strikes.
    """

    seen: Callable[[Station], bool]
    plan: Plan = Plan()
    kbit: int = 0
    held: bool = False
    to: str = ""  # the side that a large transfer goes to


class Station:
    """One worker behind a wire, for one phase."""

    def __init__(self, system: System, name: str, network: Network) -> None:
        self.system, self.name, self.network = system, name, network
        self.phase = PHASES[name]
        self.models = system.root / f"models-{name}"
        self.models.mkdir()
        self.hold = system.root / f"hold-{name}"
        for model, more in ((name, ""), (f"{name}-brief", f"lease = {LEASE}")):
            system.add_model(model, MODEL, more, f'HOLD = "{self.hold}"')
            (self.models / model).symlink_to(system.models / model)
        self.home = system.data / "spool" / names.worker_folder(name)
        self.sshd = Sshd(
            system.root / f"sshd-{name}",
            system.data / "spool",
            host=PRIMARY,
            prefix=network.on_primary,
        )
        self.relay = Relay(PRIMARY, self.sshd.port, listen=PRIMARY, inside=network.inside)
        self.job = ""
        self.model = ""

    def start(self) -> None:
        """Begin to; ``wait_ready`` waits until it is."""
        url = self.sshd.trust(self.relay.port) if self.phase.held else self.sshd.url
        self.system.start_remote_worker(
            self.name,
            url,
            self.sshd.environment(self.system.root / f"home-{self.name}"),
            prefix=self.network.on_worker,
            models=self.models,
            ready=False,
        )

    def wait_ready(self) -> None:
        self.system.wait_ready(self.name)
        if self.phase.kbit:
            self.network.slow(self.phase.kbit)

    def close(self) -> None:
        self.relay.close()
        self.sshd.stop()
        self.network.close()

    # --- the job -------------------------------------------------------------------

    def submit(self, model: str) -> None:
        """A job that stands in this station's phase when this returns."""
        wait_for(lambda: self.liveness() == "alive", f"{self.name}: alive")
        wait_for(self.is_clean, f"{self.name}: a clean spool, not {self.left()}")
        self.job, self.model = "", model
        if self.phase.held:
            self.relay.trap(lambda: self.phase.seen(self))
        self.job = self.system.submit(model, self._input())
        if self.phase.held:
            assert self.relay.trapped.wait(PATIENCE), f"{self.name}: not reached"
        else:
            wait_for(lambda: self.phase.seen(self), f"{self.name} to be reached")

    def run_file(self, name: str) -> Path:
        return self.system.root / f"state-{self.name}" / "runs" / f"{self.job}.1" / name

    def files(self, folder: str, end: str = "") -> list[Path]:
        try:
            return [p for p in (self.home / folder).iterdir() if p.name.endswith(end)]
        except FileNotFoundError:
            return []

    def own(self, folder: str, end: str = "") -> list[Path]:
        """Those of the job itself: a worker that comes back may still send of the one before."""
        return [p for p in self.files(folder, end) if self.job in p.name]

    def tickets(self) -> list[Path]:
        return list((self.system.data / "spool" / names.new_folder(self.model)).iterdir())

    def is_clean(self) -> bool:
        """Whether nothing of any job lies in the worker's part of the spool."""
        return not self.left()

    def left(self) -> list[str]:
        folders = (names.CUR, names.TMP, names.LOG, names.OUT, names.REPORTS, names.STOP)
        found = [p for folder in folders for p in self.files(folder)]
        return [f"{p.parent.name}/{p.name}" for p in found if p.name != names.BEAT]

    def _input(self) -> Path:
        plan = self.phase.plan
        path = self.system.root / f"{self.name}.zip"
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("plan", f"{plan.steps} {plan.lines} {plan.output}\n")
            file.writestr("ballast", os.urandom(plan.ballast))
        return path

    # --- the fault -----------------------------------------------------------------

    def cut(self) -> None:
        self.network.cut()
        self.relay.thaw()  # what was held is lost on the wire, and sent again once it is mended

    def kill(self) -> None:
        """sshd's children die, and what they had said is lost."""
        self.relay.lose()
        for process in self.sshd.sessions():
            process.kill()
        self.relay.thaw()

    def freeze(self) -> list[psutil.Process]:
        frozen = self.sshd.sessions()
        for process in frozen:
            process.suspend()
        self.relay.lose()
        self.relay.thaw()
        return frozen

    def liveness(self) -> str:
        nodes = {node["name"]: node for node in self.system.client.status()}
        return str(nodes[self.name]["liveness"]) if self.name in nodes else "unknown"

    def beat_again(self) -> float:
        """Seconds until the worker gives a sign of life that is new."""
        began = time.monotonic()
        before = (self.home / names.REPORTS / names.BEAT).stat().st_mtime_ns
        wait_for(
            lambda: (self.home / names.REPORTS / names.BEAT).stat().st_mtime_ns != before,
            f"{self.name}: a beat",
        )
        return time.monotonic() - began


def _reached(size: int, paths: Iterable[Path]) -> bool:
    return any(_size(path) >= size for path in paths)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


SLOW = 4_000  # thousand bits a second
TRANSFER = 3_000_000  # bytes; some seconds over a slow wire
FAR = 2_000_000  # bytes of it: far enough to tell one that goes on from one that begins anew
BEGUN = 200_000  # bytes of a log
PHASES: Mapping[str, Phase] = {
    "ticket": Phase(lambda s: bool(s.tickets()), held=True),
    "claim": Phase(lambda s: bool(s.files(names.CUR)), held=True),
    "fetch": Phase(
        lambda s: _reached(FAR, [s.run_file("input.zip")]),
        Plan(ballast=TRANSFER),
        kbit=SLOW,
        to=WORKER,
    ),
    "run": Phase(lambda s: f"{s.job}.1" in s.system.started(), Plan(steps=60)),
    "log": Phase(lambda s: _reached(BEGUN, s.own(names.LOG)), Plan(steps=40, lines=50), kbit=SLOW),
    "put": Phase(
        lambda s: _reached(FAR, s.own(names.TMP, ".zip") + s.own(names.OUT)),
        Plan(output=TRANSFER),
        kbit=SLOW,
        to=PRIMARY,
    ),
    "report": Phase(lambda s: bool(s.files(names.OUT)), held=True),
}


@contextmanager
def stations(system: System, phases: Iterable[str]) -> Iterator[list[Station]]:
    """A station for each phase, with workers that are ready, beside a primary that runs."""
    with ExitStack() as stack:
        made = []
        for phase in phases:
            made.append(Station(system, phase, stack.enter_context(network())))
            stack.callback(made[-1].close)
            made[-1].start()
        for station in made:
            station.wait_ready()
        yield made
