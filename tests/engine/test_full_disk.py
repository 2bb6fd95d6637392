"""A disk that fills up while a model runs costs no exit."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import EngineError
from tests.engine.world import World, until

FILL = 'head -c 100M /dev/zero > "$2/big" 2>/dev/null; echo x >> "$2/more" 2>/dev/null'


@pytest.fixture
def small(tmp_path: Path) -> Iterator[World]:
    """A world on a disk of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root")
    world = World(disk, None)
    try:
        yield world
    finally:
        world.close()
        # Inits have their own mount tables and leave them when they die.
        until(
            lambda: subprocess.run(["umount", str(disk)], capture_output=True).returncode == 0,
            "the small disk can be taken away",
        )


def test_the_exit_is_written_on_a_full_disk(small: World) -> None:
    exit_ = small.run(FILL + "; df . >&2; exit 9")
    assert (exit_.ending, exit_.exit_code) == ("exited", 9)
    free = os.statvfs(small.state)
    assert free.f_bavail == 0


def test_on_a_full_disk_nothing_is_begun_and_begin_can_be_tried_again(small: World) -> None:
    engine = small.engine()
    key = small.prepare("exit 4")
    filler = small.root / "filler"
    with filler.open("wb") as f, pytest.raises(OSError, match="No space"):
        while True:
            os.write(f.fileno(), b"x" * 4096)
    with pytest.raises(EngineError, match="No space"):
        engine.begin(key)
    assert engine.stage(key) == "ready"
    filler.unlink()
    engine.begin(key)
    assert small.ended(engine).exit_code == 4


def test_an_input_too_large_for_the_disk(small: World) -> None:
    exit_ = small.run("true", files={"big": "0" * (3 << 20)})
    assert exit_.ending == "not-started"
    assert "no disk space" in exit_.reason
