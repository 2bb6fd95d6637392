"""``--check`` on a spool that does not let us: a line each, and nothing left behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.entrance import entrance_to
from engine.examination import examine
from engine.sandbox import Sandbox
from engine.state import State
from engine.trial import Finding, Trial, failed
from spool.dispatch import Dispatch
from spool.errors import Refused, Unreachable
from spool.local import LocalTransport, make_worker_folder
from tests.lossy import LossyTransport


class Place:
    def __init__(self, root: Path) -> None:
        dispatch = Dispatch(root / "spool")
        dispatch.lay_out(["m"])
        self.root = dispatch.root
        self.line = LossyTransport(LocalTransport(dispatch.root))
        self.trial = Trial(self.line, "w1")

    def forbid(self, verb: str, part: str) -> None:
        no = Refused(f"{part}: Permission denied", "check the account")
        self.line.loses = lambda called, path: no if called == verb and part in path else None

    def files(self) -> list[Path]:
        return [p for p in self.root.rglob("*") if p.is_file() and p.name != "bell"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def verdicts(findings: list[Finding]) -> list[str]:
    return [finding.verdict for finding in findings]


def test_all_is_well(place: Place) -> None:
    make_worker_folder(place.root, "w1")
    found = list(place.trial.findings())
    assert verdicts(found) == ["ok"] * 8
    place.trial.pass_through("models/m/new")
    assert place.files() == []


@pytest.mark.parametrize(
    ("verb", "part", "word"),
    [
        ("names", "w1/cur", "cur"),
        ("store", "w1/tmp", "tmp/"),
        ("append", "w1/tmp", "appended"),
        ("move", ".2 to ", "posix-rename"),
        ("move", "w1/cur/", "cur/"),
        ("move", "w1/log/", "log/"),
        ("move", "w1/out/", "out/"),
        ("move", "w1/reports/", "reports/"),
        ("names", "w1/stop", "stop/"),
    ],
)
def test_a_missing_right_is_one_line_that_says_what_to_do(
    place: Place, verb: str, part: str, word: str
) -> None:
    make_worker_folder(place.root, "w1")
    place.forbid(verb, part)
    wrong = [f for f in place.trial.findings() if f.verdict == "FAILED"]
    assert len(wrong) == 1
    assert word in wrong[0].what
    assert "Permission denied" in wrong[0].what
    assert "spool grant w1" in wrong[0].hint
    place.line.up()
    assert place.files() == []


@pytest.mark.parametrize(("may", "verdict"), [(True, "ok"), (False, "FAILED")])
def test_a_folder_that_is_not_there_can_be_made_or_not(
    place: Place, may: bool, verdict: str
) -> None:
    if not may:
        place.forbid("store", "workers/")
    (found,) = place.trial.findings()
    assert found.verdict == verdict
    assert "not there" in found.what
    assert not (place.root / "workers/w1").exists()


def test_a_line_that_breaks_is_said_without_a_word_about_rights(place: Place) -> None:
    make_worker_folder(place.root, "w1")
    place.line.down()
    (found,) = place.trial.findings()
    assert found.verdict == "FAILED"
    assert "grant" not in found.hint


def test_a_server_whose_rename_does_not_replace_is_found(place: Place) -> None:
    make_worker_folder(place.root, "w1")
    real = place.line.move

    def move(old: str, new: str) -> None:
        real(old, new + ".elsewhere" if old.endswith(".2") else new)

    place.line.move = move  # type: ignore[method-assign]
    wrong = [f for f in place.trial.findings() if f.verdict == "FAILED"]
    assert len(wrong) == 1
    assert "was not replaced" in wrong[0].what


def test_a_finding_keeps_its_hint_apart() -> None:
    assert str(failed("login", Refused("no key", "make one"))) == (
        "FAILED  login: no key\n        make one"
    )
    assert str(failed("login", Unreachable("cut"))) == "FAILED  login: cut"


def checked(place: Place, models: Path, state: Path, name: str = "w1") -> list[str]:
    findings = examine(str(place.root), models, name, lambda _: state)
    return [str(f) for f in findings if f.verdict != "ok"]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    box = Sandbox("pid-namespace")
    monkeypatch.setattr("engine.sandbox.probe", lambda _: box)  # it forks, and pytest has threads
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def test_the_whole_of_it_locally(place: Place, models: Path, tmp_path: Path) -> None:
    (models / "m").mkdir()
    (models / "m" / "model.toml").write_text('command = ["true"]\n')
    (models / "stranger").mkdir()
    (models / "stranger" / "model.toml").write_text('command = ["true"]\n')
    state = tmp_path / "deep" / "state"
    found = checked(place, models, state)
    assert found == ["note    model stranger: the primary does not have it"]
    assert not state.exists()
    home = State(state)
    try:
        assert any("is running now" in line for line in checked(place, models, state))
    finally:
        home.release()
    assert place.files() == []


def test_what_is_wrong_with_the_options(place: Place, models: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert any("no models" in line for line in checked(place, models, state))
    assert any("Not Plain" in line for line in checked(place, models, state, "Not Plain"))
    missing = checked(place, tmp_path / "nowhere", state)
    assert any("nowhere" in line for line in missing)
    (tmp_path / "file").touch()
    assert any("give --state" in line for line in checked(place, models, tmp_path / "file/x"))
    (place.root / "bell").unlink()
    assert any("not a spool" in line for line in checked(place, models, state))


@pytest.mark.root
def test_a_state_directory_of_another_user(place: Place, models: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 65534, 65534)
    assert any("belongs to user 65534" in line for line in checked(place, models, state))


@pytest.mark.parametrize(
    ("closed", "verdict"), [(["n"], "note"), (["m", "n"], "FAILED")], ids=["one", "all"]
)
def test_what_is_not_granted_is_a_fault_only_if_nothing_is(
    place: Place,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    closed: list[str],
    verdict: str,
) -> None:
    Dispatch(place.root).lay_out(["m", "n"])
    for model in "mn":
        (models / model).mkdir()
        (models / model / "model.toml").write_text('command = ["true"]\n')
    no = Refused("Permission denied", "check the account")
    place.line.loses = lambda called, path: (
        no if called == "names" and any(f"models/{model}/" in path for model in closed) else None
    )
    entrance = entrance_to(str(place.root))
    entrance.transport = place.line
    monkeypatch.setattr("engine.examination.entrance_to", lambda *_: entrance)
    found = checked(place, models, tmp_path / "state")
    assert len(found) == len(closed)
    for line, model in zip(found, closed, strict=True):
        assert line.startswith(f"{verdict:<7} model {model}: this account may not claim")
        assert "spool grant" in line
