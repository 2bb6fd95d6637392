"""Stories on three machines: each test is a step, and needs the steps before it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.machines.keeper import Keeper
from tests.image import PATH
from tests.machines import machines
from tests.system import ROOT

_MAKER = pytest.StashKey["subprocess.Popen[bytes]"]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """The machines' file system is made while other tests run; who needs it waits for it."""
    wanted = any(Path(__file__).parent in item.path.parents for item in session.items)
    able = os.geteuid() == 0 and shutil.which("debootstrap", path=PATH) is not None
    if wanted and able and not session.config.option.collectonly:
        # What it would say is said again by who needs it.
        session.config.stash[_MAKER] = subprocess.Popen(
            ["nice", sys.executable, "-m", "tests.image"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def pytest_unconfigure(config: pytest.Config) -> None:
    """The next test run may find the file system made."""
    if _MAKER in config.stash:
        config.stash[_MAKER].wait()


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory, release_cache: Path) -> Iterator[Keeper]:
    folder = tmp_path_factory.mktemp("story")
    with machines(folder, "alpha", "beta", "gamma") as made:
        yield Keeper(folder / "keeper", made, release_cache)


@pytest.fixture(autouse=True)
def step(request: pytest.FixtureRequest) -> Iterator[None]:
    """A step after one that failed fails at once, and names that one."""
    story = request.node.parent
    assert story is not None
    broken = getattr(story, "broken_at", None)
    if broken is not None:
        pytest.fail(f"the story broke at {broken}")
    before = request.session.testsfailed
    yield
    if request.session.testsfailed > before:
        story.broken_at = request.node.name
