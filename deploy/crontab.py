"""Our one line in the user's crontab: it starts the services after a reboot."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

from spool.errors import Refused

MARK = "# modelrunner deploy"  # ends our line: the shell takes it for a comment
_SECONDS = 30.0  # for crontab itself


def line(command: Sequence[str]) -> str:
    """The line that runs ``command`` when the machine starts."""
    words = shlex.join(command).replace("%", "\\%")  # cron takes a % for a line's end
    return f"@reboot {words} >/dev/null 2>&1 {MARK}"


def with_line(table: str, ours: str) -> str:
    """``table`` with our line as its last, once; all else as it is."""
    rest = without_line(table)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return f"{rest}{ours}\n"


def without_line(table: str) -> str:
    return "".join(kept for kept in table.splitlines(keepends=True) if not _is_ours(kept))


def has_line(table: str) -> bool:
    return any(_is_ours(text) for text in table.splitlines())


def read() -> str | None:
    """The user's table, "" if there is none; None where there is no crontab for this user."""
    try:
        found = subprocess.run(
            ["crontab", "-l"], capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if found.returncode == 0:
        return found.stdout
    # Every cron says "no crontab for USER"; who may not use it at all is told something else.
    return "" if "no crontab" in found.stderr.lower() else None


def write(table: str) -> None:
    """Replaces the user's table; one that is empty goes. Raises Refused."""
    command = ["crontab", "-"] if table else ["crontab", "-r"]
    try:
        done = subprocess.run(
            command, input=table, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise Refused(f"crontab cannot be run: {e}") from e
    if done.returncode != 0:
        raise Refused(
            f"crontab refused the new table: {done.stderr.strip() or done.returncode}",
            "the services run, but will not come back by themselves after a reboot",
        )


def _is_ours(text: str) -> bool:
    return text.rstrip().endswith(MARK) and not text.lstrip().startswith("#")
