"""A runner of another version goes on with what runs, then gives its place to one of ours."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.errors import NoRunner
from engine.runs import Engine
from engine.version import installed
from tests.engine.unit import OLD, Unit, another_version
from tests.engine.world import World, until

WAITING = 'echo up; while [ ! -e "$MODELRUNNER_OUTPUT_DIR/go" ]; do sleep 0.02; done; exit 5'


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A folder with another version of the runner."""
    return tmp_path / "old version"


def told(engine: Engine) -> str | None:
    """The version of the runner, once it has said hello."""
    until(lambda: engine._runner_version is not None, "the runner's hello")
    return engine._runner_version


def test_a_runner_of_another_version_is_replaced_once_nothing_runs(world: World, old: Path) -> None:
    start = [sys.executable, "-m", "engine.runner", "--detach", "--state", str(world.state)]
    subprocess.run(start, env=another_version(old), cwd="/", check=True)
    engine = world.engine()
    assert told(engine) == OLD
    before = world.runner_pid()
    engine.begin(world.prepare("true", key="first.1"))  # nothing ran: it was replaced before
    assert world.ended(engine, "first.1").ending == "exited"
    assert world.runner_pid() != before
    assert told(engine) == installed()


def test_what_runs_goes_on_in_the_old_runner_although_its_files_are_gone(
    world: World, old: Path
) -> None:
    """It, its inits and their unpackers have loaded all that they will ever need."""
    start = [sys.executable, "-m", "engine.runner", "--detach", "--state", str(world.state)]
    subprocess.run(start, env=another_version(old), cwd="/", check=True)
    engine = Engine(world.state)  # that has not heard a hello, so that it begins something
    engine.begin(world.prepare(WAITING))
    world.says("up")
    before = world.runner_pid()
    assert told(engine) == OLD
    shutil.rmtree(old)
    endings = {}
    for key, script in (("good.1", "true"), ("signal.1", "kill -9 $$"), ("needs.1", "true")):
        # The contract is the same: what is begun meanwhile is begun in the old one.
        required = ("absent.txt",) if key == "needs.1" else ()
        engine.begin(world.prepare(script, key=key, required=required))
        endings[key] = world.ended(engine, key).ending
    bad = world.prepare("true", key="bad.1")
    (world.run_dir(bad) / "input.zip").write_bytes(b"no zip")
    engine.begin(bad)
    late = world.prepare(WAITING, key="late.1", timeout=0.1, grace=0.1)
    engine.begin(late)
    endings |= {key: world.ended(engine, key).ending for key in (bad, late)}
    assert endings == {
        "good.1": "exited",
        "signal.1": "signaled",
        "needs.1": "bad-input",
        "bad.1": "bad-input",
        "late.1": "timeout",
    }
    engine.renew()
    assert world.runner_pid() == before
    (world.run_dir("job.1") / "output" / "go").touch()
    assert world.ended(engine).exit_code == 5
    until(lambda: engine.lacking() == "" and told(engine) == installed(), "the next runner")
    assert world.runner_pid() != before
    engine.close(stop_runner_if_idle=True)


@pytest.fixture
def kept(world: World, old: Path) -> Iterator[Unit]:
    """A unit that was started before an upgrade, and starts the new version from now on."""
    with Unit(world.state, another_version(old)) as unit:
        assert unit.pid
        unit.environment = dict(os.environ)
        yield unit


def test_a_unit_s_runner_is_asked_to_leave_and_its_unit_brings_the_next(
    world: World, kept: Unit
) -> None:
    engine = Engine(world.state, keeper="unit")
    assert engine.lacking() == ""
    assert told(engine) == OLD

    def begun() -> bool:
        try:
            engine.begin(key)
            return True
        except NoRunner:  # for a moment
            return False

    key = world.prepare("true")
    until(begun, "a runner")
    assert world.ended(engine).ending == "exited"
    assert (told(engine), kept.starts) == (installed(), 2)
    engine.close(stop_runner_if_idle=False)
    assert kept.starts == 2, "an agent that ends leaves the unit's runner be"


def test_one_that_stays_of_another_version_is_not_asked_again_and_again(
    world: World, old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that was not restarted after an upgrade: the unit brings what is installed."""
    monkeypatch.setattr("engine.runs.RENEW", (300.0, 300.0))
    with Unit(world.state, another_version(old)) as unit:
        engine = Engine(world.state, keeper="unit")
        until(lambda: engine.lacking() == "" and told(engine) == OLD, "the runner")
        engine.renew()
        until(lambda: engine.lacking() == "" and told(engine) == OLD, "the next one")
        for _ in range(50):
            assert engine.lacking() == ""
        assert unit.starts == 2
        engine.close(stop_runner_if_idle=False)
