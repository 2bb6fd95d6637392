"""The primary's side of the spool: publish, look, stop, take, retire.

It knows names and files, not jobs: what a sighting means and what is done
about it is decided by ``primary.rules``. The primary's copy of the spool is
always a local directory. Only genuine tickets and claims are seen as such
(``spool.genuine``): nobody else's file is believed, whatever it is called.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import threading
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from spool import names, reports
from spool.believe import read_believed
from spool.errors import Gone, Refused, SpoolError
from spool.folders import (
    BELL_MODE,
    QUEUE_MODE,
    SPOOL_MODE,
    give_group,
    make_folder,
    names_in,
)
from spool.genuine import Genuine
from spool.local import LocalTransport, translated, translating
from spool.names import Claim, ReportName, Ticket

TICKET_MODE = 0o440  # opened by nobody for writing
ASIDE = ".aside"  # in a model's folder: tickets on their way into new/ or out of it
ASIDE_MODE = 0o700
LOOSE = 256  # reports, logs and outputs without a claim that one scan takes in from one worker
TRIES = 3  # to make a ticket where somebody puts a file of that name


class Sighting(NamedTuple):
    """What one scan found. Lists hold only names that are ours."""

    tickets: list[tuple[str, Ticket]]  # (model, ticket)
    claims: list[tuple[str, Claim]]  # (worker, claim)
    reports: list[tuple[str, ReportName]]  # (worker, report)
    stops: set[tuple[str, str]]  # (worker, key)
    rests: set[tuple[str, str]]  # (worker, key) of the logs and outputs
    unseen: dict[str, str]  # the workers that could not be looked at, and why
    flooded: dict[str, str]  # the models whose new/ could not be looked at, and why
    forged_tickets: list[tuple[str, Ticket]]  # (model, a ticket that is not its job's input)
    forged_claims: list[tuple[str, Claim]]  # (worker, a claim that is not its job's input)
    strange: list[str]  # what an operator should see, a line each


class Dispatch:
    """The spool below ``root``, as its owner sees it. ``jobs`` is the folder of the inputs."""

    def __init__(self, root: Path, jobs: Path | None = None) -> None:
        # Once: the spool may be a link to where 'spool grant' has moved it.
        self.root = Path(os.path.realpath(root))
        self._jobs = jobs if jobs is not None else root.parent / "jobs"
        self._transport = LocalTransport(self.root)
        self._genuine = Genuine(self._jobs)
        self._rung = 0
        self._ringing = threading.Lock()
        self.missing: dict[str, str] = {}  # models without folders, and what to do about it

    def lay_out(self, models: Iterable[str]) -> None:
        """Make the folders that are missing. Raises Refused or NoSpace.

        One model's folders that cannot be made are noted, and hold up no other's.
        """
        with translating(str(self.root.parent)):
            self.root.parent.mkdir(parents=True, exist_ok=True)
        for folder in ("", names.MODELS, names.WORKERS):
            make_folder(self.root / folder, SPOOL_MODE)
        self._lay_out_bell()
        self.missing = {}
        for model in models:
            try:
                self.lay_out_model(model)
            except Refused as e:
                self.missing[model] = str(e)
        for model in self.models():
            self._sweep(model)

    def apart(self) -> bool:
        """Whether inputs lie on another file system: then every ticket is a copy of one."""
        with translating(str(self.root)):
            return os.stat(self.root).st_dev != os.stat(self._jobs).st_dev

    def lay_out_model(self, model: str) -> None:
        """Make one model's folders where they are missing. Raises Refused or NoSpace."""
        make_folder(self.root / names.model_folder(model), SPOOL_MODE)
        make_folder(self.root / names.new_folder(model), QUEUE_MODE)
        make_folder(self.root / names.drop_folder(model), QUEUE_MODE)
        make_folder(self.root / _aside(model), ASIDE_MODE)

    # --- looking -------------------------------------------------------------------

    def workers(self) -> list[str]:
        return sorted(n for n in self._listed(names.WORKERS) if names.is_plain(n))

    def models(self) -> list[str]:
        """The folders under ``models/``, also of models that are configured no more."""
        return sorted(n for n in self._listed(names.MODELS) if names.is_plain(n))

    def scan(self, models: Iterable[str], workers: Iterable[str]) -> Sighting:
        """``new/`` first, then every ``cur/``: a ticket on its way is seen in one of them."""
        seen = Sighting([], [], [], set(), set(), {}, {}, [], [], [])
        for model in models:
            try:
                self._scan_model(model, seen)
            except SpoolError as e:  # a flood in one new/ must not stop the other models
                seen.flooded[model] = str(e)
        # Listed again: one that came since then may have claimed before new/ was listed.
        for worker in sorted({*workers, *self.workers()}):
            try:
                self._scan_worker(worker, seen)
            except SpoolError as e:  # one worker's folder must not stop the others
                seen.unseen[worker] = str(e)
        return seen

    def _scan_model(self, model: str, seen: Sighting) -> None:
        folder = names.new_folder(model)
        others = 0
        found: list[Ticket] = []
        for name in self._listed(folder):
            ticket = names.parse_ticket(name)
            if ticket is None:
                others += 1
            elif (wrong := self._wrong(f"{folder}/{name}", ticket)) is None:
                found.append(ticket)
            elif wrong:
                seen.forged_tickets.append((model, ticket))
        seen.tickets.extend((model, ticket) for ticket in found)
        if others:
            seen.strange.append(f"{folder}: {others} files that are no tickets; remove them")

    def _scan_worker(self, worker: str, seen: Sighting) -> None:
        """All or nothing: reports without the claims beside them would not be believed."""
        home = names.worker_folder(worker)
        # Reports before claims: a report is believed only beside its claim,
        # and the worker writes it after the claim.
        said = [r for n in self._listed(f"{home}/{names.REPORTS}") if (r := names.parse_report(n))]
        claims: list[Claim] = []
        forged: list[tuple[Claim, str]] = []
        for name in self._listed(f"{home}/{names.CUR}"):
            if (claim := names.parse_claim(name)) is None:
                continue
            wrong = self._wrong(f"{home}/{names.CUR}/{name}", claim.ticket)
            if wrong is None:
                claims.append(claim)
            elif wrong:
                forged.append((claim, wrong))
        stops = {n for n in self._listed(f"{home}/{names.STOP}") if names.parse_key(n)}
        rests = {
            name.removesuffix(suffix)
            for folder, suffix in ((names.LOG, ".log"), (names.OUT, ".zip"))
            for name in self._listed(f"{home}/{folder}")
            if names.parse_suffixed(name, suffix)
        }
        held = {claim.key for claim in claims}
        told = [r for r in said if r.key in held], [r for r in said if r.key not in held]
        seen.reports.extend((worker, r) for r in (*told[0], *told[1][:LOOSE]))
        seen.claims.extend((worker, claim) for claim in claims)
        seen.forged_claims.extend((worker, claim) for claim, _ in forged)
        seen.stops.update((worker, key) for key in stops)
        seen.rests.update((worker, key) for key in (*(rests & held), *sorted(rests - held)[:LOOSE]))
        if forged:
            seen.strange.append(
                f"workers/{worker}/cur: {len(forged)} claims are not believed, "
                f"such as {forged[0][0]}: {forged[0][1]}"
            )

    def _wrong(self, path: str, ticket: Ticket) -> str | None:
        """None if the file is genuine; else why not; "" if it went in the meantime."""
        try:
            return self._genuine.why_not(f"{self.root}/{path}", ticket)
        except Gone:
            return ""

    def beat(self, worker: str) -> bytes:
        """The bytes of the worker's last beat. Raises Gone or Unbelievable."""
        folder = self.root / names.worker_folder(worker) / names.REPORTS
        return read_believed(folder, names.BEAT, reports.MAX_BEAT)

    def report(self, worker: str, name: ReportName) -> bytes:
        """The bytes of a report. Raises Gone or Unbelievable."""
        folder = self.root / names.worker_folder(worker) / names.REPORTS
        return read_believed(folder, str(name), reports.MAX_REPORT)

    # --- acting --------------------------------------------------------------------

    def publish(self, source: Path, model: str, ticket: Ticket) -> None:
        """Make ``source`` claimable by one link(2); a copy where links are not to be had.

        Its group becomes that of ``new/`` before anybody can claim it. A ticket of
        that name that lies there already is the same file; any other file of that
        name is taken away. Raises NoSpace or Refused.
        """
        folder = self.root / names.new_folder(model)
        target = folder / str(ticket)
        with translating(str(target)):
            group = os.stat(folder).st_gid
            give_group(source, group)
        for _ in range(TRIES):
            try:
                os.link(source, target)
                return
            except FileExistsError:
                if self._wrong(f"{names.new_folder(model)}/{ticket}", ticket) is None:
                    return
                self.take_away(model, ticket)
            except OSError as e:
                if e.errno not in (errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.EXDEV):
                    raise translated(e, str(target)) from e
                self._copy(source, model, ticket, group)
                return
        raise Refused(f"{target}: a file of that name comes back", "see who may write there")

    def _copy(self, source: Path, model: str, ticket: Ticket, group: int) -> None:
        target = self.root / names.new_folder(model) / str(ticket)
        # Not in new/, where others may write: they could put a link in its place.
        half = self.root / _aside(model) / str(ticket)
        with translating(str(target)):
            half.unlink(missing_ok=True)  # from a crash; it may be read-only already
            shutil.copyfile(source, half)
            half.chmod(TICKET_MODE)
            give_group(half, group)
            self._genuine.copied(half, ticket.sha256)
            half.rename(target)

    def unpublish(self, model: str, ticket: Ticket) -> bool:
        """Take a ticket back; False means that a worker has it.

        Out of ``new/`` first, where a worker could swap it for another file between
        a look and the removal, so that a job that runs would count as taken back.
        """
        aside = f"{_aside(model)}/{ticket}"
        try:
            self._transport.move(f"{names.new_folder(model)}/{ticket}", aside)
        except Gone:
            return False
        genuine = self._wrong(aside, ticket) is None
        # F2 if we die here: it is removed when the spool is laid out.
        self._discard(aside)
        return genuine

    def take_away(self, model: str, ticket: Ticket) -> None:
        """Remove a file that has a ticket's name, but is not its input.

        What may be the only copy of something that is ours is kept, hidden.
        Raises Refused where it is not ours to remove.
        """
        path = f"{names.new_folder(model)}/{ticket}"
        try:
            wrong = self._genuine.why_not(f"{self.root}/{path}", ticket)
            info = os.lstat(self.root / path)
        except (Gone, FileNotFoundError):
            return
        if wrong is None:
            return  # given back meanwhile
        ours = stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid() and info.st_nlink == 1
        if ours or stat.S_ISDIR(info.st_mode):
            hidden = f".{uuid.uuid4().hex[:8]}-{ticket}"
            self._transport.move(path, f"{names.new_folder(model)}/{hidden}")
        else:
            self._discard(path)

    def ring(self) -> None:
        """Make the bell grow: workers should look. Thread-safe."""
        with self._ringing:
            self._transport.append(names.BELL, self._rung, b".")
            self._rung += 1

    def stop(self, worker: str, key: str, reason: str) -> None:
        """Ask a worker to stop a run."""
        home = names.worker_folder(worker)
        self._transport.store(reason.encode(), f"{home}/{names.STOP}/.{key}")
        self._transport.move(f"{home}/{names.STOP}/.{key}", f"{home}/{names.STOP}/{key}")
        self.ring()

    def retire(self, worker: str, key: str, claims: Iterable[Claim]) -> None:
        """Remove all of one attempt from a worker's folder, the claim first. Idempotent.

        The claim is the receipt: once it is gone the worker forgets the attempt.
        """
        home = names.worker_folder(worker)
        for claim in claims:
            self._discard(f"{home}/{names.CUR}/{claim}")
        # F6 if we die here: the next scan sees the leftovers and retires again.
        self.tidy(worker, key)

    def tidy(self, worker: str, key: str) -> None:
        """Remove what one attempt left beside its claim."""
        home = names.worker_folder(worker)
        job, attempt = names.split_key(key)
        for kind in ("started", "processed", "final"):
            self._discard(f"{home}/{names.REPORTS}/{ReportName(job, attempt, kind)}")
        for folder, name in (
            (names.LOG, f"{key}.log"),
            (names.OUT, f"{key}.zip"),
            (names.STOP, key),
            (names.STOP, f".{key}"),  # where a crash cut our asking short
        ):
            self._discard(f"{home}/{folder}/{name}")

    def drop_report(self, worker: str, name: ReportName) -> None:
        """Take a report away: the worker sees its claim still there, and delivers again."""
        self._discard(f"{names.worker_folder(worker)}/{names.REPORTS}/{name}")
        self.ring()

    # --- inside --------------------------------------------------------------------

    def _discard(self, path: str) -> None:
        """Remove a file. A folder in its place is renamed out of the way: it may be full."""
        try:
            self._transport.drop(path)
        except SpoolError:
            folder, _, name = path.rpartition("/")
            full = self.root / path
            if full.is_symlink() or not full.is_dir():
                raise
            hidden = f".{uuid.uuid4().hex[:8]}-{name[:200]}"
            self._transport.move(path, f"{folder}/{hidden}")

    def _listed(self, folder: str) -> list[str]:
        try:
            return names_in(f"{self.root}/{folder}", folder)
        except Gone:
            return []

    def _lay_out_bell(self) -> None:
        bell = self.root / names.BELL
        with translating(str(bell)):
            if not bell.exists():
                bell.touch(BELL_MODE)
                bell.chmod(BELL_MODE)
            self._rung = bell.stat().st_size

    def _sweep(self, model: str) -> None:
        """Remove what a crash left of a ticket on its way into ``new/`` or out of it."""
        for name in self._listed(_aside(model)):
            self._discard(f"{_aside(model)}/{name}")


def _aside(model: str) -> str:
    return f"{names.model_folder(model)}/{ASIDE}"


def log_folder(root: Path, worker: str) -> Path:
    return root / names.worker_folder(worker) / names.LOG


def out_folder(root: Path, worker: str) -> Path:
    return root / names.worker_folder(worker) / names.OUT
