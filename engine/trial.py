"""The rights of a worker in its own folder of the spool, tried for ``--check``."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from functools import partial
from typing import Literal, NamedTuple

from spool import names
from spool.errors import Gone, Refused, SpoolError
from spool.transport import Transport

Verdict = Literal["ok", "FAILED", "note"]


class Finding(NamedTuple):
    """One line: what was tried, how it went, and what to do about it."""

    verdict: Verdict
    what: str
    hint: str = ""

    def __str__(self) -> str:
        hint = f"\n{'':8}{self.hint}" if self.hint else ""
        return f"{self.verdict:<7} {self.what}{hint}"


def failed(what: str, error: Exception) -> Finding:
    hint = error.hint if isinstance(error, Refused) else ""
    return Finding("FAILED", f"{what}: {plain(error)}", hint)


def plain(error: Exception) -> str:
    """The error without its hint, which has a line of its own."""
    if isinstance(error, Refused):
        return str(error).removesuffix(f" ({error.hint})")
    if isinstance(error, SpoolError):
        return str(error)
    return f"{type(error).__name__}: {error}"


class Trial:
    """The rights in the worker's own folder, by a small file that goes through it."""

    def __init__(self, transport: Transport, worker: str) -> None:
        self._transport = transport
        self._home = names.worker_folder(worker)
        self._worker = worker
        # Hidden: nobody lists it. Nobody else's: two checks may run at once.
        self._mark = f".check-{secrets.token_hex(4)}"

    def findings(self) -> Iterator[Finding]:
        try:
            self._transport.names(f"{self._home}/{names.CUR}")
        except Gone:
            yield self._could_be_made()
            return
        except SpoolError as e:
            yield self._refused(f"{self._home}/{names.CUR} cannot be listed", e)
            return
        yield from self._steps()

    def pass_through(self, folder: str) -> None:
        """Put a hidden file there and remove it. Raises SpoolError."""
        path = f"{folder}/{self._mark}"
        self._transport.store(b"", path)
        self._transport.drop(path)

    def _could_be_made(self) -> Finding:
        try:
            self.pass_through(names.WORKERS)
        except SpoolError as e:
            return self._refused(f"{self._home} is not there, and cannot be made", e)
        return Finding("ok", f"{self._home} is not there yet; the worker makes it when it starts")

    def _steps(self) -> Iterator[Finding]:
        half = f"{self._home}/{names.TMP}/{self._mark}"
        steps: list[tuple[str, Callable[[str], None]]] = [
            ("a file can be put into tmp/", partial(self._transport.store, b"check")),
            ("files can be appended to", self._append),
            ("renaming replaces at one go (posix-rename)", self._rename),
        ]
        for what, step in steps:
            try:
                step(half)
            except SpoolError as e:
                yield self._refused(f"not so: {what}", e)
                self._clear(half, f"{half}.2")
                return
            yield Finding("ok", what)
        for folder in (names.CUR, names.LOG, names.OUT, names.REPORTS):
            yield self._through(half, folder)
        self._clear(half, f"{half}.2")
        try:
            self._transport.names(f"{self._home}/{names.STOP}")
            yield Finding("ok", "stop/ can be listed")
        except SpoolError as e:
            yield self._refused("stop/ cannot be listed: no job could be killed here", e)

    def _append(self, half: str) -> None:
        for offset, data in ((5, b"ed"), (5, b"ed")):
            self._transport.append(half, offset, data)
        found = self._transport.read(half, 64)
        if found != b"checked":
            raise Refused(f"{half} holds {found!r} after an append at an offset", "is it OpenSSH?")

    def _rename(self, half: str) -> None:
        self._transport.store(b"new", f"{half}.2")
        self._transport.move(f"{half}.2", half)
        if self._transport.read(half, 64) != b"new":
            raise Refused(f"{half} was not replaced by a rename", "is the server OpenSSH?")

    def _through(self, half: str, folder: str) -> Finding:
        """Move it into a folder, and remove it there."""
        target = f"{self._home}/{folder}/{self._mark}"
        try:
            self._transport.store(b"check", half)
            self._transport.move(half, target)
            self._transport.names(f"{self._home}/{folder}")
            if not self._transport.drop(target):
                raise Gone(f"{target} vanished")
        except SpoolError as e:
            self._clear(target)
            return self._refused(f"{folder}/ cannot be used", e)
        return Finding("ok", f"{folder}/ takes files by rename, and gives them back")

    def _clear(self, *paths: str) -> None:
        for path in paths:
            try:
                self._transport.drop(path)
            except SpoolError:
                continue  # what failed was said already

    def _refused(self, what: str, error: SpoolError) -> Finding:
        hint = f"the primary's keeper runs: modelrunner spool grant {self._worker} --key FILE"
        if isinstance(error, Refused):
            return Finding("FAILED", f"{what}: {plain(error)}", hint)
        return failed(what, error)
