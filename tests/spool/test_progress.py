"""Progress lines and last words of a model's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from spool.progress import last_line, last_progress


@pytest.mark.parametrize(
    ("log", "percent"),
    [
        (b"", None),
        (b"hello\n", None),
        (b"::progress 42 text\n", 42),
        (b"::progress 42\n", 42),
        (b"::progress 42", 42),
        (b"::progress 42\r\n", 42),
        (b"::progress  7  of 100\n", 7),
        (b"::progress 0\n", 0),
        (b"::progress 100 done\n", 100),
        (b"::progress 999\n", 100),
        (b"::progress 1\nwork\n::progress 2\nmore\n", 2),
        (b"\rstep 20: 100%\r\x1b[K::progress 10 next\n", 10),
        (b"\x1b[32m::progress 4\n", 4),
        (b"x ::progress 5\n", None),
        (b" ::progress 5\n", None),
        (b"::progress 5%\n", None),
        (b"::progress -5\n", None),
        (b"::progress 1000\n", None),
        (b"::progress five\n", None),
        (b"::progressive 5\n", None),
        (b"\xff\xfe\n::progress 9 \xff\n", 9),
    ],
)
def test_the_last_progress_line_counts(log: bytes, percent: int | None) -> None:
    assert last_progress(log) == percent


@pytest.mark.parametrize(
    ("log", "line"),
    [
        (b"", ""),
        (b"\n \n\t\n", ""),
        (b"one\ntwo\n", "two"),
        (b"one\ntwo", "two"),
        (b"one\n  \n\n", "one"),
        (b"error: no file\n::progress 99 nearly\n", "error: no file"),
        (b"::progress 99\n", ""),
        ("größer\n".encode(), "größer"),
        (b"\xff\n", "�"),
        (b"\x1b[31mred\x1b[0m\n", " [31mred [0m"),
        (b"a\rb\n", "b"),
        (b"x" * 1000, "x" * 300),
    ],
)
def test_the_last_line_with_text_is_repeated(tmp_path: Path, log: bytes, line: str) -> None:
    file = tmp_path / "log"
    file.write_bytes(log)
    assert last_line(file) == line


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("wb") as log:
        log.truncate(8 * 1024**4)  # a hole of 8 TiB
        log.seek(0, 2)
        log.write(b"\nthe end\n")
    assert last_line(file) == "the end"
