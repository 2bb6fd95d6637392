"""The worker that ``serve --slots`` keeps: found or started, started again, ended. With a
stand-in for the agent, which takes the state directory's lock as the real one does."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.state import State, holder
from primary import local_worker
from primary.errors import PrimaryError
from primary.local_worker import LocalWorker
from tests.system import wait_for

AGENT = """
import signal, sys, time
from pathlib import Path
from engine.state import State
said = Path(sys.argv[1])
def end(*_):
    with said.open("a") as file: file.write("asked to end\\n")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
with said.open("a") as file: file.write("started\\n")
if sys.argv[2] == "locks":
    state = State(Path(sys.argv[3]))
elif sys.argv[2] == "fails":
    sys.exit(3)
while True: time.sleep(0.05)
"""


class Stand:
    """A LocalWorker whose agent is the script above, and what that said."""

    def __init__(self, root: Path) -> None:
        self.data = root
        self.said = root / "said"
        self.state = root / "local-worker"
        self.agents: list[subprocess.Popen[bytes]] = []
        self.worker = LocalWorker(root, root / "models", 2)
        self.behave("locks")

    def argv(self, how: str) -> list[str]:
        return [sys.executable, "-c", AGENT, str(self.said), how, str(self.state)]

    def behave(self, how: str) -> None:
        self.worker._argv = self.argv(how)

    def stranger(self) -> subprocess.Popen[bytes]:
        """An agent that a primary that crashed has left."""
        self.agents.append(subprocess.Popen(self.argv("locks")))
        wait_for(self.held, "the stranger's lock")
        return self.agents[-1]

    def held(self) -> int | None:
        return holder(self.state)

    def lines(self) -> list[str]:
        return self.said.read_text().splitlines() if self.said.exists() else []


@pytest.fixture
def stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stand]:
    monkeypatch.setattr(local_worker, "RESTART", (0.01, 0.05))
    made = Stand(tmp_path)
    yield made
    if made.worker._thread.is_alive():
        made.worker.stop()
    for agent in made.agents:
        agent.kill()
        agent.wait()


def test_the_command_names_everything_that_the_agent_needs(tmp_path: Path) -> None:
    argv = LocalWorker(tmp_path, tmp_path / "models", 3)._argv
    assert argv[1:3] == ["-m", "worker_agent"]
    assert set(argv[3:]) == {
        f"--primary={tmp_path / 'spool'}",
        f"--models={tmp_path / 'models'}",
        "--name=local",
        "--slots=3",
        f"--state={tmp_path / 'local-worker'}",
    }


def test_it_is_started_and_asked_to_end(stand: Stand) -> None:
    stand.worker.start()
    wait_for(stand.held, "the agent")
    stand.worker.stop()
    assert stand.lines() == ["started", "asked to end"]
    assert stand.held() is None


def test_one_that_ends_is_started_again(stand: Stand) -> None:
    stand.behave("fails")
    stand.worker.start()
    wait_for(lambda: len(stand.lines()) >= 3, "the third start")
    stand.behave("locks")
    wait_for(stand.held, "the one that stays")
    stand.worker.stop()
    assert stand.lines()[-1] == "asked to end"


def test_a_living_one_is_found_by_its_lock_and_left_be(stand: Stand) -> None:
    stranger = stand.stranger()
    stand.worker.start()
    stand.worker.stop()
    assert stranger.wait(60) == 0
    assert stand.lines() == ["started", "asked to end"], "one agent, ended at our end"


def test_after_the_living_one_has_ended_another_is_started(stand: Stand) -> None:
    stranger = stand.stranger()
    stand.worker.start()
    stranger.send_signal(signal.SIGKILL)
    stranger.wait()
    wait_for(lambda: stand.held() not in (None, stranger.pid), "another agent")
    stand.worker.stop()


def test_what_is_in_the_log_is_what_the_agent_said(stand: Stand) -> None:
    stand.worker._argv = [sys.executable, "-c", "print('cannot reach the primary')"]
    stand.worker.start()
    log = stand.state / "agent.log"
    wait_for(lambda: log.exists() and "cannot reach" in log.read_text(), "the agent's words")
    stand.worker.stop()


def test_a_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "local-worker").touch()
    with pytest.raises(PrimaryError, match=r"cannot make .*local-worker"):
        LocalWorker(tmp_path, tmp_path, 1).start()


def test_runs_that_go_on_are_counted(stand: Stand) -> None:
    assert stand.worker.runs() == 0
    for key, ended in (("a.1", True), ("b.1", False), ("c.1", False)):
        folder = stand.state / "runs" / key
        folder.mkdir(parents=True)
        (folder / "run.json").touch()
        if ended:
            (folder / "exit.json").touch()
    assert stand.worker.runs() == 2


def test_the_lock_says_who_holds_it(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    state = State(tmp_path)
    assert holder(tmp_path) is not None
    state.release()
    assert holder(tmp_path) is None


def test_one_that_has_not_taken_its_lock_yet_is_asked_to_end_too(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``serve`` that is stopped right after its start."""
    monkeypatch.setattr(local_worker, "END", 1.0)
    stand.behave("never locks")
    stand.worker.start()
    wait_for(stand.lines, "the agent")
    stand.worker.stop()
    assert stand.lines() == ["started", "asked to end"]


def test_trouble_with_starting_it_is_tried_again(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[object] = []
    monkeypatch.setattr(threading, "excepthook", errors.append)
    stand.state.mkdir()
    (stand.state / "agent.log").mkdir()  # cannot be opened, as on a full disk
    stand.worker.start()
    wait_for(lambda: errors or stand.worker._thread.is_alive(), "the first try")
    stand.worker._thread.join(0.5)
    (stand.state / "agent.log").rmdir()
    assert stand.worker._thread.is_alive()
    wait_for(stand.held, "the agent")
