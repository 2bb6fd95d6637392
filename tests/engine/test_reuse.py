"""One init serves many runs, and none meets anything of another."""

from __future__ import annotations

import os
import sys

import msgspec
import psutil
import pytest

from engine.contract import Running
from tests.engine.world import World, until


def init_of(world: World, key: str) -> int:
    running = msgspec.json.decode((world.run_dir(key) / "run.json").read_bytes(), type=Running)
    return running.pid


def test_the_same_init_serves_again(contained: World) -> None:
    exits = [contained.run(f"exit {n}", key=f"job.{n}") for n in range(1, 6)]
    assert [exit_.exit_code for exit_ in exits] == [1, 2, 3, 4, 5]
    inits = [init_of(contained, f"job.{n}") for n in range(1, 6)]
    assert len(set(inits)) < len(inits)


def test_figures_are_those_of_one_run(contained: World) -> None:
    big = "b = bytearray(120 << 20)"
    first = contained.run(f"{sys.executable} -c '{big}'", key="job.1")
    second = contained.run("true", key="job.2")
    assert first.peak_memory > 120 << 20 > second.peak_memory
    assert first.cpu_seconds > second.cpu_seconds


def test_what_one_run_left_is_gone_before_the_next(contained: World) -> None:
    contained.run("setsid sleep 600 & setsid sleep 601 &", key="job.1")
    assert contained.alive("job.1") == []
    second = contained.run("true", key="job.2")
    assert second.ended == ()


def test_an_init_that_ended_by_a_stop_or_a_bad_zip_serves_again(contained: World) -> None:
    engine = contained.engine()
    key = contained.prepare("echo on; sleep 600", key="job.1")
    engine.begin(key)
    contained.says("on", key)
    engine.stop(key, "enough")
    assert contained.ended(engine, key).ending == "stopped"
    engine.stop(key, "once more, too late")  # must not stop whatever comes next
    bad = contained.prepare("true", key="job.2")
    (contained.run_dir(bad) / "input.zip").write_bytes(b"no zip")
    engine.begin(bad)
    assert contained.ended(engine, bad).ending == "bad-input"
    assert contained.run("exit 0", key="job.3").exit_code == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_an_init_whose_mounts_a_model_changed_serves_no_other(world: World) -> None:
    target = world.root / "mounted"
    target.mkdir()
    first = world.run(f"mount -t tmpfs none {target} && touch {target}/mine", key="job.1")
    assert first.exit_code == 0, world.log("job.1")
    second = world.run(f"ls -A {target}", key="job.2")
    assert second.exit_code == 0
    assert world.log("job.2") == ""
    assert init_of(world, "job.1") != init_of(world, "job.2")


def test_an_unpacker_killed_while_it_waits_is_replaced(world: World) -> None:
    world.run("true", key="job.1")
    runner = psutil.Process(world.runner_pid())

    def waiting() -> list[psutil.Process]:
        return [p for p in runner.children(recursive=True) if p.name() == "mr-unpack"]

    until(waiting, "an unpacker that waits")
    for process in waiting():
        process.kill()
    assert world.run("exit 0", key="job.2").exit_code == 0
