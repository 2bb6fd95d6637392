"""Where an input comes from: a file, a folder, or an address that the server fetches."""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.parse import unquote, urlsplit

from client.zipping import zipped

PathLike = str | os.PathLike[str]
Source = PathLike | BinaryIO

NAMELESS = "input"  # what a job is called whose input has no name
LONGEST = 200  # characters of a job's name
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_address(source: Source) -> bool:
    return isinstance(source, str) and source.lower().startswith(("http://", "https://"))


def name(source: Source) -> str:
    """What a job on this input is called if nobody says: as its file, or its folder.

    File names may hold what names of jobs must not: a line end, or more characters.
    """
    shown = "".join(c if c.isprintable() else " " for c in _name(source))
    return shown.strip()[:LONGEST].rstrip() or NAMELESS


def _name(source: Source) -> str:
    if not isinstance(source, str | os.PathLike):
        return _file_name(source)
    if is_address(source):
        address = urlsplit(str(source))
        last = PurePosixPath(unquote(address.path)).name or address.netloc
        return last[:-4] if last.lower().endswith(".zip") else last
    path = Path(source)
    return path.resolve().name if path.is_dir() else path.stem


def _file_name(file: BinaryIO) -> str:
    """Standard input, and what is in memory, has none that says anything."""
    named = getattr(file, "name", None)
    return Path(named).stem if isinstance(named, str) and not named.startswith("<") else ""


@contextmanager
def opened(source: Source) -> Iterator[BinaryIO]:
    """The zip, open for reading; of a folder, one that is made for it. Raises OSError."""
    if not isinstance(source, str | os.PathLike):
        with _rewindable(source) as file:
            yield file
        return
    if not os.fspath(source):  # a script's variable that was never set; Path takes it for "."
        raise FileNotFoundError(errno.ENOENT, "the name of the input is empty", "")
    path = Path(source)
    if path.is_dir():
        with zipped(path) as file:
            yield file
        return
    with _open(source) as opened_file, _rewindable(opened_file) as file:
        yield file


def _open(source: PathLike) -> BinaryIO:
    try:
        return Path(source).open("rb")
    except FileNotFoundError as e:
        if _SCHEME.match(text := os.fspath(source)):
            why = "no such file, and no address that can be used here"
            raise FileNotFoundError(errno.ENOENT, why, text) from e
        raise


@contextmanager
def _rewindable(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file, or a copy of what comes out of a pipe: it may have to be sent again."""
    if file.seekable():
        yield file
        return
    with tempfile.TemporaryFile(prefix="modelrunner-", suffix=".zip") as copy:
        shutil.copyfileobj(file, copy)
        copy.seek(0)
        yield copy
