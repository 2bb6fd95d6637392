"""The primary's own files: what comes in, and what users download.

Everything is received in ``incoming/`` and moved into ``jobs/<job>/`` by one
rename, so ``<data>`` is one file system. Only the primary syncs, once a step:
the file, its folder, and the folder above if it is new.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import uuid
from pathlib import Path
from typing import BinaryIO, Literal

import msgspec

from ledger.disk import sync_folder
from ledger.events import Digest
from primary.errors import DataFolderError, NoRoom, NoSuchFile, TooLarge

FileName = Literal["input.zip", "job_log.txt", "output.zip"]

RESERVE = 32 * 1024 * 1024  # bytes kept free for the ledger: below it nothing is taken in
MAX_UPLOAD = 64 * 1024**3  # bytes of one input
MAX_BAD = 256  # files kept in bad/
MAX_BAD_EACH = 32  # of one worker: no other's are pushed out by them
MODE = 0o440
PRIVATE = 0o700  # of the folders that are nobody's business but the primary's
SHARED = 0o710  # of jobs/ where a proxy in the primary's group sends files that it is told of


class JobFile(msgspec.Struct):
    """An open file of a job. ``live``: the log of a job that has not ended; it may grow."""

    file: BinaryIO
    size: int
    live: bool

    def close(self) -> None:
        self.file.close()

    def __enter__(self) -> JobFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Upload:
    """A file being received in ``incoming/``; it is hashed as it is written."""

    def __init__(self, path: Path, limit: int = MAX_UPLOAD) -> None:
        self.path = path
        self.size = 0
        self._limit = limit
        self._digest = hashlib.sha256()
        self._ours = True
        with _room(path):
            self._file = path.open("xb", buffering=0)

    def write(self, data: bytes) -> None:
        """Raises NoRoom or TooLarge."""
        self.size += len(data)
        if self.size > self._limit:
            raise TooLarge(f"the input is longer than {self._limit} bytes")
        self._digest.update(data)
        view = memoryview(data)
        with _room(self.path):
            while view:
                view = view[self._file.write(view) :]

    @property
    def digest(self) -> Digest:
        return Digest(self.size, self._digest.hexdigest())

    def finish(self) -> None:
        """Sync it, and make it read-only. Raises NoRoom."""
        with _room(self.path):
            os.fchmod(self._file.fileno(), MODE)
            os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        """Close it, and remove it unless it has become a job's input. Idempotent."""
        self._file.close()
        if self._ours:
            self.path.unlink(missing_ok=True)

    def become(self, path: Path) -> None:
        """Move it to ``path``, which is a job's: ``discard`` leaves that alone from now on."""
        if self.path != path:
            self.path.rename(path)
        self.path, self._ours = path, False


class Files:
    """``incoming/``, ``jobs/`` and ``bad/`` below the data directory.

    ``shared``: the group of the primary may pass through ``jobs/``, not list it, and read
    what ``share`` was asked for. Nobody else may, and the two others stay closed.
    """

    def __init__(self, data: Path, *, shared: bool = False) -> None:
        self.incoming = data / "incoming"
        self.jobs = data / "jobs"
        self.bad = data / "bad"
        try:
            _make_lasting(data)
            for folder in (self.incoming, self.jobs, self.bad):
                folder.mkdir(exist_ok=True)
                if shared and folder == self.jobs:
                    _share_with_group(folder)
                else:
                    keep_private(folder)
            sync_folder(data)
            probe = self.incoming / ".probe"
            probe.touch()
            probe.unlink()
        except OSError as e:
            raise DataFolderError(
                f"cannot write to the data directory {data}: {e.strerror}; "
                "check who owns it, or choose another one with --data"
            ) from e

    def free(self) -> int:
        """Bytes free for us on the data directory's disk."""
        info = os.statvfs(self.jobs)
        return info.f_bavail * info.f_frsize

    def receive(self, job: str | None = None) -> Upload:
        """Begin to receive a file. Raises NoRoom below the reserve."""
        if self.free() < RESERVE:
            raise NoRoom("the primary's disk is full; nothing was lost, try again later")
        return Upload(self.incoming / f"{job or uuid.uuid4()}.zip")

    # --- inputs --------------------------------------------------------------------

    def folder(self, job: str) -> Path:
        return self.jobs / job

    def input(self, job: str) -> Path:
        return self.jobs / job / "input.zip"

    def keep_input(self, upload: Upload, job: str) -> None:
        """Link a finished upload to ``jobs/<job>/input.zip``, and sync.

        The file in ``incoming/`` stays until the ledger has the job: by its name
        a restart finds what to remove (F0). Raises NoRoom.
        """
        folder = self.folder(job)
        with _room(folder):
            marker = self.incoming / f"{job}.zip"
            upload.become(marker)
            folder.mkdir(exist_ok=True)
            target = folder / "input.zip"
            target.unlink(missing_ok=True)  # a fetch that a crash cut short: fetched again
            link_or_copy(marker, target)
            sync_folder(folder)
            sync_folder(self.jobs)

    def forget(self, job: str) -> None:
        """Remove what a submission left that never reached the ledger."""
        shutil.rmtree(self.folder(job), ignore_errors=True)
        (self.incoming / f"{job}.zip").unlink(missing_ok=True)

    def accepted(self, job: str) -> None:
        """The ledger has the job: its file in ``incoming/`` has done its duty."""
        (self.incoming / f"{job}.zip").unlink(missing_ok=True)

    # --- results -------------------------------------------------------------------

    def place(self, sources: list[tuple[Path, FileName]], job: str, late: int | None) -> None:
        """Move copies from ``incoming/`` to where users find them, and sync. Raises NoRoom.

        ``late`` is the attempt whose results came too late to count.
        """
        folder = self.folder(job)
        with _room(folder):
            if late is not None:
                folder = folder / "late" / str(late)
                folder.mkdir(parents=True, exist_ok=True)
                sync_folder(folder.parent)
                sync_folder(folder.parent.parent)
            for source, name in sources:
                source.chmod(MODE)
                sync_file(source)
                source.rename(folder / name)
            sync_folder(folder)

    def open(self, job: str, name: FileName) -> JobFile:
        """Raises NoSuchFile."""
        try:
            file = (self.jobs / job / name).open("rb")
        except FileNotFoundError:
            raise NoSuchFile(f"job {job} has no {name}") from None
        return JobFile(file, os.fstat(file.fileno()).st_size, live=False)

    def share(self, job: str, name: FileName) -> bool:
        """Whether whoever may pass through ``jobs/`` can read the file; made so if need be.

        A job's files may have a worker's or a drop folder's group by now, and its folder the
        mode of a narrow umask. What is widened for others then is closed by ``jobs/`` itself.
        """
        group = os.getegid()
        try:
            _widen(self.folder(job), group, stat.S_IXGRP, stat.S_IXOTH)
            _widen(self.folder(job) / name, group, stat.S_IRGRP, stat.S_IROTH)
        except OSError:
            return False  # not ours, or gone: whoever opens it finds out
        return True

    def keep_bad(self, source: str, name: str, data: bytes, reason: str) -> None:
        """Keep what could not be believed, for the operator; the oldest go.

        ``source`` is the worker that it came from. Raises NoRoom.
        """
        with _room(self.bad):
            stamp = f"{len(os.listdir(self.bad)):06d}-{uuid.uuid4().hex[:8]}"
            (self.bad / f"{stamp}-{source}~{name}").write_bytes(data)
            (self.bad / f"{stamp}-{source}~{name}.why.txt").write_text(reason + "\n")
            kept = sorted(self.bad.iterdir(), key=lambda p: p.stat().st_mtime_ns)
            of_source = [p for p in kept if p.name[len(stamp) + 1 :].startswith(f"{source}~")]
            over = of_source[: max(0, len(of_source) - 2 * MAX_BAD_EACH)]
            over += kept[: max(0, len(kept) - len(over) - 2 * MAX_BAD)]
            for old in over:
                old.unlink(missing_ok=True)

    def bad_count(self) -> int:
        return sum(1 for name in os.listdir(self.bad) if name.endswith(".why.txt"))


def keep_private(path: Path) -> None:
    """Close a folder or a file of ours to everybody else. Raises OSError.

    What belongs to another user is as an operator wants it.
    """
    try:
        info = path.stat()
    except FileNotFoundError:
        return
    closed = stat.S_IMODE(info.st_mode) & PRIVATE
    if info.st_uid == os.geteuid() and stat.S_IMODE(info.st_mode) != closed:
        path.chmod(closed)


def _make_lasting(folder: Path) -> None:
    """Make a folder, and those above it that are missing, so that none is lost. Raises OSError."""
    if not folder.is_dir():
        _make_lasting(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def _share_with_group(path: Path) -> None:
    """Let our group pass through a folder of ours, and nobody else. Raises OSError."""
    info = path.stat()
    if info.st_uid != os.geteuid():
        return  # as an operator wants it
    if info.st_gid != os.getegid():
        os.chown(path, -1, os.getegid())
    if stat.S_IMODE(info.st_mode) != SHARED:
        path.chmod(SHARED)


def _widen(path: Path, group: int, for_group: int, for_others: int) -> None:
    """Give the one bit that ``group`` needs, where it is missing. Raises OSError."""
    info = path.stat()
    bit = for_group if info.st_gid == group else for_others
    if not info.st_mode & bit:
        path.chmod(stat.S_IMODE(info.st_mode) | bit)


def refuse_strange_owner(data: Path) -> None:
    """One start as root would leave files that the owner can never change again.

    Raises DataFolderError.
    """
    try:
        owner = data.stat().st_uid
    except OSError:
        return  # it is made, or refused with the reason, in a moment
    if owner != os.geteuid():
        raise DataFolderError(
            f"the data directory {data} belongs to user {owner}, and this is user {os.geteuid()}; "
            "start the primary as its owner"
        )


def close_to_others(data: Path) -> None:
    """The ledger and the board hold every job's inputs and ends: no worker's business.

    Raises DataFolderError.
    """
    try:
        keep_private(data / "ledger")
        for name in ("board.sqlite", "board.sqlite-wal", "board.sqlite-shm"):
            keep_private(data / name)
    except OSError as e:
        raise DataFolderError(f"{e.filename}: its mode cannot be set: {e.strerror}") from e


def link_or_copy(source: Path, target: Path) -> None:
    """A hard link; a synced copy where links are not to be had. Raises OSError."""
    try:
        os.link(source, target)
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        shutil.copyfile(source, target)
        target.chmod(MODE)
        sync_file(target)


def sync_file(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class _room:
    """Turns a full disk into NoRoom, which says that nothing was lost."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise NoRoom(
                f"the primary's disk is full ({self._path.parent}); "
                "nothing was lost, try again later"
            ) from error
