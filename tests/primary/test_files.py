"""The primary's own files: received, linked, placed, synced, and never half."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from primary import files as module
from primary.errors import DataFolderError, NoRoom, NoSuchFile, TooLarge
from primary.files import MAX_BAD, MAX_BAD_EACH, Files, Upload

JOB = "0b6f3c1e-5b0a-4b62-9d7f-0123456789ab"


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path / "data")


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def tree(files: Files) -> set[str]:
    data = files.jobs.parent
    return {str(p.relative_to(data)) for p in data.rglob("*") if p.is_file()}


def received(files: Files, data: bytes = b"zip") -> Upload:
    upload = files.receive()
    upload.write(data)
    upload.finish()
    return upload


# --- uploads -----------------------------------------------------------------------------


def test_an_upload_is_hashed_as_it_comes(files: Files) -> None:
    upload = files.receive()
    for piece in (b"one ", b"", b"two"):
        upload.write(piece)
    assert upload.digest.size == upload.size == 7
    assert upload.digest.sha256 == hashlib.sha256(b"one two").hexdigest()
    upload.finish()
    assert upload.path.read_bytes() == b"one two"
    assert upload.path.stat().st_mode & 0o777 == 0o440
    for _ in range(2):
        upload.discard()
    assert tree(files) == set()


def test_an_upload_that_is_too_long_is_refused(tmp_path: Path) -> None:
    upload = Upload(tmp_path / "x", limit=5)
    upload.write(b"12345")
    with pytest.raises(TooLarge, match="5 bytes"):
        upload.write(b"6")
    upload.discard()


def test_a_full_disk_while_receiving_is_no_room(tmp_path: Path) -> None:
    upload = Upload(tmp_path / "x")
    upload._file.close()
    with open("/dev/full", "wb", buffering=0) as full:
        upload._file = full
        with pytest.raises(NoRoom, match=r"disk is full.*nothing was lost"):
            upload.write(b"x")
        upload.discard()


def test_a_full_disk_at_the_sync_is_no_room(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = files.receive()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(NoRoom):
        upload.finish()
    upload.discard()


def test_below_the_reserve_nothing_is_taken_in(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free", lambda: module.RESERVE - 1)
    with pytest.raises(NoRoom):
        files.receive()
    assert tree(files) == set()


# --- inputs ------------------------------------------------------------------------------


def test_an_input_is_kept_and_marked_until_the_ledger_has_it(files: Files) -> None:
    upload = received(files)
    files.keep_input(upload, JOB)
    assert tree(files) == {f"jobs/{JOB}/input.zip", f"incoming/{JOB}.zip"}
    files.accepted(JOB)
    files.accepted(JOB)
    assert tree(files) == {f"jobs/{JOB}/input.zip"}
    upload.discard()
    assert files.input(JOB).read_bytes() == b"zip"


def test_a_fetch_that_was_cut_short_is_replaced(files: Files) -> None:
    files.folder(JOB).mkdir()
    files.input(JOB).write_bytes(b"half")
    files.keep_input(received(files), JOB)
    assert files.input(JOB).read_bytes() == b"zip"


def test_forgetting_leaves_nothing(files: Files) -> None:
    files.keep_input(received(files), JOB)
    for _ in range(2):
        files.forget(JOB)
    assert tree(files) == set()
    assert list(files.jobs.iterdir()) == []


class Crash(BaseException):
    pass


def test_wherever_a_crash_cuts_an_input_off_its_name_in_incoming_tells(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F0: each step of keep_input may be the last one; the restart finds what to remove."""
    steps: list[Callable[..., object]] = [os.rename, os.mkdir, os.link, os.fsync]
    for cut in range(5):
        count = 0

        def step(real: Callable[..., object], *args: object, **more: object) -> object:
            nonlocal count
            if count == cut:  # noqa: B023
                raise Crash
            count += 1
            return real(*args, **more)

        upload = received(files)
        with monkeypatch.context() as patch:
            for real in steps:
                patch.setattr(os, real.__name__, lambda *a, real=real, **m: step(real, *a, **m))
            with pytest.raises(Crash):
                files.keep_input(upload, JOB)
        upload._file.close()
        left = tree(files)
        if f"jobs/{JOB}/input.zip" in left:
            assert f"incoming/{JOB}.zip" in left
        assert any(name.startswith("incoming/") for name in left)
        files.forget(JOB)
        upload.path.unlink(missing_ok=True)
        assert tree(files) == set()


def test_folders_are_synced_before_the_ledger_hears_of_them(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        synced.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    upload = received(files)
    name = upload.path.name
    files.keep_input(upload, JOB)
    assert synced == [name, JOB, "jobs"]
    synced.clear()
    copies = [files.incoming / "log", files.incoming / "out"]
    for copy in copies:
        copy.write_bytes(b"x")
    files.place([(copies[0], "job_log.txt"), (copies[1], "output.zip")], JOB, None)
    assert synced == ["log", "out", JOB]


# --- results -----------------------------------------------------------------------------


def placed(files: Files, late: int | None = None, data: bytes = b"x") -> None:
    copy = files.incoming / "copy"
    copy.write_bytes(data)
    files.place([(copy, "output.zip")], JOB, late)


def test_results_are_placed_read_only_and_can_be_placed_again(files: Files) -> None:
    files.folder(JOB).mkdir()
    for data in (b"first", b"second"):
        placed(files, data=data)
    with files.open(JOB, "output.zip") as found:
        assert (found.file.read(), found.size, found.live) == (b"second", 6, False)
    assert (files.folder(JOB) / "output.zip").stat().st_mode & 0o777 == 0o440
    assert tree(files) == {f"jobs/{JOB}/output.zip"}


def test_late_results_lie_beside(files: Files) -> None:
    files.folder(JOB).mkdir()
    placed(files, late=2)
    assert tree(files) == {f"jobs/{JOB}/late/2/output.zip"}
    with pytest.raises(NoSuchFile, match=r"output\.zip"):
        files.open(JOB, "output.zip")


def test_a_full_disk_while_placing_is_no_room(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.folder(JOB).mkdir()
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(NoRoom):
        placed(files)


def test_other_errors_are_not_called_a_full_disk(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    files.folder(JOB).mkdir()
    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(OSError, match="Input/output error"):
        placed(files)


# --- bad/ --------------------------------------------------------------------------------


def test_what_is_not_believed_is_kept_with_its_reason_and_capped(files: Files) -> None:
    files.keep_bad("w1", "report", b"\x00data", "it lies")
    assert files.bad_count() == 1
    kept = {p.name.partition("-w1")[2]: p.read_bytes() for p in files.bad.iterdir()}
    assert kept == {"~report": b"\x00data", "~report.why.txt": b"it lies\n"}
    for n in range(MAX_BAD + 20):
        files.keep_bad(f"w{n}", "other", b"x", "it lies")
    assert files.bad_count() == MAX_BAD
    assert not any(p.name.endswith("-w1~report") for p in files.bad.iterdir())


def test_no_worker_pushes_out_what_others_sent(files: Files) -> None:
    files.keep_bad("w", "useful", b"", "it lies")
    for n in range(MAX_BAD + 20):
        files.keep_bad("w-1", f"w~{n}", b"x", "it lies")
    assert files.bad_count() == MAX_BAD_EACH + 1
    kept = {p.name.partition("-")[2].partition("-")[2] for p in files.bad.iterdir()}
    assert "w~useful" in kept and f"w-1~w~{MAX_BAD + 19}" in kept


def test_what_is_the_primary_s_alone_is_closed_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        data = tmp_path / "data"
        (data / "jobs").mkdir(parents=True)
        Files(data)
    finally:
        os.umask(before)
    modes = {p.name: p.stat().st_mode & 0o7777 for p in data.iterdir()}
    assert modes == {"jobs": 0o700, "incoming": 0o700, "bad": 0o700}


def test_its_group_may_pass_through_jobs_where_a_proxy_sends_files(tmp_path: Path) -> None:
    data = tmp_path / "data"
    files = Files(data, shared=True)
    folder = files.folder(JOB)
    folder.mkdir(mode=0o700)
    (folder / "output.zip").touch()
    (folder / "output.zip").chmod(0o400)
    modes = {p.name: p.stat().st_mode & 0o7777 for p in data.iterdir()}
    assert modes == {"jobs": 0o710, "incoming": 0o700, "bad": 0o700}
    assert files.share(JOB, "output.zip") and not files.share(JOB, "job_log.txt")
    assert folder.stat().st_mode & 0o7777 == 0o710
    assert (folder / "output.zip").stat().st_mode & 0o7777 == 0o440
    Files(data)
    assert files.jobs.stat().st_mode & 0o7777 == 0o700, "closed again"


def test_a_full_disk_does_not_keep_bad_files(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", no_space)
    with pytest.raises(NoRoom):
        files.keep_bad("w1", "x", b"x", "it lies")


# --- the data directory ------------------------------------------------------------------


def test_a_data_directory_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataFolderError, match=r"data: .+; check who owns it"):
        Files(tmp_path / "data")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_data_directory_that_is_not_ours_is_refused(request: pytest.FixtureRequest) -> None:
    """As another user, since root may write everywhere; where that user can look."""
    folder = tempfile.TemporaryDirectory()
    request.addfinalizer(folder.cleanup)
    os.chmod(folder.name, 0o755)
    data = Path(folder.name) / "data"
    Files(data)
    script = (
        "import os, sys; from pathlib import Path; from primary.files import Files\n"
        "from primary.errors import DataFolderError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: Files(Path(sys.argv[1]))\n"
        "except DataFolderError as e: print(e)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(data)], capture_output=True, text=True, check=False
    )
    assert f"cannot write to the data directory {data}: Permission denied" in said.stdout, said
