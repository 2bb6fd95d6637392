"""verify, show and export, also beside a primary that appends."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from ledger.codec import unseal
from ledger.commands import export, show, verify
from ledger.errors import LedgerError
from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
    Failed,
    Purged,
    Queued,
    Record,
    RunFacts,
    Started,
    Submitted,
)
from ledger.log import Decide, Ledger

Open = Callable[..., Ledger]
Life = Callable[..., list[AnyEvent]]


def with_files(data: Path, job: str) -> list[AnyEvent]:
    """The life of ``job``, whose files lie where they should."""
    folder = data / "jobs" / job
    folder.mkdir(parents=True)
    digests = []
    for name in ("input.zip", "job_log.txt", "output.zip"):
        content = f"{job} {name}".encode() * 1000
        (folder / name).write_bytes(content)
        digests.append(Digest(len(content), hashlib.sha256(content).hexdigest()))
    input_, log, output = digests
    return [
        Submitted(job=job, name="n", model="m", by="b", source="upload"),
        Queued(job=job, input=input_),
        Started(job=job, attempt=1, worker="w", instance="i"),
        Completed(job=job, attempt=1, run=RunFacts(exit_code=0), log=log, output=output),
    ]


def one(event: AnyEvent) -> Decide:
    return lambda _lookup: [event]


def append(ledger: Ledger, *events: AnyEvent) -> list[Record]:
    return [record for event in events for record in ledger.append(one(event))]


def test_a_sound_ledger(tmp_path: Path, open_ledger: Open) -> None:
    ledger = open_ledger(segment_size=900)
    for job in ("one", "two", "three"):
        append(ledger, *with_files(tmp_path, job))
    for _closed in (False, True):
        report = verify(tmp_path)
        assert report.sound and report.findings == ()
        assert (report.records, report.files, report.head) == (12, 9, ledger.board.head()[1])
        ledger.close()
    assert verify(tmp_path, files=False).files == 0


def test_an_empty_ledger(tmp_path: Path, open_ledger: Open) -> None:
    open_ledger()
    assert verify(tmp_path).sound
    assert list(export(tmp_path)) == []


def test_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no ledger in"):
        verify(tmp_path)
    with pytest.raises(LedgerError, match="no ledger in"):
        next(export(tmp_path))
    with pytest.raises(LedgerError, match="no ledger in"):
        next(show(tmp_path, "x"))


@pytest.mark.parametrize("name", ["input.zip", "job_log.txt", "output.zip"])
def test_each_file_is_compared(tmp_path: Path, open_ledger: Open, name: str) -> None:
    append(open_ledger(), *with_files(tmp_path, "one"), *with_files(tmp_path, "two"))
    path = tmp_path / "jobs" / "one" / name
    whole = path.read_bytes()
    for content, reason in (
        (whole[:-1], "bytes, not"),
        (whole[:-1] + b"!", "content"),
        (None, "missing"),
    ):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        (finding,) = verify(tmp_path).findings
        assert finding.where == str(path) and finding.fatal
        assert reason in finding.what and "one" in finding.what
    path.symlink_to(tmp_path / "jobs" / "two" / name)
    (finding,) = verify(tmp_path).findings
    assert "cannot be opened" in finding.what


def test_purged_jobs_owe_no_files(tmp_path: Path, open_ledger: Open) -> None:
    ledger = open_ledger()
    append(ledger, *with_files(tmp_path, "one"))
    for path in (tmp_path / "jobs" / "one").iterdir():
        path.unlink()
    assert len(verify(tmp_path).findings) == 3
    append(ledger, Purged(job="one", by="retention", reason="old"))
    assert verify(tmp_path).findings == ()


def test_a_failed_job_owes_what_came_back(tmp_path: Path, open_ledger: Open) -> None:
    *begun, end = with_files(tmp_path, "one")
    assert isinstance(end, Completed)
    failed = Failed(job="one", attempt=1, failure="model", reason="exit code 3", log=end.log)
    append(open_ledger(), *begun, failed)
    (tmp_path / "jobs" / "one" / "output.zip").unlink()
    assert verify(tmp_path).findings == ()
    (tmp_path / "jobs" / "one" / "job_log.txt").unlink()
    assert len(verify(tmp_path).findings) == 1


@pytest.mark.parametrize("living", [True, False])
def test_damage_is_named(tmp_path: Path, open_ledger: Open, living: bool) -> None:
    """Also in the last record, which the board knows to have been acknowledged."""
    ledger = open_ledger()
    append(ledger, *with_files(tmp_path, "one"))
    if not living:
        ledger.close()
    (path,) = (tmp_path / "ledger").glob("*.jsonl")
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    for number in range(1, 5):
        at = len(b"".join(lines[: number - 1])) + 60
        path.write_bytes(whole[:at] + b"\0" + whole[at + 1 :])
        report = verify(tmp_path)
        assert not report.sound and report.records == number - 1
        assert report.findings[0].where == f"{path}, line {number}"
    path.write_bytes(whole)


def test_a_line_that_is_being_written_is_no_damage(tmp_path: Path, open_ledger: Open) -> None:
    append(open_ledger(), *with_files(tmp_path, "one"))
    (path,) = (tmp_path / "ledger").glob("*.jsonl")
    whole = path.read_bytes()
    for more in (b"{", b'{"seq":5,"time":"20', b"\0\0\0"):
        path.write_bytes(whole + more)
        report = verify(tmp_path)
        assert report.sound and report.records == 4
        (finding,) = report.findings
        assert "being written" in finding.what and not finding.fatal
        assert b"".join(export(tmp_path)) == whole
        assert len(list(show(tmp_path, "one"))) == 4
    path.write_bytes(whole)


def test_progress(tmp_path: Path, open_ledger: Open) -> None:
    ledger = open_ledger()
    events = [Submitted(job=str(n), name="", model="", by="", source="url") for n in range(10_000)]
    ledger.append(lambda _: events)
    seen: list[int] = []
    assert verify(tmp_path, progress=seen.append).records == 10_000
    assert seen == [10_000]


def test_show_and_export(tmp_path: Path, open_ledger: Open, life: Life) -> None:
    ledger = open_ledger(segment_size=500)
    one, two = life("one"), life("two", name='the job that is not "one"')
    records = append(ledger, *[event for pair in zip(one, two, strict=True) for event in pair])
    for job in ("one", "two"):
        expected = [record for record in records if record.event.job == job]
        assert list(show(tmp_path, job)) == expected and len(expected) == 4
    assert list(show(tmp_path, "three")) == []
    lines = list(export(tmp_path))
    assert [unseal(line, None) for line in lines] == records
    assert b"".join(lines) == b"".join(
        path.read_bytes() for path in sorted((tmp_path / "ledger").glob("*.jsonl"))
    )
