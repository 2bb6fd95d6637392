"""A step point before every file operation of an actor, whoever's code makes it.

The functions of ``os`` (and ``open``) that name a file are wrapped while a
schedule runs, so no file operation of submit, publish, claim, report or
retire can be forgotten, however the code is arranged. Reads and writes
through a descriptor that is open already see one file that no rename changes,
and are no points of their own, but for the first write: so a crash leaves an
empty file behind. The ledger's files are no business of ours: the ledger's
own tests tear them; here an append is one step.
"""

from __future__ import annotations

import builtins
import io
import os
import re
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

import pytest

from ledger.events import Record
from ledger.log import Ledger
from tests.protocol.baton import Baton, Step, current

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{8}([0-9a-f]{4})")
_LONG = re.compile(r"-[0-9a-f]{64}|0{12,}")
_PLACES = re.compile(
    r"data/spool/models/[^/]+/(?P<new>new)(/[^.][^/]*)?\Z"
    r"|data/spool/workers/(?P<worker>[^/]+)/(?P<place>reports/beat\.json|cur|reports|stop|log|out)"
    r"(/[^.][^/]*)?\Z"
    r"|(?P<state>[a-z0-9]+\.state)/"
)
_CREATING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Syscalls:
    """The wrapped functions of one world, whose files lie beneath ``root``."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch) -> None:
        self.baton: Baton | None = None
        self.recorded: Callable[[Record], None] = lambda _: None
        self._root = f"{root}/"
        self._ledger = ("data/ledger", "data/board.sqlite")
        self._opened: dict[int, str] = {}  # paths, by descriptor
        self._fresh: dict[int, str] = {}  # those of files into which nothing was written yet
        for name in ("listdir", "unlink", "remove", "mkdir", "rmdir"):
            patch.setattr(os, name, self._one(getattr(os, name), name))
        for name in ("rename", "replace", "link"):
            patch.setattr(os, name, self._two(getattr(os, name), name))
        patch.setattr(os, "scandir", self._scandir(os.scandir))
        patch.setattr(os, "open", self._os_open(os.open))
        patch.setattr(os, "pwrite", self._pwrite(os.pwrite))
        patch.setattr(builtins, "open", self._open(io.open))
        patch.setattr(io, "open", builtins.open)
        patch.setattr(Ledger, "append", self._append(Ledger.append))

    # --- inside --------------------------------------------------------------------

    def _relative(self, path: object, kw: dict[str, Any], where: str = "dir_fd") -> str | None:
        """The path beneath the root; None if it is not one, or nobody's business."""
        if self.baton is None or current() is None or isinstance(path, int):
            return None
        text = os.fsdecode(path)  # type: ignore[arg-type]
        at = kw.get(where)
        if at is not None:
            text = f"{self._opened.get(at, '')}/{text}"
        if not text.startswith(self._root):
            return None
        text = text[len(self._root) :]
        return None if text.startswith(self._ledger) else text

    def _step(self, verb: str, *paths: str | None, changes: bool) -> None:
        named = tuple(path for path in paths if path is not None)
        if named and self.baton is not None:
            self.baton.point(_step_of(verb, named, changes))

    def _one(self, real: Callable[..., Any], verb: str) -> Callable[..., Any]:
        def wrapped(path: Any = ".", *args: Any, **kw: Any) -> Any:
            self._step(verb, self._relative(path, kw), changes=verb != "listdir")
            found = real(path, *args, **kw)
            return sorted(found) if verb == "listdir" else found

        return wrapped

    def _scandir(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """A folder that was opened is listed in one step, in one order."""

        def wrapped(path: Any = ".") -> Any:
            opened = self._opened.get(path, "") if isinstance(path, int) else path
            name = self._relative(opened, {})
            if name is None:
                return real(path)
            self._step("listdir", name, changes=False)
            with real(path) as entries:
                return _Entries(sorted(entries, key=lambda entry: entry.name))

        return wrapped

    def _two(self, real: Callable[..., Any], verb: str) -> Callable[..., Any]:
        def wrapped(src: Any, dst: Any, **kw: Any) -> Any:
            old = self._relative(src, kw, "src_dir_fd")
            new = self._relative(dst, kw, "dst_dir_fd")
            self._step(verb, old, new, changes=True)
            return real(src, dst, **kw)

        return wrapped

    def _os_open(self, real: Callable[..., int]) -> Callable[..., int]:
        def wrapped(path: Any, flags: int, *args: Any, **kw: Any) -> int:
            name = self._relative(path, kw)
            writing = bool(flags & _CREATING)
            if name is not None and not flags & os.O_DIRECTORY:
                self._step("write" if writing else "read", name, changes=writing)
            fd = real(path, flags, *args, **kw)
            self._fresh.pop(fd, None)
            self._opened.pop(fd, None)
            if name is not None:
                self._opened[fd] = self._root + name
                if writing:
                    self._fresh[fd] = name
            return fd

        return wrapped

    def _pwrite(self, real: Callable[..., int]) -> Callable[..., int]:
        def wrapped(fd: int, data: Any, offset: int) -> int:
            name = self._fresh.pop(fd, None)
            if name is not None and current() is not None:
                self._step("fill", name, changes=True)
            return real(fd, data, offset)

        return wrapped

    def _open(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(file: Any, mode: str = "r", *args: Any, **kw: Any) -> Any:
            name = self._relative(file, {})
            if name is not None:
                writing = mode.strip("bt") != "r"
                if writing or _place(name):
                    self._step("write" if writing else "read", name, changes=writing)
            return real(file, mode, *args, **kw)

        return wrapped

    def _append(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(ledger: Ledger, decide: Any) -> Any:
            if self.baton is None or current() is None:
                return real(ledger, decide)
            self.baton.point(Step("append to the ledger", "ledger", changes=True))
            records = real(ledger, decide)
            for record in records:
                self.recorded(record)
            return records

        return wrapped


class _Entries(list[Any]):
    """What ``os.scandir`` gives: to be gone through within ``with``."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@lru_cache(maxsize=4096)
def _step_of(verb: str, paths: tuple[str, ...], changes: bool) -> Step:
    where = " ".join(filter(None, map(_place, paths)))
    if where.endswith(".state") and verb not in ("rename", "rmdir"):
        where = ""  # half-made files, which nobody else opens
    what = f"{verb} {' to '.join(map(_mention, paths))}"
    return Step(what, where, changes, beat="beat.json" in what)


@lru_cache(maxsize=4096)
def _mention(path: str) -> str:
    """A path, short enough for a history."""
    return _LONG.sub("", _ID.sub(r"\1", path)).removeprefix("data/spool/")


@lru_cache(maxsize=4096)
def _place(path: str) -> str:
    """Where actors can meet at ``path``: ``new``, a folder of a worker, or its state directory."""
    found = _PLACES.match(path)
    if found is None:
        return ""
    if found["new"]:
        return "new"
    return found["state"] or f"{found['worker']}/{found['place']}"
