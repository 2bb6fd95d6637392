"""The primary's models, read again when a model.toml changes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from spool.errors import BadModel
from spool.manifest import Model, load_all


class Shelf:
    """The models below ``root``. Raises BadModel if there is no such folder."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._signature = self._sign()
        self._models, self.errors = load_all(root)

    def models(self) -> Mapping[str, Model]:
        return self._models

    def refresh(self) -> bool:
        """Load again if anything changed: True then. A folder gone for a moment changes nothing."""
        try:
            signature = self._sign()
            if signature == self._signature:
                return False
            self._models, self.errors = load_all(self._root)
        except (OSError, BadModel):
            return False
        self._signature = signature
        return True

    def _sign(self) -> tuple[tuple[str, int, int], ...]:
        found = []
        if self._root.is_dir():
            for entry in os.scandir(self._root):
                try:
                    info = os.stat(f"{entry.path}/model.toml")
                except OSError:
                    continue
                found.append((entry.name, info.st_mtime_ns, info.st_size))
        return tuple(sorted(found))
