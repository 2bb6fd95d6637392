"""What lies on a machine, to be compared: before and after."""

from __future__ import annotations

from collections.abc import Mapping

from tests.machines import Machine

# What a machine writes whatever is done to it, and what nobody deploys.
LIVING = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/srv", "/var/log", "/var/cache"),
    *("/var/lib/systemd", "/var/lib/private", "/var/backups", "/usr/share", "/usr/lib/x86_64*"),
)
# Written anew beside what useradd and groupadd change.
_BACKUPS = "/etc/*-"
_WATCHED = ("/etc", "/home", "/root", "/opt", "/usr/local", "/var/spool")  # also their contents


def files(machine: Machine) -> Mapping[str, str]:
    """Kind, owner, mode and target of all paths but ``LIVING``; of some the contents too."""
    pruned = ["("] + [word for path in LIVING for word in ("-path", path, "-o")]
    pruned += ["-path", _BACKUPS, ")", "-prune", "-o"]
    listed = machine.run("find", "/", "-xdev", *pruned, "-printf", "%p\t%y %u:%g %m %l\n")
    found = dict(line.split("\t") for line in listed.splitlines())
    hashed = ["find", *_WATCHED, "-xdev", "-type", "f", "-not", "-path", _BACKUPS]
    for line in machine.run(*hashed, "-exec", "sha256sum", "{}", "+").splitlines():
        digest, path = line.split("  ", 1)
        found[path] = f"{found.get(path, '')} {digest}"
    return found


def exactly(machine: Machine, *folders: str) -> Mapping[str, str]:
    """All of a few folders, to the inode and the nanosecond of the last change."""
    there = [folder for folder in folders if machine.path(folder).exists()]
    if not there:
        return {}
    listed = machine.run("find", *there, "-xdev", "-printf", "%p\t%i %T@ %C@ %y %u:%g %m %l\n")
    return dict(line.split("\t") for line in listed.splitlines())


def difference(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What came, went or changed, in words; empty when nothing did."""
    said = [f"+ {path}: {after[path]}" for path in after.keys() - before.keys()]
    said += [f"- {path}: {before[path]}" for path in before.keys() - after.keys()]
    both = before.keys() & after.keys()
    said += [f"~ {p}: {before[p]} -> {after[p]}" for p in both if before[p] != after[p]]
    return sorted(said, key=lambda line: line[2:])
