"""What was found on a host, before anything is planned. Pure; ``survey`` gathers it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

Manager = Literal["system", "user", "none"]  # who keeps services: systemd, the user's own, or we


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """Something on disk; links are not followed. ``text``: of a file that was asked for."""

    kind: Literal["folder", "file", "link", "other"]
    owner: str  # USER:GROUP, numbers where there is no name
    mode: int
    text: str | None = None
    target: str | None = None  # of a link
    changed: float = 0.0  # when its content was written, POSIX; 0: unknown


class ServiceState(msgspec.Struct, frozen=True, kw_only=True):
    """``active`` is systemd's word (active, inactive, failed, activating …)."""

    active: str
    enabled: bool
    since: str = ""  # when it became so, ISO, "" unknown
    stale: bool = False  # its unit file is newer than what systemd has read


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One host. Read as the login user, or by sudo where that may be used."""

    uid: int
    user: str
    home: str
    root: bool  # root, or sudo works
    system: str  # PRETTY_NAME of os-release
    machine: str  # uname -m
    libc: str  # such as "glibc 2.36", "musl"
    python: str  # path of a Python >= 3.11
    python_version: str  # such as "3.11"
    manager: Manager
    linger: bool  # the user's manager lives without a login
    programs: Mapping[str, str]  # name: path, of those asked for: nginx, ssh-keygen, crontab, ...
    debian: bool  # apt-get is there
    accounts: Mapping[str, str]  # USER: GROUP, of those asked for
    groups: Mapping[str, tuple[str, ...]]  # members, of those asked for
    entries: Mapping[str, Entry]  # by absolute path, of those asked for
    services: Mapping[str, ServiceState]
    versions: tuple[str, ...]  # names in base/versions that were installed whole
    version: str | None  # the one that current leads to
    models: Mapping[str, str]  # name: version, of base/models
    host_keys: tuple[str, ...]  # "TYPE KEY" of its sshd
    port: int  # of the sshd that the login came through
    free: int  # bytes, where var lies or will lie
    let_in: tuple[str, ...] = ()  # workers that may come in: by an account of their own, or a key
    reboot_line: bool = False  # crontab has our @reboot line
    problems: tuple[str, ...] = ()  # what makes a plan impossible, each with what to do
    notes: tuple[str, ...] = ()  # what the keeper should know: a wrong clock, a full disk
