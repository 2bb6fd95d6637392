"""Questions about jobs, and the statements that answer them from the board's indexes.

Jobs are ordered by ``seq``, and nearly so by time: only a clock that was set back
puts a job before an earlier one. So a time is found by a binary search between two
such steps, and a page of a month costs what a page of all costs.
"""

from __future__ import annotations

import sqlite3
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec

from ledger import schema
from ledger.jobs import Job, State
from ledger.times import normal

LAST = 2**63 - 1
"""Above every ``seq``."""

MANY_STEPS = 200
"""Steps back of the clock from which on jobs are looked through rather than searched."""


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """Which jobs, newest first.

    No ``states`` means all. ``text`` is looked for anywhere in a job's name,
    ASCII letters in either case, and at the beginning of its id. ``since`` and
    ``until`` are times or dates (RFC 3339): since <= created < until. ``before``
    is the cursor: only jobs with a smaller ``seq``.
    """

    states: frozenset[State] = frozenset()
    model: str | None = None
    text: str | None = None
    since: str | None = None
    until: str | None = None
    before: int | None = None
    limit: int = 100


class Page(msgspec.Struct, frozen=True):
    """Some jobs. ``next`` is the ``before`` of the following page, None after the last one."""

    jobs: tuple[Job, ...]
    next: int | None


class Span(NamedTuple):
    """The jobs with ``first <= seq < end``.

    All jobs created from ``since`` on and before ``until`` are among them, and no others
    if ``exact``.
    """

    first: int = 0
    end: int = LAST
    exact: bool = True
    since: str = ""
    until: str = ""

    @property
    def whole(self) -> bool:
        return self.exact and (self.first, self.end) == (0, LAST)

    def terms(self) -> tuple[str, list[Any]]:
        """The condition for them."""
        sql, values = "seq >= ? AND seq < ?", list[Any]([self.first, self.end])
        if not self.exact:
            sql += " AND created >= ? AND created < ?"
            values += [self.since, self.until]
        return sql, values


def span_of(db: sqlite3.Connection, query: Query) -> Span:
    """Where the jobs of ``query``'s time lie. Raises ValueError for a time that is none."""
    if query.since is None and query.until is None:
        return Span()
    since = "" if query.since is None else normal(query.since)
    until = "~" if query.until is None else normal(query.until)  # "~": after every time
    steps = db.execute("SELECT seq FROM steps_back ORDER BY seq LIMIT ?", (MANY_STEPS + 1,))
    starts = [0, *(seq for (seq,) in steps)]
    if len(starts) > MANY_STEPS:
        return Span(0, LAST, False, since, until)
    found = []
    for start, end in pairwise([*starts, LAST]):
        first = _search(db, start, end, since)
        past = _search(db, start, end, until)
        if first < past:
            found.append((first, past))
    if not found:
        return Span(0, 0)
    exact = all(before[1] == after[0] for before, after in pairwise(found))
    return Span(found[0][0], found[-1][1], exact, since, until)


def page_of(query: Query, span: Span, limit: int) -> tuple[str, list[Any]]:
    """The statement for one page. Its cost depends on ``limit``, not on how many jobs there are.

    (But for ``text``: there the narrow index ``search`` is read until enough is found.)
    """
    if query.before is not None:
        span = span._replace(end=min(span.end, query.before))
    within, bounds = span.terms()
    if query.text is not None:
        where, values = _where(query)
        return (
            "SELECT job FROM jobs WHERE seq IN (SELECT seq FROM jobs INDEXED BY search "
            f"WHERE {where} AND {within} ORDER BY seq DESC LIMIT ?) ORDER BY seq DESC",
            [*values, *bounds, limit],
        )
    if query.model is None and not query.states:
        return f"SELECT job FROM jobs WHERE {within} ORDER BY seq DESC LIMIT ?", [*bounds, limit]
    # One range of an index per state, each in order already, of which the newest are taken.
    parts, values = [], []
    for state in sorted(schema.CODE[s] for s in query.states or State):
        if query.model is None:
            part = f"SELECT seq FROM jobs INDEXED BY by_state WHERE state = {state}"
        else:
            part = f"SELECT seq FROM jobs INDEXED BY by_model WHERE model = ? AND state = {state}"
            values.append(query.model)
        parts.append(f"SELECT * FROM ({part} AND {within} ORDER BY seq DESC LIMIT ?)")
        values += [*bounds, limit]
    return (
        f"SELECT job FROM jobs WHERE seq IN ({' UNION ALL '.join(parts)}) "
        "ORDER BY seq DESC LIMIT ?",
        [*values, limit],
    )


def count_of(query: Query, span: Span) -> tuple[str, list[Any]]:
    """The statement that counts what ``query`` finds, its cursor and limit aside."""
    where, values = _where(query)
    if query.text is None and span.whole:
        return f"SELECT coalesce(sum(n), 0) FROM counts WHERE {where}", values
    within, bounds = span.terms()
    if query.text is not None:
        index = "search"
    else:
        index = "by_state" if query.model is None else "by_model"
        if not query.states:  # else the index could not be entered at ``first``
            where += f" AND {_one_of(frozenset(State))}"
    sql = f"SELECT count(*) FROM jobs INDEXED BY {index} WHERE {where} AND {within}"
    return sql, [*values, *bounds]


def _where(query: Query) -> tuple[str, list[Any]]:
    """The condition for all of ``query`` but its cursor and its time."""
    terms, values = ["1"], list[Any]()
    if query.states:
        terms.append(_one_of(query.states))
    if query.model is not None:
        terms.append("model = ?")
        values.append(query.model)
    if query.text is not None:
        text = query.text.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
        terms.append(r"(name LIKE ? ESCAPE '\' OR id LIKE ? ESCAPE '\')")
        values += [f"%{text}%", f"{text}%"]
    return " AND ".join(terms), values


def _one_of(states: frozenset[State]) -> str:
    return f"state IN ({', '.join(str(schema.CODE[s]) for s in sorted(states))})"


def _search(db: sqlite3.Connection, start: int, end: int, time: str) -> int:
    """From where on the jobs with ``start <= seq < end`` were created at ``time`` or later.

    They must be in the order of time. ``end`` if none was.
    """
    (newest,) = db.execute("SELECT coalesce(max(seq), 0) FROM jobs").fetchone()
    low, high = start, min(end, newest + 1)
    while low < high:
        middle = (low + high) // 2
        found = db.execute(
            "SELECT seq, created FROM jobs WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT 1",
            (middle, high),
        ).fetchone()
        if found is None or found[1] >= time:
            high = middle
        else:
            low = found[0] + 1
    return end if low > newest else low
