"""What the stories stand on: machines that are swept when nobody owns them any more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests import machines
from tests.system import ROOT

pytestmark = [
    pytest.mark.root,
    *(pytest.mark.needs(name) for name in ("debootstrap", "systemd-container", "iproute2")),
]


def left_by(stem: str) -> list[str]:
    """Mounts, cgroups and processes of machines whose names begin so."""
    places = [
        *Path("/run").glob(f"{stem}*"),
        *Path("/sys/fs/cgroup").glob(f"**/{stem}*"),
        *Path("/run/netns").glob(f"{stem}*"),
    ]
    mounts = [line for line in Path("/proc/self/mounts").read_text().splitlines() if stem in line]
    return [*mounts, *map(str, places)]


def test_machines_of_a_test_run_that_was_killed_are_swept(tmp_path: Path) -> None:
    made = (
        "import os, sys; from pathlib import Path; from tests.machines import Machines; "
        "print(Machines(Path(sys.argv[1]), ['omega']).lan.stem, flush=True); os._exit(1)"
    )
    command = [sys.executable, "-c", made, str(tmp_path)]
    stem = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout.strip()
    assert len(left_by(stem)) > 3
    machines.sweep()
    assert left_by(stem) == []
