"""Services without systemd: real keepers, real services, through the verbs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy import crontab, kept
from deploy.kept import Kept
from deploy.life import variables
from tests.system import wait_for

# Says READY; then does what {then} says.
SERVICE = """
import json, os, signal, socket, subprocess, sys, time
env = dict(os.environ)
voice = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
voice.connect(chr(0) + env["NOTIFY_SOCKET"][1:])
print(json.dumps({{"env": env, "cwd": os.getcwd(), "sid": os.getsid(0), "prefix": sys.prefix}}))
sys.stdout.flush()
{then}
"""
READY = "voice.send(b'READY=1\\nSTATUS=at work')\nsignal.pause()"


class Place:
    """An account's folders, and the verbs on them."""

    def __init__(self, root: Path) -> None:
        self.root, self.etc, self.logs = root, root / "etc", root / "logs"
        self.bin = root / "bin"
        self.python = Path(sys.executable)
        (self.etc / "services").mkdir(parents=True)
        self.bin.mkdir()

    def add(self, name: str, then: str = READY, **more: Any) -> None:
        program = self.root / f"{name}.py"
        program.write_text(SERVICE.format(then=textwrap.dedent(then)))
        config = {"argv": [str(self.python), str(program)], "stop_seconds": 5.0, **more}
        (self.etc / "services" / f"{name}.json").write_text(json.dumps(config))

    def run(self, verb: str, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(str(self.python), "-I", "-m", "deploy.supervise", verb),
                *("--etc", str(self.etc), "--logs", str(self.logs), *words),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, "PATH": f"{self.bin}:/usr/bin:/bin", "SSH_AUTH_SOCK": "/nowhere"},
        )

    def well(self, verb: str, *words: str) -> str:
        done = self.run(verb, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def status(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.well("status", "--json", name))[name]
        return found

    def kept(self, name: str) -> Kept:
        return Kept(name, self.etc, self.logs)

    def lives(self, name: str) -> int:
        """The number of its process, once it is ready."""
        here = self.kept(name)
        ready = wait_for(
            lambda: here.condition().active == "active" and here.child(), f"{name} to live"
        )
        return int(ready.pid)

    def keeper(self, name: str) -> int:
        pid = self.kept(name).keeper()
        assert pid is not None
        return pid

    def said(self, name: str) -> dict[str, Any]:
        """What it printed first in its newest life."""
        lines = [line for line in self.kept(name).last_lines(100) if line.startswith("{")]
        found: dict[str, Any] = json.loads(lines[-1])
        return found


def _gone(pid: int) -> bool:
    """Whether the process has ended; whoever adopted it may not have noticed yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    try:
        yield made
    finally:
        done = made.run("stop")
        assert done.returncode == 0, done.stderr
        assert not [name for name in kept.known(made.etc) if made.kept(name).child()]


def test_a_service_lives_in_the_background_until_it_is_stopped(place: Place) -> None:
    place.add("one", env_file=str(place.root / "one.env"))
    (place.root / "one.env").write_text("# secret\nKEY=a=b c\nQUOTED='x y'\n")
    place.well("start")
    pid = place.lives("one")
    state = place.status("one")
    assert (state["active"], state["pid"], state["said"]) == ("active", pid, "at work")

    said = place.said("one")
    assert said["cwd"] == "/"
    assert (said["env"]["KEY"], said["env"]["QUOTED"]) == ("a=b c", "x y")
    assert "SSH_AUTH_SOCK" not in said["env"]  # the login's business
    # Neither the keeper nor the service is in the login's session, whose end it survives.
    keeper = place.keeper("one")
    assert os.getsid(keeper) == keeper != os.getsid(0)
    assert said["sid"] == pid
    os.kill(keeper, signal.SIGHUP)

    place.well("start")  # it runs: nothing happens
    assert place.lives("one") == pid
    assert place.keeper("one") == keeper
    place.well("restart")
    assert place.lives("one") != pid
    place.well("stop")
    assert place.status("one")["active"] == "inactive"
    assert _gone(keeper)


def test_what_is_not_ready_is_told_with_its_last_words(place: Place) -> None:
    place.add("bad", "raise SystemExit('the disk is upside down')")
    failed = place.run("start")
    assert failed.returncode == 1
    assert "ended with exit code 1 before it was ready" in failed.stderr
    assert "the disk is upside down" in failed.stderr
    # It is tried again: what was wrong may pass.
    starts = "the disk is upside down"
    log = place.kept("bad").log
    wait_for(lambda: log.read_text().count(starts) > 1, "a second try")
    place.add("slow", "signal.pause()", start_seconds=0.5)
    failed = place.run("start", "slow")
    assert failed.returncode == 1
    assert "was not ready in time" in failed.stderr
    missing = place.run("start", "nothing")
    assert missing.returncode == 1
    assert "there is no service nothing" in missing.stderr


def test_what_ends_or_hangs_is_started_again(place: Place) -> None:
    # The first life gives no more sign of itself.
    place.add(
        "one",
        """
        voice.send(b'READY=1')
        from pathlib import Path
        first = not Path(__file__).with_name("again").exists()
        Path(__file__).with_name("again").touch()
        while not first:
            voice.send(b'WATCHDOG=1')
            time.sleep(0.1)
        signal.pause()
        """,
        watchdog_seconds=1.0,
    )
    place.well("start")
    log = place.kept("one").log
    wait_for(lambda: "gave no sign of life for 1 s" in log.read_text(), "the watchdog")
    wait_for(lambda: log.read_text().count('"cwd"') == 2, "its second life")
    second = place.lives("one")
    os.kill(second, signal.SIGKILL)
    wait_for(lambda: "it ended by signal 9" in log.read_text(), "the keeper to notice")
    assert place.lives("one") != second


def test_a_keeper_that_was_killed_is_followed_by_one_that_finds_the_service(place: Place) -> None:
    place.add("one")
    place.well("start")
    pid = place.lives("one")
    os.kill(place.keeper("one"), signal.SIGKILL)
    wait_for(lambda: place.kept("one").keeper() is None, "the keeper's end")
    state = place.status("one")
    assert (state["active"], state["said"]) == ("failed", "runs, but nobody keeps it")
    place.well("start")
    assert place.lives("one") == pid
    os.kill(place.keeper("one"), signal.SIGKILL)
    place.well("stop")  # with nobody who keeps it, too
    assert _gone(pid)


def test_one_services_end_is_that_of_no_other_and_of_no_child(place: Place) -> None:
    place.add("modelrunner-runner")
    place.add(
        "modelrunner-worker",
        "child = subprocess.Popen(['sleep', '300'])\n"
        f"print('child', child.pid, flush=True)\n{READY}",
    )
    place.well("start")
    runner, agent = place.lives("modelrunner-runner"), place.lives("modelrunner-worker")
    (line,) = [x for x in place.kept("modelrunner-worker").last_lines(9) if x.startswith("child")]
    child = psutil.Process(int(line.split()[1]))
    try:
        place.well("restart", "modelrunner-worker")
        assert place.lives("modelrunner-worker") != agent
        assert place.lives("modelrunner-runner") == runner
        assert child.is_running()
    finally:
        child.kill()
    log = place.well("logs")
    assert "runner: {" in log and "worker: child" in log


def test_after_an_upgrade_service_and_keeper_are_of_the_version_in_use(place: Place) -> None:
    venv = Path(sys.prefix)
    for version in ("v1", "v2"):
        (place.root / version / "bin").mkdir(parents=True)
        (place.root / version / "bin" / "python").symlink_to((venv / "bin/python").resolve())
        (place.root / version / "lib").symlink_to(venv / "lib")
        (place.root / version / "pyvenv.cfg").write_text((venv / "pyvenv.cfg").read_text())
    current = place.root / "current"
    current.symlink_to("v1")
    place.python = current / "bin" / "python"
    place.add("one")
    place.well("start")
    first, keeper = place.lives("one"), place.keeper("one")
    assert place.said("one")["prefix"] == str(place.root / "v1")  # not current: that moves on
    assert psutil.Process(keeper).cmdline()[0] == str(place.root / "v1/bin/python")

    current.unlink()
    current.symlink_to("v2")
    assert place.lives("one") == first
    os.kill(first, signal.SIGTERM)  # as an idle runner of an old version ends by itself
    wait_for(lambda: place.said("one")["prefix"] == str(place.root / "v2"), "the new version")
    place.lives("one")
    assert place.keeper("one") == keeper  # its lock was never free
    assert psutil.Process(keeper).cmdline()[0] == str(place.root / "v2/bin/python")


def test_a_log_that_grew_too_long_goes_on_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "LOG_MOST", 100)
    here = Kept("one", tmp_path, tmp_path)
    with here.log.open("a") as writer:
        writer.write("old\n" * 30)
        writer.flush()
        here.trim()
        writer.write("new\n")
        writer.flush()
        here.trim()
    assert here.log.read_text() == "new\n"
    assert (tmp_path / "one.log.1").read_text() == "old\n" * 30
    assert here.last_lines(1) == ["new"]


def test_a_log_is_followed_as_long_as_somebody_reads(place: Place) -> None:
    place.add("one", "print('first', flush=True)\n" + READY)
    place.well("start")
    command = [str(place.python), "-I", "-m", "deploy.supervise", "logs", "--follow"]
    command += ["--etc", str(place.etc), "--logs", str(place.logs), "--lines=1", "one"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
        assert follower.stdout and follower.stderr
        assert follower.stdout.readline() == b"first\n"
        with place.kept("one").log.open("a") as log:
            log.write("more\n")
        assert follower.stdout.readline() == b"more\n"
        follower.stdout.close()  # as a line that is gone: the log itself stays quiet
        follower.wait(60)
        assert follower.stderr.read() == b""


# As cron's own: its words, and that it takes the table from its standard input.
CRONTAB = """#!/bin/sh
table=$(dirname "$0")/../table
case $1 in
-l) [ -f "$table" ] || { echo "no crontab for keeper" >&2; exit 1; }; cat "$table" ;;
-) cat >"$table" ;;
-r) rm "$table" ;;
esac
"""


def test_the_reboot_line_is_ours_alone(place: Place) -> None:
    assert "no crontab here" in place.well("enable")
    (place.bin / "crontab").write_text(CRONTAB)
    (place.bin / "crontab").chmod(0o755)
    place.add("one")
    table = place.root / "table"
    assert place.status("one")["enabled"] is False
    place.well("enable")
    first = table.read_text()
    assert place.status("one")["enabled"] is True
    place.well("enable")
    assert table.read_text() == first
    # The line starts them: with the words that cron gives to the shell.
    command = first.removeprefix("@reboot ").replace("\\%", "%")
    subprocess.run(["/bin/sh", "-c", command], check=True, timeout=60)
    place.lives("one")
    place.well("disable")
    assert not table.exists()
    table.write_text("# mine\n0 3 * * * backup")
    place.well("enable")
    place.well("disable")
    assert table.read_text() == "# mine\n0 3 * * * backup\n"


def test_the_table_keeps_what_is_not_ours() -> None:
    ours = crontab.line(["/home/a b/python", "100%"])
    assert ours == "@reboot '/home/a b/python' 100\\% >/dev/null 2>&1 # modelrunner deploy"
    theirs = "MAILTO=me\n@reboot other # modelrunner\n# @reboot x # modelrunner deploy\n"
    table = crontab.with_line(theirs, ours)
    assert table == f"{theirs}{ours}\n"
    assert crontab.with_line(table, ours + "") == table
    moved = crontab.with_line(table, crontab.line(["/new"]))
    assert ours not in moved and crontab.has_line(moved)
    assert crontab.without_line(moved) == theirs
    assert not crontab.has_line(theirs)


def test_an_environment_file_is_read_as_systemd_does() -> None:
    text = "A=1\n # c=d\n;B=2\nexport\nC = 'x  y'\nD=\nE=\"\nF=a=b\n"
    assert variables(text) == {"A": "1", "C": "x  y", "D": "", "E": '"', "F": "a=b"}
