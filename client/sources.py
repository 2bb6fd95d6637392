"""Where an input comes from: a zip file, a folder, or an address that the server fetches."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlsplit

from client.zipping import zipped

Source = str | os.PathLike[str]


def is_address(source: Source) -> bool:
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def name(source: Source) -> str:
    """What a job on this input is called if nobody says: as its file, or its folder."""
    if is_address(source):
        address = urlsplit(str(source))
        return address.path.rstrip("/").rpartition("/")[2] or address.netloc
    path = Path(source)
    return path.resolve().name if path.is_dir() else path.stem


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The zip, open for reading; of a folder, one that is made for it. Raises OSError."""
    path = Path(source)
    if path.is_dir():
        with zipped(path) as file:
            yield file
    else:
        with path.open("rb") as file:
            yield file
