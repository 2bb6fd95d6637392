"""Damage of every kind: the zip is refused with BadZip, or it is what it was."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from spool.archive import check, listing, unpack
from spool.errors import BadZip
from spool.expectations import Expectations
from spool.inputfiles import InputFile


class Pipe(io.BytesIO):
    """Where one can only write on, so that sizes follow the data."""

    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation

    def tell(self) -> int:
        raise io.UnsupportedOperation


def seed(*, piped: bool = False, wide: bool = False, inner: bool = False) -> bytes:
    out = Pipe() if piped else io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in {"sleep_count": b"8\n", "d/table.csv": b"1,2,3\n" * 40}.items():
            with archive.open(name, "w", force_zip64=wide) as entry:
                entry.write(data)
        if inner:
            info = zipfile.ZipInfo("inner.zip")
            archive.writestr(info, seed(), zipfile.ZIP_STORED)
    return out.getvalue()


SEEDS = {
    "plain": seed(),
    "piped": seed(piped=True),
    "wide": seed(wide=True),
    "piped and wide": seed(piped=True, wide=True),
    "holding a zip": seed(inner=True),
    "ending with a zip": seed() + seed(),
}
GOOD = [data for name, data in SEEDS.items() if name != "ending with a zip"]


def test_the_seeds_are_good() -> None:
    for data in GOOD:
        check(io.BytesIO(data), Expectations([InputFile(name="sleep_count")]))


@pytest.mark.parametrize("name", SEEDS)
def test_no_beginning_of_a_zip_is_a_zip(name: str) -> None:
    """Not even where it ends with a stored zip, which opens and passes ``testzip``."""
    data = SEEDS[name]
    whole = {len(data)} | ({len(seed())} if name == "ending with a zip" else set())
    for length in range(len(data)):
        if length not in whole:
            with pytest.raises(BadZip):
                check(io.BytesIO(data[:length]))


@pytest.mark.parametrize("data", GOOD)
def test_no_end_of_a_zip_is_a_zip(data: bytes) -> None:
    for start in range(1, len(data)):
        with pytest.raises(BadZip):
            check(io.BytesIO(data[start:]))


def test_the_standard_library_would_have_been_fooled() -> None:
    """Why this package reads the structure itself; if it stops being so, we may ask again."""
    data = SEEDS["holding a zip"]
    cut = data[: data.index(b"PK\x05\x06") + 22]
    with zipfile.ZipFile(io.BytesIO(cut)) as archive:
        assert archive.testzip() is None
    with pytest.raises(BadZip):
        check(io.BytesIO(cut))


def survives(data: bytes) -> None:
    """``data`` is refused, or unpacks into its folder; and the two functions agree."""
    with TemporaryDirectory() as name:
        root = Path(name)
        file, jail = root / "in.zip", root / "jail"
        jail.mkdir()
        file.write_bytes(data)
        try:
            check(file)
            good = True
        except BadZip as refused:
            good = False
            assert str(refused).isprintable()
        try:
            unpack(file, jail / "target")
            assert good
        except BadZip:
            assert not good
        if good:
            listed = {entry.name.removesuffix("/") for entry in listing(file)}
            found = {str(p.relative_to(jail / "target")) for p in (jail / "target").rglob("*")}
            assert listed <= found
        assert {p.name for p in root.iterdir()} == {"in.zip", "jail"}
        assert {p.name for p in jail.iterdir()} <= {"target"}
        assert not any(p.is_symlink() for p in root.rglob("*"))


@pytest.mark.parametrize("data", [SEEDS["plain"], SEEDS["piped and wide"]])
def test_every_byte_turned(data: bytes) -> None:
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= mask
            try:
                check(io.BytesIO(damaged))
                listing(io.BytesIO(damaged))
            except BadZip:
                pass


EDIT = st.tuples(st.integers(0, 10**6), st.integers(0, 6), st.binary(max_size=8))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(GOOD), st.lists(EDIT, min_size=1, max_size=6))
@example(GOOD[0], [(30, 0, b"../../../ab")])
@example(GOOD[0], [(30, 0, b"/tmp/mr-bad")])
def test_random_edits(data: bytes, edits: list[tuple[int, int, bytes]]) -> None:
    """Each edit replaces some bytes by others; lengths may change."""
    for at, removed, added in edits:
        at %= len(data) + 1
        data = data[:at] + added + data[at + (removed or len(added)) :]
    survives(data)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(GOOD),
    st.integers(0, 10**6),
    st.sampled_from(
        [b"\xff\xff", b"\xff" * 4, b"\0" * 4, b"PK\x05\x06", b"PK\x06\x07", b"\xff" * 8]
    ),
)
def test_extreme_fields(data: bytes, at: int, field: bytes) -> None:
    at %= len(data)
    survives(data[:at] + field + data[at + len(field) :])


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_any_names(first: str, second: str) -> None:
    """Replaced in a zip byte for byte, so that no library cleans them."""
    names = [n.encode("utf-8", "surrogatepass") for n in (first, second)]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("A" * len(names[0]) + "1", b"x")
        archive.writestr("B" * len(names[1]) + "2", b"y")
    data = out.getvalue()
    for letter, name in zip((b"A", b"B"), names, strict=True):
        if name:
            data = data.replace(letter * len(name), name)
    survives(data)
