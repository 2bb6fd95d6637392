"""The queues that do not let this worker's account in, as far as it has been told. Pure.

A model that stands in the worker's folder but was not granted harms nobody: it is
left alone, asked for again now and then, and taken up once it is granted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import NamedTuple

SHOWN = 20  # models that are named


class _Refusal(NamedTuple):
    until: float  # monotonic seconds; it is asked again from then on
    may_list: bool  # the tickets may be seen, and not be taken


class Grants:
    """One thread writes, any may read; times are monotonic seconds."""

    def __init__(self) -> None:
        self._refused: dict[str, _Refusal] = {}  # replaced, never changed: others read it

    def refuse(self, model: str, until: float, *, may_list: bool) -> bool:
        """Its queue does not let us in; not asked again before ``until``. Whether that is news."""
        news = model not in self._refused
        self._refused = {**self._refused, model: _Refusal(until, may_list)}
        return news

    def listed(self, models: Collection[str], now: float) -> list[str]:
        """These were asked for since ``now``; those whose queue lets us in again."""
        return self._let_in(
            name
            for name, refusal in self._refused.items()
            if name in models and refusal.until <= now and not refusal.may_list
        )

    def taken(self, model: str) -> list[str]:
        """A ticket of it was taken; the model, if that is news."""
        return self._let_in(name for name in [model] if name in self._refused)

    def may_ask(self, model: str, now: float) -> bool:
        refusal = self._refused.get(model)
        return refusal is None or refusal.until <= now

    def __contains__(self, model: str) -> bool:
        """Whether its queue has let us in so far."""
        return model not in self._refused

    def missing(self, models: Iterable[str]) -> str:
        """What is not granted of ``models``, for the nodes page; "" if all are."""
        names = sorted(name for name in models if name not in self)
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        return f"not granted: {', '.join(names[:SHOWN])}{more}" if names else ""

    def _let_in(self, models: Iterable[str]) -> list[str]:
        found = list(models)
        if found:
            self._refused = {n: r for n, r in self._refused.items() if n not in found}
        return found
