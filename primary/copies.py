"""Jobs on a copy of a file that the primary has: another job's input, or a model's example.

A copy, never a link: a ticket is known by being a link of its own job's input. From
there on such a job goes the way of every upload.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ledger.events import Digest
from ledger.jobs import Job
from primary.errors import Busy, NoRoom, NoSuchFile
from primary.files import RESERVE, Files, JobFile, Upload
from primary.reading import open_file
from primary.submission import NewJob, Submissions
from spool.manifest import Model
from spool.names import shown

EXAMPLE = "example.zip"  # in the model's folder
LONGEST = 200  # characters of a job's name; equals web.submissions.MAX_NAME
CHUNK = 1024 * 1024  # bytes

# A few words ask for a copy of gigabytes, and whoever asks is answered after it: so only few
# of those at once, or nobody else is (web.serving.THREADS, web.site.MAX_POLLS).
LONG = 16 * 1024 * 1024  # bytes
MOST_LONG = 2


class Copies:
    """Thread-safe. ``job`` finds a job, or raises UnknownJob."""

    def __init__(
        self, submissions: Submissions, files: Files, spool: Path, job: Callable[[str], Job]
    ) -> None:
        self._submissions = submissions
        self._files = files
        self._spool = spool
        self._job = job
        self._long = threading.BoundedSemaphore(MOST_LONG)

    def rerun(self, id: str, by: str, name: str | None, key: str | None) -> Job:
        """A new job on the input of job ``id``, checked against the model as it is now.

        An input that could not be fetched is fetched again. Raises UnknownJob, NoSuchFile
        where there is no input any more, Busy, and what ``Submissions.submit`` raises.
        """
        old = self._job(id)
        new = NewJob(name=name or old.name, model=old.model, by=by, rerun_of=old.id, key=key)
        if old.input is None and old.url is not None and old.final:
            return self._submissions.submit_url(new, old.url)
        if old.input is not None and (known := self._submissions.known(new, old.input)):
            return known
        self._submissions.model(old.model)  # said before a gigabyte is copied
        with open_file(self._files, self._spool, old, "input.zip") as file:
            return self._submit(new, file, old.input)

    def run_example(self, model: str, by: str, key: str | None) -> Job:
        """Raises UnknownModel, NoSuchFile, Busy, and what ``Submissions.submit`` raises."""
        with self.example(model) as file:
            title = self._submissions.model(model).title
            name = shown(f"Example of {title}", LONGEST)
            return self._submit(NewJob(name=name, model=model, by=by, key=key), file, None)

    def example(self, model: str) -> JobFile:
        """The model's example, open. Raises UnknownModel or NoSuchFile."""
        path = _example(self._submissions.model(model))
        if not path.is_file():
            raise NoSuchFile(f"the model {model} has no {EXAMPLE}")
        file = path.open("rb")
        return JobFile(file, os.fstat(file.fileno()).st_size, live=False)

    def _submit(self, new: NewJob, file: JobFile, said: Digest | None) -> Job:
        """``said`` is what the ledger says of the file, if it knows of it."""
        if file.size > self._files.free() - RESERVE:
            raise NoRoom(f"no room on the primary's disk for a copy of {file.size} bytes")
        with self._turn(file.size):
            upload = self._submissions.receive()
            try:
                _copy(file, upload)
                if said is not None and upload.digest != said:
                    raise NoSuchFile(
                        f"the input of job {new.rerun_of} is not on the primary's disk as it was: "
                        "its hash is not the ledger's; submit it anew, and tell the server's keeper"
                    )
                return self._submissions.submit(new, upload)
            finally:
                upload.discard()

    @contextmanager
    def _turn(self, size: int) -> Iterator[None]:
        """Be one of the few that copy a large file of ``size`` bytes. Raises Busy."""
        if size <= LONG:
            yield
            return
        if not self._long.acquire(blocking=False):
            raise Busy(
                f"{MOST_LONG} large inputs are being copied already; nothing was submitted, "
                "try again in a moment"
            )
        try:
            yield
        finally:
            self._long.release()


def has_input(job: Job) -> bool:
    """Whether ``Copies.rerun`` finds an input of the job: here, or once more at its address."""
    return not job.purged and (job.input is not None or (job.final and job.url is not None))


def has_example(model: Model) -> bool:
    return _example(model).is_file()


def _example(model: Model) -> Path:
    return model.folder / EXAMPLE


def _copy(file: JobFile, upload: Upload) -> None:
    while data := file.file.read(CHUNK):
        upload.write(data)
