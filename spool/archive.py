"""Input zips: the strict check before a job is queued, and the guarded unpack.

Nothing a zip says is believed before it is checked, and nothing is checked
only once: ``unpack`` runs on a worker and does not trust the primary's check.
Memory does not grow with the size of the files, only with their number.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from spool.entrynames import CAPS, Caps, check_tree, shown
from spool.errors import BadZip
from spool.extract import inflated, verified
from spool.zipindex import Index, Item, data_start, read_index

__all__ = [
    "CAPS",
    "LISTING_CAPS",
    "Caps",
    "Entry",
    "Head",
    "Wants",
    "check",
    "listing",
    "unpack",
]

LISTING_CAPS = Caps(entries=1_000_000, depth=128, path=32 * 1024)
"""What ``packing`` makes of a model's results can be deeper and longer than an input may be."""


class Entry(NamedTuple):
    """A file or (name ending in ``/``) folder of a zip; ``size`` in bytes, unpacked."""

    name: str
    size: int


class Head(NamedTuple):
    """How a file in a zip begins, and its whole ``size`` in bytes."""

    data: bytes
    size: int


class Wants(Protocol):
    """What an input must hold, besides being a good zip: ``expectations.Expectations``."""

    def reads(self, name: str) -> int:
        """How many bytes from the beginning of the entry ``name`` it wants to see."""

    def judge(self, names: Sequence[str], heads: Mapping[str, Head]) -> BadZip | None:
        """What is wrong, from the names of all entries and what was read of some."""


def check(source: Path | BinaryIO, wants: Wants | None = None, caps: Caps = CAPS) -> None:
    """Raises BadZip unless ``source`` is a zip that ``unpack`` will take, and as ``wants`` says.

    Every byte is read, once, and every CRC compared. The error has all findings
    that can be had: names and contents together, and beside damage the names that
    are missing. An open file must be seekable; it stays open, at any position.
    OSError passes through.
    """
    with _opened(source) as file:
        index = _checked_index(file, caps)
        if wants is None:
            _heads(file, index, caps, {})
            return
        names = [item.name for item in index.items]
        reads = {name: size for name in names if (size := wants.reads(name))}
        if not reads and (refused := wants.judge(names, {})) is not None:
            raise refused  # at once: reading gigabytes would find nothing more
        try:
            heads = _heads(file, index, caps, reads)
        except BadZip as damage:
            if (refused := wants.judge(names, {})) is None:
                raise
            both = (*damage.findings, *refused.findings)
            raise BadZip(damage.reason, damage.entry, both) from None
        if (refused := wants.judge(names, heads)) is not None:
            raise refused


def _heads(file: BinaryIO, index: Index, caps: Caps, reads: Mapping[str, int]) -> dict[str, Head]:
    """Read everything; keep the first bytes of each entry in ``reads``, as many as it says."""
    heads = {}
    for item, pieces in _contents(file, index, caps):
        room = reads.get(item.name, 0)
        head = bytearray()
        for piece in pieces:
            head += piece[: room - len(head)]
        if room:
            heads[item.name] = Head(bytes(head), item.size)
    return heads


def listing(source: Path | BinaryIO, caps: Caps = LISTING_CAPS) -> list[Entry]:
    """The entries of a zip, in the order of the file; none if it is empty.

    For messages and lists of files: contents are not read, and names that
    differ only by case are let pass. Raises BadZip; OSError passes through.
    """
    with _opened(source) as file:
        return [Entry(item.name, item.size) for item in read_index(file, caps).items]


def unpack(source: Path, target: Path, caps: Caps = CAPS) -> None:
    """Unpack ``source`` into the folder ``target``, which is made if it is missing.

    Files get mode 0644, or 0755 where the zip says that they are executable.
    Nothing that exists is overwritten, no link is followed. Raises BadZip;
    OSError (a full disk, say) passes through. After an error ``target`` holds
    a part of the files: the caller throws it away.
    """
    with _opened(source) as file:
        index = _checked_index(file, caps)
        target.mkdir(exist_ok=True)
        with _Folders(target) as folders:
            for item, pieces in _contents(file, index, caps):
                parent, _, name = item.name.removesuffix("/").rpartition("/")
                if item.is_folder:
                    folders.enter(item.name.removesuffix("/"))
                    for _ in pieces:
                        pass
                else:
                    _write(folders.enter(parent), name, item.mode, pieces)


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        yield source


def _checked_index(file: BinaryIO, caps: Caps) -> Index:
    """The index of a zip that has files, none of them in another's way."""
    index = read_index(file, caps)
    if all(item.is_folder for item in index.items):
        raise BadZip("the zip is empty: it holds no files", expected="a zip with files in it")
    check_tree(item.name for item in index.items)
    said = sum(item.size for item in index.items)
    if said > caps.total:
        reason = f"the zip unpacks to {said} bytes; at most {caps.total} are allowed"
        raise BadZip(reason, expected=f"at most {caps.total} bytes, unpacked")
    return index


def _contents(file: BinaryIO, index: Index, caps: Caps) -> Iterator[tuple[Item, Iterator[bytes]]]:
    """Each item with its contents in pieces; the pieces must be used up before the next item."""
    budget = _Budget(index.size, caps)
    for number, item in enumerate(index.items):
        file.seek(data_start(file, item, index.end_of(number)))
        yield item, _spent(verified(inflated(file, item), item), item, budget)


class _Budget:
    """What may still come out of one zip: counted on real bytes, whatever the zip says."""

    def __init__(self, zip_size: int, caps: Caps) -> None:
        self.caps = caps
        self.left = min(caps.total, max(caps.ratio_free, caps.ratio * zip_size))

    def spend(self, size: int, item: Item) -> None:
        self.left -= size
        if self.left < 0:
            caps = self.caps
            raise BadZip(
                f"the zip unpacks to far more than it should: at most {caps.total} bytes, "
                f"and {caps.ratio} times its own size, are allowed",
                shown(item.name),
                expected=f"at most {caps.ratio} times the size of the zip, unpacked",
            )


def _spent(pieces: Iterator[bytes], item: Item, budget: _Budget) -> Iterator[bytes]:
    """``pieces``, as long as ``budget`` has room for them."""
    for piece in pieces:
        budget.spend(len(piece), item)
        yield piece


def _write(folder: int, name: str, mode: int, pieces: Iterator[bytes]) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, 0o600, dir_fd=folder)
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(fd, rest) :]
        os.fchmod(fd, 0o755 if mode & 0o100 else 0o644)  # whatever the umask is
    finally:
        os.close(fd)


class _Folders:
    """The open folders from ``target`` down to where the last file was written.

    A folder is opened beneath its parent's descriptor and never through a
    link, so nothing can be written outside, whoever else changes the tree.
    """

    def __init__(self, target: Path) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        self._flags = flags | os.O_NOFOLLOW
        self._parts: list[str] = []
        self._fds = [os.open(target, flags)]

    def __enter__(self) -> _Folders:
        return self

    def __exit__(self, *_: object) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def enter(self, path: str) -> int:
        """The descriptor of the folder ``path`` (``""``: the target), made where missing."""
        parts = path.split("/") if path else []
        shared = 0
        for mine, wanted in zip(self._parts, parts, strict=False):
            if mine != wanted:
                break
            shared += 1
        while len(self._parts) > shared:
            self._parts.pop()
            os.close(self._fds.pop())
        for part in parts[shared:]:
            # It may have been made for an earlier entry; if it is no folder, os.open fails.
            with suppress(FileExistsError):
                os.mkdir(part, 0o755, dir_fd=self._fds[-1])
            self._fds.append(os.open(part, self._flags, dir_fd=self._fds[-1]))
            self._parts.append(part)
        return self._fds[-1]
