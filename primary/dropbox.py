"""Drop folders become jobs, and follow them.

Taking a drop: set it aside by a rename, *copy* it (an old connection may still
write to it), check the copy, sync the rename, enter the job, remove what was set aside. The
answers beside it are rebuilt from the ledger, so none is ever lost.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from pathlib import Path

import msgspec

from ledger.disk import sync_folder
from ledger.errors import LedgerStopped
from ledger.events import Submitted
from ledger.jobs import Job, State
from ledger.log import Ledger
from primary.errors import BadInput, NoRoom, PrimaryError, TooLarge
from primary.files import RESERVE, Files
from primary.submission import Submissions
from spool.drops import LONGEST, DropFolder, stem_of
from spool.errors import Gone, SpoolError
from spool.manifest import Model

CHUNK = 1024 * 1024  # bytes
NEWS = 1000  # records read at once, to see which jobs have changed
REMEMBERED = 1000  # ended drops whose answers are looked at when the primary starts

log = logging.getLogger(__name__)


class Dropbox:
    """All drop folders. ``tend`` belongs to the tick thread; copies run in the pool."""

    def __init__(
        self,
        ledger: Ledger,
        files: Files,
        submissions: Submissions,
        root: Path,
        pool: Executor,
        models: Callable[[], Mapping[str, Model]],
        wake: Callable[[], None],
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._submissions = submissions
        self._root = root
        self._pool = pool
        self._models = models
        self._wake = wake
        self._folders: dict[str, DropFolder] = {}
        self._open: dict[str, str] = {}  # by job: its ``updated`` when it was answered last
        self._due: set[str] = set()  # jobs to answer: new ones, changed ones, and those that failed
        self._seen = ledger.board.head()[0]  # the last record whose job was looked at
        self._aside: dict[str, str] = {}  # by job: the zip that leaves with the first answer
        self.troubles: dict[str, str] = {}  # by model: why its folder cannot be looked into

    def recover(self) -> None:
        """D1 and D2, and answers that are missing or old."""
        for model in self._models():
            folder = self._folder(model)
            for id, name in self._taken(folder, model):
                if self._ledger.board.job(id) is None:
                    self._put_back(folder, name, id)
                else:
                    # Perhaps it was never answered, even if it has ended meanwhile.
                    self._aside[id] = name
                    self._open[id] = ""
                    self._due.add(id)
        board = self._ledger.board
        for job in (*board.dropped_open(), *board.dropped(limit=REMEMBERED)):
            # One that has ended is answered again only where its answer lies and is
            # old: whoever took the answers away is not sent them again.
            answered = self._folder(job.model).answered(job.drop or "")
            if not job.final or (answered is not None and answered != _answer(job)):
                self._open[job.id] = ""
                self._due.add(job.id)

    def tend(self, now: float) -> None:
        """Look into every folder, and bring the answers up to date."""
        models = self._models()
        for model in models:
            try:
                self._look(self._folder(model), model, now)
            except (SpoolError, OSError) as e:
                self._trouble(model, str(e))
            else:
                self.troubles.pop(model, None)
        for model in self.troubles.keys() - models.keys():
            del self.troubles[model]
        # The ledger says which jobs have changed: what waits costs nothing.
        while records := self._ledger.iterate(self._seen, NEWS):
            self._seen = records[-1].seq
            self._due.update(r.event.job for r in records if r.event.job in self._open)
        for id in list(self._due):
            if self._follow(id):
                self._due.discard(id)

    # --- inside --------------------------------------------------------------------

    def _taken(self, folder: DropFolder, model: str) -> list[tuple[str, str]]:
        try:
            return folder.taken()
        except SpoolError as e:
            self._trouble(model, str(e))  # at the next start: D1 and D2 can wait
            return []

    def _trouble(self, model: str, why: str) -> None:
        """Said once; it is tried again at every look."""
        if self.troubles.get(model) != why:
            log.warning("the drop folder of model %s: %s (tried again)", model, why)
        self.troubles[model] = why

    def _look(self, folder: DropFolder, model: str, now: float) -> None:
        for name, verdict in folder.look(now):
            if verdict == "explain":
                folder.explain(
                    name,
                    "Waiting for the rest of this file: a zip ends with an end record, "
                    "and there is none yet.\nIt is rejected after an hour without growth.\n",
                )
            elif verdict == "reject":
                folder.reject(
                    name, "This file has no zip end record and stopped growing: it was cut.\n"
                )
            elif verdict == "take":
                self._take(folder, model, name)

    def _folder(self, model: str) -> DropFolder:
        if model not in self._folders:
            self._folders[model] = DropFolder(self._root, model)
        return self._folders[model]

    def _take(self, folder: DropFolder, model: str, name: str) -> None:
        if not name.lower().endswith(".zip"):
            folder.reject(name, "Only files that end in .zip are taken: put your input into one.\n")
            return
        if len(os.fsencode(name)) > LONGEST:
            folder.reject(name, f"The name is too long: {LONGEST} bytes at most.\n")
            return
        job = str(uuid.uuid4())
        try:
            folder.take(name, job)
        except Gone:
            return
        self._pool.submit(self._enter, folder, model, name, job)

    def _enter(self, folder: DropFolder, model: str, name: str, job: str) -> None:
        """In the pool: copy, check, enter. What is neither entered nor rejected is put back."""
        try:
            try:
                self._copy_in(folder, model, name, job)
            except (BadInput, TooLarge) as e:
                why = f"This zip cannot be run by the model {model}:\n{e}\n{_listed(e)}"
                folder.reject(name, why, job)
        except Gone:
            log.warning("%s: the dropped zip left before it was copied", name)
        except LedgerStopped:
            raise  # the process ends; D1 or D2, at the restart
        except (PrimaryError, SpoolError, OSError) as e:
            log.warning("%s: dropped zip waits: %s", name, e)
            self._put_back(folder, name, job)
        except Exception:
            log.exception("%s: dropped zip waits", name)
            self._put_back(folder, name, job)
        self._wake()

    def _copy_in(self, folder: DropFolder, model: str, name: str, job: str) -> None:
        upload = self._submissions.receive()
        try:
            with folder.open(job, name) as file:
                if os.fstat(file.fileno()).st_size > self._files.free() - RESERVE:
                    raise NoRoom("no room for it on the primary's disk")
                while data := file.read(CHUNK):
                    upload.write(data)
            self._submissions.check(self._submissions.model(model), upload)
            # A power cut must not bring its old name back beside the job: it would run twice.
            sync_folder(folder.path)
            stem = folder.promise(name)
            try:
                submitted = Submitted(
                    job=job,
                    name=_shown(stem_of(name)),
                    model=model,
                    by="drop folder",
                    source="drop",
                    drop=stem,
                )
                self._submissions.enter(submitted, upload)
            except BaseException:
                folder.keep(stem)
                raise
            # D2 if we die here: the restart answers, and removes what was set aside.
            self._aside[job] = name
            self._open[job] = ""
            self._due.add(job)
        finally:
            upload.discard()

    def _put_back(self, folder: DropFolder, name: str, job: str) -> None:
        if self._ledger.board.job(job) is not None:
            return
        try:
            folder.put_back(job, name)
        except OSError as e:
            log.warning("%s: not put back before the restart: %s", name, e)

    def _follow(self, id: str) -> bool:
        """Bring one job's answers up to date; once it is answered, let go of its zip.

        False if that did not work, and has to be done again.
        """
        job = self._ledger.board.job(id)
        if job is None or job.drop is None:
            del self._open[id]
            return True
        if self._open[id] != job.updated:
            folder = self._folder(job.model)
            files: list[tuple[Path, str]] = []
            if job.final:
                # Only what the ledger knows: an attempt that was given up may have left files.
                home = self._files.folder(id)
                if job.output is not None:
                    files.append((home / "output.zip", ".output.zip"))
                if job.log is not None:
                    files.append((home / "job_log.txt", ".log.txt"))
            try:
                folder.answer(job.drop, _answer(job), files)
                folder.keep(job.drop)
                if id in self._aside:
                    folder.done(id, self._aside.pop(id))
            except OSError as e:
                log.warning("job %s: its answer in the drop folder: %s (tried again)", id, e)
                return False
            self._open[id] = job.updated
        if job.final:
            del self._open[id]
        return True


def _listed(refused: BadInput | TooLarge) -> str:
    """Everything that was found, a line each; of one finding the reason says it all."""
    findings = refused.findings if isinstance(refused, BadInput) else ()
    return "".join(f"- {finding}\n" for finding in findings) if len(findings) > 1 else ""


def _answer(job: Job) -> bytes:
    """What ``NAME.job.json`` says."""
    said: dict[str, object] = {
        "uuid": job.id,
        "name": job.name,
        "model": job.model,
        "status": str(job.state),
        "attempt": job.attempt,
        "updated": job.updated,
    }
    if job.reason is not None and job.state is not State.COMPLETE:
        said["reason"] = job.reason
    if job.failure is not None:
        said["failure"] = job.failure
    if job.run is not None and job.run.exit_code is not None:
        said["exit_code"] = job.run.exit_code
    return msgspec.json.format(msgspec.json.encode(said)) + b"\n"


def _shown(name: str) -> str:
    """A dropped name as a job name: control characters and stray bytes made visible."""
    text = name.encode(errors="surrogateescape").decode(errors="replace")
    return "".join(c if c.isprintable() else "\ufffd" for c in text)[:200] or "drop"
