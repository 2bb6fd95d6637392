"""Finding records without an index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.errors import LedgerDamaged
from ledger.reading import holding, lines, listing, locate, segment_name

Batches = Callable[[list[int]], list[bytes]]


def test_names_sort_as_numbers_and_strangers_are_left_alone(tmp_path: Path) -> None:
    for first in (10, 9, 1):
        (tmp_path / segment_name(first)).touch()
    for other in ("LOCK", "1.jsonl", segment_name(5) + ".torn", "x" * 20 + ".jsonl"):
        (tmp_path / other).touch()
    segments = listing(tmp_path)
    assert [s.first for s in segments] == [1, 9, 10]
    assert segments[0].path.name == "00000000000000000001.jsonl"
    assert holding(segments, 0) is None
    assert [(s or segments[0]).first for s in (holding(segments, n) for n in (1, 8, 9, 99))] == [
        1,
        1,
        9,
        10,
    ]


@pytest.mark.parametrize("filler", [b"", b"\0" * 9000, b"x" * 9000])
def test_every_line_is_found(tmp_path: Path, batches: Batches, filler: bytes) -> None:
    """Also in front of a torn end, into which the bisection will look."""
    whole = batches([1] * 200)
    path = tmp_path / "file"
    path.write_bytes(b"".join(whole[20:]) + filler)
    with path.open("rb") as file:
        offset = 0
        for seq in range(21, 201):
            assert locate(file, seq) == (offset, whole[seq - 1])
            offset += len(whole[seq - 1])
        for seq in (0, 1, 20, 201, 10**9):
            assert locate(file, seq) is None


def test_long_lines(tmp_path: Path) -> None:
    path = tmp_path / "file"
    made = [b'{"seq":%d,' % n + b"x" * (n * 997 % 9000) + b"\n" for n in range(1, 80)]
    path.write_bytes(b"".join(made))
    with path.open("rb") as file:
        for seq, line in enumerate(made, 1):
            found = locate(file, seq)
            assert found is not None and found[1] == line


def test_lines_across_segments(tmp_path: Path, batches: Batches) -> None:
    made = batches([1] * 9)
    for first, last in ((1, 4), (5, 5), (6, 9)):
        (tmp_path / segment_name(first)).write_bytes(b"".join(made[first - 1 : last]))
    for after in range(10):
        assert list(lines(tmp_path, after)) == made[after:]
    (tmp_path / segment_name(10)).write_bytes(b'{"seq":10,"half a li')
    assert list(lines(tmp_path, 7)) == made[7:]


def test_lines_while_the_ledger_grows(tmp_path: Path, batches: Batches) -> None:
    """A segment may grow, and the next may begin, after its end was seen."""
    made = batches([1] * 6)
    first = tmp_path / segment_name(1)
    first.write_bytes(made[0] + made[1][:50])
    found = lines(tmp_path)
    assert next(found) == made[0]
    first.write_bytes(made[0] + made[1] + made[2])
    (tmp_path / segment_name(4)).write_bytes(b"".join(made[3:]))
    assert list(found) == made[1:]


def test_a_gap_is_damage(tmp_path: Path, batches: Batches) -> None:
    made = batches([1] * 4)
    (tmp_path / segment_name(1)).write_bytes(made[0])
    (tmp_path / segment_name(3)).write_bytes(made[2] + made[3])
    with pytest.raises(LedgerDamaged, match="record 2 is missing"):
        list(lines(tmp_path))


def test_an_empty_folder(tmp_path: Path) -> None:
    assert listing(tmp_path) == []
    assert list(lines(tmp_path)) == []
