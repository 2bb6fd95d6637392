"""The command line as a process: with pipes, or on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time

LIMIT = 60  # seconds
COMMAND = (sys.executable, "-m", "modelrunner")


def environment(**more: str) -> dict[str, str]:
    """Ours, without what would point the commands elsewhere or change how they draw."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("MODELRUNNER_", "COLUMNS"))}
    return {**ours, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", **more}


def run(*arguments: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(**env),
        check=False,
    )


class Terminal:
    """A program on a pseudo-terminal: what it draws, and keys for it."""

    def __init__(self, *command: object, columns: int = 100, **env: str) -> None:
        self._fd, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        self._process = subprocess.Popen(
            # the terminal becomes its own, so that Ctrl-C reaches it
            ["setsid", "--ctty", "--wait", *map(str, command)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(**env),
        )
        os.close(theirs)
        self.drawn = ""
        self._seen = 0

    def press(self, keys: str) -> None:
        os.write(self._fd, keys.encode())

    def until(self, text: str) -> str:
        """Wait until ``text`` is drawn; all that was drawn since the last time."""
        deadline = time.monotonic() + LIMIT
        while text not in self.drawn[self._seen :]:
            ready, _, _ = select.select([self._fd], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"waited in vain for {text!r}; drawn was {self.drawn!r}"
            piece = self._read()
            assert piece, f"ended without {text!r}; drawn was {self.drawn!r}"
        new = self.drawn[self._seen :]
        self._seen += new.index(text) + len(text)
        return new

    def end(self) -> int:
        """Wait for the program's end; its exit code."""
        while self._read():
            pass
        return self._process.wait(LIMIT)

    def close(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT)
        os.close(self._fd)

    def _read(self) -> bytes:
        try:
            piece = os.read(self._fd, 65536)
        except OSError:  # nobody holds the other side any more
            return b""
        self.drawn += piece.decode(errors="replace")
        return piece
