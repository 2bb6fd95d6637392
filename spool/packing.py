"""Output zips: a folder as a model left it, into one file.

The folder's contents are a stranger's: links are never followed, names may be
any bytes, files may still change. What cannot be packed is left out and named
in a remark, so that a strange file never costs the results beside it.
"""

from __future__ import annotations

import os
import re
import stat
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

_CHUNK = 1024 * 1024  # bytes
_DEEPEST = 100  # folders; each costs an open descriptor. See archive.LISTING_CAPS
_LONGEST = 255  # bytes of a name
_MOST_REMARKS = 100

# What no deflate makes smaller.
_COMPRESSED = {
    ".7z", ".br", ".bz2", ".docx", ".gif", ".gz", ".jar", ".jpeg", ".jpg", ".lz4", ".mp3",
    ".mp4", ".npz", ".odt", ".ods", ".parquet", ".png", ".pptx", ".rar", ".tgz", ".webm",
    ".webp", ".whl", ".xlsx", ".xz", ".zip", ".zst",
}  # fmt: skip
# What archive.check would refuse, or another system could not write.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\\\\\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\udc80-\udcff]"
)


def pack(folder: Path, target: Path) -> list[str]:
    """Zip what is in ``folder`` into the file ``target``; gives remarks, one for each oddity.

    Regular files and empty folders only, in the order of their names. An
    existing ``target`` is replaced; it is whole only when this returns. Raises
    OSError if ``folder`` cannot be read or ``target`` not be written.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    top = os.open(folder, flags)
    try:
        with target.open("wb") as file, zipfile.ZipFile(file, "w", allowZip64=True) as out:
            packer = _Packer(out)
            packer.pack_folder(top, "", 0)
    finally:
        os.close(top)
    return packer.finished_remarks()


def safe_names(names: Iterable[str]) -> dict[str, str]:
    """What each name of one folder is called in the zip: itself, wherever that can be.

    Bytes that are no UTF-8, control characters and backslashes become ``%XX``;
    a name that is then too long is cut, one that is taken already gets a number.
    """
    taken = set(names)
    result = {}
    for name in sorted(taken, key=os.fsencode):
        safe = base = _UNSAFE.sub(_escaped, name)
        if safe[1:2] == ":" and safe[0].isascii() and safe[0].isalpha():
            safe = base = safe[0] + "%3A" + safe[2:]  # else a drive letter
        if safe != name and len(safe.encode()) > _LONGEST:
            safe = base = safe.encode()[: _LONGEST - 15].decode(errors="ignore")
        number = 2
        while safe != name and safe in taken:
            safe = f"{base}.{number}"
            number += 1
        taken.add(safe)
        result[name] = safe
    return result


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in os.fsencode(match[0]))


class _Packer:
    def __init__(self, out: zipfile.ZipFile) -> None:
        self._out = out
        self._remarks: list[str] = []
        self._more = 0

    def remark(self, name: str, text: str) -> None:
        if len(self._remarks) < _MOST_REMARKS:
            self._remarks.append(f"{name}: {text}")
        else:
            self._more += 1

    def finished_remarks(self) -> list[str]:
        return self._remarks + ([f"and {self._more} more remarks"] if self._more else [])

    def pack_folder(self, fd: int, prefix: str, depth: int) -> None:
        """All that is in the open folder ``fd``, whose name in the zip is ``prefix``."""
        for name, safe in safe_names(os.listdir(fd)).items():
            inside = prefix + safe
            if safe != name:
                self.remark(inside, "renamed; the name had bytes that a zip cannot hold")
            try:
                self._pack_one(fd, name, inside, depth)
            except FileNotFoundError:
                self.remark(inside, "left out: it vanished while the results were packed")

    def _pack_one(self, parent: int, name: str, inside: str, depth: int) -> None:
        kind = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not (stat.S_ISREG(kind.st_mode) or stat.S_ISDIR(kind.st_mode)):
            self.remark(inside, f"left out: it is {_kind(kind.st_mode)}, not a file or folder")
            return
        # O_NONBLOCK: what was a file a moment ago may be a pipe by now.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            fd = os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            raise  # pack_folder has the words for it
        except OSError as e:
            self.remark(inside, f"left out: it cannot be read ({e.strerror})")
            return
        try:
            status = os.fstat(fd)
            if stat.S_ISREG(status.st_mode):
                self._pack_file(fd, inside, status)
            elif not stat.S_ISDIR(status.st_mode):
                self.remark(inside, "left out: it changed while the results were packed")
            elif depth == _DEEPEST:
                self.remark(inside, f"left out: it lies more than {_DEEPEST} folders deep")
            else:
                if not os.listdir(fd):
                    self._out.writestr(_info(inside + "/", status), b"")
                self.pack_folder(fd, inside + "/", depth + 1)
        finally:
            os.close(fd)

    def _pack_file(self, fd: int, inside: str, status: os.stat_result) -> None:
        left = status.st_size  # no more than that, or a growing file would never end
        info = _info(inside, status)
        info.file_size = left  # tells zipfile whether this one needs 64-bit sizes
        with self._out.open(info, "w") as entry:
            while left:
                try:
                    data = os.read(fd, min(left, _CHUNK))
                except OSError as e:
                    self.remark(inside, f"only a part of it could be read ({e.strerror})")
                    return
                if not data:
                    break
                entry.write(data)
                left -= len(data)
        if left or os.fstat(fd).st_size != status.st_size:
            self.remark(inside, "it changed while the results were packed")


def _info(inside: str, status: os.stat_result) -> zipfile.ZipInfo:
    # A zip knows no time before 1980 or after 2107.
    moment = time.gmtime(min(max(status.st_mtime, 315532800), 4354819199))[:6]
    info = zipfile.ZipInfo(inside, moment)
    info.create_system = 3  # Unix, as are the permissions
    if inside.endswith("/"):
        info.external_attr = (stat.S_IFDIR | 0o755) << 16 | 0x10
        return info
    info.external_attr = (stat.S_IFREG | (0o755 if status.st_mode & 0o100 else 0o644)) << 16
    compressed = os.path.splitext(inside)[1].lower() in _COMPRESSED
    info.compress_type = zipfile.ZIP_STORED if compressed else zipfile.ZIP_DEFLATED
    info._compresslevel = 1  # type: ignore[attr-defined]  # its only way in for open()
    return info


def _kind(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a pipe" if stat.S_ISFIFO(mode) else "a device"
