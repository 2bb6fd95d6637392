"""The spool over SSH: the eight verbs on SFTP.

Each verb is a few requests on a link of its own (``spool.links``), and each has
an end. A verb that raises Unreachable may have been carried out all the same:
its answer was lost. Reading again, appending at the same offset and storing the
same bytes again change nothing; after a ``move`` the caller looks where the file
is.

A transfer of a file that broke goes on where it stood when it is asked for
again: the half keeps its name and its bytes. What another process has begun is gone on
with only where the caller says so (``go_on``).
"""

from __future__ import annotations

import contextlib
import os
import posixpath
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple, cast

from spool.address import Address
from spool.dial import dial
from spool.errors import Flooded, Gone, NoSpace, Refused, SpoolError, Unbelievable, Unreachable
from spool.folders import MAX_NAMES
from spool.links import Kind, Links
from spool.local import translating
from spool.wire import (
    CREATE,
    EXCLUSIVE,
    FAILURE,
    LARGE,
    NO_SUCH_FILE,
    PERMISSION_DENIED,
    READ,
    SMALL,
    UNSUPPORTED,
    WRITE,
    Attributes,
    Broken,
    Status,
    Wire,
)

RENAME = "posix-rename@openssh.com"
STATVFS = "statvfs@openssh.com"
FOLDER_MODE = 0o750  # as on the machine itself: other accounts there see no log and no result
FULL = 1024 * 1024  # bytes free: with less, a write that failed is said to be for want of room


class _Half(NamedTuple):
    """A transfer that was begun: what of, and how far it was when it was begun last.

    One that is no further the next time has not had one answer within the deadline:
    the line is slow, and gets small requests.
    """

    source: tuple[int, ...]  # what tells that it is the same file still
    done: int  # bytes


class _Halves:
    """The transfers that have not ended, by path in the spool. Thread-safe."""

    def __init__(self) -> None:
        self._known: dict[str, _Half] = {}
        self._lock = threading.Lock()

    def begun(self, path: str, *source: int) -> _Half | None:
        with self._lock:
            half = self._known.get(path)
        return half if half is not None and half.source == source else None

    @contextmanager
    def begin(self, path: str, done: int, *source: int) -> Iterator[None]:
        """It is kept if the connection breaks meanwhile, and forgotten at any other end."""
        with self._lock:
            self._known[path] = _Half(source, done)
        try:
            yield
        except Broken:
            raise
        except BaseException:
            self._forget(path)
            raise
        self._forget(path)

    def _forget(self, path: str) -> None:
        with self._lock:
            self._known.pop(path, None)


class SftpTransport:
    """The eight verbs on an SFTP server. See ``spool.transport.Transport``. Thread-safe."""

    def __init__(
        self, address: Address, ssh: Path | None = None, *, deadline: float = 30.0
    ) -> None:
        """Does not connect yet. ``deadline``: seconds without any movement until a wait ends.

        ``ssh`` is the folder with keys, configuration and known hosts; ``~/.ssh`` without it.
        """
        self.address = address
        self._root = address.path
        self._links = Links(partial(dial, address, ssh, patience=deadline), address.host, deadline)
        self._halves = _Halves()

    # --- the verbs ---------------------------------------------------------------------

    def names(self, folder: str) -> list[str]:
        with self._wire(folder) as wire:
            found = list(islice(wire.names(self._path(folder)), MAX_NAMES + 1))
        if len(found) > MAX_NAMES:  # a flood in one model's new/ must not hold up the others
            said = f"{folder}: more than {MAX_NAMES} names"
            raise Flooded(said, "the primary's keeper clears it")
        return [name.decode() for name in found if not name.startswith(b".") and _utf8(name)]

    def read(self, path: str, limit: int) -> bytes:
        with self._wire(path) as wire:
            size = _regular(wire, self._path(path), path)
            if size > limit:
                raise Unbelievable(f"{path}: longer than {limit} bytes")
            handle = wire.open(self._path(path), READ)
            try:
                # Small files are replaced, not written to: this is all of it.
                return b"".join(wire.read(handle, 0, size))
            finally:
                wire.close(handle)

    def fetch(self, path: str, target: Path) -> None:
        with self._wire(path, "transfer") as wire:
            size = _regular(wire, self._path(path), path)
            half = self._halves.begun(path, size)
            with _local(target, "r+b" if half is not None and target.exists() else "wb") as file:
                done = min(file.seek(0, os.SEEK_END), size)
                step = SMALL if half is not None and half.done == done else wire.read_size
                with self._halves.begin(path, done, size):
                    handle = wire.open(self._path(path), READ)
                    try:
                        for data in wire.read(handle, done, size, step):
                            file.write(data)
                    finally:  # also where our own disk is full: the session goes on
                        wire.close(handle)

    def store(self, source: Path | bytes, path: str, *, go_on: bool = False) -> None:
        if isinstance(source, bytes):
            with self._wire(path) as wire:
                _write(wire, self._create(wire, path), 0, _pieces(source, SMALL))
        else:
            with _local(source, "rb") as file:
                self._store(file, path, go_on)

    def append(self, path: str, offset: int, data: bytes) -> None:
        with self._wire(path, "short" if len(data) <= SMALL else "log") as wire:
            full = self._path(path)
            if offset == 0:
                lies = _attributes(wire, full)
                if lies is not None and not _is_file(lies):  # a FIFO would never answer
                    raise Unbelievable(f"{path}: not a regular file")
            handle = wire.open(full, WRITE | CREATE)
            # Small ones, each with an answer of its own: a slow line is no broken one, and
            # what is tried again here begins anew.
            _write(wire, handle, offset, _pieces(data, SMALL))

    def move(self, old: str, new: str) -> None:
        with self._wire(f"{old} to {new}") as wire:
            if RENAME not in wire.extensions:
                raise Refused(
                    f"{old} to {new}: the SFTP server at {self.address.host} has no {RENAME}",
                    "it must be OpenSSH, and the account must be allowed to use it",
                )
            wire.rename(self._path(old), self._path(new))

    def drop(self, path: str) -> bool:
        try:
            with self._wire(path) as wire:
                wire.remove(self._path(path))
        except Gone:
            return False
        return True

    def check(self, path: str) -> int | None:
        try:
            with self._wire(path) as wire:
                return wire.attributes(self._path(path)).size or 0
        except Gone:
            return None

    # --- beyond them -------------------------------------------------------------------

    def make_folder(self, path: str) -> None:
        """Make one folder. Raises Refused where the account may not; one that is there is fine."""
        with self._wire(path) as wire:
            try:
                wire.make_folder(self._path(path), FOLDER_MODE)
            except Status:
                lies = _attributes(wire, self._path(path))
                if lies is None or lies.mode is None or not stat.S_ISDIR(lies.mode):
                    raise

    def free(self) -> int | None:
        """Bytes free for us on the spool's disk; None if the server does not say."""
        with self._wire("the spool's disk") as wire:
            return _free(wire, self._root)

    def extensions(self) -> dict[str, str]:
        """What the server announced beyond SFTP version 3."""
        with self._wire("the server") as wire:
            return dict(wire.extensions)

    def connect(self) -> None:
        """Dial now, if there is no connection. Raises Unreachable or Refused."""
        with self._wire("the spool"):
            pass

    def close(self) -> None:
        """End every connection; waits in other threads end at once, with Unreachable."""
        self._links.close()

    # --- inside ------------------------------------------------------------------------

    def _path(self, path: str) -> str:
        return posixpath.join(self._root, path)

    @contextmanager
    def _wire(self, what: str, kind: Kind = "short") -> Iterator[Wire]:
        """A session for one verb; what the server refuses is told in the spool's errors."""
        with self._links.link(what, kind) as wire:
            try:
                yield wire
            except Status as e:
                raise self._translated(e, what, wire) from e

    def _translated(self, error: Status, what: str, wire: Wire) -> SpoolError:
        said = f"{what}: {error.said}"
        if error.code == NO_SUCH_FILE:
            return Gone(said)
        if error.code == PERMISSION_DENIED:
            return Refused(said, "check the account's rights on the primary's machine")
        if error.code == UNSUPPORTED:
            return Refused(said, "the SFTP server cannot do it")
        if error.code == FAILURE:
            # SFTP has one code for a full disk and everything else.
            try:
                free = _free(wire, self._root)
            except Status:
                free = None
            if free is not None and free < FULL:
                return NoSpace(f"{what}: the primary's disk is full")
        return Unreachable(said)

    def _create(self, wire: Wire, path: str) -> bytes:
        """A handle of a new file. What lies there is removed, never written through."""
        full = self._path(path)
        try:
            return wire.open(full, WRITE | CREATE | EXCLUSIVE)
        except Status as e:
            if e.code != FAILURE or _attributes(wire, full) is None:
                raise
        wire.remove(full)
        return wire.open(full, WRITE | CREATE | EXCLUSIVE)

    def _store(self, file: BinaryIO, path: str, go_on: bool) -> None:
        info = os.fstat(file.fileno())
        source = (info.st_ino, info.st_size, info.st_mtime_ns)
        with self._wire(path, "transfer") as wire:
            half = self._halves.begun(path, *source)
            go_on = go_on or half is not None
            lies = _attributes(wire, self._path(path)) if go_on else None
            done, step = 0, wire.write_size
            if lies is not None and _is_file(lies):
                # Also what was sent and never answered: a server writes in the order of arrival.
                done = min(lies.size or 0, info.st_size)
                step = SMALL if half is not None and half.done == done else step
            self._require_room(wire, path, info.st_size - done)
            with self._halves.begin(path, done, *source):
                handle = wire.open(self._path(path), WRITE) if done else self._create(wire, path)
                file.seek(done)
                try:
                    _write(wire, handle, done, iter(partial(file.read, step), b""))
                except Status:
                    # It is sent anew the next time; kept, it would be what fills the disk,
                    # and nobody's beat, and no line of the ledger, could be written.
                    with contextlib.suppress(Status):
                        wire.remove(self._path(path))
                    raise

    def _require_room(self, wire: Wire, path: str, size: int) -> None:
        """Raises NoSpace rather than fill the primary's disk with what does not fit."""
        free = _free(wire, self._root) if size > LARGE else None
        if free is not None and size > free:
            said = f"{size} bytes are to come, and {free} are free"
            raise NoSpace(f"{path}: the primary's disk is full: {said}")


def _write(wire: Wire, handle: bytes, offset: int, pieces: Iterator[bytes]) -> None:
    try:
        wire.write(handle, offset, pieces)
    finally:
        # Its answer is waited for: some file systems tell of a full disk only now.
        wire.close(handle)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _attributes(wire: Wire, full: str) -> Attributes | None:
    try:
        return wire.attributes(full)
    except Status as e:
        if e.code == NO_SUCH_FILE:
            return None
        raise


def _is_file(found: Attributes) -> bool:
    return found.mode is None or stat.S_ISREG(found.mode)


def _regular(wire: Wire, full: str, path: str) -> int:
    """The size of a plain file. Opening a FIFO would hold up the server's side for ever."""
    found = wire.attributes(full)
    if not _is_file(found):
        raise Unbelievable(f"{path}: not a regular file")
    return found.size or 0


def _free(wire: Wire, root: str) -> int | None:
    return wire.free(root) if STATVFS in wire.extensions else None


@contextmanager
def _local(path: Path, mode: str) -> Iterator[BinaryIO]:
    """A file of our own disk; what goes wrong with it is told in the spool's errors."""
    with translating(str(path)), path.open(mode) as file:
        yield cast(BinaryIO, file)


def _utf8(name: bytes) -> bool:
    try:
        name.decode()
    except UnicodeDecodeError:
        return False
    return True
