"""What an input zip may call its entries. Pure.

A zip comes from anywhere and is unpacked on Linux, but its user may sit at
Windows or macOS: a name must mean one and the same file on all three, and must
not lie to somebody who reads it in a list. ``Caps`` are the limits that the
rest of the guard (``zipindex``, ``archive``) keeps as well.
"""

from __future__ import annotations

import re
import struct
import unicodedata
import zlib
from collections.abc import Iterable
from typing import NamedTuple

from spool.errors import BadZip

_PLAIN = "a plain path within the zip, such as data/table.csv"
_ONCE = "each name once, however it is written"

SHOWN = 120  # characters of an entry's name that a message repeats


class Caps(NamedTuple):
    """The limits of one zip. Sizes are in bytes.

    ``entries`` is their number, ``depth`` that of the folders above a file, ``name`` and
    ``path`` of UTF-8 bytes. ``total`` limits what comes out; ``ratio`` is what
    comes out for each byte of the zip, and is looked at only beyond
    ``ratio_free``, because small files of blanks are no attack.
    """

    entries: int = 50_000
    depth: int = 32
    name: int = 255
    path: int = 1024
    total: int = 64 * 1024**3
    ratio: int = 250
    ratio_free: int = 256 * 1024**2


CAPS = Caps()

_DRIVE = re.compile(r"[A-Za-z]:")
# C0, DEL, C1; line and paragraph separators; marks that turn the reading direction.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def shown(name: str) -> str:
    """``name``, cut to what a message has room for."""
    return name if len(name) <= SHOWN else name[:SHOWN] + "…"


def decode(raw: bytes, utf8: bool, unicode_extra: bytes | None) -> str:
    """The name that ``raw`` stands for. Raises BadZip.

    ``utf8`` is the entry's flag. Without it the specification says code page
    437, yet macOS and many libraries write UTF-8 there: what reads as UTF-8 is
    taken as such. ``unicode_extra`` is Info-ZIP's field 0x7075, which is valid
    only for the very name that it was made for.
    """
    if unicode_extra is not None and len(unicode_extra) > 5 and unicode_extra[0] == 1:
        (made_for,) = struct.unpack_from("<L", unicode_extra, 1)
        if made_for == zlib.crc32(raw):
            raw, utf8 = unicode_extra[5:], True
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        if utf8:
            name = raw.decode("utf-8", "backslashreplace")
            raise BadZip(
                "the name is marked as UTF-8 and is not", shown(name), expected=_PLAIN
            ) from None
        return raw.decode("cp437")


def check_name(name: str, caps: Caps) -> None:
    """Raises BadZip if ``name`` is not a plain relative path; a folder's name ends in ``/``."""
    reason = _fault(name, caps)
    if reason:
        raise BadZip(reason, shown(name), expected=_PLAIN)


def _fault(name: str, caps: Caps) -> str | None:
    if not name:
        return "the zip has an entry without a name"
    if _CONTROL.search(name):
        return "the name has a control character in it; rename the file and zip it again"
    if "\\" in name:
        return "the name has a backslash in it; folders in a zip are parted by '/'"
    if name[0] == "/":
        return "the name is an absolute path; only paths within the zip are allowed"
    if _DRIVE.match(name):
        return "the name begins with a drive letter; only paths within the zip are allowed"
    parts = name.removesuffix("/").split("/")
    if ".." in parts:
        return "the name leads out of its folder with '..'"
    if "" in parts or "." in parts:
        return "the name has an empty part or a '.' in it"
    if len(parts) - 1 > caps.depth:
        return f"it lies {len(parts) - 1} folders deep; at most {caps.depth} are allowed"
    if len(name.encode()) > caps.path:
        return f"the path is {len(name.encode())} bytes long; at most {caps.path} are allowed"
    longest = max(len(part.encode()) for part in parts)
    if longest > caps.name:
        return f"a name in the path is {longest} bytes long; at most {caps.name} are allowed"
    return None


def check_tree(names: Iterable[str]) -> None:
    """Raises BadZip if two of ``names`` would be one file somewhere, or a file is also a folder."""
    seen: dict[str, tuple[str, bool]] = {}  # folded path: as written, whether it is a folder
    listed: set[str] = set()
    parents: set[str] = set()
    for name in names:
        path = name.removesuffix("/")
        parent = path.rpartition("/")[0]
        if parent and parent not in parents:
            at = parent.find("/")
            while at != -1:
                _place(seen, parent[:at], True, name)
                at = parent.find("/", at + 1)
            _place(seen, parent, True, name)
            parents.add(parent)
        _place(seen, path, name.endswith("/"), name)
        if path in listed:
            raise BadZip("the zip holds this name twice", shown(name), expected=_ONCE)
        listed.add(path)


def _place(seen: dict[str, tuple[str, bool]], path: str, folder: bool, name: str) -> None:
    other, other_folder = seen.setdefault(_folded(path), (path, folder))
    if other != path:
        what = "differs only in upper and lower case (or in how its accents are written)"
        reason = f"{what} from {shown(other)!r}; rename one of them"
        raise BadZip(reason, shown(name), expected=_ONCE)
    if other_folder != folder:
        reason = f"{shown(path)!r} is both a file and a folder in the zip"
        raise BadZip(reason, shown(name), expected=_ONCE)


def _folded(path: str) -> str:
    # lower(), not casefold(): "Straße" and "Strasse" are two files on every system.
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", path.lower())
