"""What honest tools make is accepted and unpacked; what a user forgot is explained."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from spool.archive import Entry, check, listing, unpack
from spool.errors import BadZip
from spool.expectations import Expectations
from spool.inputfiles import InputFile

CONTENTS = {
    "sleep_count": b"8\n",
    "data/ü.csv": b"a,b\n" * 5000,
    "data/deep/run.sh": b"#!/bin/sh\n",
}


def wants(*names: str) -> Expectations:
    """These files, with any contents."""
    return Expectations(InputFile(name=name) for name in names)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "folder"
    for name, data in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    (folder / "data/deep/run.sh").chmod(0o700)
    (folder / "empty").mkdir()
    return folder


def unpacked(file: Path) -> dict[str, bytes]:
    """The files of a zip that is good, by their names."""
    check(file, wants("sleep_count"))
    target = file.with_suffix(".out")
    unpack(file, target)
    return {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}


@pytest.mark.needs("zip")
@pytest.mark.parametrize("options", ["-qr", "-qr0", "-qr9", "-qrD", "-qrX", "-qrfz", "-qrj"])
def test_zip(options: str, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    # -fz, zip64 throughout, is one option of two letters.
    args = ["-qr", "-fz"] if options == "-qrfz" else [options]
    subprocess.run(["zip", *args, file, "."], cwd=folder, check=True)
    found = unpacked(file)
    if options == "-qrj":
        assert set(found) == {"sleep_count", "ü.csv", "run.sh"}
    else:
        assert found == CONTENTS
        assert (tmp_path / "a.out/empty").is_dir() == (options != "-qrD")


@pytest.mark.needs("zip")
@pytest.mark.parametrize("options", [["-qr"], ["-qr", "-fz-"]])
def test_zip_through_a_pipe(options: list[str], folder: Path, tmp_path: Path) -> None:
    """Sizes follow the data then."""
    piped = subprocess.run(
        ["zip", *options, "-", "."], cwd=folder, check=True, stdout=subprocess.PIPE
    ).stdout
    file = tmp_path / "a.zip"
    file.write_bytes(piped)
    assert unpacked(file) == CONTENTS


class Pipe(io.RawIOBase):
    """Where one can only write on."""

    def __init__(self) -> None:
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # type: ignore[no-untyped-def]
        self.data += data
        return len(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("piped", [False, True])
def test_python(method: int, wide: bool, piped: bool, tmp_path: Path) -> None:
    out = Pipe() if piped else io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.comment = b"from python"
        for name, data in CONTENTS.items():
            with archive.open(name, "w", force_zip64=wide) as entry:
                entry.write(data)
    file = tmp_path / "a.zip"
    file.write_bytes(bytes(out.data) if isinstance(out, Pipe) else out.getvalue())
    assert unpacked(file) == CONTENTS


def test_python_appending(tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    for name, data in CONTENTS.items():
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, data)
    assert unpacked(file) == CONTENTS


def entry(name: str, **fields: object) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def test_macos(tmp_path: Path) -> None:
    """Finder: a folder beside the files with what only macOS knows of them."""
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        mode = 0o100644 << 16
        archive.writestr(entry("sleep_count", external_attr=mode), b"8\n")
        archive.writestr(entry("__MACOSX/", external_attr=0o40775 << 16), b"")
        archive.writestr(entry("__MACOSX/._sleep_count", external_attr=mode), b"\0\5\x16\7")
    assert unpacked(file)["sleep_count"] == b"8\n"


def test_windows_explorer(tmp_path: Path) -> None:
    """DOS attributes, no permissions, folders as entries."""
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(entry("data/", create_system=0, external_attr=0x10), b"")
        archive.writestr(entry("sleep_count", create_system=0, external_attr=0x20), b"8\r\n")
        archive.writestr(entry("data/ü", create_system=0, external_attr=0x20), b"x")
    assert unpacked(file) == {"sleep_count": b"8\r\n", "data/ü": b"x"}


def test_old_names_are_read_as_code_page_437(tmp_path: Path) -> None:
    """Unless they read as UTF-8, which macOS writes without saying so."""
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sleep_count", b"8")
        archive.writestr("XX1", b"1")
        archive.writestr("XX2", b"2")
    data = file.read_bytes().replace(b"XX1", b"\x815\x8e").replace(b"XX2", "ü2".encode())
    file.write_bytes(data)
    assert set(unpacked(file)) == {"sleep_count", "ü5Ä", "ü2"}


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_modes_are_0644_or_0755_whatever_the_zip_and_the_umask_say(tmp_path: Path) -> None:
    file, out = tmp_path / "a.zip", tmp_path / "out"
    with zipfile.ZipFile(file, "w") as archive:
        for name, mode in {"plain": 0o600, "program": 0o700, "setuid": 0o6777, "none": 0}.items():
            archive.writestr(entry(name, external_attr=(stat.S_IFREG | mode) << 16), b"x")
    unpack(file, out)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in out.iterdir()}
    assert modes == {"plain": 0o644, "program": 0o755, "setuid": 0o755, "none": 0o644}


def test_listing_and_open_files(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(folder / "sleep_count", "sleep_count")
        archive.mkdir("empty")
    with file.open("rb") as opened:
        check(opened, wants("sleep_count"))
        assert listing(opened) == [Entry("sleep_count", 2), Entry("empty/", 0)]
        assert not opened.closed
    with zipfile.ZipFile(file, "w"):
        pass
    assert listing(file) == []


def zipped(tmp_path: Path, *names: str) -> Path:
    file = tmp_path / "a.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"" if name.endswith("/") else b"x")
    return file


@pytest.mark.parametrize(
    ("names", "required", "said"),
    [
        (["readme.txt"], ["a"], "no file 'a'; it holds: readme.txt. Put it at the top level"),
        (["x"], ["a", "b/c"], "no files 'a', 'b/c'"),
        (["job/a", "job/b"], ["a", "b"], "the folder 'job' was zipped: zip what is in the folder"),
        (["x/y/a", "__MACOSX/x/y/._a"], ["a"], "the folder 'x/y' was zipped"),
        (["Sleep_Count"], ["sleep_count"], "'Sleep_Count' is not the same name: capital letters"),
        (["a.txt"], ["a"], "Rename 'a.txt' to 'a'"),
        (["job/a", "b"], ["a", "b"], "the folder 'job' was zipped"),
        (["a/", "x"], ["a"], "no file 'a'"),
        ([f"f{n}" for n in range(20)], ["a"], "f7 and 12 more"),
        (["x"], ["d/a"], "Add it to the zip"),
    ],
)
def test_a_missing_file_is_explained(
    names: list[str], required: list[str], said: str, tmp_path: Path
) -> None:
    file = zipped(tmp_path, *names)
    with pytest.raises(BadZip) as refused:
        check(file, wants(*required))
    assert said in refused.value.reason


BIG = 300 * 1024 * 1024
CHILD = """
import re, sys
from pathlib import Path
from spool import archive, packing
file, out, again = map(Path, sys.argv[1:])
archive.check(file)
archive.unpack(file, out)
packing.pack(out, again)
# Not ru_maxrss: that one remembers the memory of the process that started us.
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def test_a_big_zip_costs_no_memory(tmp_path: Path) -> None:
    file, again = tmp_path / "big.zip", tmp_path / "again.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name, method in {"stored": zipfile.ZIP_STORED, "packed": zipfile.ZIP_DEFLATED}.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            with archive.open(info, "w") as out:
                for _ in range(BIG // 2 // (1 << 20)):
                    out.write(bytes(1 << 20))
    child = subprocess.run(
        [sys.executable, "-c", CHILD, file, tmp_path / "out", again],
        cwd=Path(__file__).parents[2], check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert (tmp_path / "out/stored").stat().st_size == BIG // 2
    assert int(child.stdout) < 64 * 1024  # kilobytes, with the interpreter
    for path in (file, again, tmp_path / "out/stored", tmp_path / "out/packed"):
        path.unlink()  # pytest keeps tmp_path
