"""Zips that lie: each is refused with its reason, before or while it is unpacked."""

from __future__ import annotations

import stat
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from spool.archive import CAPS, check, unpack
from spool.errors import BadZip


class E(msgspec.Struct, kw_only=True):
    """An entry whose every field can be made to lie. None: the truth."""

    name: bytes
    data: bytes = b"x"
    method: int = 8
    flags: int = 0
    made_by: int = 3
    mode: int = stat.S_IFREG | 0o644
    crc: int | None = None
    packed: bytes | None = None
    packed_size: int | None = None
    size: int | None = None
    extra: bytes = b""
    offset: int | None = None
    disk: int = 0
    before: bytes = b""
    descriptor: bytes = b""
    local_name: bytes | None = None
    local_method: int | None = None
    local_size: int | None = None
    local_packed_size: int | None = None
    local_crc: int | None = None
    local_flags: int | None = None


def deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def the(value: int | None, truth: int) -> int:
    return truth if value is None else value


def build(
    *entries: E,
    prefix: bytes = b"",
    between: bytes = b"",
    directory_tail: bytes = b"",
    after_directory: bytes = b"",
    comment: bytes = b"",
    comment_length: int | None = None,
    count: int | None = None,
    count_here: int | None = None,
    directory_offset: int | None = None,
    disk: int = 0,
    zip64: Callable[[int, int, int], bytes] | None = None,
) -> bytes:
    """A zip of ``entries``; ``zip64`` makes the 64-bit end from count, length and start."""
    out, directory = bytearray(prefix), bytearray()
    for e in entries:
        out += e.before
        packed = e.packed
        if packed is None:
            packed = deflate(e.data) if e.method == 8 else e.data
        crc, size = the(e.crc, zlib.crc32(e.data)), the(e.size, len(e.data))
        packed_size = the(e.packed_size, len(packed))
        name = e.name if e.local_name is None else e.local_name
        directory += struct.pack(
            "<4s6H3L5H2L", b"PK\x01\x02", e.made_by << 8 | 20, 20, e.flags, e.method, 0, 33,
            crc, packed_size, size, len(e.name), len(e.extra), 0, e.disk, 0,
            e.mode << 16, the(e.offset, len(out)),
        ) + e.name + e.extra  # fmt: skip
        out += struct.pack(
            "<4s5H3L2H", b"PK\x03\x04", 20, the(e.local_flags, e.flags),
            the(e.local_method, e.method), 0, 33, the(e.local_crc, crc),
            the(e.local_packed_size, packed_size), the(e.local_size, size), len(name),
            len(e.extra),
        ) + name + e.extra + packed + e.descriptor  # fmt: skip
    out += between
    start = len(out)
    directory += directory_tail
    out += directory + after_directory
    n = the(count, len(entries))
    if zip64:
        out += zip64(n, len(directory), start)
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", disk, disk, the(count_here, n), n, len(directory),
        the(directory_offset, start), the(comment_length, len(comment)),
    )  # fmt: skip
    return bytes(out) + end + comment


def zip64_end(
    shift: int = 0, gap: bytes = b"", size: int = 44, disks: int = 1, true_count: int | None = None
) -> Callable[[int, int, int], bytes]:
    """A 64-bit end record with its locator, lying as told."""

    def make(count: int, length: int, start: int) -> bytes:
        n = the(true_count, count) + shift
        record = struct.pack(
            "<4sQ2H2L4Q", b"PK\x06\x06", size, 45, 45, 0, 0, n, n, length, start
        )  # fmt: skip
        return record + gap + struct.pack("<4sLQL", b"PK\x06\x07", 0, start + length, disks)

    return make


def named(*names: bytes) -> bytes:
    return build(*(E(name=n, data=b"" if n.endswith(b"/") else b"x") for n in names))


def described(descriptor: bytes) -> bytes:
    """One entry whose sizes follow its data."""
    return build(
        E(name=b"a", flags=8, local_size=0, local_packed_size=0, local_crc=0, descriptor=descriptor)
    )


A, B = E(name=b"a"), E(name=b"b", data=b"hello " * 50)
GOOD = build(A, B)
STORED_ZIP = E(name=b"inner.zip", data=GOOD, method=0)
BOMB = deflate(bytes(2_000_000))
STALE = struct.pack("<HHBL", 0x7075, 9, 1, zlib.crc32(b"other")) + b"../b"
RENAMED = struct.pack("<HHBL", 0x7075, 9, 1, zlib.crc32(b"a")) + b"../b"
FACTS = (zlib.crc32(b"x"), len(deflate(b"x")), 1)
MANY = (E(name=b"%d" % n, data=b"", method=0) for n in range(70_000))

HOSTILE: dict[str, tuple[bytes, str]] = {
    # names
    "parent": (named(b"../a"), "leads out"),
    "parent inside": (named(b"a/../../b"), "leads out"),
    "parent alone": (named(b".."), "leads out"),
    "parent folder": (named(b"a/../"), "leads out"),
    "absolute": (named(b"/etc/passwd"), "absolute"),
    "slash alone": (named(b"/"), "absolute"),
    "drive": (named(b"C:evil"), "drive letter"),
    "drive and slash": (named(b"c:/evil"), "drive letter"),
    "backslash": (named(b"a\\b"), "backslash"),
    "backslash parent": (named(b"..\\b"), "backslash"),
    "network path": (named(b"\\\\host\\share"), "backslash"),
    "nul": (named(b"a\0.txt"), "control character"),
    "newline": (named(b"a\nb"), "control character"),
    "escape": (named(b"\x1b[31mred"), "control character"),
    "delete": (named(b"a\x7f"), "control character"),
    "c1": (named("a\u0085b".encode()), "control character"),
    "right to left": (named("a\u202etxt.exe".encode()), "control character"),
    "line separator": (named("a\u2028b".encode()), "control character"),
    "no name": (named(b""), "without a name"),
    "dot": (named(b"./a"), "empty part or a '.'"),
    "dot alone": (named(b"."), "empty part or a '.'"),
    "double slash": (named(b"a//b"), "empty part or a '.'"),
    "not utf-8": (build(E(name=b"\xff\xfe", flags=1 << 11)), "marked as UTF-8"),
    "long name": (named(b"n" * 256), "256 bytes"),
    "long name in bytes": (named("ü".encode() * 128), "256 bytes"),
    "long path": (named(b"/".join([b"n" * 200] * 6)), "1205 bytes"),
    "deep": (named(b"d/" * 33 + b"a"), "33 folders deep"),
    "unicode extra": (build(E(name=b"a", extra=RENAMED)), "leads out"),
    # two entries, one file
    "twice": (named(b"a", b"a"), "twice"),
    "folder twice": (named(b"f/", b"f/", b"f/a"), "twice"),
    "case": (named(b"Data.csv", b"data.csv"), "upper and lower case"),
    "case of folders": (named(b"Data/a", b"data/b"), "upper and lower case"),
    "case beyond ascii": (named("Ä".encode(), "ä".encode()), "upper and lower case"),
    "composed and not": (named("ä".encode(), "a\u0308".encode()), "accents"),
    "file and folder": (named(b"a", b"a/"), "both a file and a folder"),
    "file and parent": (named(b"a", b"a/b"), "both a file and a folder"),
    "parent and file": (named(b"a/b/c", b"a/b"), "both a file and a folder"),
    # kinds
    "link": (build(E(name=b"a", mode=stat.S_IFLNK | 0o777)), "symbolic link"),
    "link made by dos": (build(E(name=b"a", made_by=0, mode=stat.S_IFLNK)), "symbolic link"),
    "device": (build(E(name=b"a", mode=stat.S_IFCHR | 0o666)), "device"),
    "disk": (build(E(name=b"a", mode=stat.S_IFBLK | 0o666)), "device"),
    "pipe": (build(E(name=b"a", mode=stat.S_IFIFO | 0o666)), "pipe"),
    "socket": (build(E(name=b"a", mode=stat.S_IFSOCK | 0o666)), "socket"),
    "folder without slash": (build(E(name=b"a", data=b"", mode=stat.S_IFDIR)), "folder"),
    "folder with contents": (build(A, E(name=b"f/")), "has contents"),
    "encrypted": (build(E(name=b"a", flags=1)), "encrypted"),
    "encrypted in its header": (build(E(name=b"a", local_flags=1)), "encrypted"),
    "strongly encrypted": (build(E(name=b"a", flags=1 << 6)), "encrypted"),
    "masked": (build(E(name=b"a", flags=1 << 13)), "encrypted"),
    "deflate64": (build(E(name=b"a", method=9)), "Deflate64 (method 9)"),
    "lzma": (build(E(name=b"a", method=14)), "LZMA (method 14)"),
    "aes": (build(E(name=b"a", method=99)), "AES encryption (method 99)"),
    "unknown method": (build(E(name=b"a", method=77)), "unknown method (method 77)"),
    # the header and the directory disagree
    "other name": (build(E(name=b"a", local_name=b"b")), "another name"),
    "other name length": (build(E(name=b"a", local_name=b"")), "another name"),
    "other method": (build(E(name=b"a", local_method=0)), "another method"),
    "other size": (build(E(name=b"a", local_size=7)), "other sizes"),
    "other packed size": (build(E(name=b"a", local_packed_size=7)), "other sizes"),
    "other crc": (build(E(name=b"a", local_crc=7)), "other sizes"),
    "zero size without flag": (build(E(name=b"a", local_size=0)), "other sizes"),
    "no descriptor": (described(b""), "does not agree"),
    "descriptor lies": (described(struct.pack("<LLL", 1, 2, 3)), "does not agree"),
    "descriptor and more": (described(struct.pack("<LLL", *FACTS) + b"more!"), "does not agree"),
    "descriptor without flag": (build(E(name=b"a", descriptor=bytes(12))), "by 12 bytes"),
    "stored, two sizes": (build(E(name=b"a", method=0, data=b"xyz", size=2)), "two sizes differ"),
    "no 64-bit sizes": (build(E(name=b"a", size=0xFFFFFFFF)), "64-bit sizes are missing"),
    # contents
    "wrong crc": (build(E(name=b"a", crc=1)), "checksum"),
    "wrong crc, stored": (build(E(name=b"a", method=0, crc=1)), "checksum"),
    "holds more": (build(E(name=b"a", data=b"x" * 99, size=98)), "more than the 98"),
    "holds less": (build(E(name=b"a", data=b"x" * 99, size=100)), "holds 99 bytes and says 100"),
    "bomb, lying size": (build(E(name=b"a", packed=BOMB, size=5)), "more than the 5"),
    "not deflate": (build(E(name=b"a", packed=b"\xff\xff\xff")), "damaged"),
    "deflate cut": (build(E(name=b"a", packed=deflate(b"xyz")[:-1], data=b"xyz")), "too early"),
    "nothing": (build(E(name=b"a", packed=b"", data=b"")), "too early"),
    "deflate and more": (build(E(name=b"a", packed=deflate(b"x") + b"hidden")), "after their end"),
    # the structure
    "no entries": (build(), "empty"),
    "only folders": (named(b"f/", b"f/g/"), "empty"),
    "prefix": (b"#!/bin/sh\n" + GOOD, "something else"),
    "prefix that looks right": (b"PK\x03\x04" + GOOD, "not where its end record says"),
    "prefix, right offsets": (build(A, prefix=b"PK\x03\x04junk"), "8 bytes before"),
    "program, right offsets": (build(A, prefix=b"MZ" + bytes(99)), "a Windows program"),
    "trailing newline": (GOOD + b"\n", "no end record at its end"),
    "trailing zeros": (GOOD + bytes(512), "no end record at its end"),
    "two zips": (GOOD + GOOD, "not where its end record says"),
    "comment too short": (build(A, comment=b"abc", comment_length=5), "no end record"),
    "comment too long": (build(A, comment=b"abc", comment_length=2), "no end record"),
    "two end records": (build(A, comment=GOOD[-22:]), "two end records"),
    "gap between entries": (build(A, E(name=b"b", before=b"hidden")), "6 bytes that belong"),
    "gap before the directory": (build(A, between=b"hidden"), "6 bytes that belong"),
    "gap after the directory": (build(A, after_directory=b"hidden"), "not where its end"),
    "gap in the directory": (build(A, directory_tail=b"hidden"), "belong to no entry"),
    "same place": (build(A, E(name=b"b", offset=0)), "overlap"),
    "within": (build(E(name=b"a", data=b"x" * 200, method=0), E(name=b"b", offset=60)), "overlap"),
    "reaches into the next": (build(E(name=b"a", method=0, packed_size=40, size=40), B), "overlap"),
    "starts in the directory": (build(A, E(name=b"b", offset=90)), "no such entry"),
    "starts outside": (build(A, E(name=b"b", offset=0xFFFFFFF0)), "no such entry"),
    "fewer than counted": (build(A, count=2), "has room for"),
    "more than counted": (build(A, B, count=1), "belong to no entry"),
    "counted too many": (build(A, count=60_000), "at most 50000"),
    "counted beyond room": (build(A, count=40_000), "has room for"),
    "directory beyond the end": (build(A, directory_offset=0x7FFFFFFF), "not where"),
    "split": (build(A, disk=1), "split zip"),
    "split entry": (build(E(name=b"a", disk=3)), "split zip"),
    "split by count": (build(A, B, count_here=1), "split zip"),
    "span marker": (b"PK00" + GOOD, "not where its end record says"),
    "zip64 contradicts": (build(A, zip64=zip64_end(1)), "contradict"),
    "zip64 gap": (build(A, zip64=zip64_end(gap=b"hidden")), "not where it must be"),
    "zip64 size": (build(A, zip64=zip64_end(size=99)), "damaged"),
    "zip64 split": (build(A, zip64=zip64_end(disks=2)), "split zip"),
    "zip64 count": (build(A, count=0xFFFF, zip64=zip64_end(true_count=2**63)), "at most 50000"),
    "cut, holding a zip": (
        build(STORED_ZIP, B)[: 30 + 9 + len(GOOD)],
        "not where its end record says",
    ),
    "70,000 entries": (
        build(*MANY, count=0xFFFF, zip64=zip64_end(true_count=70_000)),
        "70000 entries",
    ),
    # other things than zips
    "empty file": (b"", "file is empty"),
    "text": (b"8\n", "no zip file"),
    "gzip": (b"\x1f\x8b\x08" + bytes(50), "gzip"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(50), "7z"),
    "rar": (b"Rar!\x1a\x07" + bytes(50), "RAR"),
    "web page": (b"<!DOCTYPE html><html></html>", "web page"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_zip_is_refused_with_its_reason(case: str, tmp_path: Path) -> None:
    data, reason = HOSTILE[case]
    file = tmp_path / "in.zip"
    file.write_bytes(data)
    with pytest.raises(BadZip) as checked:
        check(file)
    assert reason in str(checked.value)
    assert str(checked.value).isprintable()  # it will be shown on a terminal
    target = tmp_path / "jail" / "target"
    target.parent.mkdir()
    with pytest.raises(BadZip):
        unpack(file, target)
    outside = {p for p in tmp_path.rglob("*") if not p.is_relative_to(target)}
    assert outside == {file, target.parent}
    assert not any(p.is_symlink() for p in tmp_path.rglob("*"))


GOOD_ONES = {
    "two files": GOOD,
    "comment": build(A, comment=b"made by hand"),
    "holds a zip": build(A, STORED_ZIP, B),
    "zip64 end": build(A, zip64=zip64_end()),
    "zip64 count": build(A, count=0xFFFF, zip64=zip64_end(true_count=1)),
    "descriptor": described(struct.pack("<LLL", *FACTS)),
    "signed descriptor": described(struct.pack("<4sLLL", b"PK\x07\x08", *FACTS)),
    "wide descriptor": described(struct.pack("<LQQ", *FACTS)),
    "wide signed descriptor": described(struct.pack("<4sLQQ", b"PK\x07\x08", *FACTS)),
    "folder and names": named(b"f/", b"f/a", "Straße".encode(), b"Strasse"),
    "as deep and long as may be": named(b"d/" * 32 + b"a", b"n" * 255),
    "empty file": build(E(name=b"a", data=b"")),
    "a whole number of pieces": build(E(name=b"a", data=bytes(3 * 1024 * 1024))),
    "deflated folder": build(A, E(name=b"f/", data=b"")),
    "unicode extra of another name": build(E(name=b"a", extra=STALE)),
    "padded extra": build(E(name=b"a", extra=b"\0\0\0")),
}


@pytest.mark.parametrize("case", GOOD_ONES)
def test_what_the_hostile_ones_differ_from_is_good(case: str, tmp_path: Path) -> None:
    """Otherwise the table above would prove nothing."""
    file = tmp_path / "in.zip"
    file.write_bytes(GOOD_ONES[case])
    check(file)
    unpack(file, tmp_path / "out")
    assert any((tmp_path / "out").iterdir())


def test_a_bomb_stops_at_the_ratio_and_at_the_total(tmp_path: Path) -> None:
    file = tmp_path / "bomb.zip"
    file.write_bytes(build(E(name=b"a", data=bytes(3_000_000))))
    check(file)
    with pytest.raises(BadZip, match="far more than it should"):
        check(file, caps=CAPS._replace(ratio_free=1_000_000, ratio=100))
    with pytest.raises(BadZip, match="at most 2000000 are allowed"):
        check(file, caps=CAPS._replace(total=2_000_000))


def test_many_small_bombs_count_together(tmp_path: Path) -> None:
    file = tmp_path / "bombs.zip"
    file.write_bytes(build(*(E(name=b"%d" % n, data=bytes(300_000)) for n in range(10))))
    with pytest.raises(BadZip, match="far more than it should"):
        check(file, caps=CAPS._replace(ratio_free=2_000_000, ratio=100))


def test_the_message_does_not_repeat_an_endless_name(tmp_path: Path) -> None:
    file = tmp_path / "in.zip"
    file.write_bytes(named(b"n" * 60_000))
    with pytest.raises(BadZip) as refused:
        check(file)
    assert len(str(refused.value)) < 500


def test_unpack_follows_no_link_and_overwrites_nothing(tmp_path: Path) -> None:
    file, target, outside = tmp_path / "in.zip", tmp_path / "target", tmp_path / "outside"
    outside.mkdir()
    target.mkdir()
    file.write_bytes(named(b"f/a"))
    (target / "f").symlink_to(outside)
    with pytest.raises(OSError):
        unpack(file, target)
    (target / "f").unlink()
    (target / "f").mkdir()
    (target / "f/a").symlink_to(outside / "a")
    with pytest.raises(FileExistsError):
        unpack(file, target)
    assert not list(outside.iterdir())
