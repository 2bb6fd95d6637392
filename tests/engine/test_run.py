"""One run, from its order to its exit, when nobody interferes."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from engine import procs
from engine.contract import Exit, Running
from engine.errors import EngineError
from tests.engine.world import World, until


def test_a_model_that_works(contained: World) -> None:
    exit_ = contained.run('cat "$1/in.txt" > "$2/out.txt"; echo said; echo wrong >&2')
    assert (exit_.ending, exit_.exit_code, exit_.signal) == ("exited", 0, None)
    assert exit_.reason == ""
    assert exit_.ended == ()
    assert contained.containment == exit_.containment
    run = contained.run_dir("job.1")
    assert (run / "output" / "out.txt").read_text() == "input"
    assert contained.log() == "said\nwrong\n"
    assert (run / "run.json").exists()
    assert not (run / "exit.reserved").exists()


def test_an_exit_code_is_told_as_it_is(world: World) -> None:
    exit_ = world.run("exit 3")
    assert (exit_.ending, exit_.exit_code) == ("exited", 3)
    assert "exit code 3" in exit_.reason


def test_a_signal_that_nobody_of_us_sent(contained: World) -> None:
    exit_ = contained.run("kill -SEGV $$")
    assert (exit_.ending, exit_.exit_code, exit_.signal) == ("signaled", None, signal.SIGSEGV)
    assert "SIGSEGV" in exit_.reason


def test_the_figures_count_every_process(contained: World) -> None:
    busy = "import time; b = bytearray(80 << 20)\nwhile time.process_time() < 0.3: pass"
    exit_ = contained.run(f"{sys.executable} -c '{busy}' &\n{sys.executable} -c '{busy}'\nwait")
    assert exit_.ending == "exited"
    assert exit_.cpu_seconds > 0.6
    assert 80 << 20 < exit_.peak_memory < 300 << 20
    assert exit_.wall_seconds > 0.3


def test_output_and_errors_keep_their_order(world: World) -> None:
    world.run("for i in 1 2 3 4 5 6 7 8 9; do echo out $i; echo err $i >&2; done")
    expected = [f"{kind} {i}" for i in range(1, 10) for kind in ("out", "err")]
    assert world.log().splitlines() == expected


def test_the_environment_is_what_is_documented_and_no_more(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LEAK", "of the agent's")
    monkeypatch.setenv("HOME", "/home/somebody")
    world.run("", argv=("/usr/bin/env", "-0"), env={"GREETING": "hallo", "LANG": "C"})
    # env tries to run the input directory, which is why it is looked at from inside:
    key = world.prepare("tr '\\0' '\\n' < /proc/$$/environ", key="job.2", env={"A": "b"})
    engine = world.engine()
    engine.begin(key)
    world.ended(engine, key)
    run = world.run_dir(key)
    assert dict(line.split("=", 1) for line in world.log(key).splitlines()) == {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "HOME": "/home/somebody",
        "LANG": "C.UTF-8",
        "TMPDIR": str(run / "tmp"),
        "A": "b",
        "MODELRUNNER_JOB_ID": "job",
        "MODELRUNNER_MODEL": "model",
        "MODELRUNNER_ATTEMPT": "1",
        "MODELRUNNER_INPUT_DIR": str(run / "input"),
        "MODELRUNNER_OUTPUT_DIR": str(run / "output"),
    }


def test_the_process_starts_clean(world: World) -> None:
    """No descriptors but three, its own session, no signal blocked or ignored."""
    script = """
pwd; readlink /proc/$$/fd/0; ls /proc/$$/fd > "$2/fds"; grep -vx 255 "$2/fds" | tr '\\n' ' '; echo
read -r _ _ _ _ pgid sid _ < /proc/$$/stat; [ $sid = $$ ] && [ $pgid = $$ ] && echo leader
echo "$@"
exec grep -E 'Sig(Blk|Ign)' /proc/self/status
"""
    world.run(script)
    run = world.run_dir("job.1")
    cwd, stdin, fds, leader, arguments, blocked, ignored = world.log().splitlines()
    assert cwd == str(world.root / "models" / "job.1")
    assert stdin == "/dev/null"
    assert fds.split() == ["0", "1", "2"]
    assert leader == "leader"
    assert int(blocked.split()[1], 16) == 0
    # 32 and 33 are the C library's own; a parent may have left them ignored.
    assert int(ignored.split()[1], 16) & ~(3 << 31) == 0
    assert arguments == f"{run}/input {run}/output"


def test_its_own_proc_shows_a_model_to_itself(world: World) -> None:
    if world.run("true", key="first.1").containment != "pid-namespace":
        pytest.skip("no PID namespace here")
    world.run('[ "$(readlink /proc/self)" ] && tr "\\0" " " < /proc/$$/cmdline; ls -d /proc/[0-9]*')
    first, *processes = world.log().splitlines()
    assert "./run" in first
    assert len(processes) < 6  # init, the unpacker's last moment, the shell, ls: no stranger


def test_run_json_names_the_process_that_stands_for_the_run(contained: World) -> None:
    engine = contained.engine()
    key = contained.prepare("echo up; sleep 1000")
    engine.begin(key)
    until((contained.run_dir(key) / "run.json").exists, "run.json")
    running = msgspec.json.decode((contained.run_dir(key) / "run.json").read_bytes(), type=Running)
    assert procs.alive(running.pid, running.start_time, running.boot_id)
    assert engine.stage(key) == "running"
    assert not procs.alive(running.pid, running.start_time + 1, running.boot_id)
    engine.stop(key, "seen enough")
    contained.ended(engine)
    assert engine.stage(key) == "ended"


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("missing", "no such file"),
        ("not in PATH", "no such command"),
        ("in the folder only", "write ./run"),
        ("mode", "chmod"),
        ("interpreter", "its interpreter /no/such/shell is not there"),
        ("windows", "Windows line ends"),
        ("no program", "not a program"),
        ("folder", "the model's folder"),
        ("nul", "model.toml"),
    ],
)
def test_a_command_that_cannot_be_started(world: World, how: str, expected: str) -> None:
    argv = {
        "missing": ("./gone",),
        "not in PATH": ("no-such-program-anywhere",),
        "in the folder only": ("run",),
        "nul": ("./run", "a\0b"),
    }.get(how, ("./run",))
    shebang = {
        "interpreter": "#!/no/such/shell",
        "windows": "#!/bin/sh\r",
        "no program": "neither this nor that",
    }.get(how, "#!/bin/sh")
    key = world.prepare("true", argv=argv, shebang=shebang)
    model = world.root / "models" / key
    if how == "mode":
        (model / "run").chmod(0o644)
    if how == "folder":
        model.rename(world.root / "elsewhere")
    engine = world.engine()
    engine.begin(key)
    exit_ = world.ended(engine)
    assert exit_.ending == "not-started"
    assert expected in exit_.reason
    assert exit_.reason in world.log()  # where the modeller looks
    assert not (world.run_dir(key) / "run.json").exists()


def test_a_bad_zip(world: World) -> None:
    key = world.prepare("true")
    zip_ = world.run_dir(key) / "input.zip"
    zip_.write_bytes(zip_.read_bytes()[:-10])
    engine = world.engine()
    engine.begin(key)
    exit_ = world.ended(engine)
    assert exit_.ending == "bad-input"
    assert "zip" in exit_.reason


def test_a_required_file_is_missing(world: World) -> None:
    exit_ = world.run("true", required=("in.txt", "parameters.csv"))
    assert exit_.ending == "bad-input"
    assert "parameters.csv" in exit_.reason


def test_what_begin_refuses(world: World) -> None:
    engine = world.engine()
    with pytest.raises(EngineError, match="no run directory"):
        engine.begin("never-made.1")
    with pytest.raises(EngineError, match="no run directory"):
        engine.begin("../../etc")
    key = world.prepare("true")
    order = world.run_dir(key) / "order.json"
    good = order.read_bytes()
    order.write_bytes(b"{")
    with pytest.raises(EngineError, match="refused"):
        engine.begin(key)
    assert engine.stage(key) == "ready"
    order.write_bytes(good)
    engine.begin(key)
    assert world.ended(engine).ending == "exited"


def test_a_run_is_never_started_twice(world: World) -> None:
    engine = world.engine()
    key = world.prepare('echo once >> "$2/count"')
    for _ in range(3):
        engine.begin(key)
    world.ended(engine)
    engine.begin(key)
    world.engine().begin(key)
    assert (world.run_dir(key) / "output" / "count").read_text() == "once\n"


def test_many_runs_at_once(world: World) -> None:
    engine = world.engine()
    keys = [world.prepare("echo $MODELRUNNER_OUTPUT_DIR", key=f"job.{n}") for n in range(1, 13)]
    for key in keys:
        engine.begin(key)
    for key in keys:
        assert world.ended(engine, key).ending == "exited"
        assert world.log(key) == f"{world.run_dir(key)}/output\n"
    assert engine.keys() == sorted(keys)


def test_runs_that_begin_while_others_end(world: World) -> None:
    """Descriptors are closed and their numbers used again within one round of the loop."""
    engine = world.engine()
    lanes = [[f"lane{lane}.{n}" for n in range(1, 13)] for lane in range(6)]
    for key in itertools.chain(*lanes):
        world.prepare("exit 3", key=key)

    def work(keys: list[str]) -> list[Exit]:
        ends = []
        for key in keys:
            engine.begin(key)
            ends.append(world.ended(engine, key))
        return ends

    with ThreadPoolExecutor(len(lanes)) as pool:
        ends = list(itertools.chain(*pool.map(work, lanes)))
    assert {(end.ending, end.exit_code) for end in ends} == {("exited", 3)}
    assert (world.state / "runner.log").read_text() == ""


def test_a_state_directory_deeper_than_a_socket_path_may_be(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    world = World(deep, None)
    try:
        assert world.run("true").ending == "exited"
    finally:
        world.close()


DROP_ROOT = """
import ctypes, os, sys
from engine import runner, version
known = version.installed()  # this account may not be able to read where we lie
version.installed = lambda: known
os.setgroups([]); os.setgid(65534); os.setuid(65534)
ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # dumpable again, as after an exec
sys.exit(runner.main(sys.argv[1:]))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="becoming another account takes root")
def test_an_account_without_root(world: World) -> None:
    """Contained by a user namespace where the machine allows it, by the tree elsewhere."""
    key = world.prepare('setsid sleep 1000 & id -u; echo x > "$2/out"')
    for folder in (world.root, *world.root.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o005)
    stopped = world.prepare(
        "trap '' TERM; echo up; while :; do sleep 1; done", key="job.2", grace=0.1
    )
    for path in world.root.rglob("*"):
        os.chown(path, 65534, 65534)
    arguments = [sys.executable, "-c", DROP_ROOT, "--state", str(world.state)]
    with subprocess.Popen(arguments) as runner, contextlib.ExitStack() as failing:
        failing.callback(runner.kill)
        until((world.state / "runner.sock").exists, "the runner listens")
        engine = world.engine()
        engine.begin(key)
        exit_ = world.ended(engine)
        assert (exit_.ending, exit_.exit_code, exit_.reason) == ("exited", 0, "")
        assert world.log() == "65534\n"
        assert not world.alive()
        assert len(exit_.ended) == 1
        engine.begin(stopped)
        world.says("up", stopped)
        engine.stop(stopped, "enough")
        assert world.ended(engine, stopped).ending == "stopped"
        assert not world.alive(stopped)
        engine.close(stop_runner_if_idle=True)
        failing.pop_all()
    assert runner.returncode == 0
