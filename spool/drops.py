"""The drop folder: zips that people put there, and the answers beside them.

A folder has no events that can be trusted over a slow copy, so a zip is taken
when two looks a few seconds apart agree and the zip's end record stands at its
end. Answers lie in place, under the stem of the dropped name:

=====================  =====================================================
NAME.zip               leaves when it is taken
.<job>.taken.NAME.zip  while it is checked and entered into the ledger
NAME.job.json          appears then, and follows the job
NAME.output.zip        the results, at the end, and
NAME.log.txt           the log
NAME.zip.rejected      a zip that cannot be run, with
NAME.why.txt           the reason; also says what a half-copied zip waits for
=====================  =====================================================
"""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from spool import names
from spool.believe import read_believed
from spool.errors import Gone, Unbelievable
from spool.folders import ANSWER_MODE, all_names_in, give_group
from spool.local import CHUNK, translating

STEADY = 2.0  # seconds between two looks that must agree
PATIENCE = 3600.0  # seconds without growth until a zip without an end is rejected
EXPLAIN_AFTER = 10.0  # seconds without an end until NAME.why.txt says what is awaited
LONGEST = 180  # bytes of a name: all answers must fit into 255

_ANSWERS = (".job.json", ".output.zip", ".log.txt", ".why.txt", ".rejected")
_HALF = (".part", ".filepart")  # what SFTP clients call a file on its way
_TAKEN = ".taken."
_END = b"PK\x05\x06"
_MAX_ANSWER = 1024 * 1024  # bytes of a job.json; ours have some kilobytes
_END_SIZE = 22  # bytes of an end record without its comment
_COMMENT_MAX = 0xFFFF

Verdict = Literal["wait", "explain", "take", "reject"]


class Look(NamedTuple):
    """What one look at a dropped file saw; two equal ones mean that it rests."""

    size: int
    mtime_ns: int
    inode: int


class Resting(NamedTuple):
    """A look, and since when (monotonic seconds) it has been the same."""

    look: Look
    since: float


def is_candidate(name: str) -> bool:
    """Whether a name in ``drop/`` is something that a person put there for us."""
    return not (name.startswith(".") or name.endswith(_HALF) or name.endswith(_ANSWERS))


def judge_drop(rest: float, whole: bool) -> Verdict:
    """What to do with a file that has been the same for ``rest`` seconds. Pure."""
    if rest < STEADY:
        return "wait"
    if whole:
        return "take"
    if rest >= PATIENCE:
        return "reject"
    return "explain" if rest >= EXPLAIN_AFTER else "wait"


def stem_of(name: str) -> str:
    return name[:-4] if name.lower().endswith(".zip") else name


def _ending(name: str) -> str:
    return name[len(stem_of(name)) :]


def _short(text: str) -> str:
    """``text`` cut so that every answer's name fits into 255 bytes, and is UTF-8.

    A dropped name may hold any bytes; the ledger, which keeps the stem, may not.
    """
    clean = os.fsencode(text).decode(errors="replace")
    return clean.encode()[:LONGEST].decode(errors="ignore")


class DropFolder:
    """One model's ``drop/``. ``look`` and ``take`` belong to the primary's tick thread.

    The rest is called from the threads that copy, too.
    """

    def __init__(self, root: Path, model: str) -> None:
        self.path = root / names.drop_folder(model)
        self._resting: dict[str, Resting] = {}
        self._explained: set[str] = set()
        self._promised: set[str] = set()  # stems whose first answer is still to be written
        self._lock = threading.Lock()

    def look(self, now: float) -> Iterator[tuple[str, Verdict]]:
        """(name, verdict) of every candidate, at ``now`` on the monotonic clock.

        Raises Refused where there are too many names, or we may not look.
        """
        try:
            found = sorted(n for n in self._listed() if is_candidate(n))
        except Gone:
            return
        for name in self._resting.keys() - set(found):
            if name in self._explained:  # its owner took it away: nothing is awaited
                self._unlink(f"{self._unrejected(name)}.why.txt")
            self._forget(name)
        for name in found:
            look = self._look_at(name)
            if look is None:
                continue
            resting = self._resting.get(name)
            if resting is None or resting.look != look:
                resting = self._resting[name] = Resting(look, now)
            rest = now - resting.since
            # Read only what rests: a growing file is not looked into at every tick.
            verdict = judge_drop(rest, rest >= STEADY and self._whole(name, look))
            if verdict != "explain":
                yield name, verdict
            elif name not in self._explained:
                self._explained.add(name)
                yield name, verdict

    def take(self, name: str, job: str) -> Path:
        """Set a dropped zip aside under its job's id. Raises Gone if it left meanwhile."""
        taken = self.path / f".{job}{_TAKEN}{name}"
        with translating(name):
            os.rename(self.path / name, taken)
        self._forget(name)
        self._unlink(f"{self._unrejected(name)}.why.txt")
        return taken

    def open(self, job: str, name: str) -> BinaryIO:
        """The zip that was set aside. Raises Gone if it is no regular file any more."""
        with translating(name):
            # Whoever may write here may have swapped it for a link or a FIFO.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            fd = os.open(self.path / f".{job}{_TAKEN}{name}", flags)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Gone(f"{name}: not a regular file any more")
        return os.fdopen(fd, "rb")

    def taken(self) -> list[tuple[str, str]]:
        """(job, name) of the zips that were set aside and not yet removed (D1, D2).

        Raises Refused as ``look`` does.
        """
        found = []
        for entry in self._listed() if self.path.is_dir() else ():
            job, mark, name = entry[1:].partition(_TAKEN)
            if entry.startswith(".") and mark and names.JOB_RE.match(job):
                found.append((job, name))
        return found

    def put_back(self, job: str, name: str) -> None:
        """D1: the ledger never heard of it. It is looked at again."""
        os.rename(self.path / f".{job}{_TAKEN}{name}", self._free(name))

    def done(self, job: str, name: str) -> None:
        """D2: the ledger has it, and our copy is synced."""
        self._unlink(f".{job}{_TAKEN}{name}")

    def promise(self, name: str) -> str:
        """A stem under which no other drop's answers lie: NAME, NAME.2, NAME.3 …

        It is kept for the caller until the first answer lies there (``keep``): two
        drops of one name may be on their way at the same time.
        """
        base = _short(stem_of(name))
        with self._lock:
            stem, n = base, 1
            while stem in self._promised or any(
                (self.path / f"{stem}{end}").exists() for end in _ANSWERS[:3]
            ):
                n += 1
                stem = f"{base}.{n}"
            self._promised.add(stem)
        return stem

    def keep(self, stem: str) -> None:
        """The promise is kept, by an answer that lies there, or is not needed any more."""
        with self._lock:
            self._promised.discard(stem)

    def explain(self, name: str, text: str) -> None:
        """Say in ``NAME.why.txt`` what is awaited. It goes when the zip does."""
        self._write(f"{self._unrejected(name)}.why.txt", text)

    def reject(self, name: str, text: str, job: str | None = None) -> None:
        """Call it ``NAME.zip.rejected`` and say why. ``job``: it was set aside under that id.

        The reason is written first: a rejected file is never without one.
        """
        source = f".{job}{_TAKEN}{name}" if job else name
        stem = self._unrejected(name)
        self._write(f"{stem}.why.txt", text)
        with translating(name):
            os.rename(self.path / source, self.path / f"{stem}{_ending(name)}.rejected")
        if job is None:
            self._forget(name)

    # --- answers -------------------------------------------------------------------

    def answer(self, stem: str, job_json: bytes, files: list[tuple[Path, str]]) -> None:
        """Write ``stem.job.json``; before it, link each (file, suffix) beside it.

        Whoever may read the folder may read them: they get its group.
        """
        for source, suffix in files:
            target = self.path / f"{stem}{suffix}"
            if os.path.lexists(target) or not source.exists():
                continue
            give_group(source, os.stat(self.path).st_gid)
            try:
                os.link(source, target)
            except OSError:  # no links here: a copy, whole or not at all
                with source.open("rb") as data:
                    self._write(f"{stem}{suffix}", data)
        self._write(f"{stem}.job.json", job_json)

    def answered(self, stem: str) -> bytes | None:
        """The ``stem.job.json`` that lies there; b"" for what cannot be ours."""
        try:
            return read_believed(self.path, f"{stem}.job.json", _MAX_ANSWER)
        except Gone:
            return None
        except Unbelievable:
            return b""

    # --- inside --------------------------------------------------------------------

    def _look_at(self, name: str) -> Look | None:
        try:
            info = os.lstat(self.path / name)
        except OSError:
            return None
        if not stat.S_ISREG(info.st_mode):
            return None  # a folder, a link: not ours to touch
        return Look(info.st_size, info.st_mtime_ns, info.st_ino)

    def _whole(self, name: str, look: Look) -> bool:
        """Whether a zip's end record stands at the very end. Other files count as whole."""
        if not name.lower().endswith(".zip"):
            return True
        if look.size < _END_SIZE:
            return False
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with open(os.open(self.path / name, flags), "rb") as file:
                tail_size = min(look.size, _END_SIZE + _COMMENT_MAX)
                file.seek(look.size - tail_size)
                tail = file.read(tail_size)
        except OSError:
            return False
        at = tail.rfind(_END)
        if at < 0 or len(tail) - at < _END_SIZE:
            return False
        return len(tail) - at == _END_SIZE + int.from_bytes(tail[at + 20 : at + 22], "little")

    def _unrejected(self, name: str) -> str:
        """The stem of its own ``.why.txt``: not that of an earlier one that was rejected."""
        base = _short(stem_of(name))
        stem, n = base, 1
        while (self.path / f"{stem}{_ending(name)}.rejected").exists():
            n += 1
            stem = f"{base}.{n}"
        return stem

    def _forget(self, name: str) -> None:
        """The name is somebody else's when it appears again."""
        self._resting.pop(name, None)
        self._explained.discard(name)

    def _free(self, name: str) -> Path:
        target, n = self.path / name, 1
        while target.exists():
            n += 1
            target = self.path / f"{stem_of(name)}.{n}.zip"
        return target

    def _listed(self) -> list[str]:
        return all_names_in(str(self.path), f"{self.path.parent.name}/{self.path.name}")

    def _write(self, name: str, data: str | bytes | BinaryIO) -> None:
        """Whole or not at all. Never through what somebody put there under our half's name."""
        half = self.path / f".half.{name}"
        half.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with open(os.open(half, flags, ANSWER_MODE), "wb") as file:
            os.fchmod(file.fileno(), ANSWER_MODE)
            if isinstance(data, str | bytes):
                file.write(data.encode() if isinstance(data, str) else data)
            else:
                shutil.copyfileobj(data, file, CHUNK)
        half.rename(self.path / name)

    def _unlink(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)
