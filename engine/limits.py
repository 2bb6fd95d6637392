"""What a run and its parts may use, and what the kernel says about memory."""

from __future__ import annotations

import os
import resource
from pathlib import Path
from typing import NamedTuple

UNPACK_CPU = 600  # seconds of processor time that unpacking one input may take
UNPACK_MEMORY = 1 << 30  # bytes of address space, the interpreter's own included
LEFTOVER_GRACE = 1.0  # seconds between TERM and KILL for what a finished command leaves behind
UNPACK_FILES = 64  # open files


def limit_unpacking() -> None:
    """Bind this process, which is about to open a stranger's zip."""
    # The soft limit kills by SIGXCPU, which says why; the hard one is for who ignores it.
    resource.setrlimit(resource.RLIMIT_CPU, (UNPACK_CPU, UNPACK_CPU + 5))
    resource.setrlimit(resource.RLIMIT_AS, (UNPACK_MEMORY, UNPACK_MEMORY))
    resource.setrlimit(resource.RLIMIT_NOFILE, (UNPACK_FILES, UNPACK_FILES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class OomKills(NamedTuple):
    """How many processes the kernel has ended because memory ran out, since some beginning."""

    machine: int
    group: int

    @classmethod
    def read(cls, group_events: Path | None) -> OomKills:
        """``group_events`` is the memory.events file of our control group, if there is one."""
        return cls(
            machine=_counter(Path("/proc/vmstat")),
            group=_counter(group_events) if group_events is not None else 0,
        )

    def blame(self, before: OomKills) -> str:
        """What happened since ``before``, or an empty string."""
        if self.group > before.group:
            return "the kernel ended it because its control group's memory ran out"
        if self.machine > before.machine:
            return "memory ran out on this machine and the kernel ended processes meanwhile"
        return ""


def group_events() -> Path | None:
    """memory.events of this process's control group (version 2), or None."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("0::/"):
            path = Path("/sys/fs/cgroup") / line[4:] / "memory.events"
            return path if os.access(path, os.R_OK) else None
    return None


def _counter(path: Path) -> int:
    """The number after ``oom_kill`` in a file of names and numbers; 0 if it has none."""
    try:
        data = path.read_bytes()
    except OSError:
        return 0
    for line in data.splitlines():
        if line.startswith(b"oom_kill "):
            return int(line[9:])
    return 0
