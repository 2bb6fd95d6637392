"""What stands behind the ``?`` of an address: text, numbers and times. Pure.

Each error is a problem that names the parameter. A parameter that is there and
empty counts as not given: so browsers send the fields of a form that nobody filled in.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from urllib.parse import parse_qsl, urlencode

from web.problems import Problem

MOST = 2**62  # larger numbers count as this one
MAX_PARAMETERS = 100

_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d))?\Z", re.ASCII)
_SECONDS = re.compile(r"\d+(\.\d*)?(e[+-]?\d+)?\Z", re.ASCII | re.IGNORECASE)


class Parameters:
    """The parameters of one request. Raises Problem where they are no UTF-8 text."""

    def __init__(self, query: str) -> None:
        try:
            self._given = parse_qsl(query, errors="strict", max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise Problem(
                400,
                "the address cannot be read: what follows the '?' is not URL-encoded UTF-8 of "
                f"at most {MAX_PARAMETERS} parameters",
            ) from None

    def all(self, name: str) -> list[str]:
        """Each value that was given."""
        return [value for given, value in self._given if given == name]

    def text(self, name: str) -> str | None:
        """The one value, or None."""
        values = self.all(name)
        if len(values) > 1:
            raise Problem(400, f"{name} was given {len(values)} times", field=name)
        return values[0] if values else None

    def number(self, name: str, *, least: int = 0, most: int = MOST) -> int | None:
        """A whole number from ``least``; one above ``most`` counts as ``most``."""
        text = self.text(name)
        if text is None:
            return None
        if not text.isascii() or not text.isdigit():
            raise Problem(400, f"{name}: {text[:40]!r} is not a whole number", field=name)
        value = int(text) if len(text) < 20 else most
        if value < least:
            raise Problem(400, f"{name}: expected at least {least}", field=name)
        return min(value, most)

    def seconds(self, name: str, most: float) -> float | None:
        """A length of time; one above ``most`` counts as ``most``."""
        text = self.text(name)
        if text is None:
            return None
        if not _SECONDS.match(text):
            raise Problem(400, f"{name}: {text[:40]!r} is not a number of seconds", field=name)
        return min(float(text), most)  # of 1e999 it makes an endless length

    def beginning(self, name: str) -> str | None:
        """The first instant of what is named, in UTC."""
        return self._instant(name, end=False)

    def end(self, name: str) -> str | None:
        """The first instant after what is named, a day or an instant; None: there is none."""
        return self._instant(name, end=True)

    def _instant(self, name: str, *, end: bool) -> str | None:
        text = self.text(name)
        if text is None:
            return None
        try:
            if not _MOMENT.match(text):
                raise ValueError
            if len(text) == 10:
                found = datetime.combine(date.fromisoformat(text), time(), UTC)
                step = timedelta(days=1)
            else:
                found = datetime.fromisoformat(text)
                step = timedelta(microseconds=1)
        except ValueError:
            raise Problem(
                400,
                f"{name}: {text[:40]!r} is no date; expected one like 2026-11-23, "
                "or a time like 2026-11-23T08:30:00Z",
                field=name,
            ) from None
        try:
            found = (found + step if end else found).astimezone(UTC)
        except OverflowError:  # in the year 0 or 10000: before or after all jobs
            if found.year == 1:
                return "0001-01-01T00:00:00Z"
            return None if end else "9999-12-31T23:59:59.999999Z"
        return found.replace(tzinfo=None).isoformat() + "Z"

    def again(self, **changes: str) -> str:
        """The same parameters with some set anew, as they stand in an address."""
        kept = [(name, value) for name, value in self._given if name not in changes]
        return urlencode([*kept, *changes.items()])
