"""The explorer's stage, on a disk in memory where there is one."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.protocol.world import Stage

MEMORY = Path("/dev/shm")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """A stage whose patches are undone at the end."""
    quick = MEMORY.is_dir() and os.access(MEMORY, os.W_OK)
    root = Path(tempfile.mkdtemp(prefix="protocol-", dir=MEMORY if quick else tmp_path))
    logging.disable(logging.CRITICAL)  # thousands of schedules, each with its warnings
    try:
        with pytest.MonkeyPatch.context() as patch:
            yield Stage(root, patch)
    finally:
        logging.disable(logging.NOTSET)
        shutil.rmtree(root, ignore_errors=True)
