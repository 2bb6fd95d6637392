"""A run ends because we end it, and nothing of it is left, whatever it tries."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import pytest

from engine import procs
from tests.engine.world import PATIENCE, World, until

LONG = 1000.0  # seconds of grace that no test waits for

DEAF = "trap '' TERM; echo up; while :; do sleep 1; done"

HOPPER = """
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.stdout.write("up\\n"); sys.stdout.flush()
while True:
    if os.fork():
        os._exit(0)
"""

DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        os.close(0)
        print("daemon", flush=True)
        time.sleep(1000)
    os._exit(0)
os.wait()
time.sleep(1000)
"""

ESCAPES = {
    "a session of its own": "setsid sleep 1000 & echo up; wait",
    "nohup": "nohup sleep 1000 & echo up; wait",
    "a deaf child": f'bash -c "{DEAF}" & wait',
    "stopped": "sleep 1000 & kill -STOP $!; echo up; wait",
    "many": "for i in {1..40}; do setsid sleep 1000 & done; echo up; wait",
    "an orphan": "(setsid bash -c 'sleep 1000 & sleep 1000' &); echo up; sleep 1000",
    "it keeps forking": "trap '' TERM; echo up; while :; do setsid sleep 1000 & sleep 0.01; done",
}


def test_a_model_that_obeys_is_gone_without_its_grace(contained: World) -> None:
    engine = contained.engine()
    key = contained.prepare("echo up; sleep 1000", grace=LONG)
    engine.begin(key)
    contained.says("up")
    until(lambda: any("sleep" in name for name in contained.alive()), "it sleeps")
    before = time.monotonic()
    engine.stop(key, "killed by its owner")
    exit_ = contained.ended(engine)
    assert time.monotonic() - before < LONG / 10
    assert (exit_.ending, exit_.reason) == ("stopped", "killed by its owner")
    assert exit_.signal == signal.SIGTERM
    assert any(name.startswith("sleep (pid ") for name in exit_.ended)
    assert not contained.alive()


def test_one_that_ignores_term_is_killed_after_its_grace(contained: World) -> None:
    engine = contained.engine()
    key = contained.prepare(DEAF, grace=0.3)
    engine.begin(key)
    contained.says("up")
    before = time.monotonic()
    engine.stop(key, "enough")
    exit_ = contained.ended(engine)
    assert time.monotonic() - before >= 0.3
    assert (exit_.ending, exit_.signal) == ("stopped", signal.SIGKILL)
    assert not contained.alive()


def test_a_stopped_run_is_stopped_whatever_its_exit_code(world: World) -> None:
    engine = world.engine()
    key = world.prepare("trap 'echo tidy; exit 0' TERM; echo up; while :; do sleep 0.01; done")
    engine.begin(key)
    world.says("up")
    engine.stop(key, "enough")
    exit_ = world.ended(engine)
    assert (exit_.ending, exit_.exit_code) == ("stopped", 0)
    assert "tidy" in world.log()


def test_one_that_had_ended_before_keeps_its_end(world: World) -> None:
    engine = world.engine()
    exit_ = world.run("exit 7")
    engine.stop("job.1", "too late")
    assert world.ended(engine) == exit_


def test_a_timeout(contained: World) -> None:
    exit_ = contained.run("echo up; sleep 1000", timeout=0.3, grace=LONG)
    assert exit_.ending == "timeout"
    assert "0.3 seconds" in exit_.reason
    assert 0.3 <= exit_.wall_seconds < LONG / 10
    assert not contained.alive()


@pytest.mark.parametrize("how", ESCAPES)
def test_a_stop_reaches_what_tries_to_escape(contained: World, how: str) -> None:
    engine = contained.engine()
    key = contained.prepare(ESCAPES[how], grace=0.2)
    engine.begin(key)
    contained.says("up")
    engine.stop(key, "enough")
    assert contained.ended(engine).ending == "stopped"
    assert not contained.alive()


@pytest.mark.parametrize("script", [HOPPER, DAEMON], ids=["hopper", "daemon"])
def test_a_stop_reaches_processes_that_change_their_parents(contained: World, script: str) -> None:
    engine = contained.engine()
    # The hopper's main process ends at once: what it leaves is ended without being asked.
    key = contained.prepare(script, shebang=f"#!{sys.executable}", grace=0.2)
    engine.begin(key)
    if script == DAEMON:
        contained.says("daemon")
        engine.stop(key, "enough")
    contained.ended(engine)
    assert not contained.alive()


def test_what_a_finished_command_leaves_behind_is_ended_and_named(contained: World) -> None:
    """It holds the log open, too: that must not keep the run from ending."""
    exit_ = contained.run("setsid sleep 1000 & (nohup sleep 2000 &) ; echo done", grace=LONG)
    assert (exit_.ending, exit_.exit_code) == ("exited", 0)
    assert len(exit_.ended) == 2
    assert all(
        name.startswith(("sleep (pid ", "nohup (pid ", "run (pid ", "setsid (pid "))
        for name in exit_.ended
    )
    assert not contained.alive()


def test_leftovers_that_ignore_term_have_no_long_grace(contained: World) -> None:
    exit_ = contained.run(f'setsid bash -c "{DEAF}" & sleep 0.2; exit 4', grace=LONG)
    assert (exit_.ending, exit_.exit_code) == ("exited", 4)
    assert not contained.alive()


def test_a_stop_before_begin_keeps_the_run_from_starting(world: World) -> None:
    engine = world.engine()
    key = world.prepare('echo ran >> "$2/ran"')
    engine.stop(key, "changed my mind")
    exit_ = world.ended(engine)
    engine.begin(key)
    assert world.ended(engine) == exit_
    assert exit_.ending == "stopped"
    assert "changed my mind" in exit_.reason
    assert not (world.run_dir(key) / "output").exists()


def test_a_stop_marker_that_nobody_told_is_met_by_begin(world: World) -> None:
    key = world.prepare('echo ran >> "$2/ran"')
    (world.run_dir(key) / "stop").write_text("by a dead agent")
    engine = world.engine()
    engine.begin(key)
    exit_ = world.ended(engine)
    assert exit_.ending == "stopped"
    assert "by a dead agent" in exit_.reason


def test_stops_are_repeatable_and_the_first_reason_stays(world: World) -> None:
    engine = world.engine()
    key = world.prepare(DEAF, grace=0.3)
    engine.begin(key)
    world.says("up")
    for reason in ("first", "second", "third"):
        engine.stop(key, reason)
    assert world.ended(engine).reason == "first"
    engine.stop(key, "fourth")
    assert world.ended(engine).reason == "first"


def test_a_stop_at_any_moment_of_the_start_leaves_a_whole_answer(world: World) -> None:
    """From before the unpacking to after the start, in steps of a fifth of a millisecond."""
    engine = world.engine()
    for step in range(40):
        key = world.prepare("exec sleep 1000", key=f"job.{step + 1}", grace=LONG)
        engine.begin(key)
        moment = time.perf_counter() + step * 0.0002
        while time.perf_counter() < moment:
            pass
        engine.stop(key, "enough")
        exit_ = world.ended(engine, key)
        assert exit_.ending == "stopped"
        assert not world.alive(key)


def test_wake_ends_a_wait(world: World) -> None:
    engine = world.engine()
    key = world.prepare("echo up; sleep 1000")
    engine.begin(key)
    answers: list[bool] = []
    waiter = threading.Thread(target=lambda: answers.append(engine.wait(key, PATIENCE)))
    waiter.start()
    engine.wake(key)
    waiter.join(PATIENCE / 2)
    assert answers == [False]
    engine.wake(key)  # nobody waits: the next one does not, either
    assert engine.wait(key, PATIENCE) is False
    assert engine.wait(key, 0.01) is False
    engine.stop(key, "enough")
    assert world.ended(engine).ending == "stopped"


def test_killed_by_somebody_else_is_no_stop(contained: World) -> None:
    engine = contained.engine()
    key = contained.prepare("echo up; exec sleep 1000")
    engine.begin(key)
    contained.says("up")
    until(lambda: contained.alive() and "sleep" in contained.alive()[0], "it sleeps")
    mark = f"MODELRUNNER_OUTPUT_DIR={contained.run_dir(key)}/output"
    for process in procs.carrying(mark):
        os.kill(process.pid, signal.SIGKILL)
    exit_ = contained.ended(engine)
    assert (exit_.ending, exit_.signal) == ("signaled", signal.SIGKILL)
    assert "memory" in exit_.reason
