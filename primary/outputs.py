"""What is in a job's output, and single files out of it.

A worker packed the zip, and may be hostile: names are text and lead to no path,
the list is capped, files are streamed, and nothing comes out beyond what the zip
says of a file. Reading the list of a large zip costs much more than using it, so
the newest are kept.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple

from primary.errors import NoSuchFile
from primary.files import JobFile
from spool.errors import BadZip
from spool.extract import MOST_INDEX, Contents, read_contents

KEPT = MOST_INDEX  # bytes of zip directories, all together; in memory they take six times as much


class OutputFile(NamedTuple):
    """One file: its path in the zip, its size unpacked and packed (bytes), and its CRC-32."""

    path: str
    size: int
    packed: int
    crc: int


class Listing:
    """The files of one output, by path and in that order."""

    def __init__(self, contents: Contents) -> None:
        self.contents = contents
        files = (OutputFile(i.name, i.size, i.packed, i.crc) for i in contents.files())
        self.entries = tuple(sorted(files))


class Listings:
    """The listings that were asked for last. Thread-safe."""

    def __init__(self, most: int = KEPT) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[str, str], Listing] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()
        # One at a time is read: many at once would only share one core and all the memory.
        self._reading = threading.Lock()

    def get(self, key: tuple[str, str], read: Callable[[], Listing]) -> Listing:
        """The listing that ``read`` gives, or gave. What it raises passes through."""
        found = self._find(key)
        if found is None:
            with self._reading:
                found = self._find(key)
                if found is None:
                    found = read()
                    self._keep(key, found)
        return found

    def _find(self, key: tuple[str, str]) -> Listing | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found

    def _keep(self, key: tuple[str, str], listing: Listing) -> None:
        with self._lock:
            self._kept[key] = listing
            self._weight += listing.contents.weight
            while self._weight > self._most:
                _, oldest = self._kept.popitem(last=False)
                self._weight -= oldest.contents.weight


class OutputStream:
    """One file as it is unpacked; ``size`` bytes come, or ``read`` raises BadZip.

    The last piece is given out only when the whole agrees with its checksum, so nobody can
    take a damaged file for a whole one. Memory does not grow with the size.
    """

    def __init__(self, file: JobFile, pieces: Iterator[bytes], size: int) -> None:
        self.size = size
        self._file, self._pieces = file, pieces
        self._ready = memoryview(b"")
        self._ahead = next(pieces, b"")
        self._broken: Exception | None = None

    def read(self, size: int) -> bytes:
        """The next ``size`` bytes; fewer only at the end. Raises BadZip, OSError."""
        parts: list[memoryview] = []
        while size > 0 and (self._ready or self._advance()):
            parts.append(self._ready[:size])
            size -= len(parts[-1])
            self._ready = self._ready[len(parts[-1]) :]
        return b"".join(parts)

    def _advance(self) -> bool:
        if self._broken is not None:
            raise self._broken
        following = b""
        if self._ahead:
            try:
                following = next(self._pieces, b"")
            except Exception as e:
                self._broken = e  # else the next read would take it for the end
                raise
        self._ready, self._ahead = memoryview(self._ahead), following
        return bool(self._ready)

    def close(self) -> None:
        """Idempotent."""
        self._file.close()

    def __enter__(self) -> OutputStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Outputs:
    """The files in the output of one job; nothing is held open."""

    def __init__(self, job: str, listing: Listing, open_zip: Callable[[], JobFile]) -> None:
        self._job, self._listing, self._open_zip = job, listing, open_zip

    @property
    def entries(self) -> tuple[OutputFile, ...]:
        """The files, in the order of their paths."""
        return self._listing.entries

    def find(self, path: str) -> OutputFile:
        """Raises NoSuchFile."""
        try:
            item = self._listing.contents.item(path)
        except KeyError:
            raise NoSuchFile(f"the output of job {self._job} has no file {path[:200]!r}") from None
        return OutputFile(item.name, item.size, item.packed, item.crc)

    def open(self, path: str) -> OutputStream:
        """The file ``path``, to be read and closed. Raises NoSuchFile, also where it is damaged."""
        size = self.find(path).size
        file = self._open_zip()
        try:
            return OutputStream(file, self._listing.contents.pieces(file.file, path), size)
        except BadZip as e:
            file.close()
            raise NoSuchFile(damaged(self._job, e)) from None
        except BaseException:
            file.close()
            raise


def outputs(job: str, sha256: str, open_zip: Callable[[], JobFile], kept: Listings) -> Outputs:
    """The output zip of ``job``, which has the hash ``sha256``. Raises NoSuchFile."""
    with open_zip() as file:
        try:
            listing = kept.get((job, sha256), lambda: Listing(read_contents(file.file)))
        except BadZip as e:
            raise NoSuchFile(
                f"the files in the output of job {job} cannot be shown one by one: {e}; "
                "download output.zip as a whole"
            ) from None
    return Outputs(job, listing, open_zip)


def damaged(job: str, error: BadZip) -> str:
    """What to tell somebody who wanted a file that cannot be unpacked."""
    entry = f"{error.entry!r} " if error.entry else ""
    return (
        f"the file {entry}in the output of job {job} is damaged and cannot be unpacked "
        f"({error.reason.partition(';')[0]}); output.zip can be downloaded as it is"
    )
