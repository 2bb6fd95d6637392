"""The primary: submit, kill, tick, and reads from the board.

HTTP threads append to the ledger and ring; they never touch the spool. One
thread ticks; a small pool copies, hashes and checks what is large.
"""

from __future__ import annotations

import importlib.metadata
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil

from ledger.board import Page, Query
from ledger.errors import LedgerFull
from ledger.events import AnyEvent, Killed, KillRequested, Record
from ledger.jobs import Job, State
from ledger.log import Ledger
from primary.alarm import Alarm, Budget
from primary.dropbox import Dropbox
from primary.errors import DataFolderError, NoRoom, NoSuchFile, TooLate, UnknownJob
from primary.files import RESERVE, FileName, Files, JobFile, Upload, keep_private
from primary.holders import Holder, Holders
from primary.intake import Intake
from primary.loop import SETTLED, Loop
from primary.nodes import Node, Nodes
from primary.shelf import Shelf
from primary.submission import NewJob, Submissions
from spool import dispatch as places
from spool.believe import open_believed
from spool.dispatch import Dispatch
from spool.errors import SpoolError
from spool.manifest import Model
from spool.names import key
from spool.watch import Watch

RINGS = (100.0, 20.0)  # by which one worker may wake us at once: in a row, and a second
SLOWER = 0.5  # seconds until a worker that rings more often is listened to
START_SHOWS = 0.04  # seconds until a started report is taken
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
    ) -> None:
        self.data = data
        self._ledger = ledger
        self._shelf = shelf
        self._files = Files(data)
        self._dispatch = Dispatch(data / "spool", self._files.jobs)
        self._pool = ThreadPoolExecutor(POOL, thread_name_prefix="copy")
        # Of their own: a server that says nothing must hold up no result and no drop.
        self._fetchers = ThreadPoolExecutor(POOL, thread_name_prefix="fetch")
        self._alarm = Alarm()
        self._rings = Budget(*RINGS)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._broken: str | None = None
        self._clock = clock
        self._nodes = Nodes(clock(), VERSION)
        wake = self._alarm.ring
        self._submissions = Submissions(
            ledger,
            self._files,
            self._fetchers,
            shelf.models,
            lambda: shelf.errors,
            wake,
            allow_urls,
        )
        self._intake = Intake(ledger, self._dispatch, self._files, self._pool, self._attempts, wake)
        self._loop = Loop(
            ledger, self._dispatch, self._files, self._intake, self._nodes, shelf.models
        )
        self._holders = Holders(self._nodes, self._loop.lease_of, self._attempts)
        self._dropbox = Dropbox(
            ledger,
            self._files,
            self._submissions,
            self._dispatch.root,
            self._pool,
            shelf.models,
            wake,
        )
        self._watch = Watch(self._dispatch.root, self._wakes, wake)

    @classmethod
    def open(
        cls,
        data: Path,
        models: Path,
        allow_urls: Collection[str] = (),
        *,
        rebuilding: Callable[[int, int], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> Primary:
        """Take the data directory and bring everything to where a crash left it.

        Raises DataFolderError, LedgerLocked, LedgerDamaged, BadModel or Refused.
        """
        _refuse_strange_owner(data)
        Files(data)  # says first, and clearly, if the directory cannot be written
        ledger = Ledger.open(data / "ledger", data / "board.sqlite", progress=rebuilding)
        try:
            primary = cls(data, ledger, Shelf(models), allow_urls, clock)
            if ledger.torn:
                log.warning("%s", ledger.torn)
            _close_to_others(data)
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
        """Check the upload and queue it. Raises UnknownModel, BadInput, NoRoom, Stopping."""
        return self._submissions.submit(new, upload)

    def submit_url(self, new: NewJob, url: str) -> Job:
        """Enter a job whose input is fetched. Raises UnknownModel, BadInput, NotAllowed."""
        return self._submissions.submit_url(new, url)

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

    def history(self, id: str) -> list[Record]:
        """The job's records, oldest first. Raises UnknownJob."""
        return self._ledger.history(self.job(id))

    def events(self, after: int, limit: int) -> list[Record]:
        """Up to ``limit`` records of all jobs with a sequence above ``after``."""
        return self._ledger.iterate(after, limit)

    def wait(self, seq: int, timeout: float) -> int:
        """Wait until the board is past ``seq``, at most ``timeout`` seconds; the newest seq."""
        return self._ledger.wait(seq, timeout)

    def place(self, job: Job) -> int | None:
        """How many jobs of its model wait before it; None if it does not wait."""
        return self._ledger.board.place(job) if job.state is State.QUEUED else None

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

    def model_errors(self) -> dict[str, str]:
        """By folder name: why its model.toml does not hold."""
        return dict(self._shelf.errors)

    def nodes(self) -> list[Node]:
        """The primary first, then the workers by name."""
        counts = self.counts()
        host = socket.gethostname()
        busy = counts.get(State.RUNNING, 0) + counts.get(State.PROCESSED, 0)
        me = Node(
            name="primary",
            node_url=f"file://{host}",
            node_type="PRIMARY",
            status="RUNNING" if busy else "WAITING",
            liveness="alive",
            host=host,
            models={name: model.version for name, model in self._shelf.models().items()},
            version=VERSION,
            last_seen=0.0,
            free_disk=self._files.free(),
            free_memory=psutil.virtual_memory().available,
            error=self._broken or "",
        )
        return [me, *self._nodes.shown(self._clock())]

    def open_file(self, job: Job, name: FileName) -> JobFile:
        """Raises NoSuchFile with the reason."""
        if job.purged:
            raise NoSuchFile(f"the files of job {job.id} were removed")
        if name == "input.zip" or job.final:
            # Only what the ledger knows: an attempt that was given up may have left files.
            known = {"input.zip": job.input, "job_log.txt": job.log, "output.zip": job.output}
            if known[name] is None:
                raise NoSuchFile(_why_not(job, name))
            try:
                return self._files.open(job.id, name)
            except NoSuchFile:
                raise NoSuchFile(
                    f"the {name} of job {job.id} is missing from the primary's disk, "
                    "though the ledger has it; ask the server's keeper"
                ) from None
        if name != "job_log.txt" or job.worker is None:
            raise NoSuchFile(_why_not(job, name))
        folder = places.log_folder(self._dispatch.root, job.worker)
        try:
            file = open_believed(folder, f"{key(job.id, job.attempt)}.log", None)
        except SpoolError:
            raise NoSuchFile(_why_not(job, name)) from None
        file.seek(0, 2)
        size = file.tell()
        file.seek(0)
        return JobFile(file, size, live=True)

    def findings(self) -> list[str]:
        """What an operator should know, a line each; empty when all is well."""
        found = [f"spool: {what}" for what in self._loop.strange]
        found += [f"model {name}: {why}" for name, why in self._dispatch.missing.items()]
        found += [f"drop folder: {why}" for why in self._dropbox.troubles.values()]
        found += [f"model {name}: {why}" for name, why in self._shelf.errors.items()]
        workers = self.nodes()[1:]
        found += self._holders.findings(workers, self._ledger.board.job, self._clock())
        found += [
            f"worker {node.name} claims nothing: {node.paused}"
            for node in workers
            if node.paused and node.liveness == "alive"
        ]
        alive = [node for node in workers if node.liveness in ("alive", "unreachable")]
        for model in self._ledger.board.queued_models():
            if not any(model in node.models for node in alive):
                found.append(f"model {model}: jobs wait, and no living worker has this model")
        if self._ledger.torn:
            found.append(f"ledger: {self._ledger.torn}")
        if count := self._files.bad_count():
            found.append(f"bad/: {count} files of workers were not believed; see {self._files.bad}")
        if (free := self._files.free()) < 10 * RESERVE:
            found.append(f"disk: only {free // 1024**2} MiB are free at {self.data}")
        if self._broken:
            found.append(self._broken)
        return found

    @property
    def stopped(self) -> str | None:
        """Why the process must end: a sync failed, and only a restart tells what is on disk."""
        return f"the ledger stopped: {self._ledger.stopped}" if self._ledger.stopped else None

    def healthy(self) -> str | None:
        """None, or what is wrong."""
        if self.stopped:
            return self.stopped
        if self._broken:
            return self._broken
        if self._thread is not None and not self._thread.is_alive():
            return "the primary does not tick"
        return None

    # --- inside --------------------------------------------------------------------

    def _wakes(self, path: str) -> bool:
        """Whether a change in the spool is news that cannot wait: reports, beats, drops.

        A claim alone is none, for its report follows at once. A report of a start can
        wait a little: a short run has ended by then, and both share one append.
        """
        parts = path.split("/")
        if parts[-1].startswith(".") or len(parts) != 4:
            return False
        now = time.monotonic()
        if parts[0] == "workers" and parts[2] == "reports":
            if not self._rings.allows(parts[1], now):
                self._alarm.ring(within=SLOWER)
                return False
            if parts[-1].endswith("-started"):
                self._alarm.ring(within=START_SHOWS)
                return False
            return True
        if parts[2] != "drop":
            return False
        if not self._rings.allows(f"drop/{parts[1]}", now):
            self._alarm.ring(within=SLOWER)
            return False
        return True

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
        try:
            self.tick(self._clock())
            self._broken = None
        except Exception as e:
            self._broken = f"the last tick failed: {type(e).__name__}: {e}"
            log.exception("the tick failed; it is tried again")


def _refuse_strange_owner(data: Path) -> None:
    """One start as root would leave files that the owner can never change again."""
    try:
        owner = data.stat().st_uid
    except OSError:
        return  # it is made, or refused with the reason, in a moment
    if owner != os.geteuid():
        raise DataFolderError(
            f"the data directory {data} belongs to user {owner}, and this is user {os.geteuid()}; "
            "start the primary as its owner"
        )


def _close_to_others(data: Path) -> None:
    """The ledger and the board hold every job's inputs and ends: no worker's business."""
    try:
        keep_private(data / "ledger")
        for name in ("board.sqlite", "board.sqlite-wal", "board.sqlite-shm"):
            keep_private(data / name)
    except OSError as e:
        raise DataFolderError(f"{e.filename}: its mode cannot be set: {e.strerror}") from e


def _why_not(job: Job, name: FileName) -> str:
    if name == "input.zip":
        return f"the input of job {job.id} is still being fetched"
    what = "log" if name == "job_log.txt" else "output"
    if job.final:
        return f"job {job.id} ended {job.state} and left no {what}"
    return f"job {job.id} is {job.state}: it has no {what} yet"
