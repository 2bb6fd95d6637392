"""How a job comes to be: an upload, a URL or a dropped zip, all by one path.

The order of effects is the promise: the input is checked, synced under
``jobs/``, and only then entered into the ledger; only then is anything
acknowledged.
"""

from __future__ import annotations

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor

import msgspec

from ledger.errors import BadEvent, LedgerFull
from ledger.events import AnyEvent, Digest, Failed, Killed, Queued, Source, Submitted
from ledger.jobs import Job, State
from ledger.log import Ledger
from primary import fetching
from primary.errors import (
    BadInput,
    NoRoom,
    NotAllowed,
    PrimaryError,
    Stopping,
    TooLarge,
    UnknownModel,
)
from primary.files import Files, Upload
from primary.keys import Keys, again, job_of
from spool import archive, names
from spool.errors import BadZip
from spool.expectations import Expectations
from spool.manifest import Model

AGAIN = 60.0  # seconds until an input is fetched again for which there was no room

log = logging.getLogger(__name__)


class NewJob(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody asks for. ``by`` says who, ``rerun_of`` the job that it repeats.

    ``key`` is the Idempotency-Key: with the same one the same job is meant.
    """

    name: str
    model: str
    by: str
    rerun_of: str | None = None
    key: str | None = None


class Submissions:
    """Enters jobs into the ledger. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        files: Files,
        pool: Executor,
        models: Callable[[], Mapping[str, Model]],
        broken: Callable[[], Mapping[str, str]],
        wake: Callable[[], None],
        allow_urls: Collection[str],
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._pool = pool
        self._models = models
        self._broken = broken
        self._wake = wake
        self._allow_urls = frozenset(allow_urls)
        self._keys = Keys()
        self._fetching: set[str] = set()
        self._later: dict[str, float] = {}  # by job: monotonic seconds of the next fetch
        self.stopping = False

    def receive(self) -> Upload:
        """Raises NoRoom or Stopping."""
        self._refuse_if_stopping()
        return self._files.receive()

    def model(self, name: str) -> Model:
        """Raises UnknownModel."""
        models = self._models()
        if name not in models:
            raise UnknownModel(name, list(models), self._broken().get(name))
        return models[name]

    def check(self, model: Model, upload: Upload) -> None:
        """Raises BadInput, saying which entry and why."""
        try:
            archive.check(upload.path, Expectations(model.files))
        except BadZip as e:
            raise BadInput(str(e), e.entry, e.findings) from None

    def known(self, new: NewJob, input: Digest | None = None, url: str | None = None) -> Job | None:
        """The job that this very submission has entered before; ``input`` or ``url`` came with it.

        None if it has not, or has no key. Raises KeyReused or KeyBusy.
        """
        found = self._ledger.board.job(job_of(new.key)) if new.key is not None else None
        return None if found is None else again(found, _submitted(new, "upload", url), input)

    def submit(self, new: NewJob, upload: Upload) -> Job:
        """Raises UnknownModel, BadInput, NoRoom or Stopping; then nothing is kept.

        Raises KeyReused or KeyBusy as ``known`` does, and KeyBusy while another one with its key
        is under way.
        """
        with self._keys.held(new.key):
            known = self.known(new, upload.digest)
            if known is not None:
                return known
            self.check(self.model(new.model), upload)
            return self.enter(_submitted(new, "upload"), upload)

    def enter(self, submitted: Submitted, upload: Upload) -> Job:
        """Sync a checked input and enter it as a queued job."""
        self._refuse_if_stopping()
        job = submitted.job
        self._keep(upload, job)
        queued = Queued(job=job, input=upload.digest)
        try:
            self._ledger.append(lambda _: (submitted, queued))
        except LedgerFull as e:
            self._files.forget(job)
            raise NoRoom(f"the primary's disk is full: {e}; nothing was lost") from e
        except BadEvent:
            self._files.forget(job)
            raise
        # F0/F1 if we die here: a restart finds the file in incoming/ and the job known.
        self._files.accepted(job)
        self._wake()
        return self._job(job)

    def submit_url(self, new: NewJob, url: str) -> Job:
        """The input is fetched in the background. Raises UnknownModel, BadInput or NotAllowed.

        Raises KeyReused, KeyBusy, NoRoom and Stopping as ``submit`` does.
        """
        self._refuse_if_stopping()
        with self._keys.held(new.key):
            known = self.known(new, url=url)
            if known is not None:
                return known
            self.model(new.model)
            fetching.check_url(url, self._allow_urls)
            submitted = _submitted(new, "url", url)
            try:
                self._ledger.append(lambda _: (submitted,))
            except LedgerFull as e:
                raise NoRoom(f"the primary's disk is full: {e}; nothing was lost") from e
        self._wake()
        return self._job(submitted.job)

    def waits_for_room(self, job: str) -> bool:
        """Whether its input was not fetched for want of room, and is to be fetched again."""
        return time.monotonic() < self._later.get(job, 0.0)

    def tend_created(self) -> None:
        """Fetch what is CREATED, also after a restart (F0); kill what is not wanted."""
        now = time.monotonic()
        for job in self._ledger.board.created():
            try:
                if job.kill_wanted:
                    self._end(job.id, _killed)  # nothing runs; a fetch under way is thrown away
                elif job.url is None:
                    self._complete(job)
            except LedgerFull as e:
                log.warning("job %s waits: %s", job.id, e)
            if job.kill_wanted or job.id in self._fetching:
                continue
            if job.url is not None and not self.stopping and now >= self._later.get(job.id, now):
                self._fetching.add(job.id)
                self._pool.submit(self._fetch, job)

    def recover(self) -> None:
        """F0 at start: remove what was received and never became a job."""
        for path in self._files.incoming.iterdir():
            if path.is_dir():
                continue  # an operator's hand
            named = path.suffix == ".zip" and names.JOB_RE.match(path.stem)
            if named and self._ledger.board.job(path.stem) is None:
                self._files.forget(path.stem)
            path.unlink(missing_ok=True)

    # --- inside --------------------------------------------------------------------

    def _refuse_if_stopping(self) -> None:
        if self.stopping:
            raise Stopping("the primary is stopping; try again in a minute")

    def _complete(self, job: Job) -> None:
        """A crash tore Queued from the Submitted that it was written with.

        The input was synced before either, so the job goes on; nobody was told of
        it, but what was dropped is in the ledger and has to end.
        """
        try:
            with self._files.input(job.id).open("rb") as file:
                sha256 = hashlib.file_digest(file, "sha256").hexdigest()
                queued = Queued(job=job.id, input=Digest(file.tell(), sha256))
        except FileNotFoundError:
            self._end(
                job.id, lambda j: _failed(j, "system", "a crash took its input; submit it again")
            )
            return
        self._ledger.append(lambda _: (queued,))

    def _keep(self, upload: Upload, job: str) -> None:
        try:
            upload.finish()
            self._files.keep_input(upload, job)
        except (NoRoom, OSError):
            self._files.forget(job)
            raise

    def _fetch(self, job: Job) -> None:
        """One fetch, in the pool: ends in QUEUED, FAILED, or in another try after a restart."""
        if self._job(job.id).state is not State.CREATED:
            # The fetch before this one ended between the tick's look at the board and its look
            # at _fetching; a second one would remove the input that the ledger knows.
            self._fetching.discard(job.id)
            return
        try:
            upload = self._files.receive(job.id)
        except (NoRoom, FileExistsError) as e:
            log.warning("job %s is fetched later: %s", job.id, e)
            self._later[job.id] = time.monotonic() + AGAIN
            self._fetching.discard(job.id)
            return
        try:
            fetching.fetch(
                job.url or "",
                upload.write,
                allowed=self._allow_urls,
                cancelled=lambda: self.stopping or self._job(job.id).kill_wanted,
            )
            if self.stopping or self._job(job.id).kill_wanted:
                return
            self.check(self.model(job.model), upload)
            self._keep(upload, job.id)
            queued = Queued(job=job.id, input=upload.digest)

            def decide(lookup: Callable[[str], Job | None]) -> tuple[AnyEvent, ...]:
                newest = lookup(job.id)
                return (queued,) if newest and newest.state is State.CREATED else ()

            try:
                if not self._ledger.append(decide):
                    self._files.forget(job.id)  # killed at the last moment
            finally:
                self._files.accepted(job.id)  # CREATED or QUEUED: the ledger knows it
        except (BadInput, NotAllowed, UnknownModel) as e:
            reason = str(e)
            self._end(job.id, lambda j: _failed(j, "input", reason))
        except TooLarge as e:
            reason = str(e)
            self._end(job.id, lambda j: _failed(j, "input", reason))
        except (PrimaryError, LedgerFull) as e:
            log.warning("job %s is fetched again: %s", job.id, e)
            self._later[job.id] = time.monotonic() + AGAIN
        except Exception as e:
            log.exception("fetching the input of job %s", job.id)
            reason = f"the primary could not store the input: {e}"
            self._end(job.id, lambda j: _failed(j, "system", reason))
        finally:
            upload.discard()
            self._fetching.discard(job.id)
            self._wake()

    def _end(self, id: str, event: Callable[[Job], AnyEvent]) -> None:
        def decide(lookup: Callable[[str], Job | None]) -> tuple[AnyEvent, ...]:
            job = lookup(id)
            if job is None or job.state is not State.CREATED:
                return ()
            return (_killed(job) if job.kill_wanted else event(job),)

        self._ledger.append(decide)

    def _job(self, id: str) -> Job:
        job = self._ledger.board.job(id)
        assert job is not None, f"the board lost job {id}"
        return job


def _submitted(new: NewJob, source: Source, url: str | None = None) -> Submitted:
    """The event of a new job, under the id of its key, or one of its own."""
    return Submitted(
        job=str(uuid.uuid4()) if new.key is None else job_of(new.key),
        name=new.name,
        model=new.model,
        by=new.by,
        source=source,
        url=url,
        rerun_of=new.rerun_of,
    )


def _killed(job: Job) -> Killed:
    return Killed(
        job=job.id, attempt=job.attempt, confirmed=True, reason=f"killed by {job.kill_by}"
    )


def _failed(job: Job, failure: str, reason: str) -> Failed:
    return Failed(
        job=job.id,
        attempt=job.attempt,
        failure="input" if failure == "input" else "system",
        reason=reason,
    )
