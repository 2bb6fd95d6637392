"""Which process is which: identities that outlive a pid, and trees of processes."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from engine.contract import Containment, Running

_DEAD = frozenset("ZXx")


class Process(NamedTuple):
    """One line of /proc/PID/stat. ``start_time`` is in clock ticks since boot."""

    pid: int
    ppid: int
    state: str
    start_time: int
    name: str

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def boot_id() -> str:
    """This boot's identity: pids and start times mean nothing across boots."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def own_pid() -> int:
    """This process's pid as the mounted /proc counts (in a namespace, getpid() may differ)."""
    return int(os.readlink("/proc/self"))


def look(pid: int) -> Process | None:
    """The process as it is now, None if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as f:
            text = f.read().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The name may hold spaces and parentheses; the last one closes it.
    before, _, after = text.rpartition(")")
    fields = after.split()
    return Process(
        pid=pid,
        ppid=int(fields[1]),
        state=fields[0],
        start_time=int(fields[19]),
        name=before.partition("(")[2],
    )


def alive(pid: int, start_time: int, boot: str) -> bool:
    """True while exactly this process runs (a zombie does not)."""
    if boot != boot_id():
        return False
    found = look(pid)
    return found is not None and found.start_time == start_time and found.state not in _DEAD


def identity(containment: Containment) -> Running:
    """This process, as others will look for it."""
    pid = own_pid()
    me = look(pid)
    if me is None:
        raise ProcessLookupError(f"/proc does not show this process ({pid}): is /proc mounted?")
    return Running(pid=pid, start_time=me.start_time, boot_id=boot_id(), containment=containment)


def everything() -> Iterator[Process]:
    """All processes that the mounted /proc shows. Not atomic: some may come and go meanwhile."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = look(int(name))
            if found is not None:
                yield found


def descendants(root: int, skip: Collection[int] = ()) -> list[Process]:
    """The living processes below ``root``, without those in ``skip`` and what is below them."""
    found: list[Process] = []
    heads = [root]
    while heads:
        for pid in _children(heads.pop()):
            if pid not in skip and (process := look(pid)) is not None:
                heads.append(pid)
                if process.state not in _DEAD:
                    found.append(process)
    return found


def _children(pid: int) -> list[int]:
    """The kernel's own list: it takes no walk over the machine's processes, so that
    one that forks and dies, again and again, can be caught."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", "rb") as f:
                found += map(int, f.read().split())
    return found


def carrying(variable: str) -> list[Process]:
    """The living processes that were started with ``variable`` ("NAME=value") in their environment.

    A run's processes carry its output directory, so they are found even when
    all that would have known them is dead. Other accounts' are not seen.
    """
    wanted = os.fsencode(variable)
    found = []
    for process in everything():
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            if process.state not in _DEAD and wanted in environment.split(b"\0"):
                found.append(process)
    return found


def send(process: Process, number: signal.Signals) -> None:
    """Signal this very process, or nobody: its pid may be another's by now."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        fd = os.pidfd_open(process.pid)
        try:
            now = look(process.pid)
            if now is not None and now.start_time == process.start_time:
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)
