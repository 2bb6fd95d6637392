"""Searching a log: exact places, across pieces, in a bounded amount of bytes and memory."""

from __future__ import annotations

import io
import tracemalloc
from typing import BinaryIO, cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from web import logsearch
from web.logsearch import Line, search


def offsets(data: bytes, text: str, start: int = 0, **limits: int) -> list[int]:
    """Where all lines begin that are found, one search after the other."""
    found: list[int] = []
    following: int | None = start
    while following is not None:
        at = following
        lines, following = search(io.BytesIO(data), len(data), text, at, **limits)
        assert following is None or following > at, "it goes on"
        assert len(lines) <= limits.get("limit", logsearch.MOST_LINES)
        found += [line.offset for line in lines]
    return found


def expected(data: bytes, text: str) -> list[int]:
    """The same, in the plainest way."""
    found, at = [], 0
    for line in data.split(b"\n"):
        if text.lower() in line.decode(errors="surrogateescape").lower():
            found.append(at)
        at += len(line) + 1
    return found


def test_lines_are_found_by_their_offset() -> None:
    data = b"one\ntwo\nONE more\n\nlast one"
    found = search(io.BytesIO(data), len(data), "One")
    assert found.lines == [Line(0, "one"), Line(8, "ONE more"), Line(18, "last one")]
    assert found.next is None


def test_a_line_is_found_once() -> None:
    data = b"aaaa aaaa\naa\n"
    assert offsets(data, "a") == [0, 10]


def test_it_goes_on_where_it_stopped() -> None:
    data = b"x 1\ny\nx 2\nx 3\n"
    first = search(io.BytesIO(data), len(data), "x", 0, 2)
    assert ([line.text for line in first.lines], first.next) == (["x 1", "x 2"], 10)
    second = search(io.BytesIO(data), len(data), "x", 10, 2)
    assert ([line.text for line in second.lines], second.next) == (["x 3"], None)


def test_nothing_follows_the_last_line() -> None:
    data = b"x\nx\n"
    assert search(io.BytesIO(data), len(data), "x", 0, 2).next is None


def test_from_within_a_line_names_the_whole_line() -> None:
    data = b"first\nsecond word\nthird word"
    assert offsets(data, "word", 9) == [6, 18]
    assert offsets(data, "second", 9) == [], "what lies before is not looked at"


def test_from_behind_the_end_finds_nothing() -> None:
    assert search(io.BytesIO(b"abc"), 3, "a", 100) == ([], None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("grösse", "Die GRÖSSE zählt"),
        ("ÄRGER", "viel ärger"),
        ("привет", "ПРИВЕТ, мир"),
        ("ΟΔΟΣ", "η οδός και οδος"),
        ("漢字", "これは漢字です"),
        ("İstanbul", "istanbul"),
        ("é😀", "É😀"),
    ],
)
def test_cases_beyond_ascii(text: str, line: str) -> None:
    data = f"no\n{line}\nno\n".encode()
    assert offsets(data, text, piece=5) == [3]


def test_a_character_cut_by_what_is_no_utf8_is_passed_over() -> None:
    assert offsets(b"\xc3\n\xa4 \xe4\n\xc3\xa4\xff\n", "ä") == [6]


# Few letters, and lines that are longer than what is kept of one.
lines = st.lists(
    st.sampled_from(
        [b"a", b"b", b"AB", b"ba", b"\n", b"\n\n", b"\r", b"\xc3\xa4", b"\xc3", b"\x84"]
    )
    | st.integers(100, 2000).map(lambda n: b"b" * n),
    max_size=40,
).map(b"".join)
words = st.text("abä", min_size=1, max_size=4) | st.sampled_from(["b" * 200, "ab" * 100, "ÄB"])


@settings(deadline=None)
@given(lines, words, st.integers(1, 3), st.sampled_from([17, 300, 1000, 10_000]))
@example(b"b" * 1199 + b"ab\n", "ab", 1, 1)
@example(b"b" * 3000 + b"ab", "ab", 1, 1000)
def test_it_finds_what_a_plain_search_finds(data: bytes, text: str, limit: int, piece: int) -> None:
    assert offsets(data, text, limit=limit, piece=piece) == expected(data, text)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 900).map(lambda n: b"b" * n + b"a"), max_size=30).map(b"\n".join),
    st.sampled_from(["a", "ba", "bbbb"]),
)
def test_many_searches_find_what_one_finds(data: bytes, text: str) -> None:
    """No line is left out, or told twice, where a search ended because of its size."""
    assert offsets(data, text, most=4000, piece=700) == expected(data, text)


@settings(deadline=None)
@given(lines, words, st.integers(0, 5000))
def test_from_any_place(data: bytes, text: str, start: int) -> None:
    begins = data.rfind(b"\n", 0, start) + 1
    wanted = [at + start if at else begins for at in expected(data[start:], text)]
    assert offsets(data, text, start) == (wanted if start <= len(data) else [])


def test_the_text_stands_around_the_hit() -> None:
    data = b"x" * 5000 + b" needle " + b"y" * 5000 + b"\nneedle"
    first, second = search(io.BytesIO(data), len(data), "Needle").lines
    assert first.offset == 0 and second == Line(10_009, "needle")
    assert len(first.text) == logsearch.SHOWN
    assert first.text.startswith("…xxx") and first.text.endswith("yyy…")
    assert " needle " in first.text


def test_the_text_is_what_a_terminal_shows() -> None:
    data = b"\x1b[31mred needle\x1b[0m\tend\r\n10 % needle\r20 % other\n"
    found = search(io.BytesIO(data), len(data), "needle").lines
    assert [line.text for line in found] == ["red needle\tend", "10 % needle"]


def test_a_needle_at_every_place_of_a_piece() -> None:
    for at in range(2300, 2500):
        data = b"." * 700 + b"\n" + b"-" * (at - 701) + b"needle" + b"." * 500
        for piece in (1024, 1200):
            assert offsets(data, "needle", piece=piece) == [701], (at, piece)


def test_a_search_reads_no_more_than_it_may() -> None:
    class Endless(io.RawIOBase):
        """A log of a terabyte that has no newline."""

        taken = 0

        def seek(self, offset: int, _whence: int = 0) -> int:
            return offset

        def read(self, size: int = -1) -> bytes:
            self.taken += size
            return b"x" * size

    log = Endless()
    tracemalloc.start()
    try:
        found = search(cast(BinaryIO, log), 10**12, "needle", 10**9)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.lines == []
    assert found.next is not None and 0 < 10**9 + logsearch.MOST_SCANNED - found.next < 2000
    assert log.taken < logsearch.MOST_SCANNED + 2**20
    assert peak < 16 * logsearch.PIECE


def test_a_log_that_was_cut_while_it_was_searched_ends_there() -> None:
    assert search(io.BytesIO(b"abc\nabc"), 10**9, "c") == ([Line(0, "abc"), Line(4, "abc")], None)
