"""A folder as an input zip, made in a temporary file: what the browser's page does as well."""

from __future__ import annotations

import errno
import os
import re
import stat
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

# What systems put into folders for themselves; the same as in web/static/picked.js.
LITTER = re.compile(r"\.DS_Store|Thumbs\.db|desktop\.ini|\._.*|__MACOSX", re.IGNORECASE)
LEVEL = 6  # of deflate


@contextmanager
def zipped(folder: Path) -> Iterator[BinaryIO]:
    """An open zip of what lies in ``folder``, by paths from there; gone at the end.

    Links are followed. Raises OSError where something cannot be read, is neither a file
    nor a folder, or leads back to a folder that it lies in; and where there is no file.
    """
    with tempfile.TemporaryFile(prefix="modelrunner-", suffix=".zip") as file:
        # Of files from before 1980, zip knows no date: it says 1980, which matters to nobody.
        with zipfile.ZipFile(
            file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL, strict_timestamps=False
        ) as archive:
            empty = True
            for path, name in files(folder):
                archive.write(path, name)
                empty = False
        if empty:
            raise OSError(errno.ENODATA, "there is no file in this folder", str(folder))
        file.seek(0)
        yield file


def files(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files below ``folder`` and their names in the zip, in the order of their names."""
    yield from _below(folder, "", (_identity(folder.stat()),))


def _below(
    folder: Path, prefix: str, above: tuple[tuple[int, int], ...]
) -> Iterator[tuple[Path, str]]:
    for path in sorted(folder.iterdir()):
        if LITTER.fullmatch(path.name):
            continue
        # as all systems but macOS write accents
        name = prefix + unicodedata.normalize("NFC", path.name)
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            here = _identity(found)
            if here in above:
                raise OSError(errno.ELOOP, "this leads back to a folder that it lies in", str(path))
            yield from _below(path, f"{name}/", (*above, here))
        elif stat.S_ISREG(found.st_mode):
            if not _is_text(name):
                raise OSError(errno.EILSEQ, "its name is not UTF-8; rename it", os.fspath(path))
            yield path, name
        else:
            raise OSError(errno.EINVAL, "this is neither a file nor a folder", str(path))


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
