"""The primary's side of the spool: what it sees, and what it does to a worker's folder."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from pathlib import Path

import pytest

from spool import dispatch as module
from spool import folders
from spool.dispatch import Dispatch
from spool.errors import Gone, NoSpace, Refused, SpoolError, Unbelievable, Unreachable
from spool.local import make_worker_folder
from spool.names import Claim, ReportName, Ticket
from spool.reports import MAX_REPORT

JOB = "0b6f3c1e-5b0a-4b62-9d7f-0123456789ab"
SHA = "ab" * 32
T1, T2 = Ticket(1, 1, JOB, SHA), Ticket(1, 2, JOB, SHA)
C1, C2 = Claim(T1, "1" * 16), Claim(T2, "1" * 16)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The job's input."""
    made = tmp_path / "jobs" / JOB / "input.zip"
    made.parent.mkdir(parents=True)
    made.write_bytes(b"zip")
    return made


@pytest.fixture
def dispatch(tmp_path: Path, source: Path) -> Dispatch:  # noqa: ARG001 - it must be there
    made = Dispatch(tmp_path / "spool")
    made.lay_out(["test"])
    for worker in ("w1", "w2"):
        make_worker_folder(made.root, worker)
    return made


def home(dispatch: Dispatch, worker: str = "w1") -> Path:
    return dispatch.root / "workers" / worker


def test_lay_out_can_be_done_again_and_keeps_the_bell(dispatch: Dispatch) -> None:
    dispatch.ring()
    dispatch.lay_out(["test", "other"])
    dispatch.ring()
    assert (dispatch.root / "bell").read_bytes() == b".."
    assert dispatch.models() == ["other", "test"]
    again = Dispatch(dispatch.root)
    again.lay_out([])
    again.ring()
    assert (dispatch.root / "bell").stat().st_size == 3


def test_a_root_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpoolError, match="file"):
        Dispatch(tmp_path / "file").lay_out([])


# --- looking -------------------------------------------------------------------------


def test_a_scan_sees_what_is_ours_and_nothing_else(dispatch: Dispatch, source: Path) -> None:
    new, w1 = dispatch.root / "models/test/new", home(dispatch)
    os.link(source, new / str(T1))
    os.link(source, w1 / "cur" / str(C2))
    (w1 / "reports" / str(ReportName(JOB, 1, "final"))).touch()
    (w1 / "stop" / f"{JOB}.1").touch()
    for strange in ("README", f".{T1}", "x\ny", f"{T1}.part"):
        for folder in (new, w1 / "cur", w1 / "reports", w1 / "stop"):
            (folder / strange).touch()
    with open(os.fsencode(new) + b"/\xff\xfe", "wb"):
        pass
    seen = dispatch.scan(["test", "gone"], ["w1", "w2", "gone"])
    assert seen.tickets == [("test", T1)]
    assert seen.claims == [("w1", C2)]
    assert seen.reports == [("w1", ReportName(JOB, 1, "final"))]
    assert seen.stops == {("w1", f"{JOB}.1")}
    assert (seen.unseen, seen.flooded) == ({}, {})
    assert seen.strange == ["models/test/new: 3 files that are no tickets; remove them"]


def test_folders_with_strange_names_are_no_workers(dispatch: Dispatch) -> None:
    for name in ("UPPER", ".hidden", "a b", "x\n"):
        (dispatch.root / "workers" / name).mkdir()
    assert dispatch.workers() == ["w1", "w2"]


@pytest.mark.parametrize("folder", ["cur", "reports", "stop", "log", "out"])
def test_a_workers_link_to_another_ones_folder_is_not_followed(
    dispatch: Dispatch, source: Path, folder: str
) -> None:
    """Else what w1 holds would count as held by w2."""
    w1, w2 = home(dispatch), home(dispatch, "w2")
    os.link(source, w1 / "cur" / str(C1))
    (w1 / "reports" / str(ReportName(JOB, 1, "final"))).touch()
    for path in (f"stop/{JOB}.1", f"log/{JOB}.1.log", f"out/{JOB}.1.zip"):
        (w1 / path).touch()
    (w2 / folder).rmdir()
    (w2 / folder).symlink_to(w1 / folder)
    seen = dispatch.scan([], ["w1", "w2"])
    assert {w for w, _ in [*seen.claims, *seen.reports, *seen.stops, *seen.rests]} == {"w1"}


def test_a_ticket_on_its_way_is_seen_in_one_of_the_two_places(
    dispatch: Dispatch, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """new/ is listed before cur/: claimed between the two, it is seen as claimed."""
    new = f"{dispatch.root}/models/test/new"
    os.link(source, f"{new}/{T1}")
    real = folders.names_in
    listed: list[str] = []

    def names_in(path: str, what: str) -> list[str]:
        found = real(path, what)
        listed.append(path)
        if path == new:
            os.rename(f"{path}/{T1}", home(dispatch) / "cur" / str(C1))
        return found

    monkeypatch.setattr(module, "names_in", names_in)
    seen = dispatch.scan(["test"], ["w1"])
    assert (seen.tickets, seen.claims) == ([], [("w1", C1)]), "it went before it was looked at"
    assert listed.index(new) < listed.index(f"{dispatch.root}/workers/w1/cur")


def test_beats_and_reports_are_read_with_suspicion(dispatch: Dispatch) -> None:
    final = ReportName(JOB, 1, "final")
    path = home(dispatch) / "reports" / str(final)
    with pytest.raises(Gone):
        dispatch.beat("w1")
    with pytest.raises(Gone):
        dispatch.report("w1", final)
    path.write_bytes(b"{}")
    assert dispatch.report("w1", final) == b"{}"
    path.write_bytes(b" " * (MAX_REPORT + 1))
    (home(dispatch) / "reports/beat.json").symlink_to(path)
    with pytest.raises(Unbelievable, match="more than"):
        dispatch.report("w1", final)
    with pytest.raises(Unbelievable, match="not a regular file"):
        dispatch.beat("w1")


# --- publishing ----------------------------------------------------------------------


def test_a_ticket_is_a_link_to_the_input(dispatch: Dispatch, source: Path) -> None:
    dispatch.publish(source, "test", T1)
    dispatch.publish(source, "test", T1)  # again, after a crash
    ticket = dispatch.root / "models/test/new" / str(T1)
    assert ticket.stat().st_ino == source.stat().st_ino
    assert dispatch.unpublish("test", T1) is True
    assert dispatch.unpublish("test", T1) is False
    assert source.read_bytes() == b"zip"


@pytest.mark.parametrize("number", [errno.EPERM, errno.EXDEV])
def test_where_links_are_not_to_be_had_it_is_a_copy(
    dispatch: Dispatch, source: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def link(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", link)
    ticket = T1._replace(sha256=hashlib.sha256(b"zip").hexdigest())
    new = dispatch.root / "models/test/new"
    half = dispatch.root / "models/test/.aside" / str(ticket)
    half.write_bytes(b"from a crash")
    os.chmod(half, 0o440)
    with half.open("rb") as held:  # what is written through it would show here
        dispatch.publish(source, "test", ticket)
        assert held.read() == b"from a crash"
    assert (os.listdir(new), os.listdir(half.parent)) == ([str(ticket)], [])
    assert (new / str(ticket)).read_bytes() == b"zip"
    assert (new / str(ticket)).stat().st_mode & 0o777 == 0o440
    again = Dispatch(dispatch.root)  # that has to read it
    for seen in (dispatch, again):
        assert seen.scan(["test"], []).tickets == [("test", ticket)]
    assert dispatch.unpublish("test", ticket) is True


def test_what_a_crash_left_beside_new_is_removed(dispatch: Dispatch) -> None:
    aside = dispatch.root / "models/test/.aside"
    (aside / str(T1)).touch()
    dispatch.lay_out(["test"])
    assert os.listdir(aside) == []


def test_publishing_says_what_is_wrong(
    dispatch: Dispatch, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Gone):
        dispatch.publish(source.with_name("nothing"), "test", T1)
    for number, kind in (
        (errno.ENOSPC, NoSpace),
        (errno.EACCES, Refused),
        (errno.EIO, Unreachable),
    ):

        def link(*_: object, number: int = number) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "link", link)
        with pytest.raises(kind, match=str(T1)):
            dispatch.publish(source, "test", T1)


# --- stopping and retiring -----------------------------------------------------------


def test_a_stop_appears_whole(dispatch: Dispatch) -> None:
    stop = home(dispatch) / "stop"
    dispatch.stop("w1", T1.key, "killed by ann")
    dispatch.stop("w1", T1.key, "killed by ann")
    assert os.listdir(stop) == [T1.key]
    assert (stop / T1.key).read_text() == "killed by ann"


def test_a_stop_is_not_written_through_a_worker_s_trap(dispatch: Dispatch, tmp_path: Path) -> None:
    """The claim itself is a link of the input: it must not be truncated in a stop's place."""
    source = tmp_path / "input.zip"
    source.write_bytes(b"zip")
    os.link(source, home(dispatch) / "stop" / f".{T1.key}")
    dispatch.stop("w1", T1.key, "reason")
    assert source.read_bytes() == b"zip"
    (home(dispatch) / "stop" / T1.key).unlink()
    os.mkfifo(home(dispatch) / "stop" / f".{T1.key}")
    dispatch.stop("w1", T1.key, "reason")
    assert (home(dispatch) / "stop" / T1.key).read_text() == "reason"


def fill(dispatch: Dispatch, claim: Claim) -> list[str]:
    """All files of one attempt; their paths below the worker's folder."""
    key = claim.key
    paths = [f"cur/{claim}", f"log/{key}.log", f"out/{key}.zip", f"stop/{key}"]
    for kind in ("started", "processed", "final"):
        paths.append(f"reports/{ReportName(JOB, claim.ticket.attempt, kind)}")
    for path in paths:
        (home(dispatch) / path).touch()
    return paths


def files(dispatch: Dispatch) -> set[str]:
    w1 = home(dispatch)
    return {str(p.relative_to(w1)) for p in w1.rglob("*") if p.is_file()}


def test_retiring_removes_one_attempt_and_no_other(dispatch: Dispatch) -> None:
    fill(dispatch, C1)
    others = fill(dispatch, C2)
    for _ in range(2):
        dispatch.retire("w1", C1.key, [C1])
        assert files(dispatch) == set(others)


def test_the_claim_is_retired_first_of_all(
    dispatch: Dispatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And wherever a crash cuts it off, doing it again finishes it (F6)."""
    paths = fill(dispatch, C1)
    real = os.unlink

    class Crash(BaseException):
        pass

    for survived in range(1, len(paths) + 1):
        removed: list[str] = []

        def unlink(path: str, removed: list[str] = removed, stop: int = survived) -> None:
            if len(removed) == stop:
                raise Crash
            real(path)
            removed.append(str(path))

        fill(dispatch, C1)
        monkeypatch.setattr(os, "unlink", unlink)
        with contextlib.suppress(Crash):
            dispatch.retire("w1", C1.key, [C1])
        monkeypatch.setattr(os, "unlink", real)
        assert removed[0].endswith(f"cur/{C1}")
        dispatch.retire("w1", C1.key, [C1])
        assert files(dispatch) == set()


def test_a_refused_report_is_taken_away_alone(dispatch: Dispatch) -> None:
    paths = fill(dispatch, C1)
    final = ReportName(JOB, 1, "final")
    dispatch.drop_report("w1", final)
    dispatch.drop_report("w1", final)
    assert files(dispatch) == set(paths) - {f"reports/{final}"}
