"""The agent's end of the connection: started runner, open socket, listening thread."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import engine
from engine import address
from engine.contract import Containment
from engine.errors import EngineError, NoRunner

START_SECONDS = 30.0  # until a runner that cannot be reached is given up
_OTHER_LIVES, _DIED = 3, 4  # exit codes of the runner: engine.runner.OTHER_LIVES, DIED
_INHERITED = ("PATH", "HOME", "LANG", "TMPDIR", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
_RETRY = 0.05  # seconds
_AGAIN = 0.5  # seconds until another is started in place of one that was killed at its start


class Link:
    """A connection to a runner. ``on_line`` and ``on_end`` are called in its own thread."""

    def __init__(
        self, sock: socket.socket, on_line: Callable[[str], None], on_end: Callable[[], None]
    ) -> None:
        self._lines = address.Lines(sock)
        self._on_line, self._on_end = on_line, on_end
        self.up = True
        self._thread = threading.Thread(target=self._listen, name="runner-link", daemon=True)
        self._thread.start()

    def send(self, *words: str) -> bool:
        """False if the connection is gone."""
        return self._lines.write(*words)

    def close(self, patience: float = 0.0) -> None:
        """Hang up; before that, wait ``patience`` seconds for the runner to do so."""
        self._thread.join(patience)
        with contextlib.suppress(OSError):
            self._lines.sock.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._lines.close()

    def _listen(self) -> None:
        while (lines := self._lines.read()) is not None:
            for line in lines:
                self._on_line(line)
        self.up = False
        self._on_end()


class _Died(Exception):
    """The runner that was started is dead, and has not said why."""


def reach(state: Path, containment: Containment | None) -> socket.socket:
    """A socket to the runner of ``state``, which is started if none lives.

    Raises EngineError.
    """
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            return address.dial(state)
        except (FileNotFoundError, ConnectionRefusedError):
            pass
        except OSError as e:
            raise EngineError(f"the runner of {state} cannot be reached: {e}") from e
        if time.monotonic() > deadline:
            raise EngineError(
                f"a runner holds {state / address.LOCK} and does not answer on"
                f" {state / address.SOCKET}; see {state / address.LOG}, and end it if it hangs"
            )
        # Whether one lives is for the lock to say, and only a runner asks it: looking
        # ourselves would take it away from one that is just starting.
        try:
            started = _start(state, containment)
        except _Died as e:
            # Killed by somebody, or for its memory: that is no reason for a worker to end,
            # which may hold results that nobody else has.
            if time.monotonic() > deadline:
                raise EngineError(str(e)) from None
            time.sleep(_AGAIN)
            continue
        if not started:
            time.sleep(_RETRY)  # another is starting, settling lost runs, or leaving


def find(state: Path) -> socket.socket:
    """A socket to the runner of ``state``, which somebody else keeps. Raises EngineError."""
    try:
        return address.dial(state)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoRunner(
            f"no runner serves {state}; the service that keeps it is to start one"
        ) from None
    except OSError as e:
        raise EngineError(f"the runner of {state} cannot be reached: {e}") from e


def _start(state: Path, containment: Containment | None) -> bool:
    """Start a runner and wait until it is ready; False if another lives.

    Raises EngineError; _Died if it was killed before it could say anything.
    """
    command = [sys.executable, "-m", "engine.runner", "--detach", "--state", str(state)]
    if containment is not None:
        command += ["--containment", containment]
    try:
        done = subprocess.run(
            command,
            cwd=Path(engine.__file__).resolve().parent.parent,
            # Models can read it, as that of the process that started them.
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=START_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise EngineError(f"the runner of {state} could not be started: {e}") from e
    if done.returncode == _OTHER_LIVES:
        return False
    if done.returncode == _DIED or done.returncode < 0:
        raise _Died(f"the runner of {state} died again and again at its start")
    if done.returncode != 0:
        why = done.stderr.decode("utf-8", "replace").strip()
        raise EngineError(f"the runner of {state} could not be started: {why}")
    return True
