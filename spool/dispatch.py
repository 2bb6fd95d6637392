"""The primary's side of the spool: publish, look, stop, take, retire.

It knows names and files, not jobs: what a sighting means and what is done
about it is decided by ``primary.rules``. The primary's copy of the spool is
always a local directory.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from spool import names, reports
from spool.believe import open_believed
from spool.errors import Gone, SpoolError
from spool.local import LocalTransport, translated, translating
from spool.names import Claim, ReportName, Ticket

TICKET_MODE = 0o440  # opened by nobody for writing


class Sighting(NamedTuple):
    """What one scan found. Lists hold only names that are ours."""

    tickets: list[tuple[str, Ticket]]  # (model, ticket)
    claims: list[tuple[str, Claim]]  # (worker, claim)
    reports: list[tuple[str, ReportName]]  # (worker, report)
    stops: set[tuple[str, str]]  # (worker, key)
    rests: set[tuple[str, str]]  # (worker, key) of the logs and outputs
    unseen: dict[str, str]  # the workers that could not be looked at, and why


class Dispatch:
    """The spool below ``root``, as its owner sees it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._transport = LocalTransport(root)
        self._rung = 0

    def lay_out(self, models: Iterable[str]) -> None:
        """Make the folders that are missing. Raises Refused or NoSpace."""
        with translating(str(self.root)):
            for folder in (names.MODELS, names.WORKERS):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            for model in models:
                self.lay_out_model(model)
            bell = self.root / names.BELL
            bell.touch(exist_ok=True)
            self._rung = bell.stat().st_size

    def lay_out_model(self, model: str) -> None:
        """Make one model's folders where they are missing. Raises Refused or NoSpace."""
        for folder in (names.new_folder(model), names.drop_folder(model)):
            path = self.root / folder
            if not path.is_dir():
                with translating(folder):
                    path.mkdir(parents=True, exist_ok=True)

    # --- looking -------------------------------------------------------------------

    def workers(self) -> list[str]:
        return sorted(n for n in self._listed(names.WORKERS) if names.is_plain(n))

    def models(self) -> list[str]:
        """The folders under ``models/``, also of models that are configured no more."""
        return sorted(n for n in self._listed(names.MODELS) if names.is_plain(n))

    def scan(self, models: Iterable[str], workers: Iterable[str]) -> Sighting:
        """``new/`` first, then every ``cur/``: a ticket on its way is seen in one of them."""
        seen = Sighting([], [], [], set(), set(), {})
        for model in models:
            for name in self._listed(names.new_folder(model)):
                if ticket := names.parse_ticket(name):
                    seen.tickets.append((model, ticket))
        # Listed again: one that came since then may have claimed before new/ was listed.
        for worker in sorted({*workers, *self.workers()}):
            try:
                self._scan_worker(worker, seen)
            except SpoolError as e:  # one worker's folder must not stop the others
                seen.unseen[worker] = str(e)
        return seen

    def _scan_worker(self, worker: str, seen: Sighting) -> None:
        home = names.worker_folder(worker)
        # Reports before claims: a report is believed only beside its claim,
        # and the worker writes it after the claim.
        for name in self._listed_own(f"{home}/{names.REPORTS}"):
            if report := names.parse_report(name):
                seen.reports.append((worker, report))
        for name in self._listed_own(f"{home}/{names.CUR}"):
            if claim := names.parse_claim(name):
                seen.claims.append((worker, claim))
        for name in self._listed_own(f"{home}/{names.STOP}"):
            if names.parse_key(name):
                seen.stops.add((worker, name))
        for folder, suffix in ((names.LOG, ".log"), (names.OUT, ".zip")):
            for name in self._listed_own(f"{home}/{folder}"):
                if names.parse_suffixed(name, suffix):
                    seen.rests.add((worker, name.removesuffix(suffix)))

    def beat(self, worker: str) -> bytes:
        """The bytes of the worker's last beat. Raises Gone or Unbelievable."""
        folder = self.root / names.worker_folder(worker) / names.REPORTS
        with open_believed(folder, names.BEAT, reports.MAX_BEAT) as file:
            return file.read()

    def report(self, worker: str, name: ReportName) -> bytes:
        """The bytes of a report. Raises Gone or Unbelievable."""
        folder = self.root / names.worker_folder(worker) / names.REPORTS
        with open_believed(folder, str(name), reports.MAX_REPORT) as file:
            return file.read()

    # --- acting --------------------------------------------------------------------

    def publish(self, source: Path, model: str, ticket: Ticket) -> None:
        """Make ``source`` claimable by one link(2); a copy where links are not to be had.

        A ticket of that name that lies there already is the same file: names are
        unique. Raises NoSpace or Refused.
        """
        target = self.root / names.new_folder(model) / str(ticket)
        try:
            os.link(source, target)
        except FileExistsError:
            return
        except OSError as e:
            if e.errno not in (errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EXDEV):
                raise translated(e, str(target)) from e
            with translating(str(target)):
                half = target.with_name(f".{ticket}")
                half.unlink(missing_ok=True)  # from a crash; it may be read-only already
                shutil.copyfile(source, half)
                half.chmod(TICKET_MODE)
                half.rename(target)

    def unpublish(self, model: str, ticket: Ticket) -> bool:
        """Take a ticket back; False means that a worker has it."""
        return self._transport.drop(f"{names.new_folder(model)}/{ticket}")

    def ring(self) -> None:
        """Make the bell grow: workers should look."""
        self._transport.append(names.BELL, self._rung, b".")
        self._rung += 1

    def stop(self, worker: str, key: str, reason: str) -> None:
        """Ask a worker to stop a run."""
        home = names.worker_folder(worker)
        self._transport.store(reason.encode(), f"{home}/{names.STOP}/.{key}")
        self._transport.move(f"{home}/{names.STOP}/.{key}", f"{home}/{names.STOP}/{key}")

    def retire(self, worker: str, key: str, claims: Iterable[Claim]) -> None:
        """Remove all of one attempt from a worker's folder, the claim first. Idempotent.

        The claim is the receipt: once it is gone the worker forgets the attempt.
        """
        home = names.worker_folder(worker)
        for claim in claims:
            self._transport.drop(f"{home}/{names.CUR}/{claim}")
        # F6 if we die here: the next scan sees the leftovers and retires again.
        self.tidy(worker, key)

    def tidy(self, worker: str, key: str) -> None:
        """Remove what one attempt left beside its claim."""
        home = names.worker_folder(worker)
        job, attempt = names.split_key(key)
        for kind in ("started", "processed", "final"):
            self._transport.drop(f"{home}/{names.REPORTS}/{ReportName(job, attempt, kind)}")
        for folder, name in (
            (names.LOG, f"{key}.log"),
            (names.OUT, f"{key}.zip"),
            (names.STOP, key),
            (names.STOP, f".{key}"),  # where a crash cut our asking short
        ):
            self._transport.drop(f"{home}/{folder}/{name}")

    def drop_report(self, worker: str, name: ReportName) -> None:
        """Take a report away: the worker sees its claim still there, and delivers again."""
        self._transport.drop(f"{names.worker_folder(worker)}/{names.REPORTS}/{name}")

    def _listed(self, folder: str) -> list[str]:
        try:
            return self._transport.names(folder)
        except Gone:
            return []

    def _listed_own(self, folder: str) -> list[str]:
        """As ``_listed``, where a worker could have put a link to another one's folder."""
        return [] if (self.root / folder).is_symlink() else self._listed(folder)


def log_folder(root: Path, worker: str) -> Path:
    return root / names.worker_folder(worker) / names.LOG


def out_folder(root: Path, worker: str) -> Path:
    return root / names.worker_folder(worker) / names.OUT
