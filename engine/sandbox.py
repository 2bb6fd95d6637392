"""What holds a run's processes together, so that none can slip away.

*pid-namespace*: the run's init is PID 1 of a namespace of its own. Nothing in
it can leave, one ``kill(-1)`` reaches everything at once, and when init dies
the kernel ends the rest. As root this needs nothing; without root a user
namespace is made around it, where the machine allows that. A fresh /proc is
mounted inside where possible, since programs that look themselves up by pid
would find strangers in the host's; where it is refused (in some containers)
the host's stays.

*process-tree*: where namespaces are refused. Init is the subreaper of its
descendants: an orphan comes back to it, whatever session it is in, so "no
children left" still means that nothing is left. Signals go from process to
process, and before a KILL everything is stopped until no new one appears.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path
from typing import NamedTuple

from engine import procs
from engine.contract import Containment

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 2, 4, 8, 1 << 14, 1 << 19
_FREEZE_ROUNDS = 100  # a process that forks faster than we stop is met again in the next round

_libc = ctypes.CDLL(None, use_errno=True)
_libc.prctl.argtypes = (ctypes.c_int, *([ctypes.c_ulong] * 4))
_libc.unshare.argtypes = (ctypes.c_int,)
_libc.mount.argtypes = (*([ctypes.c_char_p] * 3), ctypes.c_ulong, ctypes.c_char_p)


class Sandbox(NamedTuple):
    """How runs are contained on this machine."""

    containment: Containment
    user_namespace: bool = False


TREE = Sandbox("process-tree")
_NAMESPACES = (Sandbox("pid-namespace"), Sandbox("pid-namespace", user_namespace=True))


# --- making it ---------------------------------------------------------------------


def probe(wanted: Containment | None) -> Sandbox:
    """The best containment that works here, found by trying; ``wanted`` forces one.

    Raises OSError if a namespace was forced and is not to be had.
    """
    if wanted == "process-tree":
        return TREE
    for box in _NAMESPACES:
        if _works(box):
            return box
    if wanted == "pid-namespace":
        raise PermissionError("this machine allows no PID namespace to this account")
    return TREE


def enter(box: Sandbox) -> None:
    """Make this process's *next child* the init of a new PID namespace. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    _check(_libc.unshare(_CLONE_NEWPID | (_CLONE_NEWUSER if box.user_namespace else 0)), "unshare")
    if box.user_namespace:
        Path("/proc/self/setgroups").write_text("deny")  # else gid_map is refused
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def own_proc() -> None:
    """In a new namespace's init: give it a /proc of its own, unseen outside. Raises OSError."""
    _check(_libc.unshare(_CLONE_NEWNS), "unshare")
    # Slave, not private: what the host mounts or unmounts later still arrives.
    _check(_libc.mount(b"none", b"/", None, _MS_REC | _MS_SLAVE, None), "mount")
    flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
    _check(_libc.mount(b"proc", b"/proc", b"proc", flags, None), "mount")


def die_with_parent() -> None:
    """SIGKILL for this process as soon as the process that is its parent now is gone."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0), "prctl")


def adopt_orphans() -> None:
    """Descendants whose parents die become this process's children."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def keep_open(fd: int) -> None:
    """In a fresh fork: close everything but ``fd`` and the standard streams."""
    os.closerange(3, fd)
    os.closerange(fd + 1, os.sysconf("SC_OPEN_MAX"))


def call_me(name: str) -> None:
    """Set the name that ``ps -o comm`` shows (15 bytes)."""
    buffer = ctypes.create_string_buffer(name.encode())
    _check(_libc.prctl(_PR_SET_NAME, ctypes.addressof(buffer), 0, 0, 0), "prctl")


def _works(box: Sandbox) -> bool:
    """Try ``box`` in a child, with a grandchild as PID 1."""
    pid = os.fork()
    if pid == 0:
        try:
            enter(box)
            init = os.fork()
            if init == 0:
                os._exit(0 if os.getpid() == 1 else 1)
            os._exit(os.waitstatus_to_exitcode(os.waitpid(init, 0)[1]))
        except BaseException:  # noqa: BLE001  whatever it was: it does not work here
            os._exit(1)
    return os.waitpid(pid, 0)[1] == 0


def _check(result: int, call: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")


def bearing() -> tuple[object, ...]:
    """What this process sees and hands on to each run, and what a model may have changed of it:
    a mount (as root), or its init's priority, processors, limits (the same account may)."""
    return (
        Path("/proc/self/mountinfo").read_bytes(),
        Path("/proc/self/limits").read_bytes(),
        Path("/proc/self/oom_score_adj").read_bytes(),
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getscheduler(0),
        os.sched_getaffinity(0),
    )


# --- emptying it -------------------------------------------------------------------


def members() -> list[procs.Process]:
    """In a run's init: the run's living processes, numbered as the mounted /proc does."""
    return procs.descendants(procs.own_pid())


def terminate(box: Sandbox) -> None:
    """In a run's init: TERM to every process of the run, and CONT to those that are stopped."""
    for number in (signal.SIGTERM, signal.SIGCONT):
        if box.containment == "pid-namespace":
            with contextlib.suppress(ProcessLookupError):
                os.kill(-1, number)
        else:
            for process in members():
                procs.send(process, number)


def kill(box: Sandbox) -> None:
    """In a run's init: KILL every process of the run. Call again until no child is left."""
    if box.containment == "pid-namespace":
        with contextlib.suppress(ProcessLookupError):
            os.kill(-1, signal.SIGKILL)
    else:
        kill_below(procs.own_pid())


def kill_below(root: int, skip: frozenset[int] = frozenset()) -> bool:
    """KILL what is below ``root`` but for ``skip``; False if there was nothing."""
    stopped: set[procs.Process] = set()
    for _ in range(_FREEZE_ROUNDS):
        # A process is its pid and start time; its state changes as we stop it.
        met = {(p.pid, p.start_time) for p in stopped}
        found = [p for p in procs.descendants(root, skip) if (p.pid, p.start_time) not in met]
        if not found:
            break
        for process in found:
            procs.send(process, signal.SIGSTOP)
        stopped.update(found)
    for process in stopped:
        procs.send(process, signal.SIGKILL)
    return bool(stopped)
