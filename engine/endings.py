"""How a run's end is told: from a wait status to an ending and a reason. Pure."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from engine.contract import Ending


class Wish(NamedTuple):
    """Why we end a run ourselves."""

    ending: Ending
    reason: str


class Verdict(NamedTuple):
    ending: Ending
    reason: str
    exit_code: int | None
    signal: int | None


def judge(status: int, wish: Wish | None, oom: str = "") -> Verdict:
    """How a command that ended with wait status ``status`` has ended.

    ``wish`` is given if it was signalled by us before it ended; then it counts
    whatever the status is. ``oom`` says what the kernel did about memory.
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        code = None
    else:
        number = None
        code = os.WEXITSTATUS(status)
    if wish is not None:
        return Verdict(wish.ending, wish.reason, code, number)
    if number is not None:
        return Verdict("signaled", _by_signal(number, oom), None, number)
    return Verdict("exited", _by_code(code or 0, oom), code, None)


def timeout_wish(seconds: float) -> Wish:
    return Wish("timeout", f"the model ran longer than its limit of {seconds:g} seconds")


def signal_name(number: int) -> str:
    """``9`` as ``signal 9 (SIGKILL)``."""
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _by_signal(number: int, oom: str) -> str:
    text = f"the command died by {signal_name(number)}, which Model Runner did not send"
    if number == signal.SIGKILL:
        return f"{text}: {oom or 'its memory may have run out'}"
    return text


def _by_code(code: int, oom: str) -> str:
    if code == 0:
        return ""
    text = f"the command ended with exit code {code}"
    if code > 128 and code - 128 in set(signal.Signals):
        # A shell's way to say that the program it ran died by a signal.
        text += f" (in a shell: a program died by {signal_name(code - 128)})"
        if code - 128 == signal.SIGKILL and oom:
            text += f": {oom}"
    return text
