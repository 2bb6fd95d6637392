"""A disk that promises no more than POSIX does, and what a power cut may leave of it.

What counts is what was synced:

* data of a file lasts once the *file* was synced after it was written; else each of its 512-byte
  sectors may be there or not, and the file may have its new length or its old one;
* a name (made, linked, renamed, removed) lasts once a *folder* that it concerns was synced after
  it; else it may be there or not, whatever happened to names before and after it. A rename is
  done in both folders or in none;
* a file's sync says nothing of its name, a folder's nothing of what its files hold.

Real file systems promise more (ext4 and xfs keep the order of names, for one): a program that is
right on this disk needs none of that.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.promises.traced import Call, Fd

SECTOR = 512  # bytes that a disk writes whole or not at all
ROOT = 0  # the inode of the recorded folder


class Write(NamedTuple):
    """``data`` is None where the file was cut, or lengthened, to ``offset`` bytes."""

    inode: int
    offset: int
    data: bytes | None


class Names(NamedTuple):
    """(folder, name, inode or None where it goes), all at once; ``made``: a new folder."""

    changes: tuple[tuple[int, str, int | None], ...]
    made: int | None = None
    order: int = 0  # among all of them


class Sync(NamedTuple):
    """Of a file or a folder, by its inode."""

    inode: int


class Said(NamedTuple):
    """Somebody was told something: from now on it is a promise."""

    text: str


Op = Write | Names | Sync | Said


class Unexpected(Exception):
    """A call that the model does not know: to be taught, or the states would not be true."""


@dataclass
class _Open:
    inode: int
    offset: int = 0
    append: bool = False


class Recording:
    """The operations beneath ``root``, out of a program's calls; what it ``says`` to a file.

    Paths that begin with one of ``without`` are nobody's business.
    """

    def __init__(
        self, root: Path, says: Path, calls: Iterable[Call], without: tuple[str, ...] = ()
    ) -> None:
        self.ops: list[Op] = []
        self._root, self._says = str(root), str(says)
        self._without = tuple(f"{root}/{path}" for path in without)
        self._folders: dict[int, dict[str, int]] = {ROOT: {}}
        self._held: dict[int, bytearray] = {}  # by inode: what a file holds, synced or not
        self._open: dict[int, _Open] = {}
        self._inodes = ROOT
        for call in calls:
            self._see(call)

    # --- inside --------------------------------------------------------------------

    def _see(self, call: Call) -> None:
        name = call.name
        if name in ("openat", "open", "creat"):
            self._opened(call)
        elif name == "close":
            self._open.pop(_number(call), None)
        elif name in ("write", "pwrite64"):
            self._written(call)
        elif name == "lseek":
            if file := self._open.get(_number(call)):
                file.offset = call.result
        elif name == "sendfile":
            self._sent(call)
        elif name in ("ftruncate", "truncate"):
            self._cut(call)
        elif name in ("fsync", "fdatasync"):
            if file := self._open.get(_number(call)):
                self.ops.append(Sync(file.inode))
        elif name.startswith(("rename", "link", "unlink", "mkdir", "rmdir")):
            self._named(call)
        elif name in ("ioctl", "fcntl"):
            return  # no data: asked of terminals and locks
        elif self._concerns(call):
            raise Unexpected(str(call)[:300])

    def _concerns(self, call: Call) -> bool:
        fds = (arg.number for arg in call.args if isinstance(arg, Fd))
        return any(number in self._open for number in fds if number is not None)

    def _opened(self, call: Call) -> None:
        at, path, flags = call.args[0], call.args[1], str(call.args[2])
        self._open.pop(call.result, None)
        place = self._place(at, path)
        if place is None:
            if _joined(at, path) == self._root:
                self._open[call.result] = _Open(ROOT)
            return
        folder, name = place
        inode = self._folders[folder].get(name)
        if inode is None:
            if "O_CREAT" not in flags:
                raise Unexpected(f"opened, but never made: {call}")
            inode = self._new()
            self._held[inode] = bytearray()
            self._do(Names(((folder, name, inode),)))
        elif "O_TRUNC" in flags and self._held.get(inode):
            self._write(Write(inode, 0, None))
        self._open[call.result] = _Open(inode, append="O_APPEND" in flags)

    def _written(self, call: Call) -> None:
        fd, data = call.args[0], call.args[1]
        assert isinstance(data, bytes)
        data = data[: call.result]
        if isinstance(fd, Fd) and fd.path == self._says:
            self.ops.append(Said(data.decode()))
            return
        file = self._open.get(_number(call))
        if file is None or not data:
            return
        if call.name == "pwrite64":
            offset = call.args[3]
            assert isinstance(offset, int)
        else:
            offset = len(self._held[file.inode]) if file.append else file.offset
            file.offset = offset + len(data)
        self._write(Write(file.inode, offset, data))

    def _sent(self, call: Call) -> None:
        """From one file to another, without a look at it."""
        target, source = call.args[0], call.args[1]
        assert isinstance(target, Fd)
        assert isinstance(source, Fd)
        to = self._open.get(target.number or -1)
        if to is None:
            return
        of, start = self._open.get(source.number or -1), call.args[2]
        if of is None or not isinstance(start, int):
            raise Unexpected(f"sent from where nothing was recorded: {call}")
        data = bytes(self._held[of.inode][start : start + call.result])
        if data:
            self._write(Write(to.inode, to.offset, data))
            to.offset += len(data)

    def _cut(self, call: Call) -> None:
        if call.name == "truncate":
            raise Unexpected(str(call))
        file, size = self._open.get(_number(call)), call.args[1]
        if file is not None:
            assert isinstance(size, int)
            self._write(Write(file.inode, size, None))

    def _write(self, op: Write) -> None:
        _write(self._held[op.inode], op)
        self.ops.append(op)

    def _named(self, call: Call) -> None:
        paths = list(self._paths(call))
        if all(place is None for place in paths):
            return
        if any(place is None for place in paths):
            raise Unexpected(f"it leads into the recorded folder, or out of it: {call}")
        first = paths[0]
        assert first is not None
        folder, name = first
        if call.name.startswith("mkdir"):
            made = self._new()
            self._folders[made] = {}
            self._do(Names(((folder, name, made),), made))
        elif call.name.startswith(("unlink", "rmdir")):
            self._do(Names(((folder, name, None),)))
        else:
            second = paths[1]
            assert second is not None
            inode = self._folders[folder][name]
            there = (*second, inode)
            gone = ((folder, name, None),) if call.name.startswith("rename") else ()
            self._do(Names((*gone, there)))

    def _paths(self, call: Call) -> Iterator[tuple[int, str] | None]:
        """The places that the call names, in its order."""
        at: Fd | None = None
        for arg in call.args:
            if isinstance(arg, Fd):
                at = arg
            elif isinstance(arg, bytes):
                yield self._place(at, arg)
                at = None

    def _place(self, at: object, path: object) -> tuple[int, str] | None:
        """The folder's inode and the name in it; None where it is not beneath the root."""
        full = _joined(at, path)
        if not full.startswith(f"{self._root}/") or full.startswith(self._without):
            return None
        *folders, name = full[len(self._root) + 1 :].split("/")
        inode = ROOT
        for folder in folders:
            inode = self._folders[inode][folder]
        return inode, name

    def _do(self, op: Names) -> None:
        for folder, name, inode in op.changes:
            if inode is None:
                self._folders[folder].pop(name, None)
            else:
                self._folders[folder][name] = inode
        self.ops.append(op._replace(order=len(self.ops)))

    def _new(self) -> int:
        self._inodes += 1
        return self._inodes


def _number(call: Call) -> int:
    fd = call.args[0]
    return fd.number if isinstance(fd, Fd) and fd.number is not None else -1


def _joined(at: object, path: object) -> str:
    assert isinstance(path, bytes)
    text = os.fsdecode(path)
    base = at.path if isinstance(at, Fd) else os.getcwd()
    return os.path.normpath(os.path.join(base, text))


# --- what a power cut leaves -------------------------------------------------------


@dataclass(frozen=True)
class State:
    """What a disk holds after a cut; what was ``said`` before.

    ``tree`` has the inode of each path, ``data`` what those that are files hold.
    """

    at: int  # operations done
    lost: str  # what was done of those that had not been synced, for whoever reads a failure
    tree: dict[str, int]
    data: dict[int, bytes]
    said: tuple[str, ...]

    @property
    def digest(self) -> bytes:
        found = hashlib.sha256(str(len(self.said)).encode())
        for path, inode in sorted(self.tree.items()):
            found.update(f"\0{path}\0{inode}\0".encode() + self.data.get(inode, b"/"))
        return found.digest()

    def lay_out(self, root: Path) -> None:
        """Make it real, beneath the empty folder ``root``; names of one file are links to it."""
        first: dict[int, Path] = {}
        for path, inode in sorted(self.tree.items()):
            if inode not in self.data:
                (root / path).mkdir()
            elif inode in first:
                (root / path).hardlink_to(first[inode])
            else:
                first[inode] = root / path
                first[inode].write_bytes(self.data[inode])


Folders = dict[int, dict[str, tuple[int, int | None]]]
"""By folder and name: the order of the change that it is from, and the inode if it is there."""


@dataclass
class Disk:
    """The operations done so far, of which some last."""

    durable: dict[int, bytes] = field(default_factory=dict)  # files' data, by inode
    pending: dict[int, list[Write]] = field(default_factory=dict)
    names: Folders = field(default_factory=lambda: {ROOT: {}})
    waiting: list[Names] = field(default_factory=list)
    folders: set[int] = field(default_factory=lambda: {ROOT})
    said: tuple[str, ...] = ()

    def do(self, op: Op) -> None:
        match op:
            case Said(text):
                self.said = (*self.said, text)
            case Write(inode):
                self.pending.setdefault(inode, []).append(op)
            case Names():
                self.waiting.append(op)
                if op.made is not None:
                    self.folders.add(op.made)
                    self.names[op.made] = {}
            case Sync(inode) if inode in self.folders:
                self._keep_names(inode)
            case Sync(inode):
                whole = _applied(self.durable.get(inode, b""), self.pending.pop(inode, []))
                self.durable[inode] = whole

    def _keep_names(self, folder: int) -> None:
        left: list[Names] = []
        for op in self.waiting:
            if any(change[0] == folder for change in op.changes):
                _rename(self.names, op)
            else:
                left.append(op)
        self.waiting = left

    def states(self, at: int, dice: random.Random, most: int) -> Iterator[State]:
        """What may be left if the power goes now, at most ``most`` of them."""
        files = [inode for inode, writes in self.pending.items() if writes]
        atoms = len(self.waiting) + len(files)
        for chosen in _choices(atoms, dice, most):
            names = {folder: dict(entries) for folder, entries in self.names.items()}
            for op, done in zip(self.waiting, chosen, strict=False):
                if done:
                    _rename(names, op)
            fates = dict(zip(files, chosen[len(self.waiting) :], strict=True))
            tree = dict(self._tree(names, ROOT, ""))
            data = {
                inode: self._data(inode, fates.get(inode, True), dice)
                for inode in sorted(set(tree.values()) - self.folders)
            }
            lost = "".join("x" if done else "." for done in chosen)
            yield State(at, lost, tree, data, self.said)

    def _tree(self, names: Folders, folder: int, path: str) -> Iterator[tuple[str, int]]:
        for name, (_, inode) in names[folder].items():
            if inode is None:
                continue
            yield f"{path}{name}", inode
            if inode in self.folders:
                yield from self._tree(names, inode, f"{path}{name}/")

    def _data(self, inode: int, whole: bool, dice: random.Random) -> bytes:
        kept, writes = self.durable.get(inode, b""), self.pending.get(inode, [])
        if whole or not writes:
            return _applied(kept, writes)
        how = dice.randrange(4)
        if how == 0:
            return kept
        if how == 1:
            return _applied(kept, writes[: dice.randrange(len(writes))])
        return _torn(kept, writes, dice)


def states(
    ops: list[Op], dice: random.Random, *, each: int, wanted: Callable[[Op], bool] = lambda _: True
) -> Iterator[State]:
    """Those after every operation (that is ``wanted``), no two alike, ``each`` at most for one."""
    disk, seen = Disk(), set[bytes]()
    for at, op in enumerate(ops, 1):
        disk.do(op)
        if not wanted(op):
            continue
        for state in disk.states(at, dice, each):
            if state.digest not in seen:
                seen.add(state.digest)
                yield state


def _choices(atoms: int, dice: random.Random, most: int) -> Iterator[tuple[bool, ...]]:
    """Which of them are done: all ways where that is few, else the telling ones and some more."""
    if 2**atoms <= most:
        for number in range(2**atoms):
            yield tuple(bool(number >> n & 1) for n in range(atoms))
        return
    yield (True,) * atoms
    yield (False,) * atoms
    singles = [(n, done) for n in range(atoms) for done in (False, True)]
    # The newest are the likeliest to matter; the others had their turn when they were new.
    for n, done in sorted(singles, reverse=True)[: most // 2]:
        yield tuple(done if n == m else not done for m in range(atoms))
    for _ in range(most // 2):
        yield tuple(dice.random() < 0.5 for _ in range(atoms))


def _rename(names: Folders, op: Names) -> None:
    """A change of a name counts unless a later one of the same name lasts already."""
    for folder, name, inode in op.changes:
        if names[folder].get(name, (-1, None))[0] < op.order:
            names[folder][name] = (op.order, inode)


def _applied(kept: bytes, writes: Iterable[Write]) -> bytes:
    data = bytearray(kept)
    for write in writes:
        _write(data, write)
    return bytes(data)


def _write(data: bytearray, write: Write) -> None:
    end = write.offset + len(write.data or b"")
    if len(data) < end:
        data.extend(bytes(end - len(data)))
    if write.data is None:
        del data[write.offset :]
    else:
        data[write.offset : end] = write.data


def _torn(kept: bytes, writes: list[Write], dice: random.Random) -> bytes:
    """Each sector is new or old, or empty where there was none; the length is the new one."""
    new = _applied(kept, writes)
    old = kept[: len(new)].ljust(len(new), b"\0")
    data = bytearray(new)
    for start in range(0, len(new), SECTOR):
        if dice.random() < 0.5:
            data[start : start + SECTOR] = old[start : start + SECTOR]
    return bytes(data)
