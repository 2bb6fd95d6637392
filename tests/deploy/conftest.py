"""What is shipped, built once for all tests that install it somewhere."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import pytest

from deploy.release import Release, build
from deploy.targets import Target
from tests.system import ROOT

DEBIAN = Target(python="3.11", machine=platform.machine(), libc="glibc 2.36")  # 12
HERE = Target(
    python=f"{sys.version_info[0]}.{sys.version_info[1]}",
    machine=platform.machine(),
    libc=" ".join(platform.libc_ver()),
)
# What is neither shipped nor needed to build it; some of it is large, or somebody's.
OTHER = (".*", "__pycache__", "*.egg-info", "build", "dist", "var", "tests", "bench", "models")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this checkout as it is now. Nobody writes into it."""
    copy = tmp_path_factory.mktemp("checkout") / "modelrunner"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*OTHER))
    return copy


@pytest.fixture(scope="session")
def release_cache(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Path:
    """For XDG_CACHE_HOME: with it ``deploy --offline`` has all that Debian 12 and this one need."""
    cache = tmp_path_factory.mktemp("cache")
    for target in {DEBIAN, HERE}:
        build(checkout, target, cache / "modelrunner", offline=False, said=print)
    return cache


@pytest.fixture(scope="session")
def release(release_cache: Path, checkout: Path) -> Release:
    """What ``checkout`` ships to a host like this machine."""
    return build(checkout, HERE, release_cache / "modelrunner", offline=True, said=print)
