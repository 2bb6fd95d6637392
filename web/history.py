"""What a job's records say, in words, for its page. Pure."""

from __future__ import annotations

from msgspec import to_builtins

from ledger.events import Record


def fact(record: Record) -> str:
    """One record in words, for a job's history."""
    event = to_builtins(record.event)
    hidden = ("kind", "job")
    parts = []
    for key, value in event.items():
        if key in hidden or value in (None, ""):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{k} {v}" for k, v in value.items())
            parts.append(f"{key} ({value})")
        else:
            parts.append(f"{key.replace('_', ' ')}: {value}")
    return "; ".join(parts)
