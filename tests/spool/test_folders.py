"""Folders of the spool: their modes, whatever the umask, and listings that end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from spool import folders as module
from spool.dispatch import Dispatch
from spool.errors import Gone, Refused
from spool.folders import SHARED_MODE, give_group, make_folder, names_in


@pytest.fixture(params=[0, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_the_spool_is_passed_through_and_listed_by_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    Dispatch(tmp_path / "spool").lay_out(["m"])
    modes = {
        str(p.relative_to(tmp_path / "spool")): mode(p) for p in (tmp_path / "spool").rglob("*")
    }
    assert modes == {
        "bell": 0o644,
        "models": 0o711,
        "models/m": 0o711,
        "models/m/.aside": 0o700,
        "models/m/drop": 0o750,
        "models/m/new": 0o750,
        "workers": 0o711,
    }
    assert mode(tmp_path / "spool") == 0o711


@pytest.mark.usefixtures("umask")
def test_what_an_operator_has_set_stays(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    Dispatch(tmp_path / "spool").lay_out(["m"])
    set_by_hand = {"models": 0o755, "models/m": 0o750, "models/m/new": 0o2770, "bell": 0o640}
    set_by_hand |= {"models/m/drop": 0o2777, "workers": 0o700, "": 0o751}
    for name, wanted in set_by_hand.items():
        (tmp_path / "spool" / name).chmod(wanted)
    Dispatch(tmp_path / "spool").lay_out(["m", "other"])
    assert {n: mode(tmp_path / "spool" / n) for n in set_by_hand} == set_by_hand


def test_a_setgid_folder_hands_its_group_on(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    make_folder(tmp_path / "new", 0o750)
    assert mode(tmp_path / "new") == 0o2750


def test_what_is_missing_in_a_folder_of_root_says_what_to_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "jobs").mkdir()
    dispatch = Dispatch(tmp_path / "spool")
    dispatch.lay_out(["m"])

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "mkdir", refused)
    dispatch.lay_out(["m"])  # what exists is used
    assert dispatch.missing == {}
    dispatch.lay_out(["m", "fresh"])
    assert "modelrunner spool grant" in dispatch.missing["fresh"]
    with pytest.raises(Refused, match="modelrunner spool grant"):
        Dispatch(tmp_path / "elsewhere").lay_out([])


def test_a_spool_that_is_a_link_is_resolved_once(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "spool").symlink_to("real")
    dispatch = Dispatch(tmp_path / "spool")
    dispatch.lay_out(["m"])
    (tmp_path / "spool").unlink()
    assert dispatch.root == tmp_path / "real"
    assert dispatch.models() == ["m"]


def test_a_link_in_a_circle_is_no_spool(tmp_path: Path) -> None:
    (tmp_path / "spool").symlink_to("spool")
    with pytest.raises(Refused, match="not a folder"):
        Dispatch(tmp_path / "spool").lay_out([])


def test_a_listing_ends_at_its_cap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(5):
        (tmp_path / f"{n}").touch()
    (tmp_path / ".hidden").touch()
    with open(os.fsencode(tmp_path) + b"/\xff", "wb"):
        pass
    monkeypatch.setattr(module, "MAX_NAMES", 7)
    assert sorted(names_in(str(tmp_path), "x")) == ["0", "1", "2", "3", "4"]
    monkeypatch.setattr(module, "MAX_NAMES", 6)
    with pytest.raises(Refused, match=r"x: more than 6 names \(remove what does not belong"):
        names_in(str(tmp_path), "x")


def test_a_listing_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("link", "nothing"):
        with pytest.raises(Gone):
            names_in(str(tmp_path / name), name)


def test_an_input_that_cannot_change_its_group_is_read_by_whom_the_folders_let(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "input.zip"
    file.touch(0o440)
    mine = file.stat().st_gid
    give_group(file, mine)
    assert mode(file) == 0o440, "nothing to do"

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refused)
    give_group(file, mine + 1)
    assert mode(file) == SHARED_MODE
