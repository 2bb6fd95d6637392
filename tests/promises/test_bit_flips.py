"""No damage to acknowledged records goes unseen: refused, with file, line and reason, unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from ledger import recovery
from ledger.codec import GENESIS, unseal
from ledger.commands import verify
from ledger.errors import LedgerDamaged, LedgerError
from ledger.events import AnyEvent
from ledger.log import Ledger
from ledger.reading import segment_name
from ledger.recovery import TornEnd, check
from tests.promises.figures import Figure, count
from tests.promises.ledgers import QUICK, events, lay, sealed

SIZES = [2, 1, 3, 1, 4, 2, 5, 3, 1, 2]  # batches: every kind of event, some twice
FIRSTS = [1, 7, 14]  # of the segments
OTHER_TIME = "2024-05-01T09:30:00.000001Z"

Content = dict[str, bytes]


class Acknowledged:
    """A ledger of three segments in ``data``, with the board of all its records."""

    def __init__(self, data: Path) -> None:
        self.data, self.folder = data, data / "ledger"
        self.folder.mkdir()
        self.lines = sealed(SIZES)
        self.paths = lay(self.folder, self.lines, FIRSTS)
        Ledger.open(self.folder, data / "board.sqlite", disk=QUICK).close()
        self.good = self.content()

    def content(self) -> Content:
        return {path.name: path.read_bytes() for path in self.folder.glob("*.*")}

    def put(self, content: Content) -> None:
        for path in self.folder.glob("*.*"):
            path.unlink()
        for name, data in content.items():
            (self.folder / name).write_bytes(data)

    def must_refuse(self, what: str, content: Content, where: tuple[str, int] | None = None) -> str:
        """A start and ``ledger verify`` refuse ``content``, say why, and leave it as it is."""
        self.put(content)
        try:
            Ledger.open(self.folder, self.data / "board.sqlite", disk=QUICK).close()
        except LedgerDamaged as e:
            said = e
        else:
            raise AssertionError(f"{what}: opened")
        assert self.content() == content, f"{what}: changed on the disk"
        assert said.reason and (said.hint or not said.line), f"{what}: {said}"
        assert where is None or (said.file, said.line) == where, f"{what}: {said}"
        report = verify(self.data, files=False)
        assert not report.sound, f"{what}: verify finds nothing"
        assert said.reason in report.findings[0].what, f"{what}: {report.findings}"
        return str(said)

    def must_see(self, path: Path, at: int, mask: int) -> None:
        """``check`` names the line of the flip, whatever came before it."""
        good = self.good[path.name]
        wrong = bytearray(good)
        wrong[at] ^= mask
        path.write_bytes(wrong)
        what = f"{path.name}, byte {at}, {mask:#x}"
        try:
            list(check(self.folder, 0, GENESIS, len(self.lines)))
        except LedgerDamaged as e:
            assert e.reason and e.hint, what
            assert (e.file, e.line) == (str(path), good[:at].count(b"\n") + 1), f"{what}: {e}"
        except LedgerError as e:
            raise AssertionError(f"{what}: would be cut: {e}") from e
        else:
            raise AssertionError(f"{what}: believed")


@pytest.fixture
def known(tmp_path: Path) -> Acknowledged:
    return Acknowledged(tmp_path)


def test_every_kind_of_event_is_there() -> None:
    kinds = {type(event) for event in events(sum(SIZES))}
    assert kinds == set(AnyEvent.__args__)


def flips(known: Acknowledged, bits: Sequence[int]) -> Iterator[tuple[Path, int, int]]:
    """One bit in turn of each byte, or each bit where all are in ``bits``."""
    for path in known.paths:
        for at in range(len(known.good[path.name])):
            for bit in bits if len(bits) == 8 else (at % 8,):
                yield path, at, 1 << bit
        yield path, -1, 0  # whole again, before the next one


def test_every_flipped_byte(known: Acknowledged, figure: Figure) -> None:
    flipped = 0
    for path, at, mask in flips(known, range(count(1, 8))):
        if mask:
            known.must_see(path, at, mask)
            flipped += 1
        else:
            path.write_bytes(known.good[path.name])
    figure("flips, in 3 segments", flipped)


def test_every_flipped_bit_of_a_small_ledger(tmp_path: Path, figure: Figure) -> None:
    """Also where no board is left to say what was acknowledged: the last batch then may go."""
    sizes = [1, 1, 2]
    lines = sealed(sizes)
    path = lay(tmp_path, lines)[0]
    whole, last = b"".join(lines), len(b"".join(lines[:2]))
    states = 0
    for at in range(len(whole)):
        for bit in range(8):
            wrong = bytearray(whole)
            wrong[at] ^= 1 << bit
            path.write_bytes(wrong)
            what = f"byte {at}, bit {bit}"
            with pytest.raises(LedgerDamaged) as e:
                list(check(tmp_path, 0, GENESIS, len(lines)))
            assert e.value.line == whole[:at].count(b"\n") + 1, what
            with pytest.raises((LedgerDamaged, TornEnd)) as unknown:
                list(check(tmp_path, 0, GENESIS))
            if isinstance(unknown.value, TornEnd):
                assert at >= last and unknown.value.offset >= last, f"{what}: acknowledged, cut"
            states += 1
    figure("flips", states)


def test_a_start_and_verify_refuse_a_flip(known: Acknowledged, figure: Figure) -> None:
    """Through the front door, which has a board and looks at less: some of the bytes."""
    refused = 0
    for path in known.paths:
        good = known.good[path.name]
        for at in range(refused % 7, len(good), count(23, 1)):
            wrong = bytearray(good)
            wrong[at] ^= 1 << (at % 8)
            where = (str(path), good[:at].count(b"\n") + 1)
            content = known.good | {path.name: bytes(wrong)}
            known.must_refuse(f"{path.name}, byte {at}", content, where)
            refused += 1
    figure("refused", refused)


def damages(known: Acknowledged) -> Iterator[tuple[str, Content]]:
    """What a disk, a hand or a bad backup does to whole lines and whole segments."""
    good, lines = known.good, known.lines
    other = sealed(SIZES, time=OTHER_TIME)
    for n, name in enumerate(good, 1):
        yield f"segment {n} is missing", {k: v for k, v in good.items() if k != name}
        yield f"segment {n} is empty", good | {name: b""}
        wrong = lay_elsewhere(other)[name]
        yield f"segment {n} is another ledger's", good | {name: wrong}
    a, b, c = good
    for one, two in ((a, b), (b, c), (a, c)):
        yield f"{one} and {two} are swapped", good | {one: good[two], two: good[one]}
    yield "all segments are missing", {}
    yield "a segment is there twice", good | {segment_name(5): b"".join(lines[4:6])}
    yield "a segment has a wrong name", {a: good[a], segment_name(8): good[b], c: good[c]}
    for at in range(len(lines)):
        wrong_lines = {
            "missing": lines[:at] + lines[at + 1 :],
            "twice": lines[: at + 1] + lines[at:],
            "another ledger's": [*lines[:at], other[at], *lines[at + 1 :]],
            "behind an empty one": [*lines[:at], b"\n", *lines[at:]],
            "without its newline": [*lines[:at], lines[at][:-1], *lines[at + 1 :]],
        }
        if at + 1 < len(lines):
            wrong_lines["exchanged"] = [*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]
        for what, wrong_ in wrong_lines.items():
            last = at + 1 == len(lines)
            if last and what in ("twice", "without its newline"):
                continue  # a torn end, and all that was acknowledged is before it
            yield f"line {at + 1} is {what}", lay_elsewhere(wrong_)


def lay_elsewhere(lines: Sequence[bytes]) -> Content:
    """``lines`` in the three segments: what is too much, or too little, is so in its own one."""
    content = {}
    at = 0
    for n, first in enumerate(FIRSTS):
        after = FIRSTS[n + 1] if n + 1 < len(FIRSTS) else 10**6
        end = at
        while end < len(lines) and (_seq(lines[end]) or first) < after:
            end += 1
        content[segment_name(first)] = b"".join(lines[at:end])
        at = end
    return content


def _seq(line: bytes) -> int | None:
    return unseal(line, None).seq if line.endswith(b"\n") and len(line) > 1 else None


def test_damaged_lines_and_segments(known: Acknowledged, figure: Figure) -> None:
    kinds: dict[str, int] = {}
    for what, content in damages(known):
        assert content != known.good, what
        known.must_refuse(what, content)
        kind = what if "segment" in what else what.partition(" is ")[2]
        kinds[kind] = kinds.get(kind, 0) + 1
    figure("refused", sum(kinds.values()))


def test_every_length_of_an_earlier_segment(known: Acknowledged, figure: Figure) -> None:
    refused = 0
    for path in known.paths[:-1]:
        good = known.good[path.name]
        for length in range(len(good)):
            path.write_bytes(good[:length])
            for applied in (0, len(known.lines)):  # whether or not a board is left
                with pytest.raises(LedgerDamaged) as e:
                    list(check(known.folder, 0, GENESIS, applied))
                assert e.value.file == str(path), f"{path.name}, {length} bytes: {e.value}"
            refused += 1
        path.write_bytes(good)
    figure("refused", refused)


# --- seeded bugs: each must be found ----------------------------------------------------


def _unchecked_hash(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("ledger.recovery.unseal", lambda line, _previous: unseal(line, None))


def _always_torn(patch: pytest.MonkeyPatch) -> None:
    """What cannot be read is an end, whatever comes after it."""
    patch.setattr("ledger.recovery._judge", TornEnd)


def _unknown_board(patch: pytest.MonkeyPatch) -> None:
    """What the board has applied is not asked."""
    real = recovery.check

    def deaf(folder: Path, after: int, previous: str, _applied: int = 0) -> object:
        return real(folder, after, previous)

    for place in ("ledger.segments.check", "ledger.rebuild.check"):
        patch.setattr(place, deaf)


def _silent_cut(patch: pytest.MonkeyPatch) -> None:
    """The wrong end of an earlier segment is left out."""
    real = recovery._check_segment

    def lenient(*of: object) -> Iterator[object]:
        try:
            yield from real(*of)  # type: ignore[arg-type]
        except LedgerDamaged as e:
            raise TornEnd(of[0], 0, 1, e.reason) from e  # type: ignore[arg-type]

    patch.setattr("ledger.recovery._check_segment", lenient)


BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "hashes are not checked": _unchecked_hash,
    "whatever cannot be read is cut": _always_torn,
    "the board is not asked": _unknown_board,
    "damage is taken for a torn end": _silent_cut,
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_seeded_bug_is_found(
    known: Acknowledged, bug: str, monkeypatch: pytest.MonkeyPatch, figure: Figure
) -> None:
    BUGS[bug](monkeypatch)
    with pytest.raises(AssertionError) as e:
        for what, content in damages(known):
            known.must_refuse(what, content)
        test_a_start_and_verify_refuse_a_flip(known, figure)
    figure(bug, str(e.value).partition("\n")[0][:100])
