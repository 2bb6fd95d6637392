"""A host as a survey may find it, for tests of what is pure."""

from __future__ import annotations

from typing import Any

import msgspec

from deploy.found import Found

BARE = Found(
    uid=0,
    user="root",
    home="/root",
    root=True,
    system="Debian GNU/Linux 12 (bookworm)",
    machine="x86_64",
    libc="glibc 2.36",
    python="/usr/bin/python3",
    python_version="3.11",
    manager="system",
    linger=False,
    programs={},
    debian=True,
    accounts={},
    groups={},
    entries={},
    services={},
    versions=(),
    version=None,
    models={},
    host_keys=(),
    port=22,
    free=1 << 40,
)


def found(**changes: Any) -> Found:
    """A bare Debian with root, but for ``changes``."""
    return msgspec.structs.replace(BARE, **changes)
