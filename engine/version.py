"""Which version this is: one word for the wheel, the beats and the runner.

The runner asks by ``version_of_child``: what reads the version loads 48 modules, and
whatever the runner has loaded makes each of its forks dearer.
"""

from __future__ import annotations

import importlib
import os

DISTRIBUTION = "modelrunner"


def installed() -> str:
    """Raises importlib.metadata.PackageNotFoundError where it was not installed."""
    version: str = importlib.import_module("importlib.metadata").version(DISTRIBUTION)
    return version


class Asked:
    """The version, asked for by a fork; ``answer`` waits for it. Not where threads are."""

    def __init__(self) -> None:
        """Raises OSError."""
        self._hear, say = os.pipe2(os.O_CLOEXEC)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.write(say, installed().encode())
            finally:
                os._exit(0)
        os.close(say)

    def answer(self) -> str:
        """ "" where it cannot be had."""
        said = os.read(self._hear, 256)  # one write of less than a page is one read
        os.close(self._hear)
        os.waitpid(self._pid, 0)
        return said.decode("utf-8", "replace")
