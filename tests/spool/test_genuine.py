"""What is a ticket or a claim: the very input of its job, whatever a file is called."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from spool import genuine as module
from spool.errors import Gone
from spool.genuine import Genuine
from spool.names import Ticket

A = "0b6f3c1e-5b0a-4b62-9d7f-00000000000a"
B = "0b6f3c1e-5b0a-4b62-9d7f-00000000000b"
INPUT = b"the input of A"


def ticket(job: str, data: bytes = INPUT) -> Ticket:
    return Ticket(1, 1, job, hashlib.sha256(data).hexdigest())


@pytest.fixture
def jobs(tmp_path: Path) -> Path:
    for job, data in ((A, INPUT), (B, b"the input of B")):
        (tmp_path / "jobs" / job).mkdir(parents=True)
        (tmp_path / "jobs" / job / "input.zip").write_bytes(data)
    return tmp_path / "jobs"


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    """Where a claim would lie."""
    return tmp_path / "claim"


def why(jobs: Path, claim: Path, of: Ticket) -> str | None:
    return Genuine(jobs).why_not(str(claim), of)


def test_a_link_of_the_input_is_genuine(jobs: Path, claim: Path) -> None:
    os.link(jobs / A / "input.zip", claim)
    assert why(jobs, claim, ticket(A)) is None
    assert why(jobs, claim, ticket(A)._replace(attempt=2)) is None, "the name says the attempt"


def test_what_is_not_there_is_gone(jobs: Path, claim: Path) -> None:
    with pytest.raises(Gone):
        why(jobs, claim, ticket(A))


def test_an_empty_file_is_not(jobs: Path, claim: Path) -> None:
    claim.touch()
    assert why(jobs, claim, ticket(A)) is not None


def test_no_link_is_followed_and_nothing_but_a_file_is_looked_into(jobs: Path, claim: Path) -> None:
    claim.symlink_to(jobs / A / "input.zip")
    assert "regular" in (why(jobs, claim, ticket(A)) or "")
    claim.unlink()
    os.mkfifo(claim)
    assert "regular" in (why(jobs, claim, ticket(A)) or "")
    claim.unlink()
    claim.mkdir()
    assert "regular" in (why(jobs, claim, ticket(A)) or "")


def test_the_input_of_one_job_is_no_claim_of_another(jobs: Path, claim: Path) -> None:
    os.link(jobs / A / "input.zip", claim)
    assert "another job" in (why(jobs, claim, ticket(B, INPUT)) or "")


def test_the_input_of_one_job_is_no_claim_of_another_even_with_the_same_bytes(
    jobs: Path, claim: Path
) -> None:
    """Both were submitted with the same input; the inode tells them apart."""
    (jobs / B / "input.zip").write_bytes(INPUT)
    os.link(jobs / A / "input.zip", claim)
    assert "another job" in (why(jobs, claim, ticket(B)) or "")


def test_a_single_copy_of_ours_is_believed_by_its_content(jobs: Path, claim: Path) -> None:
    """Where there are no links; after a restored backup; and what is left of a purged input."""
    claim.write_bytes(INPUT)
    assert why(jobs, claim, ticket(A)) is None
    (jobs / A / "input.zip").unlink()
    assert why(jobs, claim, ticket(A)) is None
    assert "content" in (why(jobs, claim, ticket(A, b"other")) or "")
    os.link(claim, claim.with_name("second"))
    assert why(jobs, claim, ticket(A)) is not None, "a ticket of another job, renamed"


def test_a_copy_is_read_once_and_again_when_it_changed(
    jobs: Path, claim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = os.open

    def counted(path: str, *args: int) -> int:
        opened.append(path)
        return real(path, *args)

    monkeypatch.setattr(os, "open", counted)
    judge = Genuine(jobs)
    claim.write_bytes(INPUT)
    for _ in range(3):
        assert judge.why_not(str(claim), ticket(A)) is None
        renamed = claim.rename(claim.with_name("renamed"))
        assert judge.why_not(str(renamed), ticket(A)) is None
        renamed.rename(claim)
    assert len(opened) == 1
    claim.write_bytes(INPUT[::-1])
    os.utime(claim, ns=(0, 0))
    assert judge.why_not(str(claim), ticket(A)) is not None
    judge.copied(claim, ticket(A).sha256)
    assert judge.why_not(str(claim), ticket(A)) is None, "we have just written it"
    assert len(opened) == 2


def test_what_is_remembered_has_an_end(
    jobs: Path, claim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    judge = Genuine(jobs)
    for n in range(10):
        claim.write_bytes(bytes([n]))
        os.utime(claim, ns=(n, n))
        judge.copied(claim, "x")
    assert len(judge._hashes) == 3


@pytest.mark.root
def test_a_file_of_somebody_else_is_not_read(jobs: Path, claim: Path) -> None:
    claim.write_bytes(INPUT)
    os.chown(claim, 60001, 60001)
    assert why(jobs, claim, ticket(A)) == "it belongs to user 60001"
