"""Lists that are asked for in pages: jobs from the newest on, and lines of a log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from typing import cast
from urllib.parse import urlencode

from client.connection import Connection
from client.errors import ClientError
from client.shapes import Job, LogMatch

PAGE = 1_000  # jobs that are asked for at once
AMBIGUOUS = 5  # jobs that an error names

Query = list[tuple[str, str]]
Day = date | str | None


def query(
    states: str | Sequence[str], model: str | None, text: str | None, since: Day, until: Day
) -> Query:
    """The filters as the server wants them. One state is a str, which is a sequence as well."""
    wanted = [("state", state) for state in ([states] if isinstance(states, str) else states)]
    for field, value in (("model", model), ("q", text), ("from", since), ("to", until)):
        if value is not None:
            wanted.append((field, value if isinstance(value, str) else _moment(value)))
    return wanted


def _moment(day: date) -> str:
    """A day, or a time: RFC 3339. One without a zone is UTC, like all times of the server."""
    if not isinstance(day, datetime):
        return day.isoformat()
    moment = day.replace(tzinfo=UTC) if day.tzinfo is None else day.astimezone(UTC)
    return moment.isoformat().replace("+00:00", "Z")


def page(
    http: Connection, wanted: Query, before: int | None, limit: int | None
) -> tuple[list[Job], int | None]:
    """Some jobs, and the ``before`` of the next page; None after the last one."""
    more = [(name, str(n)) for name, n in (("before", before), ("limit", limit)) if n is not None]
    answer = http.get(f"/jobs?{urlencode(wanted + more)}")
    return cast(list[Job], http.taken(answer, "data")), cast(int | None, answer.get("next"))


def every(http: Connection, wanted: Query) -> Iterator[Job]:
    """All of them, as far as somebody reads."""
    before: int | None = None
    while True:
        jobs, before = page(http, wanted, before, PAGE)
        yield from jobs
        if before is None:
            return


def find(http: Connection, prefix: str) -> str:
    """The id of the one job whose id begins with ``prefix``. Raises ClientError."""
    found: list[Job] = []
    for job in every(http, [("q", prefix)]):  # which also finds names
        if job["uuid"].startswith(prefix.lower()):
            found.append(job)
        if len(found) > AMBIGUOUS:
            break
    if not found:
        raise ClientError(
            f"there is no job whose id begins with {prefix!r}; "
            "the list of jobs shows those that exist"
        )
    if len(found) > 1:
        shown = [f"{job['uuid']} ({job['name']})" for job in found[:AMBIGUOUS]]
        more = ["..."] if len(found) > AMBIGUOUS else []
        raise ClientError(
            f"{prefix!r} begins the ids of more than one job: {', '.join(shown + more)}"
        )
    return found[0]["uuid"]


def matches(http: Connection, path: str, text: str) -> Iterator[LogMatch]:
    """The lines of a log that hold ``text``, as far as somebody reads. ``path``: its search's."""
    at: int | None = 0
    while at is not None:
        answer = http.get(f"{path}?{urlencode({'q': text, 'from': at})}")
        yield from cast(list[LogMatch], http.taken(answer, "data"))
        at = cast(int | None, answer.get("next"))
