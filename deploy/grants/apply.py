"""Doing steps, as root."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.grants.steps import PATH, Command, File, Step, before_of, half_of
from spool.errors import Refused

PATIENCE = 120.0  # seconds for one command


def apply(steps: Sequence[Step], done: Callable[[str], None]) -> None:
    """Do the steps in their order; ``done`` gets the sentence of each.

    Raises Refused at the first that fails: which one, what it said, what is done
    already. Nothing is undone but a file that did not hold: what is done is
    found done by the next try.
    """
    for number, step in enumerate(steps):
        try:
            for command in step.commands:
                _run(command)
            if step.file is not None:
                _write(step.file)
        except (Refused, OSError) as e:
            left = len(steps) - number
            raise Refused(
                f"this step failed: {step.sentence}: {e}",
                f"{number} steps are done, {left} are left; put it right and try again: "
                "what is done already is left out then",
            ) from e
        done(step.sentence)


def _run(command: Command) -> None:
    environment = {"PATH": PATH, "LC_ALL": "C"}
    try:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment,
            umask=0o022,
            timeout=PATIENCE,
            check=False,
        )
    except FileNotFoundError as e:
        raise Refused(f"there is no program {command[0]}") from e
    except subprocess.TimeoutExpired as e:
        raise Refused(f"{shlex.join(command)}: no end after {PATIENCE:.0f} s") from e
    if ended.returncode != 0:
        said = (ended.stderr.strip() or ended.stdout.strip()).replace("\n", "; ")
        raise Refused(f"{shlex.join(command)}: {said or f'exit code {ended.returncode}'}")


def _write(file: File) -> None:
    path, half, before = Path(file.path), Path(half_of(file.path)), Path(before_of(file.path))
    half.write_text(file.text)
    half.chmod(0o644)
    if not file.checks:
        half.rename(path)
        return
    before.unlink(missing_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.link(path, before)
    half.rename(path)
    try:
        for check in file.checks:
            _run(check)
    except BaseException as e:
        if before.exists():
            before.rename(path)
        else:
            path.unlink()
        if isinstance(e, Refused):
            raise Refused(f"{path} did not hold, and was taken back: {e}") from e
        raise
    before.unlink(missing_ok=True)
