"""One file out of a zip that a stranger packed: streamed, checked, and never more than it says."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spool import extract
from spool.entrynames import Caps
from spool.errors import BadZip
from spool.extract import read_contents

names = st.text("abcdeé漢", min_size=1, max_size=8)


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> io.BytesIO:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as out:
        for name, data in files.items():
            out.writestr(name, data)
    return file


def crafted(data: bytes, *, crc: int, size: int, method: int = 8) -> io.BytesIO:
    """A zip with the one file ``f``, of whose packed ``data`` it says anything."""
    local = struct.pack(
        "<4s5H3L2H", b"PK\x03\x04", 20, 0, method, 0, 0, crc, len(data), size, 1, 0
    )  # fmt: skip
    central = struct.pack(
        "<4s6H3L5H2L",
        *(b"PK\x01\x02", 0x0314, 20, 0, method, 0, 0, crc, len(data), size, 1),
        *(0, 0, 0, 0, 0o100644 << 16, 0),
    )
    at = len(local) + 1 + len(data)
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(central) + 1, at, 0)
    return io.BytesIO(local + b"f" + data + central + b"f" + end)


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def taken(file: BinaryIO, name: str) -> bytes:
    return b"".join(read_contents(file).pieces(file, name))


@settings(deadline=None)
@given(
    st.dictionaries(names, st.binary(max_size=5000), max_size=6),
    st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
def test_each_file_comes_out_as_it_went_in(files: dict[str, bytes], method: int) -> None:
    file = zipped(files, method)
    contents = read_contents(file)
    assert {item.name: item.size for item in contents.files()} == {
        name: len(data) for name, data in files.items()
    }
    for name, data in files.items():
        assert b"".join(contents.pieces(file, name)) == data
        assert contents.item(name).crc == zlib.crc32(data)


def test_folders_are_no_files() -> None:
    file = zipped({"plots/": b"", "plots/a.png": b"x"})
    contents = read_contents(file)
    assert [item.name for item in contents.files()] == ["plots/a.png"]
    for name in ("plots/", "plots", "", "../plots/a.png", "A.PNG"):
        with pytest.raises(KeyError):
            contents.pieces(file, name)


def test_a_name_twice_is_refused() -> None:
    with pytest.warns(UserWarning, match="Duplicate"):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as out:
            out.writestr("a", "1")
            out.writestr("a", "2")
    with pytest.raises(BadZip, match="twice"):
        read_contents(file)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_large_file_comes_in_pieces(method: int) -> None:
    file = zipped({"big": bytes(20 * 1024**2)}, method)
    tracemalloc.start()
    try:
        sizes = [len(piece) for piece in read_contents(file).pieces(file, "big")]
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(sizes) == 20 * 1024**2 and max(sizes) <= 1024**2
    assert peak < 6 * 1024**2


def test_no_more_comes_out_than_the_zip_says() -> None:
    bomb = deflated(bytes(100 * 1024**2))
    out = 0
    with pytest.raises(BadZip, match="more than the 1500000 bytes"):
        for piece in taken_by_piece(crafted(bomb, crc=0, size=1_500_000)):
            out += len(piece)
    assert out <= 1_500_000


def taken_by_piece(file: BinaryIO) -> Iterator[bytes]:
    return read_contents(file).pieces(file, "f")


def test_less_than_it_says_is_no_end() -> None:
    with pytest.raises(BadZip, match="holds 3 bytes and says 4"):
        taken(crafted(deflated(b"abc"), crc=zlib.crc32(b"abc"), size=4), "f")


def test_a_wrong_checksum_is_told_at_the_end() -> None:
    pieces = taken_by_piece(crafted(deflated(b"abc"), crc=1, size=3))
    assert next(pieces) == b"abc"
    with pytest.raises(BadZip, match="checksum"):
        next(pieces)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\xff\xff\xff", "cannot be unpacked"),
        (deflated(b"abc")[:-1], "end too early"),
        (deflated(b"abc") + b"more", "go on after their end"),
        (b"", "end too early"),
    ],
    ids=["no deflate", "cut", "more behind", "nothing"],
)
def test_damaged_data(data: bytes, said: str) -> None:
    with pytest.raises(BadZip, match=said):
        taken(crafted(data, crc=zlib.crc32(b"abc"), size=3), "f")


class Counted(io.BytesIO):
    """Counts the bytes that are read."""

    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


def test_blocks_without_content_are_not_read_for_ever() -> None:
    """A deflate stream may hold any number of empty blocks before its first byte."""
    nothing = b"\x00\x00\x00\xff\xff" * 8_000_000
    file = Counted(crafted(nothing + deflated(b"abc"), crc=0, size=3).getvalue())
    contents = read_contents(file)
    file.taken = 0
    with pytest.raises(BadZip, match="yield nothing"):
        next(contents.pieces(file, "f"))
    assert file.taken < 6 * 1024**2


def test_a_packer_that_flushes_after_each_byte_is_no_attack() -> None:
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    data = bytes(range(256)) * 4096
    packed = b"".join(
        packer.compress(data[n : n + 1]) + packer.flush(zlib.Z_SYNC_FLUSH) for n in range(len(data))
    )
    packed += packer.flush()
    assert len(packed) > 6 * len(data)
    assert taken(crafted(packed, crc=zlib.crc32(data), size=len(data)), "f") == data


def test_too_many_files() -> None:
    with pytest.raises(BadZip, match="has 3 entries; at most 2"):
        read_contents(zipped(dict.fromkeys("abc", b"")), Caps(entries=2))


def test_a_list_of_long_names_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "MOST_INDEX", 100_000)
    names = ["/".join([f"{n:0200}"] * 5) for n in range(300)]
    with pytest.raises(BadZip, match="too long to be shown"):
        read_contents(zipped(dict.fromkeys(names, b"")))


def test_the_weight_is_that_of_the_directory() -> None:
    contents = read_contents(zipped({"abc": b"x" * 1000}))
    assert contents.weight == 46 + 3 + 22, "a central header, the name, the end record"
    assert len(contents) == 1
