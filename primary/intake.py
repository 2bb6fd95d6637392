"""Taking what workers report: look, copy, compare, sync, accept, retire.

Each step may be the last one before a crash; the order makes all of them safe
to do again. What does not match goes to ``bad/``, the report is taken away,
and the worker, whose claim still lies there, delivers again.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path

from ledger.events import AnyEvent
from ledger.jobs import Job
from ledger.log import Ledger
from primary.errors import NoRoom
from primary.files import RESERVE, FileName, Files
from primary.rules import Ignore, accept, believable
from spool import dispatch as places
from spool.believe import copy_believed, open_believed
from spool.dispatch import Dispatch
from spool.errors import Gone, NoSpace, SpoolError, Unbelievable
from spool.names import Claim, ReportName, shown
from spool.reports import AnyReport, FileFact, FinalReport, decode_report

SMALL = 1024 * 1024  # bytes of results that are copied at once, without the pool
REFUSALS = 16  # reports of one worker that are refused in one tick; the others wait
COPIES = 3  # results of one worker that are copied at a time; below server.POOL

log = logging.getLogger(__name__)


class Intake:
    """Reports on their way into the ledger. ``take`` and ``late`` belong to the tick thread."""

    def __init__(
        self,
        ledger: Ledger,
        dispatch: Dispatch,
        files: Files,
        pool: Executor,
        attempts: Callable[[str], int],
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._dispatch = dispatch
        self._files = files
        self._pool = pool
        self._attempts = attempts
        self._wake = wake
        self._busy: set[str] = set()  # jobs whose results are being taken
        self._refusals: Counter[str] = Counter()  # since the last tick began, by worker
        self._copying: Counter[str] = Counter()  # results in the pool, by worker
        self._lock = threading.Lock()

    def busy(self, job: str) -> bool:
        """Whether results of the job are being taken: nothing else may end its attempt now.

        Else a lost attempt's files could be placed over those of its successor.
        """
        return job in self._busy

    def begin(self) -> None:
        """A tick begins: every worker may be wrong ``REFUSALS`` times again."""
        self._refusals.clear()

    def take(self, worker: str, name: ReportName, held: Iterable[Claim]) -> None:
        """Look into a report; ``held`` are the claims seen in that worker's ``cur/``."""
        read = self._read(worker, name)
        if read is None:
            return
        raw, report = read
        claims = tuple(held)
        ignored = believable(self._ledger.board.job(name.job), worker, name, report, claims)
        if ignored is not None:
            if ignored.bad:
                self._refuse(worker, name, raw, ignored.reason)
            return
        self._go(worker, name, report, lambda: self._accept(worker, name, raw, report, claims))

    def late(self, worker: str, name: ReportName, claims: tuple[Claim, ...]) -> None:
        """Keep what an attempt that is over still sent, shown but never counted; retire it."""
        read = self._read(worker, name)
        if read is None:
            return
        report = read[1]

        def keep() -> None:
            if isinstance(report, FinalReport):
                self._adopt(worker, name, report, late=name.attempt)
            self._dispatch.retire(worker, name.key, claims)

        self._go(worker, name, report, keep)

    def forged(self, worker: str, name: ReportName, claims: tuple[Claim, ...]) -> None:
        """A final report about claims that are not believed: its worker is done with them.

        It may have claimed in good faith what another one of its model had forged; it
        would deliver for ever. Nothing of it counts, and both are taken away.
        """
        read = self._read(worker, name)
        if read is None:
            return
        raw, report = read
        given_back = isinstance(report, FinalReport) and report.end == "lost" and not report.run
        if not given_back:
            self._refuse(worker, name, raw, f"its claim {claims[0]} is not its job's input")
        self._dispatch.retire(worker, name.key, claims)

    # --- inside --------------------------------------------------------------------

    def _read(self, worker: str, name: ReportName) -> tuple[bytes, AnyReport] | None:
        """A report, if it is its turn and one; what is none is refused."""
        if name.job in self._busy or self._refusals[worker] >= REFUSALS:
            return None
        raw = b""
        try:
            raw = self._dispatch.report(worker, name)
            return raw, decode_report(raw)
        except Gone:
            return None
        except Unbelievable as e:
            self._refuse(worker, name, raw, str(e))
            return None

    def _go(
        self, worker: str, name: ReportName, report: AnyReport, work: Callable[[], None]
    ) -> None:
        """Do it now if it is small, else in the pool, so that nothing waits behind a gigabyte."""

        def guarded() -> bool:
            try:
                work()
            except Gone:
                return True  # it was retired, or taken back, meanwhile
            except Unbelievable as e:
                self._refuse(worker, name, b"", str(e))
                return True
            except (NoSpace, NoRoom) as e:
                log.warning("%s: results wait on their worker: %s", name.key, e)
                return False
            finally:
                self._busy.discard(name.job)
            return True

        if _size(report) <= SMALL:
            self._busy.add(name.job)
            guarded()
        elif self._copying[worker] < COPIES:  # else at a later look: it wakes us when one is done
            self._busy.add(name.job)
            self._count(worker, 1)
            self._pool.submit(self._in_pool, worker, guarded)

    def _in_pool(self, worker: str, work: Callable[[], bool]) -> None:
        try:
            done = work()
        except Exception:
            log.exception("taking a report failed; it is tried again")
            done = False
        finally:
            self._count(worker, -1)
        if done:
            self._wake()  # a full disk is looked at again at the next rescan, not at once

    def _count(self, worker: str, change: int) -> None:
        with self._lock:
            self._copying[worker] += change

    def _accept(
        self,
        worker: str,
        name: ReportName,
        raw: bytes,
        report: AnyReport,
        claims: tuple[Claim, ...],
    ) -> None:
        if isinstance(report, FinalReport):
            self._adopt(worker, name, report, late=None)
        refused: list[Ignore] = []

        def decide(lookup: Callable[[str], Job | None]) -> tuple[AnyEvent, ...]:
            # The newest state decides: the job may have been killed meanwhile.
            job = lookup(name.job)
            ignored = believable(job, worker, name, report, claims)
            if ignored is None and job is not None:
                events = accept(job, worker, report, self._attempts(job.model))
                if not isinstance(events, Ignore):
                    return events
                ignored = events
            refused.extend([ignored] if ignored else [])
            return ()

        self._ledger.append(decide)
        bad = next((i for i in refused if i.bad), None)
        if bad is not None:
            self._refuse(worker, name, raw, bad.reason)
        elif isinstance(report, FinalReport):
            # F6 if we die here: the next scan retires it.
            self._dispatch.retire(worker, name.key, (c for c in claims if c.key == name.key))

    def _adopt(self, worker: str, name: ReportName, report: FinalReport, late: int | None) -> None:
        """Copy log and output, compare *the copies* with the report, place and sync them."""
        root = self._dispatch.root
        wanted: list[tuple[Path, str, FileFact | None, FileName]] = [
            (places.log_folder(root, worker), f"{name.key}.log", report.log, "job_log.txt"),
            (places.out_folder(root, worker), f"{name.key}.zip", report.output, "output.zip"),
        ]
        copies: list[tuple[Path, FileName]] = []
        if self._files.free() - RESERVE < _size(report):
            # Also a lie about 8 TiB: begun, the copy would take the ledger's last bytes.
            raise NoRoom(f"no room for {_size(report)} bytes of results")
        try:
            for folder, source, fact, kept in wanted:
                if fact is not None:
                    copies.append((self._copy(folder, source, fact), kept))
            if copies:
                self._files.place(copies, name.job, late)
        finally:
            for copy, _ in copies:
                copy.unlink(missing_ok=True)

    def _copy(self, folder: Path, source: str, fact: FileFact) -> Path:
        target = self._files.incoming / f"{folder.parent.name}.{source}"
        try:
            with open_believed(folder, source, None) as file:
                size, sha256 = copy_believed(file, target, fact.size)
        except Gone:
            raise Unbelievable(f"{source}: reported, but not there") from None
        if (size, sha256) != (fact.size, fact.sha256):
            target.unlink(missing_ok=True)
            raise Unbelievable(
                f"{source}: {size} bytes with hash {sha256}, "
                f"but reported as {fact.size} bytes with hash {fact.sha256}"
            )
        return target

    def _refuse(self, worker: str, name: ReportName, raw: bytes, reason: str) -> None:
        """To bad/, for the operator; taken away, so that the worker delivers again."""
        reason = shown(reason, 1000)  # it may quote the worker
        self._refusals[worker] += 1
        log.warning("report %s of worker %s is not believed: %s", name, worker, reason)
        try:
            self._files.keep_bad(worker, str(name), raw, f"worker {worker}: {reason}")
        except NoRoom as e:
            log.warning("not kept in bad/: %s", e)
        try:
            self._dispatch.drop_report(worker, name)
        except SpoolError as e:
            log.warning("could not remove it: %s", e)


def _size(report: AnyReport) -> int:
    if not isinstance(report, FinalReport):
        return 0
    return sum(fact.size for fact in (report.log, report.output) if fact)
