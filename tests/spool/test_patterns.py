"""A text against a pattern, in a child that cannot hold us up."""

from __future__ import annotations

import pytest

from spool import patterns
from spool.patterns import MAX_TEXT, TooSlow, matches


@pytest.mark.parametrize(
    ("pattern", "text", "good"),
    [
        ("[0-9]+", "8", True),
        ("[0-9]+", "8x", False),  # all of it
        ("[0-9]+", "", False),
        (".*", "", True),
        (".*", "a\nb", False),
        ("(?s).*", "a\r\nb", True),
        ("(?i)yes|no", "NO", True),
        ("gr[üu]n", "grün", True),
        (r"\w+", "ж", True),
        ("\N{GRINNING FACE}", "\N{GRINNING FACE}", True),
        ("a{65536}", "a" * MAX_TEXT, True),
        ("'\"$(ls)`", "'\"$(ls)`", False),
    ],
)
def test_matches(pattern: str, text: str, good: bool) -> None:
    assert matches(pattern, text) is good


def test_one_that_would_take_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_WALL", 3600.0)  # by the limit of what it computes
    with pytest.raises(TooSlow):
        matches("(a+)+b", "a" * 40)


def test_one_whose_process_is_not_served_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patterns, "_WALL", 0.0)
    with pytest.raises(TooSlow):
        matches("a", "a")
