"""A model's results into a zip: everything that can be packed, and a word about the rest."""

from __future__ import annotations

import os
import socket
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool import packing
from spool.archive import check, listing, unpack
from spool.packing import pack, safe_names


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "results").mkdir()
    return tmp_path / "results"


def tree(root: Path) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(root)): p.read_bytes() if p.is_file() else None for p in root.rglob("*")
    }


def test_there_and_back(folder: Path, tmp_path: Path) -> None:
    (folder / "sub/empty").mkdir(parents=True)
    (folder / "sub/ü.txt").write_text("hello\n" * 1000)
    (folder / "run").write_bytes(os.urandom(3_000_000))
    (folder / "run").chmod(0o711)
    (folder / "nothing").write_bytes(b"")
    (folder / "sub/hard").hardlink_to(folder / "run")
    target = tmp_path / "out.zip"
    assert pack(folder, target) == []
    check(target)
    unpack(target, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(folder)
    assert stat.S_IMODE((tmp_path / "back/run").stat().st_mode) == 0o755
    assert [e.name for e in listing(target)] == [
        "nothing", "run", "sub/empty/", "sub/hard", "sub/ü.txt",
    ]  # fmt: skip
    first = target.read_bytes()
    pack(folder, target)
    assert target.read_bytes() == first


def test_an_empty_folder_is_an_empty_zip(folder: Path, tmp_path: Path) -> None:
    assert pack(folder, tmp_path / "out.zip") == []
    assert listing(tmp_path / "out.zip") == []


def test_compressed_files_are_stored(folder: Path, tmp_path: Path) -> None:
    for name in ("picture.PNG", "table.csv"):
        (folder / name).write_bytes(bytes(10_000))
    pack(folder, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        methods = {i.filename: i.compress_type for i in archive.infolist()}
    assert methods == {"picture.PNG": zipfile.ZIP_STORED, "table.csv": zipfile.ZIP_DEFLATED}


def test_links_and_special_files_are_left_out_and_named(folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not yours")
    (folder / "link").symlink_to(secret)
    (folder / "folder_link").symlink_to(tmp_path)
    (folder / "dangling").symlink_to("nowhere")
    os.mkfifo(folder / "pipe")
    (folder / "result.txt").write_text("42")
    here = os.open(".", os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(folder)  # a socket's path must be short
        try:
            server.bind("socket")
        finally:
            os.fchdir(here)
            os.close(here)
        remarks = pack(folder, tmp_path / "out.zip")
    assert [e.name for e in listing(tmp_path / "out.zip")] == ["result.txt"]
    assert [r.partition(":")[0] for r in remarks] == [
        "dangling", "folder_link", "link", "pipe", "socket",
    ]  # fmt: skip
    assert "it is a link" in remarks[0] and "a pipe" in remarks[3] and "a socket" in remarks[4]


def test_what_becomes_a_link_at_the_last_moment_is_not_followed(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("not yours")
    (folder / "a").symlink_to(tmp_path / "outside")
    (folder / "b").symlink_to(tmp_path / "outside/secret")
    real = os.stat

    def before_the_swap(name: str, *, dir_fd: int, follow_symlinks: bool) -> os.stat_result:
        assert not follow_symlinks
        return real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "stat", before_the_swap)
    remarks = pack(folder, tmp_path / "out.zip")
    monkeypatch.undo()
    assert listing(tmp_path / "out.zip") == []
    assert len(remarks) == 2 and all("cannot be read" in r for r in remarks)


def test_large_files_get_64_bit_sizes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a limit that a test can reach; zipfile refuses to pass it unprepared."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    (folder / "large").write_bytes(bytes(5000))
    assert pack(folder, tmp_path / "out.zip") == []
    check(tmp_path / "out.zip")


def test_strange_names_become_readable_ones(folder: Path, tmp_path: Path) -> None:
    for name in (b"ok", b"bad\xff", b"bad%FF", b"new\nline", b"back\\slash", b"C:x", b"\xfe" * 255):
        (folder / os.fsdecode(name)).write_bytes(name)
    remarks = pack(folder, tmp_path / "out.zip")
    check(tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        packed = {i.filename: archive.read(i) for i in archive.infolist()}
    assert packed.pop("%FE" * 80) == b"\xfe" * 255
    assert packed == {
        "ok": b"ok",
        "bad%FF": b"bad%FF",
        "bad%FF.2": b"bad\xff",
        "new%0Aline": b"new\nline",
        "back%5Cslash": b"back\\slash",
        "C%3Ax": b"C:x",
    }
    assert len(remarks) == 5 and all("renamed" in r for r in remarks)


@given(
    st.sets(st.binary(min_size=1, max_size=6).filter(lambda b: b"/" not in b and b"\0" not in b))
)
def test_safe_names_are_distinct_and_safe(raw: set[bytes]) -> None:
    names = {os.fsdecode(b) for b in raw}
    safe = safe_names(names)
    assert set(safe) == names
    assert len(set(safe.values())) == len(names)
    for name, called in safe.items():
        called.encode()  # no surrogates left
        assert "\\" not in called
        assert not any(ord(c) < 32 or ord(c) == 127 for c in called)
        if name.isascii() and name.isalnum():
            assert called == name


def test_names_that_differ_by_case_are_all_packed(folder: Path, tmp_path: Path) -> None:
    (folder / "a").write_text("1")
    (folder / "A").write_text("2")
    pack(folder, tmp_path / "out.zip")
    assert {e.name for e in listing(tmp_path / "out.zip")} == {"a", "A"}


def test_what_is_too_deep_is_left_out_and_the_rest_packed(folder: Path, tmp_path: Path) -> None:
    deep = folder
    for _ in range(110):
        deep /= "d"
    deep.mkdir(parents=True)
    (folder / "result").write_text("42")
    remarks = pack(folder, tmp_path / "out.zip")
    assert [e.name for e in listing(tmp_path / "out.zip")] == ["result"]
    assert len(remarks) == 1 and "folders deep" in remarks[0]


def test_files_that_grow_shrink_and_vanish(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("1-grows", "2-shrinks", "3-vanishes", "4-stays"):
        (folder / name).write_bytes(b"x" * 1000)
    real = packing._info

    def meanwhile(inside: str, status: os.stat_result) -> zipfile.ZipInfo:
        """Runs between the look at a file and its reading."""
        if inside == "1-grows":
            with (folder / inside).open("ab") as file:
                file.write(b"more")
        if inside == "2-shrinks":
            os.truncate(folder / inside, 10)
            (folder / "3-vanishes").unlink()
        return real(inside, status)

    monkeypatch.setattr(packing, "_info", meanwhile)
    remarks = pack(folder, tmp_path / "out.zip")
    check(tmp_path / "out.zip")
    sizes = {e.name: e.size for e in listing(tmp_path / "out.zip")}
    assert sizes == {"1-grows": 1000, "2-shrinks": 10, "4-stays": 1000}
    assert [r.partition(": ")[2] for r in remarks] == [
        "it changed while the results were packed",
        "it changed while the results were packed",
        "left out: it vanished while the results were packed",
    ]


def test_remarks_do_not_grow_without_end(folder: Path, tmp_path: Path) -> None:
    for n in range(150):
        (folder / f"{n:03}").symlink_to("x")
    remarks = pack(folder, tmp_path / "out.zip")
    assert len(remarks) == 101 and remarks[-1] == "and 50 more remarks"


def test_errors_of_the_machine_pass_through(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        pack(tmp_path / "nowhere", tmp_path / "out.zip")
    (folder / "a").write_bytes(b"x")
    with pytest.raises(OSError):
        pack(folder, Path("/dev/full"))
