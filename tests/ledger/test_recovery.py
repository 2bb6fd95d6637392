"""Every end that a crash can leave is mended; nothing acknowledged is ever cut."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.codec import GENESIS, unseal
from ledger.disk import Disk
from ledger.errors import LedgerDamaged, LedgerFull
from ledger.reading import segment_name
from ledger.recovery import TornEnd, check
from ledger.segments import Segments

Batches = Callable[[list[int]], list[bytes]]

SIZES = [1, 3, 2, 4]
SECTOR = 512
# What is tried here is what the files say, not how they got there: syncs would only cost time.
QUICK = Disk(sync=lambda _fd: None, sync_folder=lambda _folder: None)


def acknowledged(sizes: list[int], lines: list[bytes], length: int) -> int:
    """The last record that can have been acknowledged when ``length`` bytes are on disk."""
    ends = list(itertools.accumulate(sizes))
    return max((n for n in ends if len(b"".join(lines[:n])) <= length), default=0)


def recover(folder: Path, applied: int) -> tuple[int, str | None]:
    """The number of records that a start finds, and what it says of a torn end."""
    segments = Segments.open(folder, disk=QUICK)
    try:
        return len(list(segments.recover(0, GENESIS, applied))), segments.torn
    finally:
        segments.close()


def assert_mended(folder: Path, content: bytes, lines: list[bytes], applied: int) -> int:
    """A start makes of ``content`` a prefix of ``lines`` with all that was acknowledged."""
    path = folder / segment_name(1)
    path.write_bytes(content)
    kept, torn = recover(folder, applied)
    assert kept >= applied
    assert path.read_bytes() == b"".join(lines[:kept])
    beside = list(folder.glob("*.torn"))
    if torn is None:
        assert beside == []
        assert content in (path.read_bytes(), path.read_bytes()[:-1])
    else:
        assert beside[0].read_bytes() == content[len(path.read_bytes()) :]
        assert beside[0].name in torn
        beside[0].unlink()
    assert recover(folder, applied) == (kept, None)
    return kept


def test_every_prefix(tmp_path: Path, batches: Batches) -> None:
    lines = batches(SIZES)
    whole = b"".join(lines)
    for length in range(len(whole) + 1):
        applied = acknowledged(SIZES, lines, length)
        kept = assert_mended(tmp_path, whole[:length], lines, applied)
        # A last line valid but for its newline is kept, too.
        assert kept == whole[: length + 1].count(b"\n")


def test_every_prefix_is_refused_where_the_board_has_more(tmp_path: Path, batches: Batches) -> None:
    lines = batches(SIZES)
    whole = b"".join(lines)
    path = tmp_path / segment_name(1)
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(LedgerDamaged, match="the board has applied up to record 10"):
            recover(tmp_path, len(lines))
        assert path.read_bytes() == whole[:length]
        assert list(tmp_path.glob("*.torn")) == []


@pytest.mark.parametrize("tail", [1, 100, 4096])
def test_zero_tails(tmp_path: Path, batches: Batches, tail: int) -> None:
    lines = batches(SIZES)
    whole = b"".join(lines)
    for length in range(0, len(whole) + 1, 13):
        applied = acknowledged(SIZES, lines, length)
        kept = assert_mended(tmp_path, whole[:length] + b"\0" * tail, lines, applied)
        assert kept == whole[:length].count(b"\n")


def test_any_sectors_of_a_batch_of_16_lost(tmp_path: Path, batches: Batches) -> None:
    lines = batches([2, 16])
    old, new = b"".join(lines[:2]), b"".join(lines[2:])
    whole = old + new
    starts = [len(old), *range((len(old) // SECTOR + 1) * SECTOR, len(whole), SECTOR)]
    assert len(starts) >= 8
    for lost in itertools.product([False, True], repeat=len(starts)):
        content = bytearray(whole)
        for start, gone in zip(starts, lost, strict=True):
            if gone:
                end = min((start // SECTOR + 1) * SECTOR, len(whole))
                content[start:end] = bytes(end - start)
        kept = assert_mended(tmp_path, bytes(content), lines, 2)
        assert kept == len(lines) or any(lost)


def test_every_flipped_byte_of_acknowledged_records_is_refused(
    tmp_path: Path, batches: Batches
) -> None:
    lines = batches(SIZES)
    whole = b"".join(lines)
    path = tmp_path / segment_name(1)
    for at in range(len(whole)):
        wrong = bytearray(whole)
        wrong[at] ^= 1 << (at % 8)
        path.write_bytes(wrong)
        with pytest.raises(LedgerDamaged) as e:
            list(check(tmp_path, 0, GENESIS, len(lines)))
        assert (e.value.file, e.value.line) == (str(path), whole[:at].count(b"\n") + 1)
        assert e.value.reason and e.value.hint


def test_every_flipped_byte_without_a_board(tmp_path: Path, batches: Batches) -> None:
    """Then only a later batch proves that a record was synced: the last batch may go."""
    lines = batches(SIZES)
    whole = b"".join(lines)
    last = len(b"".join(lines[:-4]))
    for at in range(len(whole)):
        wrong = bytearray(whole)
        wrong[at] ^= 1 << (at % 8)
        (tmp_path / segment_name(1)).write_bytes(wrong)
        found = []
        with pytest.raises((LedgerDamaged, TornEnd)) as e:
            for record in check(tmp_path, 0, GENESIS):
                found.append(record)
        assert isinstance(e.value, LedgerDamaged) or at >= last
        previous = [GENESIS, *(r.hash for r in found)]
        assert (
            found
            == [unseal(line, p) for line, p in zip(lines, previous, strict=False)][: len(found)]
        )


def test_a_missing_or_repeated_line_is_damage(tmp_path: Path, batches: Batches) -> None:
    lines = batches([1] * 5)
    for at in range(4):
        for wrong in (
            lines[:at] + lines[at + 1 :],
            lines[: at + 1] + lines[at:],
            [*lines[:at], b"\n", *lines[at:]],
        ):
            (tmp_path / segment_name(1)).write_bytes(b"".join(wrong))
            with pytest.raises(LedgerDamaged):
                list(check(tmp_path, 0, GENESIS))


def test_only_the_last_segment_may_be_torn(tmp_path: Path, batches: Batches) -> None:
    lines = batches([2, 3])
    first, second = tmp_path / segment_name(1), tmp_path / segment_name(3)
    whole = b"".join(lines[:2])
    second.write_bytes(b"")  # begun, which it is only once the one before is synced
    for length in range(len(whole)):
        first.write_bytes(whole[:length])
        with pytest.raises(LedgerDamaged):
            list(check(tmp_path, 0, GENESIS))
    first.write_bytes(whole)
    assert len(list(check(tmp_path, 0, GENESIS))) == 2
    second.write_bytes(b"".join(lines[2:])[:-5])
    with pytest.raises(TornEnd):
        list(check(tmp_path, 0, GENESIS))


def test_missing_segments(tmp_path: Path, batches: Batches) -> None:
    lines = batches([1] * 3)
    for first, line in enumerate(lines, 1):
        (tmp_path / segment_name(first)).write_bytes(line)
    (tmp_path / segment_name(2)).unlink()
    with pytest.raises(LedgerDamaged, match="record 2 is missing"):
        list(check(tmp_path, 0, GENESIS))
    (tmp_path / segment_name(1)).unlink()
    with pytest.raises(LedgerDamaged, match="before this one are missing"):
        list(check(tmp_path, 0, GENESIS))


def test_the_check_starts_anywhere(tmp_path: Path, batches: Batches) -> None:
    lines = batches([1, 2, 3])
    (tmp_path / segment_name(1)).write_bytes(b"".join(lines[:3]))
    (tmp_path / segment_name(4)).write_bytes(b"".join(lines[3:]))
    hashes = [GENESIS, *(unseal(line, None).hash for line in lines)]
    for after in range(7):
        found = list(check(tmp_path, after, hashes[after]))
        assert [record.seq for record in found] == list(range(after + 1, 7))


def test_nothing_is_cut_where_it_cannot_be_kept(tmp_path: Path, batches: Batches) -> None:
    content = b"".join(batches([1, 2]))[:-7]
    path = tmp_path / segment_name(1)
    path.write_bytes(content)

    def full(_fd: int, _data: object) -> int:
        raise OSError(28, "No space left on device")

    segments = Segments.open(tmp_path, disk=Disk(write=full))
    with pytest.raises(LedgerFull, match="make room"):
        list(segments.recover(0, GENESIS, 0))
    segments.close()
    assert path.read_bytes() == content


def test_a_second_torn_end_does_not_replace_the_first(tmp_path: Path, batches: Batches) -> None:
    line = batches([1])[0]
    for tail in (b"one", b"two"):
        (tmp_path / segment_name(1)).write_bytes(line + tail)
        recover(tmp_path, 0)
    assert sorted(p.read_bytes() for p in tmp_path.glob("*.torn")) == [b"one", b"two"]


def test_what_was_cut_is_synced_before_it_is_cut(tmp_path: Path, batches: Batches) -> None:
    calls: list[str] = []

    def sync(fd: int) -> None:
        calls.append("sync " + os.readlink(f"/proc/self/fd/{fd}").rpartition(".")[2])

    def truncate(fd: int, size: int) -> None:
        calls.append("cut")
        os.ftruncate(fd, size)

    disk = Disk(sync=sync, sync_folder=lambda _: calls.append("folder"), truncate=truncate)
    (tmp_path / segment_name(1)).write_bytes(batches([1])[0] + b"torn")
    segments = Segments.open(tmp_path, disk=disk)
    calls.clear()
    list(segments.recover(0, GENESIS, 0))
    segments.close()
    assert calls == ["sync torn", "folder", "cut", "sync jsonl"]
