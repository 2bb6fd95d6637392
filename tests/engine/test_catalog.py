"""Which models of a folder a worker runs."""

from __future__ import annotations

from pathlib import Path

from engine.catalog import Catalog


def _add(root: Path, name: str, text: str = 'command = ["/bin/true"]\n') -> None:
    (root / name).mkdir()
    (root / name / "model.toml").write_text(text)


def test_all_or_those_that_are_named(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        _add(tmp_path, name)
    said: list[str] = []
    whole, part = Catalog(tmp_path, said.append), Catalog(tmp_path, said.append, ["two", "four"])
    for catalog in (whole, part):
        catalog.reload()
    assert set(whole.models) == {"one", "two", "three"}
    assert set(part.models) == {"two"}
    assert said == [f"model four: it is not in {tmp_path}"]


def test_what_is_wrong_with_others_is_no_complaint(tmp_path: Path) -> None:
    _add(tmp_path, "good")
    _add(tmp_path, "bad", "command = 3\n")
    said: list[str] = []
    Catalog(tmp_path, said.append, ["good"]).reload()
    assert said == []
    Catalog(tmp_path, said.append, ["bad"]).reload()
    assert len(said) == 1 and said[0].startswith("model bad: ")
