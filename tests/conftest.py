"""Fixtures that more than one package's tests use."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import System


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A system with the model ``count`` (input file ``count``), not yet started."""
    made = System(tmp_path)
    made.add_model("count", more="[input]\nrequired = ['count']")
    try:
        yield made
    finally:
        made.end()
