"""Every end that a crash can leave of a ledger is mended, and nothing acknowledged is cut."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ledger import recovery
from ledger.codec import unseal
from ledger.disk import Disk
from ledger.errors import LedgerDamaged
from ledger.recovery import TornEnd
from tests.promises.figures import Figure, count
from tests.promises.ledgers import lay, recover, sealed

EARLIER = [2, 1, 2]  # batches of a segment that is whole, before the one that is torn
SIZES = [1, 3, 2, 4]
SECTOR = 512
OLD = b"\xa5"  # what a sector held before, where it is not zero

State = tuple[str, bytes, int]
"""What is torn in which way, the last segment's content, and what was acknowledged by then."""


class Torn:
    """A ledger of two segments; ``lines`` are the last one's, in batches of ``sizes``."""

    def __init__(self, folder: Path, sizes: list[int]) -> None:
        self.folder = folder
        every = sealed([*EARLIER, *sizes])
        self.before = sum(EARLIER)
        self.lines = every[self.before :]
        self.whole = b"".join(self.lines)
        ends = list(itertools.accumulate(sizes))
        self.batches = [len(b"".join(self.lines[:end])) for end in ends]  # where each one ends
        self._ends = ends
        self.path = lay(folder, every, [1, self.before + 1])[1]

    def acknowledged(self, length: int) -> int:
        """The records that can have been acknowledged when ``length`` bytes are on disk."""
        pairs = zip(self._ends, self.batches, strict=True)
        return self.before + max((n for n, end in pairs if end <= length), default=0)

    def must_mend(self, state: State) -> int:
        """A start keeps all that was acknowledged, and a prefix of what was written; how much."""
        what, content, acknowledged = state
        self.path.write_bytes(content)
        kept, torn = recover(self.folder, acknowledged)
        left = self.path.read_bytes()
        assert kept >= acknowledged, f"{what}: {acknowledged} acknowledged, {kept} kept"
        assert left == b"".join(self.lines[: kept - self.before]), f"{what}: {kept} kept"
        beside = list(self.folder.glob("*.torn"))
        if torn is None:
            assert not beside and content in (left, left[:-1]), f"{what}: cut without a word"
        else:
            assert [b.read_bytes() for b in beside] == [content[len(left) :]], f"{what}: not beside"
            assert beside[0].name in torn, what
            beside[0].unlink()
        assert recover(self.folder, acknowledged) == (kept, None), f"{what}: the next start"
        return kept


def prefixes(torn: Torn) -> Iterator[State]:
    for length in range(len(torn.whole) + 1):
        # The board may know all that was acknowledged, or be gone.
        for known in {torn.acknowledged(length), 0}:
            yield f"{length} bytes", torn.whole[:length], known


def zero_tails(torn: Torn, step: int) -> Iterator[State]:
    """The file is as long as it was to be, or as its last sector or page, and zero there."""
    for length in range(0, len(torn.whole) + 1, step):
        sector, page = -length % SECTOR, -length % 4096
        for tail in sorted({1, sector, page, len(torn.whole) - length, 16 * 4096} - {0}):
            content = torn.whole[:length] + bytes(tail)
            yield f"{length} bytes, {tail} zeros", content, torn.acknowledged(length)


def sectors(torn: Torn) -> Iterator[State]:
    """Any sectors of the last batch did not reach the disk, nor the file's last sizes."""
    begun, end = torn.batches[-2], torn.batches[-1]
    starts = [begun, *range((begun // SECTOR + 1) * SECTOR, end, SECTOR)]
    for size in [*starts[1:], end]:
        reached = [start for start in starts if start < size]
        for lost in itertools.product([False, True], repeat=len(reached)):
            for filler in (b"\0", OLD) if any(lost) and size == end else (b"\0",):
                content = bytearray(torn.whole[:size])
                for start, gone in zip(reached, lost, strict=True):
                    if gone:
                        stop = min((start // SECTOR + 1) * SECTOR, size)
                        content[start:stop] = filler * (stop - start)
                known = torn.acknowledged(end if size == end and not any(lost) else begun)
                yield f"{size} bytes, lost {lost}, then {filler!r}", bytes(content), known


def test_every_prefix(tmp_path: Path, figure: Figure) -> None:
    torn = Torn(tmp_path, SIZES)
    states = 0
    for state in prefixes(torn):
        kept = torn.must_mend(state)
        # A last line valid but for its newline is kept, too.
        whole = torn.whole[: len(state[1]) + 1].count(b"\n")
        assert kept == torn.before + whole, state[0]
        states += 1
    figure("states", states)


def test_zero_tails(tmp_path: Path, figure: Figure) -> None:
    torn = Torn(tmp_path, SIZES)
    states = 0
    for state in zero_tails(torn, count(9, 1)):
        torn.must_mend(state)
        states += 1
    figure("states", states)


@pytest.mark.parametrize("before", range(count(1, 8)))
def test_any_sectors_of_a_batch_of_16(tmp_path: Path, before: int, figure: Figure) -> None:
    """``before``: records that move the batch on its disk, so that other sectors split it."""
    torn = Torn(tmp_path, [1] * (before + 2) + [16])
    states = 0
    for state in sectors(torn):
        torn.must_mend(state)
        states += 1
    figure(f"states, begun at byte {torn.batches[-2] % SECTOR} of a sector", states)


def test_a_prefix_is_refused_where_the_board_has_more(tmp_path: Path, figure: Figure) -> None:
    torn = Torn(tmp_path, SIZES)
    applied = torn.before + len(torn.lines)
    for length in range(len(torn.whole) - 1):
        torn.path.write_bytes(torn.whole[:length])
        with pytest.raises(LedgerDamaged, match=f"the board has applied up to record {applied}"):
            recover(tmp_path, applied)
        assert torn.path.read_bytes() == torn.whole[:length]
        assert list(tmp_path.glob("*.torn")) == []
    figure("refused", len(torn.whole) - 1)


# --- seeded bugs: each must be found ----------------------------------------------------


def _one_too_many(patch: pytest.MonkeyPatch) -> None:
    """The good record before the damage goes, too."""
    cut = recovery.cut

    def further(torn: TornEnd, disk: Disk) -> str:
        good = torn.segment.path.read_bytes()[: torn.offset]
        start = good[:-1].rfind(b"\n") + 1
        return cut(TornEnd(torn.segment, start, torn.seq, torn.reason), disk)

    patch.setattr("ledger.segments.cut", further)


def _not_beside(patch: pytest.MonkeyPatch) -> None:
    """What is cut is gone."""

    def keep(folder: Path, stem: str, *_: object) -> Path:
        return folder / f"{stem}.torn"

    patch.setattr("ledger.recovery._keep", keep)


def _unchecked_hash(patch: pytest.MonkeyPatch) -> None:
    """A line that can be read is believed: of a torn batch any line that reached the disk."""
    patch.setattr("ledger.recovery.unseal", lambda line, _previous: unseal(line, None))


BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "one record too many is cut": _one_too_many,
    "what is cut is not kept beside": _not_beside,
    "hashes are not checked": _unchecked_hash,
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_found(
    tmp_path: Path, bug: str, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    torn = Torn(tmp_path, [1, 1, 16])
    BUGS[bug](monkeypatch)
    with pytest.raises(AssertionError) as e:
        for state in itertools.chain(sectors(torn), prefixes(torn)):
            torn.must_mend(state)
    figure(bug, str(e.value).partition("\n")[0][:100])
