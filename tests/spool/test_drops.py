"""One drop folder: when a zip is whole, and how its answers are called."""

from __future__ import annotations

import io
import itertools
import os
import threading
import zipfile
from pathlib import Path

import pytest

from spool import drops
from spool.drops import (
    EXPLAIN_AFTER,
    LONGEST,
    PATIENCE,
    STEADY,
    DropFolder,
    is_candidate,
    judge_drop,
)
from spool.errors import Gone, SpoolError

JOB = "0b6f3c1e-5b0a-4b62-9d7f-0123456789ab"
JOB2 = "1b6f3c1e-5b0a-4b62-9d7f-0123456789ab"


def zipped(text: str = "5", comment: bytes = b"") -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(zipfile.ZipInfo("count"), text)
        archive.comment = comment
    return data.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> DropFolder:
    (tmp_path / "models/test/drop").mkdir(parents=True)
    return DropFolder(tmp_path, "test")


def looks(folder: DropFolder, now: float) -> dict[str, str]:
    return dict(folder.look(now))


def names(folder: DropFolder) -> list[str]:
    return sorted(os.listdir(folder.path))


# --- the rule ------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [True, False])
def test_every_moment_has_its_verdict(whole: bool) -> None:
    moments = (0.0, STEADY - 0.01, STEADY, EXPLAIN_AFTER - 1, EXPLAIN_AFTER, PATIENCE - 1, PATIENCE)
    expected = (
        ["wait", "wait", *["take"] * 5]
        if whole
        else ["wait", "wait", "wait", "wait", "explain", "explain", "reject"]
    )
    assert [judge_drop(rest, whole) for rest in moments] == expected


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("a.zip", True),
        ("A.ZIP", True),
        ("notes.txt", True),  # it is answered: only zips are taken
        (".a.zip", False),
        ("a.zip.part", False),
        ("a.zip.filepart", False),
        ("a.job.json", False),
        ("a.output.zip", False),
        ("a.log.txt", False),
        ("a.why.txt", False),
        ("a.zip.rejected", False),
    ],
)
def test_candidates(name: str, ours: bool) -> None:
    assert is_candidate(name) is ours


# --- waiting for the whole -----------------------------------------------------------


def test_a_slow_copy_in_pieces_is_taken_when_it_rests_and_ends(folder: DropFolder) -> None:
    data = zipped("x" * 1000)
    file = folder.path / "a.zip"
    clock = itertools.count(0.0, 1.0)
    for piece in range(0, len(data) - 100, 100):  # grow, pause below STEADY, grow
        file.write_bytes(data[: piece + 100])
        assert looks(folder, next(clock)) == {"a.zip": "wait"}
        assert looks(folder, next(clock)) == {"a.zip": "wait"}
    now = next(clock)
    assert looks(folder, now + EXPLAIN_AFTER) == {"a.zip": "explain"}
    assert looks(folder, now + 2 * EXPLAIN_AFTER) == {}  # said once
    file.write_bytes(data)
    now += 3 * EXPLAIN_AFTER
    assert looks(folder, now) == {"a.zip": "wait"}
    assert looks(folder, now + STEADY - 0.1) == {"a.zip": "wait"}
    assert looks(folder, now + STEADY) == {"a.zip": "take"}


def test_an_hour_counts_from_the_last_growth(folder: DropFolder) -> None:
    file = folder.path / "a.zip"
    file.write_bytes(zipped()[:-1])
    list(folder.look(0))
    file.write_bytes(zipped()[:-2])
    list(folder.look(PATIENCE - 1))
    assert "reject" not in looks(folder, 2 * PATIENCE - 2).values()
    assert looks(folder, 2 * PATIENCE - 1) == {"a.zip": "reject"}


def test_a_file_put_in_another_s_place_is_looked_at_anew(folder: DropFolder) -> None:
    """Same name, size and time, but another inode."""
    file = folder.path / "a.zip"
    file.write_bytes(zipped())
    os.utime(file, ns=(5, 5))
    list(folder.look(0))
    other = folder.path / ".other"
    other.write_bytes(zipped())
    os.utime(other, ns=(5, 5))
    other.rename(file)
    assert looks(folder, STEADY) == {"a.zip": "wait"}
    assert looks(folder, 2 * STEADY) == {"a.zip": "take"}


@pytest.mark.parametrize(
    ("data", "whole"),
    [
        (zipped(), True),
        (zipped(comment=b"a comment"), True),
        (zipped(comment=b"c" * 0xFFFF), True),
        (zipped(comment=b"tricky PK\x05\x06 inside"), False),  # rests until its hour is over
        (zipped()[:-1], False),
        (zipped() + b"\n", False),
        (zipped() + zipped()[:40], False),
        (b"", False),
        (b"PK\x05\x06", False),
        (b"x" * 100_000, False),
    ],
)
def test_the_end_record_must_stand_at_the_end(folder: DropFolder, data: bytes, whole: bool) -> None:
    (folder.path / "a.zip").write_bytes(data)
    list(folder.look(0))
    assert (looks(folder, STEADY) == {"a.zip": "take"}) is whole


def test_a_growing_file_is_not_read(folder: DropFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder.path / "a.zip").write_bytes(zipped())

    def no(*_: object) -> bool:
        raise AssertionError("looked into a file that does not rest")

    monkeypatch.setattr(DropFolder, "_whole", no)
    assert looks(folder, 0) == {"a.zip": "wait"}


def test_only_regular_files_are_looked_at(folder: DropFolder, tmp_path: Path) -> None:
    (folder.path / "folder.zip").mkdir()
    os.mkfifo(folder.path / "fifo.zip")
    (tmp_path / "secret.zip").write_bytes(zipped())
    (folder.path / "link.zip").symlink_to(tmp_path / "secret.zip")
    for now in (0, STEADY, PATIENCE):
        assert looks(folder, now) == {}


def test_a_file_swapped_for_a_fifo_does_not_hold_the_tick_up(
    folder: DropFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = folder.path / "a.zip"
    file.write_bytes(zipped())
    list(folder.look(0))
    real = DropFolder._look_at

    def look_at(self: DropFolder, name: str) -> drops.Look | None:
        look = real(self, name)
        file.unlink()
        os.mkfifo(file)
        return look

    monkeypatch.setattr(DropFolder, "_look_at", look_at)
    assert looks(folder, STEADY) == {"a.zip": "wait"}


def test_a_folder_that_is_gone_is_empty(tmp_path: Path) -> None:
    folder = DropFolder(tmp_path, "unknown")
    assert looks(folder, 0) == {}
    assert folder.taken() == []


# --- explaining, taking, rejecting ---------------------------------------------------


def test_a_second_half_copy_of_the_same_name_is_explained_again(folder: DropFolder) -> None:
    file = folder.path / "a.zip"
    for round_, ending in enumerate(("take", "removed", "reject")):
        start = round_ * 10 * PATIENCE
        file.write_bytes(zipped()[:-1])
        list(folder.look(start))
        assert looks(folder, start + EXPLAIN_AFTER) == {"a.zip": "explain"}, ending
        folder.explain("a.zip", "waiting")
        if ending == "take":
            folder.take("a.zip", JOB)
        elif ending == "reject":
            folder.reject("a.zip", "cut")
        else:
            file.unlink()
            list(folder.look(start + EXPLAIN_AFTER + 1))
            assert not (folder.path / "a.why.txt").exists()  # nothing is awaited any more


def test_taking_sets_aside_and_takes_the_explanation_away(folder: DropFolder) -> None:
    (folder.path / "a.zip").write_bytes(zipped())
    folder.explain("a.zip", "waiting")
    folder.take("a.zip", JOB)
    assert names(folder) == [f".{JOB}.taken.a.zip"]
    assert folder.taken() == [(JOB, "a.zip")]
    with folder.open(JOB, "a.zip") as file:
        assert file.read() == zipped()
    with pytest.raises(Gone):
        folder.take("a.zip", JOB2)
    folder.done(JOB, "a.zip")
    folder.done(JOB, "a.zip")
    assert names(folder) == []


def test_what_was_set_aside_is_opened_only_if_it_is_still_a_file(
    folder: DropFolder, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    aside = folder.path / f".{JOB}.taken.a.zip"
    os.mkfifo(aside)
    with pytest.raises(Gone):
        folder.open(JOB, "a.zip")
    aside.unlink()
    aside.symlink_to(tmp_path / "secret")
    with pytest.raises(SpoolError):
        folder.open(JOB, "a.zip")


def test_strange_hidden_names_were_not_set_aside_by_us(folder: DropFolder) -> None:
    for name in (".taken.", ".x.taken.a.zip", f".{JOB}.a.zip", f"{JOB}.taken.a.zip", ".half.a"):
        (folder.path / name).touch()
    assert folder.taken() == []


def test_putting_back_replaces_nothing(folder: DropFolder) -> None:
    """D1, while somebody has dropped the same name again."""
    (folder.path / "a.zip").write_bytes(b"first")
    folder.take("a.zip", JOB)
    (folder.path / "a.zip").write_bytes(b"second")
    folder.put_back(JOB, "a.zip")
    assert names(folder) == ["a.2.zip", "a.zip"]
    assert (folder.path / "a.2.zip").read_bytes() == b"first"


def test_a_rejected_zip_keeps_its_reason(folder: DropFolder) -> None:
    for n in (1, 2):
        (folder.path / "a.zip").write_bytes(b"%d" % n)
        folder.reject("a.zip", f"reason {n}")
    (folder.path / "a.zip").write_bytes(b"3")
    folder.take("a.zip", JOB)
    folder.reject("a.zip", "reason 3", JOB)
    assert names(folder) == [
        *("a.2.why.txt", "a.2.zip.rejected", "a.3.why.txt", "a.3.zip.rejected"),
        *("a.why.txt", "a.zip.rejected"),
    ]
    assert (folder.path / "a.why.txt").read_text() == "reason 1"
    assert (folder.path / "a.3.why.txt").read_text() == "reason 3"
    assert (folder.path / "a.2.zip.rejected").read_bytes() == b"2"
    assert not list(folder.look(0)), "a rejected zip is left alone"


def test_what_a_later_zip_waits_for_does_not_hide_why_an_earlier_one_was_rejected(
    folder: DropFolder,
) -> None:
    (folder.path / "a.zip").touch()
    folder.reject("a.zip", "the first")
    (folder.path / "a.zip").touch()
    folder.explain("a.zip", "waiting")
    assert (folder.path / "a.why.txt").read_text() == "the first"
    assert (folder.path / "a.2.why.txt").read_text() == "waiting"
    folder.take("a.zip", JOB)
    folder.done(JOB, "a.zip")
    assert names(folder) == ["a.why.txt", "a.zip.rejected"]


def test_the_reason_is_there_before_the_rejection(
    folder: DropFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder.path / "a.zip").touch()
    real = os.rename

    def rename(old: Path, new: Path) -> None:
        if str(new).endswith(".rejected"):
            assert (folder.path / "a.why.txt").read_text() == "why"
        real(old, new)

    monkeypatch.setattr(os, "rename", rename)
    folder.reject("a.zip", "why")
    assert "a.zip.rejected" in names(folder)


LONG = {
    "ascii": "x" * 251 + ".zip",
    "two bytes a letter": "ä" * 125 + ".zip",
    "no zip": "x" * 255,
    "undecodable": os.fsdecode(b"\xff" * 251 + b".zip"),
}


@pytest.mark.parametrize("name", LONG.values(), ids=LONG.keys())
def test_names_as_long_as_the_disk_allows(folder: DropFolder, name: str) -> None:
    (folder.path / name).write_bytes(b"x")
    list(folder.look(0))
    folder.explain(name, "waiting")
    folder.reject(name, "too long")
    assert len(names(folder)) == 2
    assert all(len(os.fsencode(n)) <= 255 for n in names(folder))


def test_undecodable_names_have_answers_that_the_ledger_can_keep(folder: DropFolder) -> None:
    name = os.fsdecode(b"caf\xe9.zip")
    (folder.path / name).write_bytes(zipped())
    list(folder.look(0))
    assert looks(folder, STEADY) == {name: "take"}
    folder.take(name, JOB)
    assert folder.taken() == [(JOB, name)]
    stem = folder.promise(name)
    assert stem.encode().decode() == stem == "caf\N{REPLACEMENT CHARACTER}"
    folder.answer(stem, b"{}", [])
    folder.done(JOB, name)
    assert names(folder) == [f"{stem}.job.json"]


# --- answers -------------------------------------------------------------------------


@pytest.mark.parametrize("answer", ["job.json", "output.zip", "log.txt"])
def test_a_second_zip_of_the_name_answers_beside_the_first(folder: DropFolder, answer: str) -> None:
    assert folder.promise("a.zip") == "a"
    folder.keep("a")
    (folder.path / f"a.{answer}").touch()
    assert folder.promise("a.zip") == "a.2"
    (folder.path / f"a.2.{answer}").touch()
    assert folder.promise("a.ZIP") == "a.3"


def test_two_drops_of_one_name_on_their_way_at_once_get_two_stems(folder: DropFolder) -> None:
    """The first has no answer in the folder yet when the second comes."""
    got: list[str] = []
    start = threading.Barrier(4)

    def promise() -> None:
        start.wait()
        got.extend(folder.promise("a.zip") for _ in range(10))

    threads = [threading.Thread(target=promise) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(got)) == 40


def test_results_are_links_and_the_status_comes_last(
    folder: DropFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "output.zip"
    output.write_bytes(b"results")
    missing = tmp_path / "job_log.txt"
    real = Path.rename

    def rename(self: Path, target: Path) -> Path:
        if str(target).endswith(".job.json"):
            assert (folder.path / "a.output.zip").exists()
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    files = [(output, ".output.zip"), (missing, ".log.txt")]
    for _ in range(2):
        folder.answer("a", b'{"status": "COMPLETE"}', files)
    assert names(folder) == ["a.job.json", "a.output.zip"]
    assert folder.answered("a") == b'{"status": "COMPLETE"}'
    assert folder.answered("b") is None
    assert (folder.path / "a.output.zip").stat().st_ino == output.stat().st_ino


def test_results_are_copies_where_links_are_not_to_be_had(
    folder: DropFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "output.zip"
    output.write_bytes(b"results")

    def link(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    folder.answer("a", b"{}", [(output, ".output.zip")])
    assert names(folder) == ["a.job.json", "a.output.zip"]
    assert (folder.path / "a.output.zip").read_bytes() == b"results"


def test_the_longest_name_that_is_taken_has_room_for_all_its_answers(folder: DropFolder) -> None:
    name = "x" * (LONGEST - 4) + ".zip"
    (folder.path / name).write_bytes(zipped())
    folder.take(name, JOB)
    for _ in range(3):
        stem = folder.promise(name)
        folder.answer(stem, b"{}", [(folder.path / f".{JOB}.taken.{name}", ".output.zip")])
    folder.reject(name, "why", JOB)
    assert len(names(folder)) == 8


def test_an_answer_that_is_not_ours_is_not_read(folder: DropFolder, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    assert folder.answered("a") is None
    folder.answer("a", b"{}", [])
    assert folder.answered("a") == b"{}"
    (folder.path / "a.job.json").unlink()
    (folder.path / "a.job.json").symlink_to(tmp_path / "secret")
    assert folder.answered("a") == b"", "something old lies there: it is written anew"
    folder.answer("a", b"{}", [])
    assert (tmp_path / "secret").read_text() == "secret"
    assert folder.answered("a") == b"{}"
