"""The primary's models, read again when a model.toml changes."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

from spool.errors import BadModel
from spool.manifest import Model, load_all

log = logging.getLogger(__name__)

AGAIN = 2.0  # seconds between looks at models that do not hold


class Shelf:
    """The models below ``root``. Raises BadModel if there is no such folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._again = 0.0
        self._signature = self._sign()
        self._models: Mapping[str, Model] = {}
        self.errors: Mapping[str, str] = {}
        self._load()

    def models(self) -> Mapping[str, Model]:
        return self._models

    def refresh(self) -> bool:
        """Load again if anything changed: True then. A folder gone for a moment changes nothing."""
        try:
            signature = self._sign()
            # What an error is about may lie beside model.toml: a script's mode, its absence.
            if signature == self._signature and not (self.errors and self._due()):
                return False
            self._load()
        except (OSError, BadModel):
            return False
        self._signature = signature
        return True

    def _load(self) -> None:
        before = self.errors
        self._models, self.errors = load_all(self._root, runs=False)
        for name, why in self.errors.items():
            if before.get(name) != why:
                log.warning("model %s cannot be used: %s", name, why)

    def _due(self) -> bool:
        now = time.monotonic()
        due = now >= self._again
        if due:
            self._again = now + AGAIN
        return due

    def _sign(self) -> tuple[tuple[str, int, int, int], ...]:
        found = []
        if self._root.is_dir():
            for entry in os.scandir(self._root):
                try:
                    info = os.stat(f"{entry.path}/model.toml")
                except OSError:
                    continue
                # the inode: a link may have been switched to a file of the same age and size
                found.append((entry.name, info.st_ino, info.st_mtime_ns, info.st_size))
        return tuple(sorted(found))
