"""Hostile files: none is believed, none is waited for, and none leaves a trace."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import socket
import stat
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from spool.believe import copy_believed, open_believed, read_believed
from spool.errors import Gone, NoSpace, Unbelievable

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "folder"
    made.mkdir()
    return made


def test_a_plain_file_is_believed(folder: Path) -> None:
    (folder / "x").write_bytes(b"12345")
    for limit in (5, None):
        with open_believed(folder, "x", limit) as file:
            assert file.read() == b"12345"


def test_what_is_not_there_is_gone(folder: Path) -> None:
    with pytest.raises(Gone):
        open_believed(folder, "x", None)
    with pytest.raises(Gone):
        open_believed(folder / "nowhere", "x", None)


def test_only_plain_files_are_believed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "dangling").symlink_to(tmp_path / "nowhere")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "socket"))
        for name in ("link", "dangling", "folder", "fifo", "socket"):
            with pytest.raises(Unbelievable, match=f"^{name}: not a regular file"):
                open_believed(folder, name, None)


def test_a_second_link_is_not_believed(folder: Path, tmp_path: Path) -> None:
    """It could be a file that is not the worker's at all, or be written through the other."""
    (folder / "x").touch()
    os.link(folder / "x", tmp_path / "other")
    with pytest.raises(Unbelievable, match="has 2 links"):
        open_believed(folder, "x", None)
    (tmp_path / "other").unlink()
    open_believed(folder, "x", None).close()


def test_a_hole_of_8_tib_is_over_any_limit(folder: Path) -> None:
    with (folder / "x").open("wb") as hole:
        hole.truncate(8 * 1024**4)
    with pytest.raises(Unbelievable, match="more than 1000"):
        open_believed(folder, "x", 1000)


def test_a_folder_that_is_a_link_is_not_entered(folder: Path, tmp_path: Path) -> None:
    (folder / "x").write_text("of another worker")
    (tmp_path / "mine").symlink_to(folder)
    with pytest.raises(Gone):
        open_believed(tmp_path / "mine", "x", None)


@needs_root
def test_a_file_of_another_owner_is_not_believed(folder: Path) -> None:
    (folder / "x").touch()
    os.chown(folder / "x", 12345, 12345)
    with pytest.raises(Unbelievable, match="belongs to user 12345"):
        open_believed(folder, "x", None)
    os.chown(folder, 12345, 12345)
    open_believed(folder, "x", None).close()


@pytest.mark.parametrize("swapped", ["fifo", "link"])
def test_a_file_that_is_swapped_between_look_and_open(
    folder: Path, tmp_path: Path, swapped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "x").touch()
    (tmp_path / "secret").write_text("secret")
    real = os.lstat

    def lstat(path: Any, **options: Any) -> os.stat_result:
        info = real(path, **options)
        (folder / "x").unlink(missing_ok=True)
        if swapped == "fifo":
            os.mkfifo(folder / "x")
        else:
            (folder / "x").symlink_to(tmp_path / "secret")
        return info

    monkeypatch.setattr(os, "lstat", lstat)
    with pytest.raises(Exception, match="x: ") as caught:
        open_believed(folder, "x", None)
    assert type(caught.value).__module__ == "spool.errors"


def test_a_file_that_is_replaced_while_it_is_opened_is_gone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As beats are, all the time: nobody's fault, and the next look finds the new one."""
    (folder / "beat").write_bytes(b"old")
    (folder / "half").write_bytes(b"new")
    real = os.fstat
    once = [True]

    def replacing(fd: int) -> os.stat_result:
        if once and not stat.S_ISDIR(real(fd).st_mode):
            once.clear()
            os.rename(folder / "half", folder / "beat")
        return real(fd)

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fstat", replacing)
    with pytest.raises(Gone, match="beat: it was replaced"):
        open_believed(folder, "beat", None)
    assert len(os.listdir("/proc/self/fd")) == before
    assert read_believed(folder, "beat", 10) == b"new"


def test_nothing_is_left_open_by_a_refusal(folder: Path) -> None:
    (folder / "x").write_bytes(b"12345")
    os.mkfifo(folder / "fifo")
    before = os.listdir("/proc/self/fd")
    for name in ("x", "fifo", "nothing"):
        with pytest.raises((Unbelievable, Gone)):
            open_believed(folder, name, 1)
    assert len(os.listdir("/proc/self/fd")) == len(before)


# --- copying -------------------------------------------------------------------------


def test_the_copy_is_hashed(tmp_path: Path) -> None:
    data = os.urandom(3 * 1024**2 + 7)
    target = tmp_path / "copy"
    size, sha256 = copy_believed(io.BytesIO(data), target, len(data))
    assert target.read_bytes() == data
    assert (size, sha256) == (len(data), hashlib.sha256(data).hexdigest())


class Growing(io.RawIOBase):
    """A file that its worker goes on writing to."""

    def read(self, size: int = -1) -> bytes:
        return b"x" * size


def test_a_file_that_grows_beyond_what_was_said_leaves_no_copy(tmp_path: Path) -> None:
    target = tmp_path / "copy"
    with pytest.raises(Unbelievable, match="longer than the report said"):
        copy_believed(cast(BinaryIO, Growing()), target, 10 * 1024**2)
    assert not target.exists()


def test_a_disk_that_fills_up_while_copying_gets_its_room_back(tmp_path: Path) -> None:
    """The half copy would otherwise keep the ledger from its last bytes."""

    class Filling(io.RawIOBase):
        left = 3

        def read(self, size: int = -1) -> bytes:
            self.left -= 1
            if not self.left:
                raise OSError(errno.ENOSPC, "No space left on device")
            return b"x" * size

    target = tmp_path / "copy"
    with pytest.raises(NoSpace, match="copy"):
        copy_believed(cast(BinaryIO, Filling()), target, 1024**3)
    assert not target.exists()


def test_a_full_device_is_no_space(tmp_path: Path) -> None:
    target = tmp_path / "copy"
    target.symlink_to("/dev/full")
    with pytest.raises(NoSpace):
        copy_believed(io.BytesIO(b"x" * 2**21), target, 2**22)
    assert not target.is_symlink()


def test_a_file_that_grows_while_it_is_read_is_not_read_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was short enough when it was looked at."""
    (folder / "x").write_bytes(b"12345")
    assert read_believed(folder, "x", 5) == b"12345"
    real = os.fstat

    def looked(fd: int) -> os.stat_result:
        found = real(fd)
        if (folder / "x").stat().st_size == 5 and found.st_ino == (folder / "x").stat().st_ino:
            os.truncate(folder / "x", 2**43)
        return found

    monkeypatch.setattr(os, "fstat", looked)
    with pytest.raises(Unbelievable, match="grows beyond 5 bytes"):
        read_believed(folder, "x", 5)


@pytest.mark.parametrize("number", [errno.EACCES, errno.ELOOP, errno.ENXIO])
def test_what_cannot_be_opened_is_its_writer_s_doing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Closed, or swapped for a link or a socket since it was looked at: never tried for ever."""
    (folder / "x").touch()
    real = os.open

    def opened(path: Any, *args: Any, **kw: Any) -> int:
        if path == "x":
            raise OSError(number, os.strerror(number))
        return real(path, *args, **kw)

    monkeypatch.setattr(os, "open", opened)
    with pytest.raises(Unbelievable, match=r"^x: "):
        open_believed(folder, "x", None)
