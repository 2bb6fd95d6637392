"""A world of runs, with the best containment there is or with each in turn."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from engine.contract import Containment
from tests.engine.house import House
from tests.engine.world import World


@pytest.fixture
def house(tmp_path: Path) -> House:
    """A spool with the model m, and one worker's folder."""
    return House(tmp_path)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """With the best containment there is."""
    world = World(tmp_path, None)
    yield world
    world.close()


@pytest.fixture(params=get_args(Containment))
def contained(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[World]:
    """In each containment that this machine allows."""
    if request.param == "pid-namespace" and not _namespaces():
        pytest.skip("this machine allows no PID namespace to this account")
    world = World(tmp_path, request.param)
    yield world
    world.close()


@functools.cache
def _namespaces() -> bool:
    """Tried in another process: trying forks, and pytest has threads."""
    script = "import sys; from engine import sandbox as s; sys.exit(s.probe(None) == s.TREE)"
    return subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
