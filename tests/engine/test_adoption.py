"""Agents and runners come and go; the runs and the truth about them stay."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import engine as engine_package
from engine import procs
from engine.contract import Running
from engine.errors import EngineError
from engine.runs import Engine
from tests.engine.world import PATIENCE, World, until

WAITING = 'echo up; while [ ! -e "$MODELRUNNER_OUTPUT_DIR/go" ]; do sleep 0.02; done; exit 5'


def go(world: World, key: str = "job.1") -> None:
    (world.run_dir(key) / "output" / "go").touch()


def test_a_run_goes_on_without_its_agent(contained: World) -> None:
    first = contained.engine()
    key = contained.prepare(WAITING)
    first.begin(key)
    contained.says("up")
    first.close(stop_runner_if_idle=True)  # it is not idle
    second = contained.engine()
    assert second.stage(key) == "running"
    go(contained)
    exit_ = contained.ended(second)
    assert (exit_.ending, exit_.exit_code) == ("exited", 5)


def test_a_run_goes_on_when_its_agent_is_killed(world: World) -> None:
    script = """
import sys, time; from pathlib import Path; from engine.runs import Engine
engine = Engine(Path(sys.argv[1])); engine.connect(); engine.begin("job.1")
print("begun", flush=True)
time.sleep(1000)
"""
    key = world.prepare(WAITING)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(world.state)],
        stdout=subprocess.PIPE,
        cwd=Path(engine_package.__file__).parent.parent,
    ) as agent:
        assert agent.stdout is not None
        assert agent.stdout.readline() == b"begun\n"
        world.says("up")
        agent.kill()
    engine = world.engine()
    assert engine.stage(key) == "running"
    engine.begin(key)  # an agent that cannot know tries again
    go(world)
    assert world.ended(engine).exit_code == 5
    assert world.log() == "up\n"


def test_an_end_that_no_agent_saw(world: World) -> None:
    engine = world.engine()
    key = world.prepare(WAITING)
    engine.begin(key)
    world.says("up")
    engine.close(stop_runner_if_idle=False)
    go(world)
    until(lambda: engine.stage(key) == "ended", "it ends by itself")
    assert world.ended(world.engine()).exit_code == 5


def test_when_the_runner_is_killed_its_runs_die_and_are_lost(contained: World) -> None:
    engine = contained.engine()
    deaf = (
        "trap '' TERM HUP; (trap '' TERM; setsid sleep 1000) & echo up; while :; do sleep 1; done"
    )
    key = contained.prepare(deaf)
    ready = contained.prepare("true", key="ready.1")
    engine.begin(key)
    contained.says("up")
    os.kill(contained.runner_pid(), signal.SIGKILL)
    until(lambda: not contained.alive(), "the runner's runs die with it", patience=20)
    assert engine.wait(key, PATIENCE)
    assert engine.stage(key) in ("lost", "ended")
    assert engine.stage(ready) == "ready"
    engine.begin(ready)  # with a new runner, which has settled what was lost
    exit_ = contained.ended(engine)
    assert exit_.ending == "lost"
    assert "runner" in exit_.reason
    assert contained.ended(engine, ready).ending == "exited"


def test_a_waiting_agent_learns_that_the_runner_died(world: World) -> None:
    """Nobody calls anything but wait: it finds out, and a new runner writes the exit."""
    engine = world.engine()
    key = world.prepare("echo up; sleep 1000")
    engine.begin(key)
    world.says("up")
    os.kill(world.runner_pid(), signal.SIGKILL)
    assert world.ended(engine).ending == "lost"


def test_a_run_whose_init_is_killed_is_lost_and_nothing_is_left(contained: World) -> None:
    engine = contained.engine()
    key = contained.prepare("trap '' TERM; setsid sleep 1000 & echo up; wait")
    engine.begin(key)
    contained.says("up")
    until((contained.run_dir(key) / "run.json").exists, "run.json")
    running = msgspec.json.decode((contained.run_dir(key) / "run.json").read_bytes(), type=Running)
    os.kill(running.pid, signal.SIGKILL)
    exit_ = contained.ended(engine)
    assert exit_.ending == "lost"
    assert "signal 9" in exit_.reason
    assert not contained.alive()
    assert contained.run("exit 2", key="next.1").exit_code == 2


def test_a_tree_without_its_init_and_runner_is_ended_by_the_next_runner(tmp_path: Path) -> None:
    """Nobody is left who knows these processes, but they carry their run's name."""
    world = World(tmp_path, "process-tree")
    try:
        engine = world.engine()
        key = world.prepare("trap '' TERM; setsid sleep 1000 & echo up; wait")
        engine.begin(key)
        world.says("up")
        until((world.run_dir(key) / "run.json").exists, "run.json")
        running = msgspec.json.decode((world.run_dir(key) / "run.json").read_bytes(), type=Running)
        # Stopped first, so that neither can tidy up after the other.
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in (running.pid, world.runner_pid()):
                os.kill(pid, number)
        assert world.alive()
        engine.connect()
        exit_ = world.ended(world.engine())
        assert exit_.ending == "lost"
        assert exit_.ended
        assert not world.alive()
    finally:
        world.close()


def test_a_runner_told_to_end_stops_its_runs_as_lost(contained: World) -> None:
    engine = contained.engine()
    key = contained.prepare("trap 'echo tidy; exit 0' TERM; echo up; while :; do sleep 0.01; done")
    engine.begin(key)
    contained.says("up")
    os.kill(contained.runner_pid(), signal.SIGTERM)
    exit_ = contained.ended(engine)
    assert exit_.ending == "lost"
    assert "tidy" in contained.log()
    assert not contained.alive()


def test_two_runners_on_one_state_are_refused(world: World) -> None:
    world.engine()
    done = subprocess.run(
        [sys.executable, "-m", "engine.runner", "--state", str(world.state)],
        cwd=Path(engine_package.__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "another runner" in done.stderr


def test_the_newest_agent_wins(world: World) -> None:
    old, new = world.engine(), world.engine()
    key = world.prepare("exit 6")
    until(lambda: _refuses(old), "the old one is told")
    new.begin(key)
    assert world.ended(new).exit_code == 6
    assert world.ended(old).exit_code == 6  # it can still read


def _refuses(engine: Engine) -> bool:
    try:
        engine.connect()
    except EngineError as e:
        return "another agent" in str(e)
    return False


def test_an_idle_runner_leaves_with_its_agent(world: World) -> None:
    engine = world.engine()
    world.run("true")
    pid = world.runner_pid()
    engine.close(stop_runner_if_idle=True)
    until(lambda: procs.look(pid) is None, "the runner left")
    assert not (world.state / "runner.sock").exists()
    assert world.run("true", key="again.1").ending == "exited"
    assert world.runner_pid() != pid


def test_a_runner_that_cannot_be_started_says_why(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runner.lock").mkdir()  # no lock can be had here
    with pytest.raises(EngineError, match=r"runner\.lock"):
        Engine(tmp_path).connect()
    with pytest.raises(EngineError, match="cannot be used"):
        Engine(tmp_path / "gone").connect()


def test_stages_of_a_run_directory(world: World) -> None:
    engine = world.engine()
    assert engine.stage("nobody.1") is None
    key = world.prepare("true")
    assert engine.stage(key) == "ready"
    run = world.run_dir(key)
    me = procs.identity("process-tree")
    (run / "exit.reserved").write_bytes(msgspec.json.encode(me))
    assert engine.stage(key) == "running"  # being unpacked, by a runner that lives
    for dead in (
        msgspec.structs.replace(me, start_time=me.start_time - 1),
        msgspec.structs.replace(me, boot_id="another boot"),
    ):
        (run / "run.json").write_bytes(msgspec.json.encode(dead))
        assert engine.stage(key) == "lost"
    (run / "run.json").unlink()
    (run / "exit.reserved").write_bytes(b"")
    assert engine.stage(key) == "lost"
