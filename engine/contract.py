"""What an agent and its runner agree on: the files of a run directory.

``<state>/runs/<key>/`` is one run; its key is ``<job>.<attempt>``. The truth
about a run is in its directory and nowhere else:

===============  ==========================================================
order.json       written whole by the agent: what to run (``Order``)
input.zip        the checked input, put there by the agent
stop             appears when a stop is wanted; holds the reason
input/ output/   the unpacked input, the model's results
tmp/             the model's TMPDIR
log              stdout and stderr together, grows while the model runs
run.json         written by the runner when the model was started (``Running``)
exit.reserved    disk space for exit.json, taken before the start
exit.json        written by the runner, atomically, at the end (``Exit``)
===============  ==========================================================

A directory with neither ``exit.json`` nor a living process is an attempt lost
(``lost``); an attempt never starts twice.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Containment = Literal["pid-namespace", "process-tree"]

Stage = Literal["ready", "running", "ended", "lost"]
"""ready: ordered, not yet started. lost: started by a runner that is gone."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to run.

    ``argv`` is complete but for the input and output directory, which the
    runner adds as the last two arguments; ``cwd`` is the model's folder;
    ``env`` is added to the small clean environment. ``timeout`` and ``grace``
    (between TERM and KILL) are in seconds; a timeout of None means none.
    ``required`` are the files that the input must hold.
    """

    key: str
    job: str
    attempt: int
    model: str
    argv: tuple[str, ...]
    cwd: str
    env: dict[str, str]
    timeout: float | None
    grace: float
    required: tuple[str, ...] = ()


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """The model was started: the process that stands for the whole run.

    ``pid`` with ``start_time`` (clock ticks since boot, field 22 of
    /proc/PID/stat) and ``boot_id`` names one process for ever.
    """

    pid: int
    start_time: int
    boot_id: str
    containment: Containment


Ending = Literal["exited", "signaled", "stopped", "timeout", "bad-input", "not-started", "lost"]
"""exited: by itself, see ``exit_code``. signaled: died by a signal that we did not send.
stopped: we signalled it because a stop was wanted. timeout: we signalled it at its
timeout. bad-input: the guarded unzip refused the input. not-started: the command
could not be executed, or the machine failed us. lost: its runner died or was ended,
or its init was killed: nothing of it lives, and another attempt may be made."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a run ended. ``reason`` is for people: what happened, and to which file or command.

    ``wall_seconds`` are from the command's start to its end. ``cpu_seconds`` are those of
    all processes of the run, ``peak_memory`` (bytes) is the largest that one of them had
    resident; both without the unpacking. ``ended`` names what we signalled, as
    ``name (pid N)``, by the pids that the run itself saw; also what a finished command
    had left running.
    """

    ending: Ending
    reason: str
    exit_code: int | None = None
    signal: int | None = None
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    containment: Containment = "process-tree"
    ended: tuple[str, ...] = ()
