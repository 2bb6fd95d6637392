"""A disk that can lose its power: a file system in a file, shut down by its own ioctl.

From the cut on the file system takes nothing more to its disk, as if the machine had
lost its power: what was written and not synced is gone, in whatever order the kernel
had it, and the next mount replays the journal.
"""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from contextlib import suppress
from pathlib import Path

# FS_IOC_SHUTDOWN; EXT4_IOC_SHUTDOWN and XFS_IOC_GOINGDOWN are the same number.
_SHUTDOWN = 0x8004587D
_NOLOGFLUSH = struct.pack("I", 2)  # not even the journal's part that is in memory
_SIZE = 512 * 1024 * 1024  # of a sparse file; the primary is content with what is free then
_MAKE = {
    "ext4": ["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1"],
    "xfs": ["mkfs.xfs", "-q", "-f"],
}
_RELEASE = 0.5  # seconds until a dead disk is left to whoever holds it
_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class LoopDisk:
    """A file system of ``kind`` below ``root``, mounted at ``place``."""

    def __init__(self, root: Path, kind: str) -> None:
        self.kind = kind
        self.place = root / f"disk-{kind}"
        self._image = root / f"{kind}.image"
        self.place.mkdir()
        with self._image.open("wb") as image:
            image.truncate(_SIZE)
        _run(*_MAKE[kind], str(self._image))
        self._mount()

    def cut(self) -> None:
        """The power goes. Whoever uses the disk is told EIO from now on."""
        fd = os.open(self.place, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(fd, _SHUTDOWN, _NOLOGFLUSH)
        finally:
            os.close(fd)

    def return_power(self) -> None:
        """Unmounted, which nobody may prevent, and mounted again: the journal is replayed.

        A mount namespace that somebody made meanwhile (a model's run, of whatever test)
        has a mount of its own of this disk, which keeps the dead one alive in the kernel.
        What lies on the disk is then mounted from a copy, as another disk.
        """
        _run("umount", str(self.place))
        until = time.monotonic() + _RELEASE
        while (held := self._is_held()) and time.monotonic() < until:
            time.sleep(0.01)
        if held:
            dead, self._image = self._image, self._image.with_suffix(f".image{time.monotonic_ns()}")
            _run("cp", "--sparse=always", str(dead), str(self._image))
            dead.unlink()
        self._mount()

    def close(self) -> None:
        # Not os.path.ismount: on a disk without power nothing can be asked.
        if f" {self.place} " in Path("/proc/self/mounts").read_text():
            _run("umount", "--lazy", str(self.place))
        self._image.unlink(missing_ok=True)

    def _mount(self) -> None:
        options = "loop,nouuid" if self.kind == "xfs" else "loop"
        _run("mount", "-t", self.kind, "-o", options, str(self._image), str(self.place))

    def _is_held(self) -> bool:
        """Whether the kernel still has a device for the image, which goes with its last mount."""
        for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
            with suppress(OSError):  # gone meanwhile
                if backing.read_text().strip() == str(self._image):
                    return True
        return False


def kinds() -> tuple[list[str], str]:
    """The kinds of disk that this kernel can cut off, and in words what it lacks.

    Mounting would load a module, and the machine may forbid loop devices: so it is tried.
    """
    if not os.path.exists("/dev/loop-control"):
        return [], "no cuts: this machine has no loop devices"
    known = Path("/proc/filesystems").read_text().split()
    found = [kind for kind in _MAKE if kind in known or _load(kind)]
    lacking = [kind for kind in _MAKE if kind not in found]
    return found, f"this kernel has no {' and no '.join(lacking)}" if lacking else ""


def _load(kind: str) -> bool:
    """Whether the kernel has it as a module."""
    try:
        loaded = subprocess.run(["modprobe", kind], env={"PATH": _PATH}, capture_output=True)
    except FileNotFoundError:
        return False
    return loaded.returncode == 0


def _run(*command: str) -> None:
    done = subprocess.run(command, env={"PATH": _PATH}, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
