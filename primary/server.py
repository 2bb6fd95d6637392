"""The primary: submit, kill, tick, and reads from the board.

HTTP threads append to the ledger and ring; they never touch the spool. One
thread ticks; a small pool copies, hashes and checks what is large.
"""

from __future__ import annotations

import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from ledger.board import Page, Query
from ledger.errors import LedgerFull
from ledger.events import AnyEvent, Killed, KillRequested, Record
from ledger.jobs import Job, State
from ledger.log import Ledger
from primary.alarm import Alarm, News
from primary.copies import Copies, has_example
from primary.dropbox import Dropbox
from primary.errors import NoRoom, TooLate, UnknownJob
from primary.files import FileName, Files, JobFile, Upload, close_to_others, refuse_strange_owner
from primary.findings import Findings
from primary.holders import Holder, Holders
from primary.intake import Intake
from primary.loop import SETTLED, Loop
from primary.nodes import Node, Nodes, of_primary
from primary.outputs import Listings, Outputs, outputs
from primary.pulse import Pulse
from primary.reading import open_file
from primary.shelf import Shelf
from primary.submission import NewJob, Submissions
from primary.timeline import Timeline, timeline
from primary.waiting import Queues, Waiting
from spool.dispatch import Dispatch
from spool.errors import SpoolError
from spool.manifest import Model
from spool.names import key
from spool.watch import Watch

RESCAN = 2.0  # seconds: the truth, whatever the watch says
POOL = 4  # threads that copy and hash

VERSION = importlib.metadata.version("modelrunner")

log = logging.getLogger(__name__)

__all__ = ["NewJob", "Node", "Primary", "Upload"]


class Primary:
    """Everything behind the HTTP interface. Thread-safe but for ``tick``."""

    def __init__(
        self,
        data: Path,
        ledger: Ledger,
        shelf: Shelf,
        allow_urls: Collection[str],
        clock: Callable[[], float] = time.monotonic,
        *,
        shared: bool = False,
    ) -> None:
        self.data = data
        self._ledger = ledger
        self._shelf = shelf
        self._files = Files(data, shared=shared)
        self._dispatch = Dispatch(data / "spool", self._files.jobs)
        self._pool = ThreadPoolExecutor(POOL, thread_name_prefix="copy")
        # Of their own: a server that says nothing must hold up no result and no drop.
        self._fetchers = ThreadPoolExecutor(POOL, thread_name_prefix="fetch")
        self._alarm = Alarm()
        self._listings = Listings()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._broken: str | None = None
        self._clock = clock
        self._pulse = Pulse(clock)
        wake, models = self._alarm.ring, shelf.models
        files, spool = self._files, self._dispatch
        self._nodes = nodes = Nodes(clock(), VERSION)
        self._submissions = entry = Submissions(
            ledger, files, self._fetchers, models, lambda: shelf.errors, wake, allow_urls
        )
        intake = Intake(ledger, spool, files, self._pool, self._attempts, wake)
        self._loop = loop = Loop(ledger, spool, files, intake, nodes, models, self._pulse)
        self._holders = holders = Holders(nodes, loop.lease_of, self._attempts)
        self._dropbox = Dropbox(ledger, files, entry, spool.root, self._pool, models, wake)
        self._copies = Copies(entry, files, spool.root, self.job)
        self._queues = Queues(ledger.board, nodes, holders, loop, entry, models)
        self._findings = Findings(ledger, files, spool, shelf, loop, holders, self._dropbox)
        self._watch = Watch(spool.root, News(self._alarm).urgent, wake)

    @classmethod
    def open(
        cls,
        data: Path,
        models: Path,
        allow_urls: Collection[str] = (),
        *,
        rebuilding: Callable[[int, int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
        shared: bool = False,
    ) -> Primary:
        """Take the data directory and bring everything to where a crash left it.

        ``shared``: as for ``Files``. Raises DataFolderError, LedgerLocked, LedgerDamaged,
        BadModel or Refused.
        """
        refuse_strange_owner(data)
        # says first, and clearly, if the directory cannot be written
        Files(data, shared=shared)
        ledger = Ledger.open(data / "ledger", data / "board.sqlite", progress=rebuilding)
        try:
            primary = cls(data, ledger, Shelf(models), allow_urls, clock, shared=shared)
            if ledger.torn:
                log.warning("%s", ledger.torn)
            close_to_others(data)
            primary._dispatch.lay_out(primary._shelf.models())
            if primary._dispatch.apart():
                log.warning(
                    "the spool %s is on another file system than %s: every input and result "
                    "is copied instead of linked; move it beside the data to save that",
                    primary._dispatch.root,
                    data,
                )
            primary._submissions.recover()
            primary._dropbox.recover()
        except BaseException:
            ledger.close()
            raise
        return primary

    def start(self) -> None:
        """Begin to tick in an own thread."""
        self._watch.start()
        self._pulse.beat()
        self._thread = threading.Thread(target=self._run, name="tick", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop ticking, finish what is being copied, release the data directory."""
        self._submissions.stopping = True
        self._stopping.set()
        self._alarm.ring()
        if self._thread is not None:
            self._thread.join()
            self._watch.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._fetchers.shutdown(wait=True, cancel_futures=True)
        self._ledger.close()

    # --- writes --------------------------------------------------------------------

    def receive(self) -> Upload:
        """Begin an upload. Raises NoRoom or Stopping."""
        return self._submissions.receive()

    def submit(self, new: NewJob, upload: Upload) -> Job:
        """Check the upload and queue it. Raises UnknownModel, BadInput, NoRoom, Stopping.

        With a key that was used before: the job that there is, or KeyReused if another one is
        asked for; KeyBusy while the first is under way.
        """
        return self._submissions.submit(new, upload)

    def submit_url(self, new: NewJob, url: str) -> Job:
        """Enter a job whose input is fetched. Raises NotAllowed too, and as ``submit`` does."""
        return self._submissions.submit_url(new, url)

    def rerun(self, id: str, by: str, *, name: str | None = None, key: str | None = None) -> Job:
        """A new job on a copy of job ``id``'s input; its name too, unless ``name`` is another.

        Raises UnknownJob, NoSuchFile where the input is not here, Busy, and as ``submit`` does. An
        input that could not be fetched is fetched again: that raises as ``submit_url`` does.
        """
        return self._copies.rerun(id, by, name, key)

    def run_example(self, model: str, by: str, key: str | None = None) -> Job:
        """A new job on the model's example. Raises NoSuchFile, Busy, and as ``submit`` does."""
        return self._copies.run_example(model, by, key)

    def validate(self, model: str, upload: Upload) -> None:
        """Check an upload, and queue nothing. Raises as ``submit`` does."""
        self._submissions.check(self._submissions.model(model), upload)

    def kill(self, job: str, by: str) -> Job:
        """Ask for the job's end. Raises UnknownJob or TooLate. Asking again is no error."""

        def decide(lookup: Callable[[str], Job | None]) -> tuple[AnyEvent, ...]:
            found = lookup(job)
            if found is None:
                raise UnknownJob(job)
            if found.final:
                raise TooLate(f"job {job} has ended already: it is {found.state}")
            if found.kill_wanted:
                return ()
            asked = KillRequested(job=job, by=by)
            if found.state is State.PROCESSED:
                # Its processes are gone; only the results were still on their way.
                reason = f"killed by {by}: its model had ended already"
                return (
                    asked,
                    Killed(
                        job=job, attempt=found.attempt, confirmed=not found.loose, reason=reason
                    ),
                )
            return (asked,)

        try:
            self._ledger.append(decide)
        except LedgerFull as e:
            raise NoRoom(f"the primary's disk is full: {e}") from e
        self._alarm.ring()
        return self.job(job)

    def tick(self, now: float) -> None:
        """One pass over spool and board, at ``now`` on the monotonic clock."""
        if self._shelf.refresh():
            self._dispatch.lay_out(self._shelf.models())
        self._submissions.tend_created()
        self._loop.tick(now)
        self._dropbox.tend(now)

    # --- reads ---------------------------------------------------------------------

    def job(self, id: str) -> Job:
        """Raises UnknownJob."""
        found = self._ledger.board.job(id)
        if found is None:
            raise UnknownJob(id)
        return found

    def jobs(self, query: Query) -> Page:
        return self._ledger.board.jobs(query)

    def counts(self) -> dict[State, int]:
        return self._ledger.board.counts()

    def count(self, query: Query) -> int:
        """How many jobs the query finds, its cursor and limit aside."""
        return self._ledger.board.count(query)

    def history(self, id: str) -> list[Record]:
        """The job's records, oldest first. Raises UnknownJob."""
        return self._ledger.history(self.job(id))

    def events(self, after: int, limit: int) -> list[Record]:
        """Up to ``limit`` records of all jobs with a sequence above ``after``."""
        return self._ledger.iterate(after, limit)

    def wait(self, seq: int, timeout: float) -> int:
        """Wait until the board is past ``seq``, at most ``timeout`` seconds; the newest seq."""
        return self._ledger.wait(seq, timeout)

    def waiting(self, job: Job) -> Waiting | None:
        """Its place in the queue, and why it waits; None unless it is CREATED or QUEUED."""
        return self._queues.waiting(job, self._clock(), self.stopped or self._broken or "")

    def timeline(self, hours: float = 24) -> Timeline:
        """Which worker ran what in the last ``hours``."""
        return timeline(self._ledger.board, datetime.now(UTC), hours)

    def progress(self, job: Job) -> int | None:
        """Percent, while it runs and its model says so."""
        if job.state is not State.RUNNING or job.worker is None:
            return None
        return self._nodes.progress(job.worker, key(job.id, job.attempt))

    def holder(self, job: Job) -> Holder | None:
        """The worker that has the job now, and how long it has been silent."""
        return self._holders.of(job, self._clock())

    def models(self) -> dict[str, Model]:
        return dict(self._shelf.models())

    def example(self, model: str) -> JobFile:
        """The model's example, open. Raises UnknownModel, NoSuchFile."""
        return self._copies.example(model)

    def has_example(self, model: str) -> bool:
        """Whether there is such a model, and it has an example."""
        found = self._shelf.models().get(model)
        return found is not None and has_example(found)

    def model_errors(self) -> dict[str, str]:
        """By folder name: why its model.toml does not hold."""
        return dict(self._shelf.errors)

    def nodes(self) -> list[Node]:
        """The primary first, then the workers by name."""
        counts = self.counts()
        busy = counts[State.RUNNING] + counts[State.PROCESSED] > 0
        me = of_primary(
            self._shelf.models(), VERSION, self._files.free(), busy=busy, error=self._broken or ""
        )
        return [me, *self._nodes.shown(self._clock())]

    def open_file(self, job: Job, name: FileName) -> JobFile:
        """Raises NoSuchFile with the reason."""
        return open_file(self._files, self._dispatch.root, job, name)

    def share(self, job: Job, name: FileName) -> bool:
        """Whether a program in our group may read this file of a job that has ended."""
        return job.final and self._files.share(job.id, name)

    def outputs(self, job: Job) -> Outputs:
        """The files in its output zip. Raises NoSuchFile with the reason, or where it is damaged.

        The newest listings are kept: it is read once, not for each file.
        """
        sha256 = job.output.sha256 if job.output else ""
        return outputs(job.id, sha256, lambda: self.open_file(job, "output.zip"), self._listings)

    def findings(self) -> list[str]:
        """What an operator should know, a line each; empty when all is well."""
        found = self._findings.all(self.nodes()[1:], self._clock(), self.data)
        return [*found, self._broken] if self._broken else found

    @property
    def stopped(self) -> str | None:
        """Why the process must end: a sync failed, or the disk has gone. Only a restart helps."""
        return f"the ledger stopped: {self._ledger.stopped}" if self._ledger.stopped else None

    def healthy(self) -> str | None:
        """None, or what is wrong."""
        if self.stopped:
            return self.stopped
        return self._broken or self.hung()

    def hung(self) -> str | None:
        """None, or why the tick will not get on by itself: only a restart helps."""
        if self._thread is None:
            return None
        if not self._thread.is_alive():
            return "the primary does not tick"
        silence = self._pulse.hung()
        return None if silence is None else f"the primary's tick has hung for {silence:.0f} s"

    # --- inside --------------------------------------------------------------------

    def _attempts(self, model: str) -> int:
        return self._loop.attempts(model)

    def _run(self) -> None:
        for _ in range(SETTLED):  # before anything is published, the spool is known
            self._tick_once()
        self._ring()
        while not self._stopping.is_set():
            self._alarm.wait(RESCAN)
            if not self._stopping.is_set():
                self._tick_once()

    def _ring(self) -> None:
        """What was published, or asked for, just before the last primary ended."""
        try:
            self._dispatch.ring()
        except SpoolError as e:
            log.warning("the bell cannot be rung: %s; workers look again by themselves", e)

    def _tick_once(self) -> None:
        self._pulse.beat()
        self._ledger.look()
        if self.stopped:
            return
        try:
            self.tick(self._clock())
            self._broken = None
        except Exception as e:
            self._ledger.look()
            self._broken = f"the last tick failed: {type(e).__name__}: {e}"
            log.exception("the tick failed; it is tried again")
