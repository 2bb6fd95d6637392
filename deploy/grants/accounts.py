"""What the machine has: accounts, groups, and sshd's configuration. Only looks."""

from __future__ import annotations

import glob
import grp
import os
import pwd
import re
import shutil
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from deploy.grants import layout
from deploy.grants.facts import Machine
from deploy.grants.places import account_of, entry_of
from deploy.grants.steps import PATH

_UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_LONGEST = 1024 * 1024  # bytes of a file that we may have written


def machine(host: str | None = None) -> Machine:
    """What is known of this machine; ``host``: what others call it."""
    lines = list(_sshd_lines())
    return Machine(
        accounts={found.pw_name: account_of(found) for found in pwd.getpwall()},
        groups={found.gr_name: frozenset(found.gr_mem) for found in grp.getgrall()},
        files=dict(_files()),
        key_folder=entry_of(Path(layout.KEYS)),
        sshd=shutil.which("sshd", path=PATH) is not None,
        included=_includes(line for _, line in lines),
        sshd_folder=os.path.isdir("/run/sshd"),
        unit=_unit(),
        gates=tuple(
            f"{where}: {line}"
            for where, line in lines
            if re.match(r"(Allow|Deny)(Users|Groups)\b", line, re.I)
        ),
        port=_port(line for _, line in lines),
        host=host or socket.gethostname(),
        host_keys=tuple(_host_keys()),
    )


def _files() -> Iterator[tuple[str, str]]:
    """Our files below /etc/ssh; one with another owner or mode counts as missing."""
    for path in (layout.SSHD_FILE, *sorted(glob.glob(f"{layout.KEYS}/*"))):
        entry = entry_of(Path(path))
        if entry == ("file", "root", "root", 0o644) and os.path.getsize(path) <= _LONGEST:
            yield path, Path(path).read_text(errors="replace")


def _sshd_lines() -> Iterator[tuple[str, str]]:
    """(file:number, line) of sshd's configuration and of what lies beside our file."""
    folder = os.path.dirname(layout.SSHD_FILE)
    for path in (layout.SSHD_CONFIG, *sorted(glob.glob(f"{folder}/*.conf"))):
        if path == layout.SSHD_FILE:
            continue
        try:
            lines = Path(path).read_text(errors="replace").splitlines()
        except OSError:
            continue  # not ours to read: it is checked when the file is written
        for number, line in enumerate(lines, 1):
            if line.strip() and not line.lstrip().startswith("#"):
                yield f"{path}:{number}", line.strip()


def _includes(lines: Iterable[str]) -> bool:
    folder = os.path.dirname(layout.SSHD_FILE)
    wanted = (f"{folder}/*.conf", f"{os.path.basename(folder)}/*.conf", layout.SSHD_FILE)
    for line in lines:
        key, *values = re.split(r"[\s=]+", line)
        if key.lower() == "include" and any(value.strip('"') in wanted for value in values):
            return True
    return False


def _port(lines: Iterable[str]) -> int:
    for line in lines:
        if found := re.match(r"Port[\s=]+(\d{1,5})$", line, re.I):
            return int(found[1])
    return 22


def _unit() -> str | None:
    if not os.path.isdir("/run/systemd/system"):
        return None
    debian = any(os.path.exists(f"{folder}/ssh.service") for folder in _UNITS)
    return "ssh" if debian else "sshd"


def _host_keys() -> Iterator[str]:
    for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub")):
        try:
            fields = Path(path).read_text().split()
        except (OSError, UnicodeDecodeError):
            continue
        if len(fields) >= 2:
            yield f"{fields[0]} {fields[1]}"
