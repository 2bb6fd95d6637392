"""Times and lengths as people read them."""

from __future__ import annotations

import html
from datetime import UTC, datetime, timedelta

import pytest

from web import words

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def before(**length: float) -> str:
    return (NOW - timedelta(**length)).replace(tzinfo=None).isoformat() + "Z"


AGO: list[tuple[dict[str, float], str]] = [
    ({"seconds": -5}, "just now"),
    ({"seconds": 9.9}, "just now"),
    ({"seconds": 10}, "10 s ago"),
    ({"seconds": 59.9}, "59 s ago"),
    ({"seconds": 60}, "1 min ago"),
    ({"minutes": 59, "seconds": 59}, "59 min ago"),
    ({"hours": 1}, "1 h ago"),
    ({"hours": 23.99}, "23 h ago"),
    ({"hours": 24}, "yesterday"),
    ({"hours": 47.9}, "yesterday"),
    ({"days": 2}, "2 days ago"),
    ({"days": 7.5}, "7 days ago"),
    ({"days": 8}, "2026-11-15"),
    ({"days": 400}, "2025-10-19"),
]


@pytest.mark.parametrize(("length", "said"), AGO)
def test_how_long_ago(length: dict[str, float], said: str) -> None:
    assert words.ago(before(**length), NOW) == said


def test_the_element_has_the_exact_time() -> None:
    time = before(minutes=3)
    assert words.when(time, NOW) == (
        '<time datetime="2026-11-23T11:57:00Z" title="2026-11-23 11:57:00 UTC">3 min ago</time>'
    )
    assert words.when(None, NOW) == words.ago(None, NOW) == ""
    assert html.escape('"<') not in words.when(time, NOW)


LENGTHS: list[tuple[float | None, str]] = [
    (None, ""),
    (0, "0.0 s"),
    (0.04, "under 0.1 s"),
    (0.05, "0.1 s"),
    (9.94, "9.9 s"),
    (10, "10 s"),
    (59, "59 s"),
    (60, "1 min 0 s"),
    (3599.6, "1 h 0 min"),
    (3600, "1 h 0 min"),
    (86399, "23 h 59 min"),
    (90000, "1 d 1 h"),
]


@pytest.mark.parametrize(("seconds", "said"), LENGTHS)
def test_lengths(seconds: float | None, said: str) -> None:
    assert words.duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((None, "none"), (0.5, "0.5 s"), (30, "30 s"), (60, "1 min"), (90, "1 min 30 s")),
        *((3600, "1 h"), (5400, "1 h 30 min"), (90000, "1 d 1 h"), (86400, "1 d")),
        (86400 + 61, "1 d 1 min"),
    ],
)
def test_limits(seconds: float | None, said: str) -> None:
    assert words.limit(seconds) == said


def test_between_two_times() -> None:
    early, late = before(seconds=90), before(seconds=30)
    assert words.seconds_between(early, late) == 60
    assert words.seconds_between(early, NOW) == 90
    assert words.seconds_between(late, early) == 0  # clocks may step back
    assert words.seconds_between(None, late) is words.seconds_between(early, None) is None


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 jobs"), (1, "1 job"), (2, "2 jobs"), (100012, "100,012 jobs")]
)
def test_counts(count: int, said: str) -> None:
    assert words.many(count, "job") == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nothing is at '/x'", "Nothing is at '/x'."),
        ("zip_file is missing", "zip_file is missing."),
        ("limit: expected a number", "limit: expected a number."),
        ("Already one.", "Already one."),
        ("who knows?", "Who knows?"),
        ("", "."),
    ],
)
def test_sentences(text: str, said: str) -> None:
    assert words.sentence(text) == said


def test_ids_of_jobs_lead_to_them_and_nothing_else_is_html() -> None:
    id = "972b8f74-f925-5da5-bc28-958cd6202ff9"
    found = words.with_jobs(f'<b>holds</b> 2 jobs: {id}, x{id}; "{id[:8]}"')
    assert found.count("<a ") == 1 and f'<a href="/jobs/{id}">{id}</a>' in found
    assert "<b>" not in found and "&lt;b&gt;" in found


def test_irregular_counts() -> None:
    assert words.many(2, "entry", "entries") == "2 entries"


def test_titles_are_in_the_order_in_which_people_look_for_them() -> None:
    mixed = ["zebra", "Basin 10 b", "karst", "basin 10", "Spring", "Basin 2"]
    ordered = ["Basin 2", "basin 10", "Basin 10 b", "karst", "Spring", "zebra"]
    assert sorted(mixed, key=words.order) == ordered


@pytest.mark.parametrize(
    ("text", "begun"),
    [("the model ended", "The model ended"), ("climate.csv is empty", "climate.csv is empty"),
     ("Its disk", "Its disk"), ("", "")],
)  # fmt: skip
def test_a_name_keeps_its_letters_at_the_beginning(text: str, begun: str) -> None:
    assert words.capital(text) == begun
