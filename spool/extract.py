"""One entry out of a zip, in verified pieces.

``archive`` takes all of an input; here one file of a zip is read alone, as
results are looked at. Whoever packed the zip may be hostile: nothing is read
whole, no piece goes beyond the size that the entry says, and an entry whose
data promise much and yield nothing is given up early.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

from spool.entrynames import Caps, shown
from spool.errors import BadZip
from spool.zipindex import STORED, Index, Item, data_start, read_index

RESULT_CAPS = Caps(entries=100_000, depth=128, path=32 * 1024)
"""What ``packing`` makes of a model's results can be deeper and longer than an input may be."""

MOST_INDEX = 16 * 1024 * 1024  # bytes of one zip that are read for its index

_CHUNK = 64 * 1024  # bytes of the zip that are read at once
_PIECE = 1024 * 1024  # bytes that one step of inflating may yield

# Deflate knows blocks that hold nothing: gigabytes of them would keep a reader who wants
# the first line of a file. No packer needs as many bytes as this for what comes out.
_FRUITLESS = 16  # bytes of the zip for each byte that came out,
_FRUITLESS_FREE = 4 * 1024 * 1024  # and so many besides


class Contents:
    """The files of one zip by their names. It holds no file open, and may be kept and shared."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._places: dict[str, int] = {}
        for place, item in enumerate(index.items):
            if item.is_folder:
                continue
            if item.name in self._places:
                raise BadZip("the zip holds this name twice", shown(item.name))
            self._places[item.name] = place

    def __len__(self) -> int:
        return len(self._places)

    @property
    def weight(self) -> int:
        """Bytes of the zip's directory: what it costs to keep this grows with them."""
        return self._index.size - self._index.directory_at

    def files(self) -> Iterator[Item]:
        """The files, in the order of the zip."""
        return (self._index.items[place] for place in self._places.values())

    def item(self, name: str) -> Item:
        """Raises KeyError."""
        return self._index.items[self._places[name]]

    def pieces(self, file: BinaryIO, name: str) -> Iterator[bytes]:
        """The file ``name`` out of ``file``, the zip that these are the contents of.

        Raises KeyError if there is no such file; BadZip here, or between two
        pieces, as soon as something is not as the zip says. OSError passes through.
        """
        place = self._places[name]
        item = self._index.items[place]
        file.seek(data_start(file, item, self._index.end_of(place)))
        return verified(inflated(file, item), item)


def read_contents(file: BinaryIO, caps: Caps = RESULT_CAPS) -> Contents:
    """The files of the zip ``file``, which may be anybody's. Raises BadZip, OSError."""
    return Contents(read_index(cast(BinaryIO, _Sparing(file, MOST_INDEX)), caps))


class _Sparing:
    """A file of which ``most`` bytes may be read: a directory of long names fills memory."""

    def __init__(self, file: BinaryIO, most: int) -> None:
        self._file, self._left = file, most
        self.seek = file.seek

    def read(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise BadZip("the zip's list of files is too long to be shown")
        return self._file.read(size)


def verified(pieces: Iterator[bytes], item: Item) -> Iterator[bytes]:
    """``pieces``, as long as they agree with what the zip says of ``item``. Raises BadZip."""
    crc = size = 0
    for piece in pieces:
        size += len(piece)
        if size > item.size:
            raise BadZip(f"it holds more than the {item.size} bytes it says", shown(item.name))
        crc = zlib.crc32(piece, crc)
        yield piece
    if size != item.size:
        raise BadZip(f"it holds {size} bytes and says {item.size}", shown(item.name))
    if crc != item.crc:
        raise BadZip(
            "its checksum (CRC) is wrong: the zip is damaged; zip it, or send it, again",
            shown(item.name),
        )


def inflated(file: BinaryIO, item: Item) -> Iterator[bytes]:
    """The unpacked bytes of ``item``, whose data begin at ``file``'s position. Raises BadZip."""
    left = item.packed
    if item.method == STORED:
        while left:
            data = _take(file, min(left, _PIECE), item)
            left -= len(data)
            yield data
        return
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    patience = _FRUITLESS_FREE
    try:
        while left and not inflater.eof:
            data = _take(file, min(left, _CHUNK), item)
            left -= len(data)
            patience -= len(data)
            while data and not inflater.eof:
                if piece := inflater.decompress(data, _PIECE):
                    patience += _FRUITLESS * len(piece)
                    yield piece
                data = inflater.unconsumed_tail
            if patience < 0:
                raise BadZip("its data go on and on and yield nothing", shown(item.name))
        while not inflater.eof and (piece := inflater.decompress(b"", _PIECE)):
            yield piece
    except zlib.error:
        raise BadZip(
            "its data are damaged and cannot be unpacked; zip it, or send it, again",
            shown(item.name),
        ) from None
    if not inflater.eof:
        raise BadZip("its data end too early; zip it, or send it, again", shown(item.name))
    if left or inflater.unused_data:
        raise BadZip("its data go on after their end", shown(item.name))


def _take(file: BinaryIO, length: int, item: Item) -> bytes:
    data = file.read(length)
    if not data:
        raise BadZip("the zip is cut off in the middle of it", shown(item.name))
    return data
