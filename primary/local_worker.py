"""The local worker that ``serve --slots N`` keeps beside the primary.

It is an ordinary worker on this machine. After a crash of the primary the
living one is found by the lock of its state directory, and left be.
"""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil

from engine.state import holder
from primary.errors import PrimaryError

NAME = "local"
KEY_VARIABLE = "MODELRUNNER_ADMIN_KEY"  # no business of a worker, nor of what it runs
MARK = "agent.started"  # in the state directory: the version and the arguments
RESTART = (0.5, 15.0)  # seconds: first and longest pause before it is started again
STEADY = 60.0  # seconds of life after which the next pause is the first one again
END = 15.0  # seconds to end on request

log = logging.getLogger(__name__)


class LocalWorker:
    """Keeps one worker of ``slots`` slots alive, until ``stop``."""

    def __init__(self, data: Path, models: Path, slots: int) -> None:
        self._state = data / "local-worker"
        self._log = data / "local-worker" / "agent.log"
        self._argv = [
            sys.executable,
            "-m",
            "worker_agent",
            f"--primary={data / 'spool'}",
            f"--models={models}",
            f"--name={NAME}",
            f"--slots={slots}",
            f"--state={self._state}",
        ]
        # What the living agent was started with: an upgrade, another --slots.
        self._mark = json.dumps([importlib.metadata.version("modelrunner"), *self._argv])
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._keep, name="local worker", daemon=True)

    def start(self) -> None:
        """Find it or start it. The spool must be laid out already. Raises PrimaryError."""
        try:
            self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as e:
            raise PrimaryError(f"cannot make {self._state}: {e.strerror}") from e
        self._thread.start()

    def stop(self) -> None:
        """End the agent. Runs that are going on belong to its runner, and go on."""
        self._stopping.set()
        self._thread.join()
        pid = holder(self._state)
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()  # also if it has not taken its lock yet
        elif pid is not None and pid > 0:
            _ask_to_end(pid)
        if self._child is not None:
            try:
                self._child.wait(END)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()

    def runs(self) -> int:
        """How many runs go on without us."""
        return sum(
            1
            for run in self._state.glob("runs/*/run.json")
            if not (run.parent / "exit.json").exists()
        )

    def _keep(self) -> None:
        pause = RESTART[0]
        while not self._stopping.is_set():
            born = time.monotonic()
            living = holder(self._state)
            if living is not None and self._is_as_ours():
                log.info("a local worker lives already; it is left be")
                self._watch_stranger()
            elif living is not None:
                log.warning("the living local worker was started differently; it is replaced")
                _ask_to_end(living)  # its runner keeps what runs
                continue
            else:
                try:
                    self._watch_child()
                except OSError as e:
                    log.warning("the local worker cannot be started: %s (tried again)", e)
            if time.monotonic() - born > STEADY:
                pause = RESTART[0]
            if self._stopping.wait(pause):
                return
            pause = min(2 * pause, RESTART[1])

    def _is_as_ours(self) -> bool:
        try:
            return (self._state / MARK).read_text() == self._mark
        except OSError:
            return False

    def _watch_child(self) -> None:
        (self._state / MARK).write_text(self._mark)
        with self._log.open("ab") as out:
            # A session of its own: Ctrl-C at the primary's terminal is not for it.
            self._child = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                env={k: v for k, v in os.environ.items() if k != KEY_VARIABLE},
            )
        while not self._stopping.wait(0.5):
            code = self._child.poll()
            if code is not None:
                log.warning("the local worker ended with %d; see %s", code, self._log)
                return

    def _watch_stranger(self) -> None:
        while not self._stopping.wait(0.5):
            if holder(self._state) is None:
                log.warning("the local worker has ended; it is started again")
                return


def _ask_to_end(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        os.kill(pid, signal.SIGTERM)
        psutil.wait_procs([process], timeout=END)
    except (psutil.NoSuchProcess, ProcessLookupError):
        return
