"""A worker on another machine, which a power cut of the primary's does not touch.

It claims, reports and delivers like an agent, by ``spool.claims``; what it ran it keeps
in its own memory as long as the claim lies there, and delivers it again when asked.
"""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

from spool.claims import Claims
from spool.errors import SpoolError
from spool.local import LocalTransport, make_worker_folder
from spool.names import Claim
from spool.reports import Beat, FileFact, FinalReport, RunReport, StartedReport

INSTANCE = "5" * 16
_PAUSE = 0.02  # seconds between looks
_AT_ONCE = 8  # claims that are held at a time


class Outlasting:
    """Works on the spool while ``there``, in a thread of its own.

    ``wrong`` has what no worker may ever see, such as half an input.
    """

    def __init__(self, root: Path, spool: Path, model: str, name: str = "far") -> None:
        self.name = name
        self.wrong: list[str] = []
        self.ran: Counter[str] = Counter()  # how often each attempt was claimed
        self.there = threading.Lock()  # held by whoever takes the disk away
        self._spool, self._model = spool, model
        self._own = root / f"own-{name}"
        self._own.mkdir()
        self._claims: Claims | None = None
        self._beats = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name)

    def start(self) -> None:
        make_worker_folder(self._spool, self.name)
        self._claims = Claims(LocalTransport(self._spool), self.name, INSTANCE)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join()

    # --- inside ------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._over.wait(_PAUSE):
            with self.there:
                try:
                    self._look()
                except (SpoolError, OSError):
                    continue  # the disk has gone; it is waited for

    def _look(self) -> None:
        claims = self._claims
        assert claims is not None
        # A cut may have taken the folders of a worker that had only just been made.
        make_worker_folder(self._spool, self.name)
        held = claims.held()
        for ticket, model in claims.tickets([self._model])[: _AT_ONCE - len(held)]:
            claim = claims.claim(ticket, model)
            if claim is not None:
                self.ran[claim.key] += 1
                held.append(claim)
        self._beat(held)
        delivered = claims.delivered()
        for claim in held:
            if claim.key not in delivered:
                self._deliver(claim)

    def _beat(self, held: list[Claim]) -> None:
        assert self._claims is not None
        self._beats += 1
        beat = Beat(
            instance=INSTANCE,
            counter=self._beats,
            host="far",
            node_url="ssh://far",
            pid=1,
            slots=_AT_ONCE,
            version="0",
            models={self._model: ""},
            claims=tuple(map(str, held)),
        )
        self._claims.beat(beat)

    def _deliver(self, claim: Claim) -> None:
        claims = self._claims
        assert claims is not None
        name = "/".join((str(self._spool), "workers", self.name, "cur", str(claim)))
        found = hashlib.sha256(Path(name).read_bytes()).hexdigest()
        if found != claim.ticket.sha256:
            self.wrong.append(f"the input of {claim} has the hash {found}")
        said: dict[str, Any] = {"claim": str(claim), "instance": INSTANCE, "host": "far"}
        claims.report(claim.key, StartedReport(**said))
        log, output = log_of(claim.key), output_of(claim.key)
        claims.drop_log(claim.key)
        claims.send_log(claim.key, 0, log)
        own = self._own / "output.zip"
        own.write_bytes(output)
        claims.send_output(claim.key, own)
        run = RunReport(exit_code=0, wall_seconds=1.0)
        final = FinalReport(**said, end="ok", run=run, log=_fact(log), output=_fact(output))
        claims.report(claim.key, final)


def log_of(key: str) -> bytes:
    """What every run of this attempt says, however often it is delivered."""
    return f"{key} ran\n".encode() * 200


def output_of(key: str) -> bytes:
    """What every run of this attempt gives."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(zipfile.ZipInfo("key"), f"{key}\n" * 500)
    return data.getvalue()


def _fact(data: bytes) -> FileFact:
    return FileFact(len(data), hashlib.sha256(data).hexdigest())
