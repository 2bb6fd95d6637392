"""Looking into a job's output: only what the ledger knows, listed once, and streamed."""

from __future__ import annotations

import io
import random
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.jobs import Job
from primary.errors import NoSuchFile
from primary.files import JobFile
from primary.outputs import Listing, Listings, OutputFile, Outputs, outputs
from spool.errors import BadZip
from spool.extract import read_contents
from tests.primary.hand import Hand, Worker

FILES = {"z.txt": b"last", "plots/a.png": b"\x89PNG" * 100, "plots/empty.csv": b"", "b c.txt": b"x"}


def zipped(files: dict[str, bytes]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            out.writestr(name, content)
    return data.getvalue()


def ended(hand: Hand, worker: Worker, output: bytes | None) -> Job:
    """A job whose worker delivered ``output``."""
    job = hand.submit()
    hand.tick()
    claim = worker.claim()
    worker.started(claim)
    if output is None:
        worker.final(claim, end="failed", failure="model", reason="exit code 3")
    else:
        worker.final(claim, output=worker.output(claim, output))
    hand.tick(2)
    return hand.job(job)


def test_the_files_of_a_finished_job(hand: Hand, w1: Worker) -> None:
    job = ended(hand, w1, zipped(FILES))
    found = hand.primary.outputs(job)
    assert [entry.path for entry in found.entries] == sorted(FILES)
    assert [entry.size for entry in found.entries] == [len(FILES[p]) for p in sorted(FILES)]
    for path, content in FILES.items():
        with found.open(path) as stream:
            assert stream.size == len(content)
            assert stream.read(10_000) == content
            assert stream.read(1) == b""
    picture = found.find("plots/a.png")
    assert isinstance(picture, OutputFile) and 0 < picture.packed < picture.size


@pytest.mark.parametrize(
    "path", ["", "plots/", "plots", "Z.txt", "./z.txt", "../b c.txt", "z.txt\0"]
)
def test_what_is_not_in_the_list_is_not_there(hand: Hand, w1: Worker, path: str) -> None:
    found = hand.primary.outputs(ended(hand, w1, zipped(FILES)))
    with pytest.raises(NoSuchFile, match="has no file"):
        found.open(path)
    with pytest.raises(NoSuchFile, match="has no file"):
        found.find(path)


def test_a_job_without_output_says_why(hand: Hand, w1: Worker) -> None:
    waiting = hand.submit()
    with pytest.raises(NoSuchFile, match="is QUEUED: it has no output yet"):
        hand.primary.outputs(waiting)
    hand.tick()
    w1.final(w1.claim(), end="failed", failure="model", reason="exit code 3")
    hand.tick(2)
    with pytest.raises(NoSuchFile, match="ended FAILED and left no output"):
        hand.primary.outputs(hand.job(waiting))


def test_a_file_that_the_ledger_does_not_know_is_not_looked_into(hand: Hand, w1: Worker) -> None:
    job = ended(hand, w1, None)
    (hand.data / "jobs" / job.id / "output.zip").write_bytes(zipped(FILES))
    with pytest.raises(NoSuchFile, match="left no output"):
        hand.primary.outputs(job)


def test_what_is_no_zip_is_said(hand: Hand, w1: Worker) -> None:
    job = ended(hand, w1, b"%PDF-1.4 and so on")
    with pytest.raises(NoSuchFile, match=r"a PDF.*output\.zip as a whole"):
        hand.primary.outputs(job)


def damage(data: bytes, name: bytes) -> bytes:
    """``data`` with another CRC of the entry ``name``, in both of its headers."""
    bad = bytearray(data)
    for magic, place, head in ((b"PK\x03\x04", 14, 30), (b"PK\x01\x02", 16, 46)):
        at = data.find(magic)
        while data[at + head : at + head + len(name)] != name:
            at = data.find(magic, at + 1)
        bad[at + place] ^= 0xFF
    return bytes(bad)


def test_a_damaged_file_never_comes_whole(hand: Hand, w1: Worker) -> None:
    files = {"large": bytes(range(256)) * 20_000, "small": b"abc", "good": b"good"}
    data = damage(damage(zipped(files), b"large"), b"small")
    found = hand.primary.outputs(ended(hand, w1, data))
    with found.open("good") as stream:
        assert stream.read(99) == b"good"
    for name in ("large", "small"):
        with found.open(name) as stream:
            came = 0
            with pytest.raises(BadZip, match="checksum"):
                while piece := stream.read(100_000):
                    came += len(piece)
            assert came < stream.size, "the last piece is held back"
            with pytest.raises(BadZip, match="checksum"):
                stream.read(1)


def test_a_file_whose_headers_contradict_each_other_is_not_opened(hand: Hand, w1: Worker) -> None:
    data = bytearray(zipped({"a": b"abc", "b": b"abc"}))
    data[30] = ord("x")  # the first name, in the local header alone
    found = hand.primary.outputs(ended(hand, w1, bytes(data)))
    with pytest.raises(NoSuchFile, match=r"'a' in the output.*is damaged.*another name"):
        found.open("a")


def test_reading_in_any_sizes(hand: Hand, w1: Worker) -> None:
    content = bytes(range(251)) * 9000
    found = hand.primary.outputs(ended(hand, w1, zipped({"a": content})))
    for size in (1_000, 65_536, 1_048_576, 10**9):
        with found.open("a") as stream:
            pieces = []
            while piece := stream.read(size):
                pieces.append(piece)
        assert b"".join(pieces) == content
        assert all(len(piece) == size for piece in pieces[:-1]), "fewer only at the end"


def test_a_file_that_cannot_be_read_is_no_end(tmp_path: Path) -> None:
    path = tmp_path / "output.zip"
    path.write_bytes(zipped({"a": random.Random(1).randbytes(1_000_000)}))
    found = opened(path)
    stream = found.open("a")
    stream.read(1000)
    stream._file.file.close()
    for _ in range(2):
        with pytest.raises(ValueError, match="closed file"):
            while stream.read(1000):
                pass


def opened(path: Path, kept: Listings | None = None) -> Outputs:
    def open_zip() -> JobFile:
        return JobFile(path.open("rb"), path.stat().st_size, live=False)

    return outputs("j", "0" * 64, open_zip, kept or Listings())


# --- the listings that are kept


def listing(*names: str) -> Listing:
    return Listing(read_contents(io.BytesIO(zipped(dict.fromkeys(names, b"")))))


class Reader:
    """Gives one listing, and counts how often it was asked."""

    def __init__(self, *names: str) -> None:
        self.made = listing(*names)
        self.asked = 0

    def __call__(self) -> Listing:
        self.asked += 1
        return self.made


def test_a_listing_is_read_once() -> None:
    kept, read = Listings(), Reader("a")
    for _ in range(3):
        assert kept.get(("job", "hash"), read) is read.made
    assert read.asked == 1
    other = Reader("b")
    assert kept.get(("job", "another hash"), other) is other.made
    assert kept.get(("another job", "hash"), other) is other.made
    assert other.asked == 2


def test_those_asked_for_longest_ago_go() -> None:
    one, two, three = Reader("a"), Reader("b"), Reader("c")
    kept = Listings(most=2 * one.made.contents.weight)
    kept.get(("1", ""), one)
    kept.get(("2", ""), two)
    kept.get(("1", ""), one)
    kept.get(("3", ""), three)
    assert [kept.get((n, ""), r).entries[0].path for n, r in (("1", one), ("3", three))] == [
        "a",
        "c",
    ]
    assert (one.asked, two.asked, three.asked) == (1, 1, 1)
    kept.get(("2", ""), two)
    assert two.asked == 2


def test_one_that_is_too_large_is_not_kept() -> None:
    read = Reader(*(f"file {n}" for n in range(100)))
    small = Reader("a")
    kept = Listings(most=1000)
    kept.get(("1", ""), read)
    kept.get(("1", ""), read)
    assert read.asked == 2
    kept.get(("2", ""), small)
    kept.get(("2", ""), small)
    assert small.asked == 1, "and its weight is gone with it"


def test_what_cannot_be_read_is_asked_for_again() -> None:
    def fails() -> Listing:
        raise BadZip("damaged")

    kept = Listings()
    for _ in range(2):
        with pytest.raises(BadZip):
            kept.get(("1", ""), fails)
    assert kept.get(("1", ""), Reader("a")).entries[0].path == "a"


def test_many_threads_read_one_listing_once() -> None:
    kept, go = Listings(), threading.Barrier(8)
    read = Reader("a")
    found: list[Listing] = []

    def ask() -> None:
        go.wait(30)
        found.append(kept.get(("1", ""), slowly(read)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [read.made] * 8
    assert read.asked == 1


def slowly(read: Callable[[], Listing]) -> Callable[[], Listing]:
    """Lets the others run while it reads."""

    def turn() -> Listing:
        threading.Event().wait(0.05)
        return read()

    return turn


def test_no_file_stays_open(hand: Hand, w1: Worker) -> None:
    fds = Path("/proc/self/fd")
    job = ended(hand, w1, damage(zipped({"a": b"abc"}), b"a"))
    before = len(list(fds.iterdir()))
    found = hand.primary.outputs(job)
    with pytest.raises(NoSuchFile):
        found.open("b")
    with found.open("a") as stream, pytest.raises(BadZip):
        stream.read(3)
    assert len(list(fds.iterdir())) == before
