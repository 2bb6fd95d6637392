"""A job's failure in words: what happened, who must act, and how. Pure."""

from __future__ import annotations

import signal
from typing import NamedTuple

from ledger.events import Failure
from ledger.jobs import Job

# What a model that died by a signal has most likely done.
_SIGNALS = {
    signal.SIGABRT: "gave up by itself (abort)",
    signal.SIGALRM: "was ended by a timer of its own",
    signal.SIGBUS: "crashed (bus error, often for a full disk)",
    signal.SIGFPE: "crashed (arithmetic error, such as a division by zero)",
    signal.SIGHUP: "was hung up",
    signal.SIGILL: "crashed (illegal instruction: built for another kind of processor?)",
    signal.SIGINT: "was interrupted",
    signal.SIGKILL: "was killed, often for lack of memory",
    signal.SIGPIPE: "wrote to a program that had ended (broken pipe)",
    signal.SIGQUIT: "was told to quit",
    signal.SIGSEGV: "crashed (segmentation fault)",
    signal.SIGSYS: "crashed (a system call that it may not use)",
    signal.SIGTERM: "was ended by somebody else on its machine",
    signal.SIGTRAP: "crashed (trap)",
    signal.SIGXCPU: "used more processor time than its machine allows",
    signal.SIGXFSZ: "wrote a larger file than its machine allows",
}

_CODES = {
    126: "the program was found, but cannot be executed",
    127: "a program was not found",
}


class Explanation(NamedTuple):
    """``title`` says what kind of failure it is, ``who`` whose turn it is and what to do."""

    title: str
    who: str


_TOO_LONG = Explanation(
    "It ran longer than it may",
    "A smaller input may fit. Else ask the modeller for a longer limit (timeout in model.toml).",
)
_NO_MEMORY = Explanation(
    "Its memory may have run out",
    "A smaller input may fit. Else the server's keeper must give its worker more memory.",
)
_NO_DISK = Explanation(
    "Its worker's disk is full",
    "Nothing may be wrong with your input. Tell the server's keeper, who must make room; run it "
    "again after that.",
)
# A word that only the reason of this limit holds (engine/endings.py, engine/attempt.py).
_LIMITS = {"longer": _TOO_LONG, "memory": _NO_MEMORY, "disk": _NO_DISK}

_EXPLANATIONS: dict[Failure, Explanation] = {
    "input": Explanation(
        "The input cannot be used",
        "You can put this right: change what is named here, and submit the input anew. "
        "The model's page says what it expects.",
    ),
    "model": Explanation(
        "The model failed",
        "If the log names something of your input, change that and submit it anew; else the "
        "modeller must look at it.",
    ),
    "limit": Explanation(
        "A limit was reached",
        "A smaller input may fit. The modeller can raise the model's limits, the server's keeper "
        "can give its worker more memory or disk.",
    ),
    "lost": Explanation(
        "Its worker was lost",
        "Nothing is wrong with your input. It was tried as often as the model allows; run it "
        "again when the workers are back.",
    ),
    "system": Explanation(
        "Model Runner could not run it",
        "Nothing is wrong with your input. The server's keeper must look at this; run it again "
        "after that.",
    ),
}


_NOT_FETCHED = Explanation(
    "The input could not be fetched",
    "Try the address in a browser, and submit the job anew; or download the zip and send it "
    "yourself.",
)


def explain(job: Job) -> Explanation | None:
    """None unless the job has failed."""
    if job.failure is None:
        return None
    # So begin the reasons of primary.fetching.
    if job.failure == "input" and job.url and (job.reason or "").startswith("the address"):
        return _NOT_FETCHED
    return (job.failure == "limit" and limit(job)) or _EXPLANATIONS[job.failure]


def limit(job: Job) -> Explanation | None:
    """Which limit was reached, if the worker's reason tells."""
    # What follows is the model's own last line, which may speak of anything.
    reason = (job.reason or "").partition("; its last line: ")[0]
    return next((found for word, found in _LIMITS.items() if word in reason), None)


def how(job: Job) -> str:
    """How the model's process ended: exit code or signal, in words.

    "" where that says nothing: of another class, or at a limit, where we ended it ourselves.
    """
    run = job.run
    if run is None or job.failure != "model":
        return ""
    if run.signal is not None:
        return f"it {_by_signal(run.signal)}"
    code = run.exit_code
    if not code:
        return ""
    if code in _CODES:
        return f"exit code {code}: {_CODES[code]}"
    if code > 128 and code - 128 in set(signal.Signals):
        # A shell's way to say that the program it ran died by a signal.
        died = code - 128
        return f"exit code {code}: its program {_by_signal(died)}"
    return f"exit code {code}"


def signal_name(number: int) -> str:
    """``9`` as ``SIGKILL``."""
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, or one of another system
        return f"signal {number}"


def _by_signal(number: int) -> str:
    """What the signal means, with its name: "crashed (segmentation fault, SIGSEGV)"."""
    text = next((text for sig, text in _SIGNALS.items() if sig == number), "died by a signal")
    name = signal_name(number)
    return f"{text[:-1]}, {name})" if text.endswith(")") else f"{text} ({name})"
