"""One life of a supervised service: its process, from the start to the end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import psutil

from deploy.units import Supervised

# Of a login over SSH, or of cron: what a service may see of it. The rest is that login's business.
_PASSED_ON = ("HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TZ")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Life:
    """``own`` is None of a process that an earlier keeper has started, and that we watch now."""

    def __init__(self, process: psutil.Process, own: subprocess.Popen[bytes] | None = None) -> None:
        self.process, self._own = process, own

    @property
    def adopted(self) -> bool:
        """It speaks to a keeper that is gone, and we are not told of its end."""
        return self._own is None

    def ended(self) -> str:
        """How it ended; "" while it lives."""
        if self._own is None:
            with contextlib.suppress(psutil.NoSuchProcess):
                if self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
                    return ""
            return "ended"
        code = self._own.poll()
        if code is None:
            return ""
        return f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"

    def send(self, number: signal.Signals) -> None:
        """To the process alone: what it has begun is its own business."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.process.send_signal(number)


def launch(config: Supervised, log: Path, address: str) -> Life:
    """Start it, with ``address`` as its NOTIFY_SOCKET. Raises OSError."""
    env = {**environment(config), "NOTIFY_SOCKET": address}
    if config.watchdog_seconds:
        env["WATCHDOG_USEC"] = str(int(config.watchdog_seconds * 1e6))
    with log.open("ab") as file:
        own = subprocess.Popen(
            true_command(config.argv),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=env,
            cwd="/",
            umask=0o027,
            start_new_session=True,
        )
    return Life(psutil.Process(own.pid), own)


def true_command(argv: Sequence[str]) -> list[str]:
    """``argv`` with its program under the true name of its folder.

    Python looks for its modules beside the path that it was called by; what a process loads
    later must come from the same version, although ``current`` leads elsewhere by then.
    """
    folder, name = os.path.split(argv[0])
    return [os.path.join(os.path.realpath(folder), name), *argv[1:]]


def environment(config: Supervised) -> dict[str, str]:
    """What the service finds in its environment. Raises OSError if the file cannot be read."""
    found = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    found["PATH"] = _PATH
    if config.env_file:
        with contextlib.suppress(FileNotFoundError):
            found.update(variables(Path(config.env_file).read_text()))
    return found


def variables(text: str) -> dict[str, str]:
    """NAME=VALUE lines, as of systemd's EnvironmentFile: quotes around a value are taken off."""
    found = {}
    for line in text.splitlines():
        name, equals, value = (part.strip() for part in line.partition("="))
        if equals and not name.startswith(("#", ";")):
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            found[name] = value[1:-1] if quoted else value
    return found
