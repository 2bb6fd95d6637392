"""The keeper's own pip: it downloads, and builds our wheel."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from spool.errors import Refused

PIP_TIME = 900.0  # seconds for all downloads


def pip(*arguments: str, cwd: Path, environment: Mapping[str, str]) -> str:
    """Runs the keeper's own pip; "" or, if it fails, all that it said. Raises Refused."""
    if importlib.util.find_spec("pip") is None:
        raise Refused(
            f"the Python that runs modelrunner here ({sys.executable}) has no pip",
            "make in the checkout makes an environment with it, .venv",
        )
    quiet = ("--disable-pip-version-check", "--no-input", "--quiet")
    command = (sys.executable, "-m", "pip", *arguments, *quiet)
    try:
        ended = subprocess.run(
            command,
            cwd=cwd,  # -m looks there first
            env=os.environ | dict(environment),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PIP_TIME,
        )
    except subprocess.TimeoutExpired as e:
        raise Refused(
            f"pip {arguments[0]} took more than {PIP_TIME:.0f} s",
            "try again; what was downloaded whole is kept by pip",
        ) from e
    said = (ended.stderr or ended.stdout).strip()
    return (said or f"exit code {ended.returncode}") if ended.returncode else ""
