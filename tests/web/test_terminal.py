"""A log as a terminal would leave it: the shared cases, and what holds for any bytes."""

from __future__ import annotations

import base64
import json
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from web import terminal

# static/terminal.js is held to the same cases, in a browser.
CASES = json.loads((Path(__file__).parent / "terminal_cases.json").read_text())

# What is worth trying beside any bytes: beginnings and ends of sequences.
PARTS = (
    *(
        b"\x1b",
        b"\x1b[",
        b"\x1b]",
        b"\x1bP",
        b"\x1b(",
        b"31m",
        b"K",
        b"\x1b[K",
        b"\x1b[2K",
        b"\x07",
    ),
    *(b"\\", b"\r", b"\n", b"\r\n", b"\b", b"\t", b"\x0c", b"\x00", b"\xc3", b"\xa4", b"\xf0\x9f"),
    *(b"\xc2\x9b", b"abc", b" ", b";", b"?", "ä😀".encode()),
)
pieces = st.lists(st.sampled_from(PARTS) | st.binary(max_size=3), max_size=40).map(b"".join)


@pytest.mark.parametrize("case", CASES, ids=[case["name"] for case in CASES])
def test_the_shared_cases(case: dict[str, str]) -> None:
    data = base64.b64decode(case["bytes"])
    assert terminal.plain(data, cut=bool(case.get("cut"))) == case["plain"]


@settings(deadline=None)
@given(pieces, st.booleans())
def test_any_bytes_give_plain_text(data: bytes, cut: bool) -> None:
    text = terminal.plain(data, cut=cut)
    assert {c for c in text if unicodedata.category(c) in ("Cc", "Cs")} <= {"\n", "\t"}
    assert len(text) <= len(data)
    assert terminal.shown(text) == text


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=("Cc", "Cs")) | st.sampled_from("\n\t")))
def test_text_without_control_characters_stays_as_it_is(text: str) -> None:
    assert terminal.plain(text.encode()) == text


@settings(deadline=None)
@given(st.lists(st.text("abc", max_size=8), min_size=1))
def test_a_rewritten_line_is_what_was_written_last_over_what_stood_there(states: list[str]) -> None:
    screen = ""
    for state in states:
        screen = state + screen[len(state) :]
    assert terminal.plain("\r".join(states).encode()) == screen


@settings(deadline=None)
@given(pieces, pieces)
def test_lines_do_not_depend_on_each_other(one: bytes, two: bytes) -> None:
    # a carriage return belongs to the newline behind it, a sequence ends with its line
    assert terminal.plain(one + b"\n" + two) == terminal.plain(one + b"\n") + terminal.plain(two)


def steps(data: bytes) -> int:
    """How many calls reading ``data`` takes: what grows with the square would show here."""
    count = 0

    def profile(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        terminal.plain(data)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize(
    "unit",
    [b"\rx", b"abc\b\b", b"\x1b[31m", b"\x1b[2K.", b"\x1b]", b"\r", b"a\x1b[Kb\b\b", b"\x0c"],
)
def test_a_line_that_is_rewritten_for_ever_stays_cheap(unit: bytes) -> None:
    small, large = steps(unit * 500), steps(unit * 5000)
    assert large <= 11 * small


def test_a_long_line_rewritten_a_million_times() -> None:
    # were the line built anew each time, this would move a hundred gigabytes
    data = b"=" * 100_000 + b"\rdone" * 1_000_000
    assert terminal.plain(data) == "done" + "=" * 99_996
