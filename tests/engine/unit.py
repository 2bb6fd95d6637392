"""What a unit of systemd does for a runner: start it, and start it again whenever it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tests.system import ROOT, wait_for

OLD = "0.0.9"  # a version that is not ours


class Unit:
    """A runner with ``--stay``; ``environment`` says which version of it is started."""

    def __init__(self, state: Path, environment: Mapping[str, str] | None = None) -> None:
        self.state = state
        self.environment = dict(environment or os.environ)
        self.starts = 0
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Unit:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The living runner's, once it can be reached."""
        wait_for((self.state / "runner.sock").exists, "the runner")
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._stopped.clear()
        self._launch()
        self._thread = threading.Thread(target=self._keep, daemon=True)
        self._thread.start()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """``systemctl stop``, or ``kill`` without a restart: over when the runner is gone."""
        self._stopped.set()
        if self._process is not None and self._thread is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)
            self._thread.join(60)
            assert not self._thread.is_alive()

    def _launch(self) -> None:
        self.starts += 1
        (self.state / "runner.sock").unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.runner", "--state", str(self.state), "--stay"],
            cwd="/",
            env=self.environment,
            stdin=subprocess.DEVNULL,
        )

    def _keep(self) -> None:
        while True:
            assert self._process is not None
            self._process.wait()
            if self._stopped.is_set():
                return
            self._launch()


def another_version(folder: Path) -> dict[str, str]:
    """The environment of a program of version OLD, whose code lies in ``folder`` alone."""
    for name in ("engine", "spool"):
        shutil.copytree(ROOT / name, folder / name)
    library = Path(msgspec.__file__).parent
    shutil.copytree(library, folder / library.name)
    about = folder / f"modelrunner-{OLD}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: modelrunner\nVersion: {OLD}\n")
    return {**os.environ, "PYTHONPATH": str(folder)}
