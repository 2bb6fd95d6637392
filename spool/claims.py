"""The worker's side of the spool: claim, beat, report, deliver.

Written once on the eight verbs of a transport. Nothing here decides what to
run; ``worker_agent`` does. A worker writes into its own folder only, and takes
tickets out of ``models/<model>/new/`` by renaming them into its ``cur/``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from spool import names, reports
from spool.errors import Gone
from spool.names import Claim, ReportName, Ticket
from spool.transport import Transport

LOG_CHUNK = 256 * 1024  # bytes of log sent in one append


class Claims:
    """One worker's view of the spool, as ``instance`` (16 hex digits)."""

    def __init__(self, transport: Transport, worker: str, instance: str) -> None:
        self._transport = transport
        self._home = names.worker_folder(worker)
        self.worker = worker
        self.instance = instance

    # --- tickets and claims --------------------------------------------------------

    def tickets(self, models: Iterable[str]) -> list[tuple[Ticket, str]]:
        """(ticket, model) of everything claimable, oldest first."""
        found = [
            (ticket, model)
            for model in models
            for name in self._listed(names.new_folder(model))
            if (ticket := names.parse_ticket(name))
        ]
        return sorted(found)

    def claim(self, ticket: Ticket, model: str) -> Claim | None:
        """Take a ticket by renaming it; None if somebody else was faster.

        Raises Unreachable when the answer is lost: then ``held`` says whether
        the claim is ours.
        """
        claim = Claim(ticket, self.instance)
        try:
            self._transport.move(
                f"{names.new_folder(model)}/{ticket}", f"{self._home}/{names.CUR}/{claim}"
            )
        except Gone:
            return None
        return claim

    def held(self) -> list[Claim]:
        """The claims of this instance that the primary has not retired."""
        # Not _listed: a folder that is gone must not look like claims that were retired.
        claims = map(names.parse_claim, self._transport.names(f"{self._home}/{names.CUR}"))
        return sorted(c for c in claims if c and c.instance == self.instance)

    def fetch_input(self, claim: Claim, target: Path) -> None:
        self._transport.fetch(f"{self._home}/{names.CUR}/{claim}", target)

    def stops(self) -> Iterator[str]:
        """The keys of the runs that the primary wants stopped."""
        for name in self._listed(f"{self._home}/{names.STOP}"):
            if names.parse_key(name):
                yield name

    # --- what the worker says ------------------------------------------------------

    def beat(self, beat: reports.Beat) -> None:
        # Each under a name of its own: a connection that hung may still write an older one.
        half = f"{beat.counter}-{names.BEAT}"
        self._put(reports.encode(beat), half, f"{names.REPORTS}/{names.BEAT}")

    def last_beat(self) -> reports.Beat | None:
        """The beat that lies in this worker's folder, whoever wrote it."""
        try:
            data = self._transport.read(
                f"{self._home}/{names.REPORTS}/{names.BEAT}", reports.MAX_BEAT
            )
        except Gone:
            return None
        return reports.decode_beat(data)

    def report(self, key: str, report: reports.AnyReport) -> None:
        job, attempt = names.split_key(key)
        kind = report.__struct_config__.tag
        name = str(ReportName(job, attempt, str(kind)))
        self._put(reports.encode(report), name, f"{names.REPORTS}/{name}")

    def delivered(self) -> set[str]:
        """The keys whose final report lies in ``reports/``."""
        found = map(names.parse_report, self._listed(f"{self._home}/{names.REPORTS}"))
        return {name.key for name in found if name and name.kind == "final"}

    def log_size(self, key: str) -> int:
        """How many bytes of the run's log the spool has."""
        return self._transport.check(f"{self._home}/{names.LOG}/{key}.log") or 0

    def send_log(self, key: str, offset: int, data: bytes) -> None:
        self._transport.append(f"{self._home}/{names.LOG}/{key}.log", offset, data)

    def drop_log(self, key: str) -> None:
        """Begin the log anew: what the spool has of it is not what we have."""
        self._transport.drop(f"{self._home}/{names.LOG}/{key}.log")

    def send_output(self, key: str, source: Path) -> None:
        name = f"{key}.zip"
        self._put(source, name, f"{names.OUT}/{name}")

    def sweep(self) -> None:
        """Remove the halves that an agent of this instance left when it was killed.

        For an agent that has just been started, before it writes anything.
        """
        folder = f"{self._home}/{names.TMP}"
        for name in self._listed(folder):
            if name.startswith(f"{self.instance}-"):
                self._transport.drop(f"{folder}/{name}")

    # --- inside --------------------------------------------------------------------

    def _put(self, source: Path | bytes, name: str, target: str) -> None:
        """Whole or not at all: under a name in ``tmp/``, then moved."""
        half = f"{self._home}/{names.TMP}/{self.instance}-{name}"
        self._transport.store(source, half)
        self._transport.move(half, f"{self._home}/{target}")

    def _listed(self, folder: str) -> list[str]:
        try:
            return self._transport.names(folder)
        except Gone:
            return []  # a model that the primary does not have, or a folder not yet made
