"""The writer's side: roll-over, the lock, and a disk that fails at each of its calls."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from ledger.codec import GENESIS, hash_of
from ledger.disk import Disk, create, sync_folder
from ledger.errors import LedgerDamaged, LedgerFull, LedgerLocked, LedgerStopped, NoSuchRecord
from ledger.reading import listing, segment_name
from ledger.segments import Segments

Batches = Callable[[list[int]], list[bytes]]


class FaultyDisk:
    """A real disk, one of whose calls fails as often as it is told."""

    def __init__(self) -> None:
        self.site, self.times, self.error = "", 0, errno.EIO
        self.short = 0  # bytes that a failing write writes before it fails or, without error, ends
        self.calls: list[str] = []

    def fail(self, site: str, error: int, *, short: int = 0, times: int = 1) -> None:
        self.site, self.error, self.short, self.times = site, error, short, times

    def disk(self) -> Disk:
        sites: dict[str, Callable[..., Any]] = {
            "create": create,
            "write": os.write,
            "sync": os.fdatasync,
            "sync_folder": sync_folder,
            "truncate": os.ftruncate,
        }
        return Disk(**{name: self._wrap(name, call) for name, call in sites.items()})

    def _wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any) -> Any:
            self.calls.append(name)
            if name == self.site and self.times:
                self.times -= 1
                if self.short:
                    os.write(args[0], args[1][: self.short])
                if not self.error:
                    return self.short
                raise OSError(self.error, os.strerror(self.error))
            return call(*args)

        return wrapped


@pytest.fixture
def faulty() -> FaultyDisk:
    return FaultyDisk()


@pytest.fixture
def opened(tmp_path: Path, faulty: FaultyDisk) -> Iterator[Callable[..., Segments]]:
    """Opens and recovers the folder's segments (again)."""
    now: list[Segments] = []

    def open_(segment_size: int = 10**6) -> Segments:
        for segments in now:
            segments.close()
        now.append(
            Segments.open(tmp_path / "ledger", segment_size=segment_size, disk=faulty.disk())
        )
        list(now[-1].recover(0, GENESIS, 0))
        return now[-1]

    yield open_
    for segments in now:
        segments.close()


def on_disk(folder: Path) -> bytes:
    return b"".join(segment.path.read_bytes() for segment in listing(folder / "ledger"))


def test_append_read_and_iterate(opened: Callable[..., Segments], batches: Batches) -> None:
    lines = batches([1, 2, 3])
    segments = opened()
    for first, last in ((0, 1), (1, 3), (3, 6)):
        segments.append(lines[first:last])
        assert (segments.end, segments.hash) == (last, hash_of(lines[last - 1]))
    for again in (segments, opened()):
        assert [again.read(seq) for seq in range(1, 7)] == lines
        assert [list(again.iterate(after)) for after in range(8)] == [lines[n:] for n in range(8)]
        for seq in (-1, 0, 7):
            with pytest.raises(NoSuchRecord):
                again.read(seq)
        assert again.newest() == 6


def test_roll_over(
    tmp_path: Path, opened: Callable[..., Segments], batches: Batches, faulty: FaultyDisk
) -> None:
    lines = batches([1] * 12)
    segments = opened(segment_size=600)
    for line in lines:
        faulty.calls.clear()
        segments.append([line])
        if "create" in faulty.calls:
            assert faulty.calls == ["create", "sync", "sync_folder", "write", "sync"]
        else:
            assert faulty.calls == ["write", "sync"]
    names = listing(tmp_path / "ledger")
    assert len(names) > 2
    for segment, following in pairwise(names):
        assert segment.path.read_bytes() == b"".join(lines[segment.first - 1 : following.first - 1])
        assert segment.path.stat().st_size >= 600
    segments = opened(segment_size=600)
    assert [segments.read(seq) for seq in range(1, 13)] == lines
    assert list(segments.iterate(5)) == lines[5:]


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, 0])
@pytest.mark.parametrize("short", [1, 100, 299])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_full_disk_takes_the_batch_back(
    tmp_path: Path,
    opened: Callable[..., Segments],
    batches: Batches,
    faulty: FaultyDisk,
    error: int,
    short: int,
    fresh: bool,
) -> None:
    lines = batches([1, 2])
    segments = opened(segment_size=1 if fresh else 10**6)
    segments.append(lines[:1])
    faulty.fail("write", error, short=short)
    with pytest.raises(LedgerFull, match="make room"):
        segments.append(lines[1:])
    # Taken back for good: the cut is synced, or a crash might bring back what was refused.
    assert faulty.calls[-2:] == ["truncate", "sync"]
    assert (on_disk(tmp_path), segments.end) == (lines[0], 1)
    segments.append(lines[1:])
    assert [opened().read(seq) for seq in (1, 2, 3)] == lines


@pytest.mark.parametrize(
    ("site", "error", "expected"),
    [
        ("create", errno.ENOSPC, LedgerFull),
        ("create", errno.EMFILE, LedgerFull),
        ("sync", errno.EIO, LedgerStopped),
        ("sync", errno.ENOSPC, LedgerStopped),
        ("sync_folder", errno.EIO, LedgerStopped),
        ("write", errno.EIO, LedgerStopped),
    ],
)
def test_each_site_fails(
    tmp_path: Path,
    opened: Callable[..., Segments],
    batches: Batches,
    faulty: FaultyDisk,
    site: str,
    error: int,
    expected: type[Exception],
) -> None:
    lines = batches([1, 1])
    segments = opened(segment_size=1)  # so that each append begins a segment
    segments.append(lines[:1])
    faulty.fail(site, error)
    with pytest.raises(expected):
        segments.append(lines[1:])
    assert (segments.end, segments.read(1)) == (1, lines[0])
    if expected is LedgerStopped:
        faulty.calls.clear()
        with pytest.raises(LedgerStopped, match="must end"):
            segments.append(lines[1:])
        assert faulty.calls == []  # a failed sync is never tried again
    segments = opened(segment_size=1)
    assert segments.end == 1
    segments.append(lines[1:])
    assert on_disk(tmp_path) == b"".join(lines)


@pytest.mark.parametrize("site", ["truncate", "sync"])
def test_what_cannot_be_taken_back_stops(
    opened: Callable[..., Segments], batches: Batches, faulty: FaultyDisk, site: str
) -> None:
    lines = batches([1, 1])
    segments = opened()
    segments.append(lines[:1])
    faulty.fail(site, errno.EIO)
    with pytest.raises(LedgerStopped):
        segments.take_back()
    with pytest.raises(LedgerStopped):
        segments.append(lines[1:])


def test_take_back(tmp_path: Path, opened: Callable[..., Segments], batches: Batches) -> None:
    lines = batches([1, 2, 1])
    for size in (1, 10**6):
        segments = opened(segment_size=size)
        done = segments.end
        segments.append(lines[done:1] or lines[1:3])
        end = segments.end
        segments.append(lines[end:])
        segments.take_back()
        assert (segments.end, segments.hash) == (end, hash_of(lines[end - 1]))
        assert on_disk(tmp_path) == b"".join(lines[:end])
    segments.append(lines[3:])
    assert opened().end == 4


def test_a_start_syncs_before_it_reads(
    opened: Callable[..., Segments], batches: Batches, faulty: FaultyDisk
) -> None:
    opened().append(batches([1]))
    faulty.fail("sync", errno.EIO)
    with pytest.raises(LedgerStopped, match="could not be synced"):
        opened()
    assert opened().end == 1


def test_a_missing_newline_is_given_back(
    tmp_path: Path, opened: Callable[..., Segments], batches: Batches
) -> None:
    lines = batches([1, 1])
    opened().append(lines[:1])
    path = tmp_path / "ledger" / segment_name(1)
    path.write_bytes(lines[0][:-1])
    segments = opened()
    assert (segments.end, segments.torn, path.read_bytes()) == (1, None, lines[0])
    segments.append(lines[1:])
    assert opened().end == 2


def test_a_damaged_record_is_not_read(
    tmp_path: Path, opened: Callable[..., Segments], batches: Batches
) -> None:
    lines = batches([1, 1])
    segments = opened()
    segments.append(lines)
    (tmp_path / "ledger" / segment_name(1)).write_bytes(b"?" * len(b"".join(lines)))
    with pytest.raises(LedgerDamaged, match="record 2"):
        segments.read(2)


def test_one_writer(tmp_path: Path, opened: Callable[..., Segments]) -> None:
    segments = opened()
    with pytest.raises(LedgerLocked, match=f"{tmp_path}.*process {os.getpid()}"):
        Segments.open(tmp_path / "ledger")
    (tmp_path / "ledger" / "LOCK").write_text("?")
    with pytest.raises(LedgerLocked, match="another primary;"):
        Segments.open(tmp_path / "ledger")
    segments.close()
    opened()


def test_a_child_does_not_inherit_the_lock(opened: Callable[..., Segments]) -> None:
    segments = opened()
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        close_fds=False,
    ) as child:
        assert child.stdout and child.stdout.readline() == b"\n"  # it runs: its exec is done
        segments.close()
        opened()
        child.communicate(b"\n")
    assert child.returncode == 0


def test_closed_is_stopped(opened: Callable[..., Segments], batches: Batches) -> None:
    segments = opened()
    segments.close()
    segments.close()
    with pytest.raises(LedgerStopped):
        segments.append(batches([1]))
