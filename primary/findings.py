"""What an operator should know, a line each: what ``doctor`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ledger.log import Ledger
from primary.dropbox import Dropbox
from primary.files import RESERVE, Files
from primary.holders import Holders
from primary.loop import Loop
from primary.nodes import Node
from primary.shelf import Shelf
from spool.dispatch import Dispatch


class Findings:
    """Asks everybody. Thread-safe."""

    def __init__(
        self,
        ledger: Ledger,
        files: Files,
        dispatch: Dispatch,
        shelf: Shelf,
        loop: Loop,
        holders: Holders,
        dropbox: Dropbox,
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._dispatch = dispatch
        self._shelf = shelf
        self._loop = loop
        self._holders = holders
        self._dropbox = dropbox

    def all(self, workers: Sequence[Node], now: float, data: Path) -> list[str]:
        """None when all is well. ``now`` is the primary's monotonic clock."""
        return [
            *(f"spool: {what}" for what in self._loop.strange),
            *(f"model {name}: {why}" for name, why in self._dispatch.missing.items()),
            *(f"drop folder: {why}" for why in self._dropbox.troubles.values()),
            *(f"model {name}: {why}" for name, why in self._shelf.errors.items()),
            *self._holders.findings(workers, self._ledger.board.job, now),
            *self._of_queues(workers),
            *self._of_files(data),
        ]

    def _of_queues(self, workers: Sequence[Node]) -> list[str]:
        found = [
            f"worker {node.name} claims nothing: {node.paused}"
            for node in workers
            if node.paused and node.liveness == "alive"
        ]
        alive = [node for node in workers if node.liveness in ("alive", "unreachable")]
        for model in self._ledger.board.queued_models():
            if not any(model in node.models for node in alive):
                found.append(f"model {model}: jobs wait, and no living worker has this model")
        return found

    def _of_files(self, data: Path) -> list[str]:
        found = []
        if self._ledger.torn:
            found.append(f"ledger: {self._ledger.torn}")
        if count := self._files.bad_count():
            found.append(f"bad/: {count} files of workers were not believed; see {self._files.bad}")
        if (free := self._files.free()) < 10 * RESERVE:
            found.append(f"disk: only {free // 1024**2} MiB are free at {data}")
        return found
