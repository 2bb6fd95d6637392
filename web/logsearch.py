"""Finds lines of a log that hold a text, in a bounded number of bytes. Pure but for reading.

A log may have 500 MB and no newline at all: it is read in pieces, of each line only
what stands around its first hit is kept, and memory does not grow with line or file.
Upper and lower case count as one where both are single characters, in any script.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from web import terminal

PIECE = 1024 * 1024  # bytes read at once
MOST_SCANNED = 64 * 1024 * 1024  # bytes of one search
MOST_LINES = 100  # of one search
SHOWN = 300  # characters of a line in the answer
LONGEST = 200  # characters that can be looked for

_BEFORE, _AFTER = 320, 1200  # bytes around a hit's beginning that its line's text is made of
_IN_FRONT = 80  # characters of the text that stand in front of the hit, where it is cut
_BACK = 64 * 1024  # bytes before the first one searched, in which its line may begin

# (start, end) of the first hit at or after a place, or None
_Find = Callable[[bytes, int], tuple[int, int] | None]


class Line(NamedTuple):
    """``offset`` is that of the line's first byte; ``text`` what stands around the hit."""

    offset: int
    text: str


class Found(NamedTuple):
    """``next`` is where to go on; None: all was searched."""

    lines: list[Line]
    next: int | None


def search(
    file: BinaryIO,
    size: int,
    text: str,
    start: int = 0,
    limit: int = MOST_LINES,
    *,
    most: int = MOST_SCANNED,
    piece: int = PIECE,
) -> Found:
    """The first lines of ``file`` that hold ``text`` (1 to ``LONGEST`` characters) after ``start``.

    ``size`` is that of the file, or the part of it that counts. A line that is longer than
    ``most`` bytes counts as several. OSError passes through.
    """
    if "\n" in text or start >= size:  # no file system can seek as far as somebody may ask for
        return Found([], None)
    ascii_only = text.isascii()
    find = _in_ascii(text) if ascii_only else _in_unicode(text)
    scan = _Scan(file, start, min(size, start + most), piece, lowered=ascii_only)
    lines: list[Line] = []
    while len(lines) < limit:
        hit = scan.find(find)
        if hit is None:
            break
        lines.append(Line(scan.line, scan.around(hit)))
        if not scan.to_next_line():
            break
    else:  # as many as were wanted, and a line begins here
        return Found(lines, scan.line if scan.line < size else None)
    if scan.end >= size or scan.short:
        return Found(lines, None)
    if scan.line > start:  # its rest was not searched: it comes next, from its beginning
        return Found([line for line in lines if line.offset < scan.line], scan.line)
    return Found(lines, scan.end if lines else scan.end - _AFTER)


def _in_ascii(text: str) -> _Find:
    """For ASCII, which no other character's bytes hold. What is searched is in lower case."""
    wanted = text.lower().encode()

    def find(data: bytes, start: int) -> tuple[int, int] | None:
        at = data.find(wanted, start)
        return None if at < 0 else (at, at + len(wanted))

    return find


def _in_unicode(text: str) -> _Find:
    """For any text. A regular expression would take a time that grows with both lengths."""
    wanted = _folded(text)

    def find(data: bytes, start: int) -> tuple[int, int] | None:
        # The escape keeps what is no UTF-8, byte for byte: so places can be told in bytes.
        characters = data[start:].decode(errors="surrogateescape")
        at = _folded(characters).find(wanted)
        if at < 0:
            return None
        begin = start + len(characters[:at].encode(errors="surrogateescape"))
        hit = characters[at : at + len(wanted)].encode(errors="surrogateescape")
        return begin, begin + len(hit)

    return find


def _folded(text: str) -> str:
    """``text`` without its cases, each character in its place."""
    # The only one whose lower case is two characters; and the two forms of one letter.
    return text.replace("\u0130", "i").lower().replace("\u03c2", "\u03c3")


class _Scan:
    """A look at a file through a buffer that moves on.

    ``line`` is the offset of the line at which the scan stands, ``end`` where it stops; a file
    that is shorter than it was said to be ends the scan where it ends.
    """

    def __init__(self, file: BinaryIO, start: int, end: int, piece: int, *, lowered: bool) -> None:
        self.end = end
        self._file, self._piece, self._lower = file, piece, lowered
        self._base = max(0, start - _BACK)  # the offset of the buffer's first byte
        self._read = self._base  # and that of the next byte to read
        self.short = False  # the file ended before `end`: somebody cut it
        self._data = self._lowered = b""
        self._at = 0  # where in the buffer the scan stands
        self._fill(start - self._base)
        self._at = min(start - self._base, len(self._data))
        begins = self._data.rfind(b"\n", 0, self._at)
        self.line = self._base + begins + 1 if begins >= 0 or self._base == 0 else start

    def find(self, find: _Find) -> tuple[int, int] | None:
        """The next hit, in the buffer; ``line`` is then its line. None at the end."""
        while True:
            hit = find(self._lowered, self._at)
            # At least as much follows in the buffer as is shown of it, or as a hit is long.
            reach = len(self._data) - (0 if self._whole else _AFTER)
            self._pass(max(self._at, min(hit[0], reach) if hit else reach))
            if hit and hit[0] < reach:
                return hit
            if self._whole:
                return None
            self._fill(self._piece)

    def to_next_line(self) -> bool:
        """Go to where the next line begins; False: not before the end."""
        while True:
            newline = self._data.find(b"\n", self._at)
            if newline >= 0:
                self._at = newline + 1
                self.line = self._base + self._at
                return True
            self._at = len(self._data)
            if self._whole:
                return False
            self._fill(self._piece)

    def around(self, hit: tuple[int, int]) -> str:
        """The text of the hit's line, cut to ``SHOWN`` characters around it.

        Of a line that was rewritten, as it stood at the time.
        """
        begin = max(self.line - self._base, hit[0] - _BEFORE, 0)
        before = self._data[begin : hit[0]]
        cut = begin > self.line - self._base and b"\r" not in before
        before = before[before.rfind(b"\r") + 1 :]
        rest, *more = re.split(rb"[\r\n]", self._data[hit[0] : hit[0] + _AFTER], maxsplit=1)
        front = terminal.plain(before, cut=cut)
        if len(front) > _IN_FRONT:
            front, cut = front[-_IN_FRONT:], True
        text = ("…" if cut else "") + front + terminal.plain(rest)
        if len(text) > SHOWN or (not more and len(rest) == _AFTER):
            text = text[: SHOWN - 1] + "…"
        return text

    @property
    def _whole(self) -> bool:
        return self.short or self._read >= self.end

    def _pass(self, to: int) -> None:
        newline = self._data.rfind(b"\n", self._at, to)
        if newline >= 0:
            self.line = self._base + newline + 1
        self._at = to

    def _fill(self, size: int) -> None:
        """Read on, and let go what lies far behind."""
        gone = max(0, self._at - _BEFORE)
        self._file.seek(self._read)
        wanted = max(0, min(size, self.end - self._read))
        piece = self._file.read(wanted)
        self.short = len(piece) < wanted
        self._read += len(piece)
        self._data = self._data[gone:] + piece
        self._base += gone
        self._at -= gone
        self._lowered = self._data.lower() if self._lower else self._data
