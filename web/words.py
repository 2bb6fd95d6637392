"""Times, sizes and addresses as people read them. Pure."""

from __future__ import annotations

import re

# What a worker says of itself must not drive a browser, nor the program that a browser
# starts for an address: so no option, no command, nothing but a place.
_PLACE = re.compile(
    r"(ssh|sftp)://([a-z0-9_][a-z0-9_.-]*@)?(\[[0-9a-f:.]+\]|[a-z0-9][a-z0-9.-]*)(:[0-9]{1,5})?/?\Z",
    re.ASCII | re.IGNORECASE,
)


def link(url: str) -> str | None:
    """A node's address, if it may be shown as a link."""
    return url if _PLACE.match(url) else None


def moment(time: str | None) -> str:
    """A record's time for a page, to the second."""
    return f"{time[:10]} {time[11:19]} UTC" if time else ""


def size(count: int | None) -> str:
    """Bytes in the unit that people would use."""
    if count is None:
        return ""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB"):
        value /= 1000
        if value < 999.5 or unit == "TB":
            break
    return f"{value:.1f} {unit}" if value < 10 else f"{value:.0f} {unit}"


def duration(seconds: float | None) -> str:
    """Seconds as a length of time."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days} d {hour} h"
    if hours:
        return f"{hours} h {minute} min"
    return f"{minutes} min {second} s"
