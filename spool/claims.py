"""The worker's side of the spool: claim, beat, report, deliver.

Written once on the eight verbs of a transport. Nothing here decides what to
run; ``engine.agent`` does. A worker writes into its own folder only, and takes
tickets out of ``models/<model>/new/`` by renaming them into its ``cur/``.

Everything here may be done again after its answer was lost (Unreachable). A
move whose answer was lost may even be carried out later, by a connection that
hung: it then finds its half gone and changes nothing, or puts whole bytes where
the same bytes lie (or a beat where a newer one lay: the next beat follows).
Only a half that is being written under the same name could be moved too early;
so small files have a new half each time, and what is in an output is compared
with its report by the primary.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from spool import names, reports
from spool.errors import Gone, Refused, SpoolError
from spool.names import Claim, ReportName, Ticket
from spool.transport import Transport

UNANSWERED = 900.0  # seconds for which a connection that hung may carry out what it was asked
REMEMBERED = 1000  # halves that could not be moved
LOG_CHUNK = 256 * 1024  # bytes of log sent in one append


class Claims:
    """One worker's view of the spool, as ``instance`` (16 hex digits)."""

    def __init__(self, transport: Transport, worker: str, instance: str) -> None:
        self._transport = transport
        self._home = names.worker_folder(worker)
        self._puts = 0
        # Names in tmp/ that were not moved, as far as we know, and until when (monotonic) a
        # connection that hung may still make them.
        self._lost_halves: dict[str, float] = {}
        self.worker = worker
        self.instance = instance

    # --- tickets and claims --------------------------------------------------------

    def tickets(
        self, models: Iterable[str], refused: Callable[[str, Refused], None] | None = None
    ) -> list[tuple[Ticket, str]]:
        """(ticket, model) of everything claimable, oldest first.

        ``refused`` hears of models whose queue may not be listed; without it that is raised.
        """
        found: list[tuple[Ticket, str]] = []
        for model in models:
            try:
                listed = self._listed(names.new_folder(model))
            except Refused as e:
                if refused is None:
                    raise
                refused(model, e)
                continue
            found += [(t, model) for name in listed if (t := names.parse_ticket(name))]
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

    def input_size(self, claim: Claim) -> int | None:
        """Bytes of a claim's input; None if the claim is gone, retired by the primary."""
        return self._transport.check(f"{self._home}/{names.CUR}/{claim}")

    def fetch_input(self, claim: Claim, target: Path) -> None:
        self._transport.fetch(f"{self._home}/{names.CUR}/{claim}", target)

    def stops(self) -> Iterator[str]:
        """The keys of the runs that the primary wants stopped."""
        for name in self._listed(f"{self._home}/{names.STOP}"):
            if names.parse_key(name):
                yield name

    # --- what the worker says ------------------------------------------------------

    def beat(self, beat: reports.Beat) -> None:
        self._put(reports.encode(beat), names.BEAT, f"{names.REPORTS}/{names.BEAT}")

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

    def send_output(self, key: str, source: Path, *, again: bool = False) -> None:
        """``again``: it was tried before, be it by an agent that was killed, and not to the end.

        Then what lies there has the same bytes, as far as it goes.
        """
        half = f"{self._home}/{names.TMP}/{self._output_half(key)}"
        target = f"{self._home}/{names.OUT}/{key}.zip"
        size = source.stat().st_size
        if again and self._transport.check(target) == size:
            return  # moved, and its answer was lost
        if not again or self._transport.check(half) != size:
            self._transport.store(source, half, go_on=again)
        self._transport.move(half, target)

    def abandon_output(self, key: str) -> None:
        """The attempt was retired while its output was on its way."""
        self._lose(self._output_half(key))

    def tidy(self) -> None:
        """Remove the halves of what could not be sent, now that the spool can be reached."""
        lost = dict(self._lost_halves)  # other threads add to it
        if not lost:
            return
        folder = f"{self._home}/{names.TMP}"
        there = set(self._listed(folder))
        now = time.monotonic()
        for name, until in lost.items():
            if name in there:
                self._transport.drop(f"{folder}/{name}")
            if name in there or until < now:
                del self._lost_halves[name]

    def sweep(self) -> None:
        """Remove the halves that an agent of this instance left when it was killed.

        But for the outputs of attempts that are still held: they go on where they stood.
        For an agent that has just been started, before it writes anything.
        """
        folder = f"{self._home}/{names.TMP}"
        own = {name for name in self._listed(folder) if name.startswith(f"{self.instance}-")}
        if own:
            own -= {self._output_half(claim.key) for claim in self.held()}
        for name in own:
            self._transport.drop(f"{folder}/{name}")

    # --- inside --------------------------------------------------------------------

    def _put(self, source: bytes, name: str, target: str) -> None:
        """Whole or not at all: under a name in ``tmp/`` that is used once, then moved."""
        self._puts += 1
        half = f"{self.instance}-{self._puts}-{name}"
        path = f"{self._home}/{names.TMP}/{half}"
        try:
            self._transport.store(source, path)
            self._transport.move(path, f"{self._home}/{target}")
        except SpoolError:
            self._lose(half)
            raise

    def _lose(self, half: str) -> None:
        if len(self._lost_halves) >= REMEMBERED:  # of an outage of hours; the next start sweeps
            oldest = next(iter(dict(self._lost_halves)))  # a copy: other threads add to it
            self._lost_halves.pop(oldest, None)
        self._lost_halves[half] = time.monotonic() + UNANSWERED

    def _output_half(self, key: str) -> str:
        # Always the same: a transfer that broke goes on in it.
        return f"{self.instance}-{key}.zip"

    def _listed(self, folder: str) -> list[str]:
        try:
            return self._transport.names(folder)
        except Gone:
            return []  # a model that the primary does not have, or a folder not yet made
