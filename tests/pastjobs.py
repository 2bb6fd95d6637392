"""Jobs that have come about before a primary is opened: a ledger and files as it leaves them."""

from __future__ import annotations

import io
import os
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from ledger.events import AnyEvent, Completed, Digest, Queued, RunFacts, Started, Submitted
from ledger.log import Ledger
from spool.names import Claim, Ticket

INPUT = b"an input"
WORKER = "alpha"
INSTANCE = "0" * 16
RUN = RunFacts(exit_code=0, wall_seconds=12.0, cpu_seconds=11.0, peak_memory=4096)

AnyOf = TypeVar("AnyOf", bound=AnyEvent)


def digest(data: bytes) -> Digest:
    return Digest(len(data), sha256(data).hexdigest())


def packed(*names: str) -> bytes:
    """A zip with files of these names."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name in names:
            archive.writestr(name, "content")
    return data.getvalue()


def started(attempt: int = 1) -> Started:
    return Started(job="", attempt=attempt, worker=WORKER, instance=INSTANCE, host="h")


def completed(log: bytes, output: bytes) -> Completed:
    return Completed(job="", attempt=1, run=RUN, log=digest(log), output=digest(output))


class Past:
    """Adds jobs to a data directory that no primary has open."""

    def __init__(self, data: Path, model: str = "echo") -> None:
        self.data, self._model = data, model
        self._seqs: dict[str, int] = {}
        data.mkdir(exist_ok=True)
        self._ledger = Ledger.open(data / "ledger", data / "board.sqlite")

    def add(self, name: str, *rest: AnyEvent, log: bytes = b"", output: bytes = b"") -> str:
        """A job that is QUEUED, and what happened to it then, whatever job ``rest`` names."""
        id = f"00000000-0000-4000-8000-{len(self._seqs) + 1:012d}"
        folder = self.data / "jobs" / id
        folder.mkdir(parents=True)
        for file, content in (("input.zip", INPUT), ("job_log.txt", log), ("output.zip", output)):
            if content:
                (folder / file).write_bytes(content)
        begin = Submitted(job=id, name=name, model=self._model, by="1.2.3.4", source="upload")
        queued = Queued(job=id, input=digest(INPUT))
        events = [begin, queued, *(_about(event, id) for event in rest)]
        records = self._ledger.append(lambda _: tuple(events))
        self._seqs[id] = records[1].seq
        return id

    def hold(self, id: str) -> Path:
        """Lets ``WORKER`` hold the claim of a job that has started; where its live log is."""
        folder = self.data / "spool" / "workers" / WORKER
        for name in ("cur", "log"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        ticket = Ticket(self._seqs[id], 1, id, digest(INPUT).sha256)
        os.link(
            self.data / "jobs" / id / "input.zip", folder / "cur" / str(Claim(ticket, INSTANCE))
        )
        log = folder / "log" / f"{id}.1.log"
        log.touch(mode=0o640)
        return log

    def give_up(self, id: str) -> None:
        """Takes the claim away: the primary misses it, and lets the job wait again."""
        for claim in (self.data / "spool" / "workers" / WORKER / "cur").glob(f"*{id}*"):
            claim.unlink()

    def close(self) -> None:
        self._ledger.close()


def _about(event: AnyOf, id: str) -> AnyOf:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return type(event)(**fields | {"job": id})
