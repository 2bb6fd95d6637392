"""What a service tells systemd of itself: sd_notify(3), with nothing but a datagram socket.

Where no systemd asked for it (no NOTIFY_SOCKET) everything here does nothing, and what goes
wrong is let be: no word to systemd is worth the program.

**Nobody else may speak for us.** The first call takes NOTIFY_SOCKET, WATCHDOG_USEC and
WATCHDOG_PID out of the environment. So call something here, ``status`` for instance, in the
main thread before the first child is started: no model and no worker inherits them.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from functools import cache
from typing import NamedTuple

_PATIENCE = 1.0  # seconds for systemd to take a datagram


class _Asked(NamedTuple):
    """What the environment asked for; ``address`` is none where nobody listens."""

    address: bytes | None
    watchdog: float | None  # seconds without ``alive`` after which we are ended


def ready(status: str = "") -> None:
    """The start is over: units that wait for us may start."""
    _send("READY=1", *_said(status))


def stopping() -> None:
    """The end has begun."""
    _send("STOPPING=1")


def status(text: str) -> None:
    """One line for ``systemctl status``."""
    _send(*_said(text))


def extend(seconds: float) -> None:
    """The start, or the end, takes longer: systemd waits this long for the next such word.

    Only before ``ready`` and after ``stopping``; the first must come within the unit's time-out.
    """
    _send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")


def alive() -> None:
    """All is well: the watchdog begins to count anew."""
    _send("WATCHDOG=1")


def interval() -> float | None:
    """Seconds between two calls of ``alive``: half of the watchdog's; None where there is none."""
    watchdog = _asked().watchdog
    return None if watchdog is None else watchdog / 2


@cache
def _asked() -> _Asked:
    where = os.environ.pop("NOTIFY_SOCKET", "")
    every = os.environ.pop("WATCHDOG_USEC", "")
    whose = os.environ.pop("WATCHDOG_PID", "")
    address = None
    if where.startswith("/"):
        address = os.fsencode(where)
    elif where.startswith("@"):  # the abstract namespace
        address = b"\0" + os.fsencode(where[1:])
    ours = whose in ("", str(os.getpid())) and every.isascii() and every.isdigit()
    return _Asked(address, int(every) / 1e6 if address and ours and int(every) else None)


def _said(text: str) -> tuple[str, ...]:
    line = " ".join(text.split())  # a line break would begin another word to systemd
    return (f"STATUS={line}",) if line else ()


def _send(*words: str) -> None:
    address = _asked().address
    if address is None or not words:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(_PATIENCE)
        sock.sendto("\n".join(words).encode(errors="replace"), address)
