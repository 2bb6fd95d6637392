"""What a host runs, in the words of wheels: tags and environment markers. Pure."""

from __future__ import annotations

import re

import msgspec
from packaging.tags import Tag, compatible_tags, cpython_tags

from spool.errors import Refused

OLDEST_GLIBC = 5  # 2.5, of manylinux1
NEWEST_MUSL = 2  # 1.2, of every system with a Python we run on
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}  # other names of the same


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What a host runs: ``python`` "3.11", ``machine`` as ``uname -m``, ``libc`` "glibc 2.36"."""

    python: str = "3.11"
    machine: str = "x86_64"
    libc: str = "glibc 2.36"

    def __str__(self) -> str:
        return f"Python {self.python} on {self.machine}, {self.libc}"

    @property
    def processor(self) -> str:
        """The machine as wheels call it."""
        return MACHINES.get(self.machine.lower(), self.machine.lower())

    def environment(self) -> dict[str, str]:
        """What markers ask for, of this target."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.processor,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def platforms(target: Target) -> list[str]:
    """The platform tags of wheels that run there, best first. Raises Refused."""
    machine = target.processor
    family, _, number = target.libc.partition(" ")
    if family == "musl":
        return [f"musllinux_1_{minor}_{machine}" for minor in range(NEWEST_MUSL, -1, -1)]
    parts = re.fullmatch(r"2\.(\d+).*", number)
    if family != "glibc" or parts is None:
        raise Refused(
            f"no wheels are made for the C library {target.libc!r}",
            "hosts need Linux with glibc (Debian and most others) or musl",
        )
    found = []
    older = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
    for minor in range(int(parts[1]), OLDEST_GLIBC - 1, -1):
        found.append(f"manylinux_2_{minor}_{machine}")
        if minor in older:
            found.append(f"{older[minor]}_{machine}")
    return found


def tags(target: Target) -> dict[Tag, int]:
    """What a wheel may be made for, each with its rank: 0 is best. Raises Refused."""
    major, minor = (int(part) for part in target.python.split(".")[:2])
    ours = f"cp{major}{minor}"
    all_ = platforms(target)
    of_c = cpython_tags((major, minor), [ours], all_)
    pure = compatible_tags((major, minor), ours, all_)
    # dict.fromkeys keeps the first, and so the best, of tags that come twice
    return {tag: rank for rank, tag in enumerate(dict.fromkeys([*of_c, *pure]))}
