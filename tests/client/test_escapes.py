"""What of a log may reach a terminal."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.escapes import LogFilter

# Text, the moves within a line, and colours.
HARMLESS = re.compile(r"([^\x00-\x1f\x7f-\x9f]|[\n\r\b\t]|\x1b\[[0-9;:]*m)*")


def shown(*pieces: bytes) -> str:
    made = LogFilter()
    return b"".join(made.feed(piece) for piece in pieces).decode()


@pytest.mark.parametrize(
    ("log", "kept"),
    [
        (b"one\r\ntwo\ttab\b\n", "one\r\ntwo\ttab\b\n"),
        (b"\x1b[31mred\x1b[0m \x1b[38;5;208mor\x1b[38:2::1:2:3mange", None),
        (b"a\x07b\x00c\x7fd", "abcd"),
        (b"\x1b[2J\x1b[Hgone\x1b[?1049h\x1b[6n", "gone"),  # clear, move, other screen, answer
        (b"\x1b]0;title\x07x\x1b]52;c;ZXZpbA==\x1b\\y", "xy"),  # window title, clipboard
        (b"\x1bP+q544e\x1b\\a\x1b_G\x1b\\b\x1b^x\x1b\\c", "abc"),
        (b"\x1bcreset\x1b(0line\x1b#8", "resetline"),
        ("\x9b31mC1 \x9d0;t\x9c".encode(), "31mC1 0;t"),  # what is left is text
        (b"\xff\xfe \xc3\xa9", "\ufffd\ufffd é"),
        (b"\x1b[31\x1b[32mgreen", "\x1b[32mgreen"),  # one breaks the other off
        (b"\x1b[31\nnext", "\nnext"),
        (b"\x1b]0;without an end\nnext line", "\nnext line"),
        (b"\x1b]" + b"x" * 5000 + b"\x07end", "x" * 904 + "end"),
    ],
)
def test_what_is_kept(log: bytes, kept: str | None) -> None:
    kept = log.decode() if kept is None else kept
    assert shown(log) == kept
    assert shown(*(bytes([byte]) for byte in log)) == kept, "cut anywhere"


def test_a_colour_ends_with_the_log() -> None:
    made = LogFilter()
    made.feed(b"plain \x1b[3")
    assert made.end() == b""
    made.feed(b"\x1b[31mred")
    assert made.end() == b"\x1b[0m"


@given(
    st.lists(
        st.one_of(
            st.binary(max_size=8),
            st.sampled_from(
                [b"\x1b", b"\x1b[", b"\x1b]", b"\x1bP", b"\x1b\\", b"m", b"\x07", b";1"]
            ),
        )
    )
)
def test_nothing_else_gets_through_wherever_it_is_cut(pieces: list[bytes]) -> None:
    whole = shown(b"".join(pieces))
    assert HARMLESS.fullmatch(whole)
    assert shown(*pieces) == whole
