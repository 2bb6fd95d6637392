"""A transport that counts what is asked of it, and loses requests or answers when told to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from spool.errors import SpoolError, Unreachable
from spool.transport import Transport

# request: it never arrives. answer: it is carried out, and nobody hears of it. Else it is
# answered by an error.
Loss = Literal["request", "answer"] | SpoolError | None


class LossyTransport:
    """The eight verbs of ``inner``. ``loses(verb, path)`` says what becomes of a call."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.calls: list[tuple[str, str]] = []
        self.loses: Callable[[str, str], Loss] = lambda _verb, _path: None
        self.hangs = threading.Event()  # set: nothing is answered any more
        self.freed = threading.Event()

    def down(self) -> None:
        self.loses = lambda _verb, _path: "request"

    def up(self) -> None:
        self.loses = lambda _verb, _path: None

    def lose_once(self, verb: str, part: str, what: Loss = "answer") -> None:
        """The next such call is lost."""
        left = [what]

        def loses(called: str, path: str) -> Loss:
            return left.pop() if left and called == verb and part in path else None

        self.loses = loses

    def count(self, verb: str, part: str = "") -> int:
        return sum(1 for called, path in list(self.calls) if called == verb and part in path)

    def _do(self, verb: str, path: str, call: Callable[[], Any]) -> Any:
        self.calls.append((verb, path))
        if self.hangs.is_set():
            self.freed.wait()
            raise Unreachable(f"{path}: cut")
        lost = self.loses(verb, path)
        if lost == "request":
            raise Unreachable(f"{path}: lost on its way")
        if isinstance(lost, SpoolError):
            raise lost
        found = call()
        if lost == "answer":
            raise Unreachable(f"{path}: its answer was lost")
        return found

    # --- the verbs ---------------------------------------------------------------------

    def names(self, folder: str) -> list[str]:
        found: list[str] = self._do("names", folder, lambda: self._inner.names(folder))
        return found

    def read(self, path: str, limit: int) -> bytes:
        found: bytes = self._do("read", path, lambda: self._inner.read(path, limit))
        return found

    def fetch(self, path: str, target: Path) -> None:
        self._do("fetch", path, lambda: self._inner.fetch(path, target))

    def store(self, source: Path | bytes, path: str, *, go_on: bool = False) -> None:
        self._do("store", path, lambda: self._inner.store(source, path, go_on=go_on))

    def append(self, path: str, offset: int, data: bytes) -> None:
        self._do("append", path, lambda: self._inner.append(path, offset, data))

    def move(self, old: str, new: str) -> None:
        self._do("move", f"{old} to {new}", lambda: self._inner.move(old, new))

    def drop(self, path: str) -> bool:
        found: bool = self._do("drop", path, lambda: self._inner.drop(path))
        return found

    def check(self, path: str) -> int | None:
        found: int | None = self._do("check", path, lambda: self._inner.check(path))
        return found
