"""A folder as an input zip."""

from __future__ import annotations

import os
import unicodedata
import zipfile
from pathlib import Path
from typing import Any

import pytest

from client.api import Client
from client.zipping import files, zipped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "input"
    (made / "deep" / "er").mkdir(parents=True)
    (made / "a").write_text("1")
    (made / "deep" / "er" / "b.csv").write_text("x" * 100_000)
    return made


def names(folder: Path) -> list[str]:
    with zipped(folder) as file, zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def test_files_are_named_from_the_folder_on(folder: Path) -> None:
    assert names(folder) == ["a", "deep/er/b.csv"]
    with zipped(folder) as file, zipfile.ZipFile(file) as archive:
        assert archive.read("deep/er/b.csv") == b"x" * 100_000
        assert archive.getinfo("deep/er/b.csv").compress_size < 1000


def test_what_systems_leave_behind_is_left_out(folder: Path) -> None:
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "._a"):
        (folder / "deep" / name).write_text("litter")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "x").touch()
    (folder / ".hidden").write_text("kept: somebody put it there")
    assert names(folder) == [".hidden", "a", "deep/er/b.csv"]


def test_names_are_written_as_elsewhere(folder: Path) -> None:
    (folder / unicodedata.normalize("NFD", "é.txt")).touch()
    assert unicodedata.normalize("NFC", "é.txt") in names(folder)


def test_old_files_and_links(folder: Path) -> None:
    os.utime(folder / "a", (0, 0))
    (folder / "linked").symlink_to(folder / "a")
    (folder / "twice").symlink_to(folder / "deep")
    assert names(folder) == ["a", "deep/er/b.csv", "linked", "twice/er/b.csv"]


def test_what_cannot_be_zipped_is_named(folder: Path) -> None:
    (folder / "deep" / "round").symlink_to(folder)
    with pytest.raises(OSError, match="leads back") as caught:
        list(files(folder))
    assert caught.value.filename == str(folder / "deep" / "round")
    (folder / "deep" / "round").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(OSError, match="neither a file nor a folder"):
        list(files(folder))
    (folder / "pipe").unlink()
    os.close(os.open(os.fsencode(folder) + b"/\xff", os.O_CREAT))
    with pytest.raises(OSError, match="not UTF-8"):
        list(files(folder))
    os.unlink(os.fsencode(folder) + b"/\xff")
    (folder / "nowhere").symlink_to(folder / "none")
    with pytest.raises(FileNotFoundError):
        list(files(folder))


def test_a_folder_is_an_input(hand: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client(hand.url)
    client.validate("echo", folder)
    job = client.submit("echo", folder)
    assert job["name"] == "input"
    with zipfile.ZipFile(hand.data / "jobs" / job["uuid"] / "input.zip") as archive:
        assert archive.namelist() == ["a", "deep/er/b.csv"]
    monkeypatch.chdir(folder)
    assert client.submit("echo", ".")["name"] == "input"
