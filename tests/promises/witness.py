"""Reads a ledger while it grows, and looks at once whether what it says of processes is true."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from pathlib import Path
from typing import Any

ENDS = ("Completed", "Failed", "Killed")
LOOK = 0.05  # seconds between looks


class Witness(threading.Thread):
    """``wrong``: what the ledger said, and was not so. The rest is for who makes the load."""

    def __init__(self, ledger: Path) -> None:
        super().__init__(name="witness", daemon=True)
        self._ledger = ledger
        self._read: dict[Path, int] = {}  # bytes of each segment that were taken in
        self._done = threading.Event()
        self._lock = threading.Lock()  # of what follows
        self.jobs: dict[str, str] = {}  # by the name that they were submitted under
        self.ended: set[str] = set()
        self.wrong: list[str] = []
        self.looks = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._done.wait(LOOK):
                self.look()
        except BaseException as e:  # noqa: BLE001  told by who waits for us
            self.error = e

    def close(self) -> None:
        self._done.set()
        self.join()
        if self.error is not None:
            raise self.error
        self.look()

    def look(self) -> None:
        with self._lock:
            over = [record for record in self._news() if self._take(record)]
            if not over:
                return
            self.looks += 1
            alive = living()
            for record in over:
                if still := _contradiction(record, alive):
                    self.wrong.append(still)

    def _news(self) -> list[dict[str, Any]]:
        found = []
        for segment in sorted(self._ledger.glob("*.jsonl")):
            with segment.open("rb") as file:
                file.seek(self._read.get(segment, 0))
                whole, newline, _ = file.read().rpartition(b"\n")
            self._read[segment] = self._read.get(segment, 0) + len(whole) + len(newline)
            found += [json.loads(line) for line in whole.splitlines()]
        return found

    def _take(self, record: dict[str, Any]) -> bool:
        """Whether it says that processes are gone."""
        kind, job = record["kind"], record["job"]
        if kind == "Submitted":
            self.jobs[record["name"]] = job
        if kind in ENDS:
            self.ended.add(job)
        return kind in ENDS or kind == "Requeued"


def _contradiction(record: dict[str, Any], alive: dict[tuple[str, str], int]) -> str:
    """What lives although the record says that it is gone; "" if nothing does."""
    kind, job = record["kind"], record["job"]
    if record.get("confirmed") is False:
        return ""
    # An earlier attempt's worker may be lost, and its run go on: then a kill is not confirmed.
    whole = kind == "Killed"
    for (owner, attempt), pid in alive.items():
        if owner == job and (whole or attempt == str(record["attempt"])):
            return f"{kind} of {job}.{record['attempt']}, and process {pid} of {attempt} lives"
    return ""


def living() -> dict[tuple[str, str], int]:
    """A process of each (job, attempt) that has one on this machine."""
    found: dict[tuple[str, str], int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            raw = Path(f"/proc/{name}/environ").read_bytes()
            if b"MODELRUNNER_JOB_ID=" in raw:
                words = dict(w.split("=", 1) for w in os.fsdecode(raw).split("\0") if "=" in w)
                key = (words.get("MODELRUNNER_JOB_ID", ""), words.get("MODELRUNNER_ATTEMPT", ""))
                found[key] = int(name)
    return found
