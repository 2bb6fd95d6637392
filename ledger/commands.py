"""What stands behind ``modelrunner ledger verify | show | export``.

All three only read, take no lock, and may run beside a primary that appends.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from ledger.codec import GENESIS, BadLine, unseal
from ledger.errors import LedgerDamaged, LedgerError
from ledger.events import Completed, Digest, Failed, Killed, Purged, Queued, Record
from ledger.reading import lines
from ledger.recovery import TornEnd, check

LEDGER, BOARD, JOBS = "ledger", "board.sqlite", "jobs"
"""Where things lie in a data directory; DESIGN 5."""

_BLOCK = 1024 * 1024
_FILES = {"input": "input.zip", "log": "job_log.txt", "output": "output.zip"}


class Finding(msgspec.Struct, frozen=True):
    """Something that is not as the ledger says. ``where`` is a file or a record.

    Not ``fatal`` is what needs nobody: an end that is torn or being written.
    """

    where: str
    what: str
    fatal: bool = True


class Report(msgspec.Struct, frozen=True):
    """What ``verify`` looked at and found."""

    records: int
    head: str
    files: int
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not any(finding.fatal for finding in self.findings)


def verify(
    data: Path, *, files: bool = True, progress: Callable[[int], None] | None = None
) -> Report:
    """Check the whole chain and, with ``files``, the files of all finished jobs.

    ``progress`` is called now and then with the number of records done. Raises
    LedgerError where there is no ledger, and OSError.
    """
    folder = _ledger(data)
    applied = _applied(data)
    count, head, findings = 0, GENESIS, list[Finding]()
    audit = _Audit(data / JOBS) if files else None
    try:
        for record in check(folder, 0, GENESIS, applied):
            count, head = record.seq, record.hash
            if audit is not None:
                audit.see(record)
            if progress is not None and count % 10_000 == 0:
                progress(count)
    except TornEnd as torn:
        what = (
            f"after record {count} the end cannot be read ({torn.reason}): it is being "
            "written, or torn, and then the next start cuts it off"
        )
        findings.append(Finding(str(torn.segment.path), what, fatal=False))
    except LedgerDamaged as e:
        where = f"{e.file}, line {e.line}" if e.line else e.file
        findings.append(Finding(where, f"{e.reason} ({e.hint})" if e.hint else e.reason))
    if audit is not None:
        findings += audit.findings(folder, count)
    return Report(count, head, audit.files if audit else 0, tuple(findings))


def show(data: Path, job: str) -> Iterator[Record]:
    """The records of ``job``, oldest first; hashes are not checked (``verify`` does).

    Raises LedgerError where there is no ledger, LedgerDamaged and OSError.
    """
    needle = job.encode()
    for line in lines(_ledger(data)):
        if needle in line:
            record = _record(line)
            if record.event.job == job:
                yield record


def export(data: Path) -> Iterator[bytes]:
    """The ledger's lines as they stand, each one JSON object and a newline.

    Raises LedgerError where there is no ledger, LedgerDamaged and OSError.
    """
    yield from lines(_ledger(data))


def _ledger(data: Path) -> Path:
    folder = data / LEDGER
    if not folder.is_dir():
        raise LedgerError(f"There is no ledger in {data}; give the primary's data directory")
    return folder


def _record(line: bytes) -> Record:
    try:
        return unseal(line, None)
    except BadLine as e:
        raise LedgerError(
            f"A line cannot be read ({e}); `modelrunner ledger verify` says where"
        ) from e


def _applied(data: Path) -> int:
    """What the board says was acknowledged; 0 where no board can be asked."""
    path = data / BOARD
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            (seq,) = db.execute("SELECT seq FROM head").fetchone()
            return int(seq)
    except (sqlite3.Error, TypeError):
        return 0


class _Audit:
    """Compares the files of finished jobs with what their events say, as the records go by.

    A job that is purged later owes no files, so what is found about a job is
    kept back until the ledger's end.
    """

    def __init__(self, jobs: Path) -> None:
        self.files = 0
        self._jobs = jobs
        self._inputs: dict[str, Digest] = {}  # of jobs that have not ended
        self._found: dict[str, list[Finding]] = {}

    def see(self, record: Record) -> None:
        match record.event:
            case Queued(job=job, input=digest):
                self._inputs[job] = digest
            case (Completed() | Failed() | Killed()) as end:
                digests = {
                    "input": self._inputs.pop(end.job, None),
                    "log": end.log,
                    "output": end.output,
                }
                self._compare(end.job, digests)
            case Purged(job=job):
                self._found.pop(job, None)
            case _:
                pass

    def findings(self, folder: Path, after: int) -> list[Finding]:
        """What is wrong, without the jobs purged since record ``after`` by a living primary."""
        with suppress(LedgerError):  # behind damage there is no more to be learnt
            for line in lines(folder, after) if self._found else ():
                event = _record(line).event
                if isinstance(event, Purged):
                    self._found.pop(event.job, None)
        return [finding for found in self._found.values() for finding in found]

    def _compare(self, job: str, digests: dict[str, Digest | None]) -> None:
        found = []
        for kind, digest in digests.items():
            if digest is not None:
                self.files += 1
                path = self._jobs / job / _FILES[kind]
                what = _difference(path, digest)
                if what:
                    found.append(Finding(str(path), f"{what} (job {job})"))
        if found:
            self._found[job] = found


def _difference(path: Path, expected: Digest) -> str:
    """What is wrong with the file at ``path``; empty if nothing is."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return "the file is missing"
    except OSError as e:
        return f"the file cannot be opened: {e.strerror}"
    digest = hashlib.sha256()
    with open(fd, "rb", buffering=0) as file:
        size = os.fstat(fd).st_size
        if size != expected.size:
            return f"the file has {size} bytes, not {expected.size}"
        while block := file.read(_BLOCK):
            digest.update(block)
    return "" if digest.hexdigest() == expected.sha256 else "the file's content is not what it was"
