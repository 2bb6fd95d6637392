"""How records write a time: UTC, RFC 3339 with microseconds and ``Z``. Pure.

All have the same length, so that texts compare as their times do.
"""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(moment: datetime) -> str:
    """``moment``, which must know its zone, as records write it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:26] + "Z"


def normal(time: str) -> str:
    """A time or date in any form of ISO 8601, as records write it; without a zone it is UTC.

    Raises ValueError.
    """
    moment = datetime.fromisoformat(time)
    try:
        return stamp(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except OverflowError as e:
        raise ValueError(f"{time!r} is not within the years 1 to 9999 in UTC") from e
