"""The structure of a zip, read strictly.

The standard library's reader is made to open what it can: it accepts bytes
before the first header, searches for an end record, and believes the central
directory alone. A cut zip that holds another zip then opens *as the inner
one*. Here every byte of the file must be accounted for, once::

    [header name extra data descriptor?]*  central directory  zip64 end?  end comment

Sizes and offsets come from the central directory, each local header is
compared with it, and between one entry's end and the next one's start there is
nothing. All errors are BadZip; OSError passes through.
"""

from __future__ import annotations

import stat
import struct
from typing import BinaryIO, NamedTuple, NoReturn

from spool.entrynames import Caps, check_name, decode, shown
from spool.errors import WHOLE, BadZip

STORED, DEFLATED = 0, 8

_METHODS = {
    1: "Shrink", 6: "Implode", 9: "Deflate64", 12: "BZIP2", 14: "LZMA", 93: "Zstandard",
    95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd", 99: "AES encryption",
}  # fmt: skip
_OTHER_FORMATS = (
    (b"\x1f\x8b", "a gzip file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z file"),
    (b"Rar!", "a RAR file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ\x00", "an xz file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"%PDF", "a PDF"),
    (b"<", "a web page or XML"),
    (b"{", "a JSON text"),
    (b"MZ", "a Windows program"),
    (b"\x7fELF", "a program"),
)

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_FULL16, _FULL32 = 0xFFFF, 0xFFFFFFFF  # "see the zip64 field"
_ENCRYPTED = 1 << 0 | 1 << 6 | 1 << 13  # flags: encrypted, strongly, central directory masked
_DESCRIPTOR, _UTF8 = 1 << 3, 1 << 11  # flags: sizes follow the data, the name is UTF-8
_PART, _ONE = "this is one part of a split zip; send it as one file", "a zip in one file"
_LOCKED = "it is encrypted; zip it again without a password"
_PACKED = "files that are packed with Deflate, or stored"
_KINDS = "plain files and folders"
_CUT = "the zip is cut off or damaged; zip it, or send it, again"


class Item(NamedTuple):
    """One entry as the central directory has it. ``mode`` holds Unix permissions, or 0."""

    raw: bytes
    name: str
    method: int
    crc: int
    packed: int
    size: int
    offset: int
    mode: int

    @property
    def is_folder(self) -> bool:
        return self.name.endswith("/")


class Index(NamedTuple):
    """The entries by their place in the file, where the central directory begins, and the size."""

    items: list[Item]
    directory_at: int
    size: int

    def end_of(self, number: int) -> int:
        """Where the entry ``number`` must end: where the next thing begins."""
        following = number + 1
        return self.items[following].offset if following < len(self.items) else self.directory_at


def read_index(file: BinaryIO, caps: Caps) -> Index:
    """The central directory of ``file``, with all names checked. Raises BadZip."""
    size = file.seek(0, 2)
    count, directory_at, directory_end = _read_end(file, size)
    if count > caps.entries:
        reason = f"the zip has {count} entries; at most {caps.entries} are allowed"
        raise BadZip(reason, expected=f"at most {caps.entries} entries")
    if count * _CENTRAL.size > directory_end - directory_at:
        raise BadZip("the zip says that it has more entries than its directory has room for")
    items = []
    at = directory_at
    for _ in range(count):
        item, at = _read_central(file, at, directory_end)
        check_name(item.name, caps)
        items.append(item)
    if at != directory_end:
        raise BadZip("the zip's directory has bytes in it that belong to no entry")
    items.sort(key=lambda item: item.offset)
    if items and items[-1].offset >= directory_at:
        _bad(items[-1], "there is no such entry where the zip's directory says")
    first = items[0].offset if items else directory_at
    if first != 0:
        raise BadZip(f"the zip has {first} bytes before its first entry; {_CUT}")
    return Index(items, directory_at, size)


def data_start(file: BinaryIO, item: Item, end: int) -> int:
    """Where ``item``'s data begins, after comparing its local header. ``end``: see Index.end_of.

    Raises BadZip if the header says anything else than the central directory,
    or if the entry does not end exactly at ``end``.
    """
    head = _read(file, item.offset, min(_LOCAL.size, end - item.offset))
    if len(head) < _LOCAL.size or head[:4] != b"PK\x03\x04":
        _bad(item, "there is no such entry where the zip's directory says (or two overlap)")
    _, _, flags, method, _, _, crc, packed, size, name_len, extra_len = _LOCAL.unpack(head)
    start: int = item.offset + _LOCAL.size + name_len + extra_len
    if start + item.packed > end:
        _bad(item, "it overlaps the next entry")
    rest = _read(file, item.offset + _LOCAL.size, name_len + extra_len)
    if rest[:name_len] != item.raw:
        _bad(item, "its own header has another name than the zip's directory")
    if flags & _ENCRYPTED:
        _bad(item, _LOCKED, "a zip without a password")
    if method != item.method:
        _bad(item, "its own header has another method than the zip's directory")
    size, packed = _wide(item.name, _extras(rest[name_len:]), size, packed)
    expected = (item.crc, item.packed, item.size)
    said = (crc, packed, size)
    later = bool(flags & _DESCRIPTOR)
    if any(a != b and not (later and a == 0) for a, b in zip(said, expected, strict=True)):
        _bad(item, "its own header has other sizes than the zip's directory")
    _check_tail(file, item, start + item.packed, end, later)
    return start


def _check_tail(file: BinaryIO, item: Item, data_end: int, end: int, later: bool) -> None:
    """Between data and the next thing lies nothing, or a descriptor that agrees."""
    if not later:
        if data_end != end:
            _bad(item, f"it is followed by {end - data_end} bytes that belong to no entry")
        return
    forms = {12: "<LLL", 16: "<4sLLL", 20: "<LQQ", 24: "<4sLQQ"}
    form = forms.get(end - data_end)
    if form is not None:
        fields = struct.unpack(form, _read(file, data_end, end - data_end))
        if fields[0] == b"PK\x07\x08":
            fields = fields[1:]
        if fields == (item.crc, item.packed, item.size):
            return
    _bad(item, "what follows its data does not agree with the zip's directory")


def _read_end(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """(number of entries, start, end of the central directory)."""
    at = _find_end(file, size)
    fields = _END.unpack(_read(file, at, _END.size))
    _, disk, directory_disk, here, count, length, start, _ = fields
    directory_end = at
    locator = _read(file, at - _LOCATOR.size, _LOCATOR.size) if at >= _LOCATOR.size else b""
    if locator[:4] == b"PK\x06\x07":
        _, _, directory_end, disks = _LOCATOR.unpack(locator)
        if disks > 1:
            raise BadZip(_PART, expected=_ONE)
        if directory_end + _END64.size + _LOCATOR.size != at:
            raise BadZip(f"the zip's 64-bit end record is not where it must be; {_CUT}")
        wide = _END64.unpack(_read(file, directory_end, _END64.size))
        if wide[0] != b"PK\x06\x06" or wide[1] != _END64.size - 12:
            raise BadZip(f"the zip's 64-bit end record is damaged; {_CUT}")
        for narrow, full, value in zip(
            (disk, directory_disk, here, count, length, start),
            (_FULL16,) * 4 + (_FULL32,) * 2,
            wide[4:],
            strict=True,
        ):
            if narrow not in (full, value):
                raise BadZip("the zip's two end records contradict each other")
        disk, directory_disk, here, count, length, start = wide[4:]
    if disk or directory_disk or here != count:
        raise BadZip(_PART, expected=_ONE)
    if start + length != directory_end:
        raise BadZip(f"the zip's directory is not where its end record says; {_CUT}")
    return count, start, directory_end


def _find_end(file: BinaryIO, size: int) -> int:
    """Where the end record begins: the only one whose comment ends with the file."""
    head = _read(file, 0, min(size, 8))
    if size == 0:
        raise BadZip("the file is empty", expected="a zip file")
    if not b"PK".startswith(head[:2]):
        kind = next((k for magic, k in _OTHER_FORMATS if head.startswith(magic)), "something else")
        raise BadZip(f"this is no zip file but {kind}; send a .zip", expected="a zip file")
    tail_at = max(0, size - _END.size - _FULL16)
    tail = _read(file, tail_at, size - tail_at)
    found = []
    at = tail.find(b"PK\x05\x06")
    while at != -1:
        comment = tail[at + _END.size - 2 : at + _END.size]
        if len(comment) == 2 and at + _END.size + int.from_bytes(comment, "little") == len(tail):
            found.append(tail_at + at)
        at = tail.find(b"PK\x05\x06", at + 1)
    if not found:
        raise BadZip(f"the zip has no end record at its end: {_CUT}")
    if len(found) > 1:
        raise BadZip("the zip has two end records, so it can be read in two ways")
    return found[0]


def _read_central(file: BinaryIO, at: int, directory_end: int) -> tuple[Item, int]:
    """The item whose central header stands at ``at``, and where the next one does."""
    if at + _CENTRAL.size > directory_end:
        raise BadZip(f"the zip's directory ends in the middle of an entry; {_CUT}")
    fields = _CENTRAL.unpack(_read(file, at, _CENTRAL.size))
    magic, made_by, _, flags, method, _, _, crc, packed, size = fields[:10]
    name_len, extra_len, comment_len, disk, _, attributes, offset = fields[10:]
    if magic != b"PK\x01\x02":
        raise BadZip(f"the zip's directory is damaged; {_CUT}")
    at += _CENTRAL.size
    following = at + name_len + extra_len + comment_len
    if following > directory_end:
        raise BadZip(f"the zip's directory ends in the middle of an entry; {_CUT}")
    rest = _read(file, at, name_len + extra_len)
    raw, extras = rest[:name_len], _extras(rest[name_len:])
    name = decode(raw, bool(flags & _UTF8), extras.get(0x7075))
    size, packed, offset = _wide(name, extras, size, packed, offset)
    item = Item(raw, name, method, crc, packed, size, offset, attributes >> 16)
    _check_kind(item, flags, disk)
    # Only Unix (3) and macOS (19) put permissions there.
    mode = item.mode & 0o777 if made_by >> 8 in (3, 19) else 0
    return item._replace(mode=mode), following


def _check_kind(item: Item, flags: int, disk: int) -> None:
    """Raises BadZip unless ``item`` is a plain file or folder that we can read."""
    if flags & _ENCRYPTED:
        _bad(item, _LOCKED, "a zip without a password")
    if item.method not in (STORED, DEFLATED):
        known = _METHODS.get(item.method, "an unknown method")
        hint = "zip it again with the method Deflate"
        if item.method == 9:
            hint += (
                " (Windows Explorer takes Deflate64 for files above 2 GB; 7-Zip lets you choose)"
            )
        _bad(item, f"it is packed with {known} (method {item.method}); {hint}", _PACKED)
    kind = stat.S_IFMT(item.mode)
    if kind == stat.S_IFLNK:
        _bad(item, "it is a symbolic link; put the file itself into the zip", _KINDS)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        _bad(item, "it is neither a file nor a folder but a device, pipe or socket", _KINDS)
    if kind == stat.S_IFDIR and not item.is_folder:
        _bad(item, "it says that it is a folder, but its name does not end in '/'")
    if item.is_folder and item.size:
        _bad(item, "it is a folder and has contents")
    if item.method == STORED and item.packed != item.size:
        _bad(item, "it is stored, and yet its two sizes differ")
    if disk:
        _bad(item, "it lies in another part of a split zip; send it as one file", _ONE)


def _extras(data: bytes) -> dict[int, bytes]:
    """The extra fields by their kind; of a repeated kind the first. Padding is skipped."""
    fields: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("<HH", data, at)
        at += 4
        if at + length > len(data):
            break
        fields.setdefault(kind, data[at : at + length])
        at += length
    return fields


def _wide(name: str, extras: dict[int, bytes], *values: int) -> tuple[int, ...]:
    """``values`` with those that are full replaced, in order, from the zip64 field."""
    if _FULL32 not in values:
        return values
    field, at = extras.get(1, b""), 0
    result = []
    for value in values:
        if value == _FULL32:
            if at + 8 > len(field):
                raise BadZip("its 64-bit sizes are missing", shown(name))
            (value,) = struct.unpack_from("<Q", field, at)
            at += 8
        result.append(value)
    return tuple(result)


def _read(file: BinaryIO, at: int, length: int) -> bytes:
    if at < 0 or at > 2**62:
        raise BadZip(f"the zip points outside of itself; {_CUT}")
    file.seek(at)
    data = file.read(length)
    if len(data) < length:
        raise BadZip(_CUT)
    return data


def _bad(item: Item, reason: str, expected: str = WHOLE) -> NoReturn:
    raise BadZip(reason, shown(item.name), expected=expected)
