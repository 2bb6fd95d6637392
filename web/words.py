"""Times, sizes and addresses as people read them. Pure."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime
from urllib.parse import urlsplit, urlunsplit

# What a worker says of itself must not drive a browser, nor the program that a browser
# starts for an address: so no option, no command, nothing but a place.
_PLACE = re.compile(
    r"(ssh|sftp)://([a-z0-9_][a-z0-9_.-]*@)?(\[[0-9a-f:.]+\]|[a-z0-9][a-z0-9.-]*)(:[0-9]{1,5})?/?\Z",
    re.ASCII | re.IGNORECASE,
)

_JOB = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b", re.ASCII)

_MINUTE, _HOUR, _DAY = 60, 3600, 86400


def link(url: str) -> str | None:
    """A node's address, if it may be shown as a link."""
    return url if _PLACE.match(url) else None


def moment(time: str | None) -> str:
    """A record's time for a page, to the second."""
    return f"{time[:10]} {time[11:19]} UTC" if time else ""


def parsed(time: str) -> datetime:
    """A record's time (RFC 3339, UTC). Raises ValueError."""
    return datetime.fromisoformat(time).astimezone(UTC)


def ago(time: str | None, now: datetime) -> str:
    """A record's time as people say it: "3 min ago"; after a week, its day."""
    if not time:
        return ""
    seconds = (now - parsed(time)).total_seconds()
    if seconds < 10:  # also where the clocks of two machines are not quite the same
        return "just now"
    for limit, unit, word in ((_MINUTE, 1, "s"), (_HOUR, _MINUTE, "min"), (_DAY, _HOUR, "h")):
        if seconds < limit:
            return f"{seconds // unit:.0f} {word} ago"
    days = int(seconds // _DAY)
    if days <= 7:
        return "yesterday" if days == 1 else f"{days} days ago"
    return time[:10]


def when(time: str | None, now: datetime) -> str:
    """The same as an HTML element, with the exact time beside it; ``static/times.js`` keeps it.

    To be put into a page unescaped: what it holds is escaped here.
    """
    if not time:
        return ""
    exact, short = html.escape(time), html.escape(ago(time, now))
    return f'<time datetime="{exact}" title="{html.escape(moment(time))}">{short}</time>'


def seconds_between(earlier: str | None, later: str | datetime | None) -> float | None:
    """Seconds from one record's time to another, or to now; None where one is not known."""
    if not earlier or not later:
        return None
    end = parsed(later) if isinstance(later, str) else later
    return max(0.0, (end - parsed(earlier)).total_seconds())


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
    if 0 < seconds < 0.05:
        return "under 0.1 s"
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


def limit(seconds: float | None) -> str:
    """A limit as people would set it: its two largest units, and no zeros."""
    if seconds is None:
        return "none"
    if seconds < _MINUTE:
        return f"{seconds:g} s"
    parts, left = [], round(seconds)
    for unit, word in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (1, "s")):
        count, left = divmod(left, unit)
        if count:
            parts.append(f"{count} {word}")
    return " ".join(parts[:2])


def order(text: str) -> str:
    """A sort key by which people find a title: numbers as numbers, large letters as small."""
    return re.sub("[0-9]+", lambda found: found[0].zfill(20), text.casefold())


def capital(text: str) -> str:
    """``text`` with a capital letter; a first word that is a name stays as it is."""
    first = text.partition(" ")[0]
    return text[0].upper() + text[1:] if first.isalpha() and first.islower() else text


def small(text: str) -> str:
    """``text`` with a small letter, as the rest of a sentence."""
    return text[:1].lower() + text[1:]


def sentence(text: str, *, begins: bool = True) -> str:
    """``text`` as a sentence, or (not ``begins``) as the end of one."""
    text = capital(text) if begins else text
    return text if text.endswith((".", "!", "?", ")", "…")) else f"{text}."


def with_jobs(text: str) -> str:
    """``text`` escaped, as HTML in which the ids of jobs lead to their pages."""
    return _JOB.sub(r'<a href="/jobs/\g<0>">\g<0></a>', html.escape(text))


def many(count: int, one: str, more: str = "") -> str:
    """A count with its noun: "1 job", "1,200 jobs"."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def discreet(url: str) -> str:
    """The address without what may be a secret: who asks there, its query, its fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))
