"""Fixtures that more than one package's tests use, and what is skipped where.

At home a test whose Debian package is missing is skipped, with a line at the
end. In CI, and where `make test` installs the packages, nothing may be skipped:
a skip fails there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.system import ROOT, System

# A machine may be slow at any moment: no example has to end within Hypothesis's 200 ms.
settings.register_profile("slow machines", deadline=None)
settings.load_profile("slow machines")

# What tells that a package is there, where the program is not called like it.
PROGRAMS = {
    "e2fsprogs": "mkfs.ext4",
    "glpk-utils": "glpsol",
    "iproute2": "ip",
    "nginx-light": "nginx",
    "openssh-client": "ssh",
    "openssh-server": "sshd",
    "passwd": "useradd",
    "procps": "ps",
    "systemd-container": "systemd-nspawn",
    "util-linux": "setpriv",
    "xfsprogs": "mkfs.xfs",
}
UMASK = 0o022
# Where servers and the keeper's programs lie, also for an ordinary user.
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def pytest_configure() -> None:
    """Where a narrow umask matters, a test sets its own; machines and accounts need to read."""
    os.umask(UMASK)


@pytest.fixture(autouse=True)
def umask_as_before() -> Iterator[None]:
    """What a test leaves behind here would befall others, much later."""
    yield
    assert os.umask(UMASK) == UMASK, "the test has changed the umask for those after it"


def pytest_runtest_setup(item: pytest.Item) -> None:
    listed = (ROOT / "debian-packages.txt").read_text().split()
    for mark in item.iter_markers("needs"):
        package = str(mark.args[0])
        assert package in listed, f"{package} is not in debian-packages.txt"
        if shutil.which(PROGRAMS.get(package, package), path=PATH) is None:
            pytest.skip(f"needs the Debian package {package}")
    if item.get_closest_marker("root") and os.geteuid() != 0:
        pytest.skip("needs root")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if os.environ.get("CI") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {item.nodeid}: {call.excinfo}"
    return report


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    """A system with the model ``count`` (input file ``count``), not yet started."""
    made = System(tmp_path)
    made.add_model("count", more="[input]\nrequired = ['count']")
    try:
        yield made
    finally:
        made.end()
