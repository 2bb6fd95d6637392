"""The models that ship, run as a worker runs them: with an input and an output folder."""

from __future__ import annotations

import os
import re
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from spool import archive, manifest
from spool.expectations import Expectations

ROOT = Path(__file__).parents[2]
LP = "Minimize\n cost: 2 x + 3 y\nSubject To\n need: x + y >= 4\n{}End\n"


def run(
    model: str, folder: Path, files: dict[str, str], path: str = os.environ["PATH"]
) -> tuple[int, str, Path]:
    """(exit code, log, output folder) of ``model`` with ``files`` as its input."""
    source, output = folder / "input", folder / "output"
    source.mkdir()
    output.mkdir()
    for name, text in files.items():
        (source / name).write_text(text)
    return finished(model, source, output, path)


def finished(model: str, source: Path, output: Path, path: str) -> tuple[int, str, Path]:
    loaded = manifest.load(ROOT / "models" / model)
    done = subprocess.run(
        [*loaded.command, source, output],
        cwd=loaded.folder,
        env={"PATH": path, "LANG": "C.UTF-8", **loaded.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, output


@pytest.mark.parametrize("model", ["test", "test_2"])
def test_counts(model: str, tmp_path: Path) -> None:
    code, log, output = run(model, tmp_path, {"sleep_count": "02\r\n", "notes.txt": ""})
    assert code == 0
    assert "notes.txt" in log
    lines = log.splitlines()
    assert lines.index("1") < lines.index("2")
    assert "::progress 50 second 1 of 2" in lines and "::progress 100 second 2 of 2" in lines
    assert (output / "output.txt").read_text().startswith("Counted to 2.\n")


def test_counts_to_nothing(tmp_path: Path) -> None:
    code, log, output = run("test", tmp_path, {"sleep_count": "0"})
    assert (code, "::progress" in log) == (0, False)
    assert (output / "output.txt").exists()


def test_counts_as_windows_saves_it(tmp_path: Path) -> None:
    code, log, _ = run("test", tmp_path, {"sleep_count": "\ufeff1\r\n"})
    assert code == 0, log


@pytest.mark.parametrize("text", ["", "abc", "-1", "1.5", "86401", "1; ls", "$(ls)", "1 2\n3 x"])
def test_counts_numbers_only(text: str, tmp_path: Path) -> None:
    code, log, output = run("test", tmp_path, {"sleep_count": text})
    assert code == 2
    assert "must hold a whole number of seconds from 0 to 86400" in log
    assert not list(output.iterdir())


def test_counts_what_is_not_there(tmp_path: Path) -> None:
    code, log, _ = run("test", tmp_path, {"other": "8"})
    assert code == 2
    assert "The file sleep_count must hold" in log


def test_the_two_counting_models_are_the_same_script() -> None:
    """A model is a whole folder, so each has its own copy."""
    one, two = (ROOT / "models" / m / "count.sh" for m in ("test", "test_2"))
    assert one.read_bytes() == two.read_bytes()


def test_what_the_counting_models_ask_for_is_what_they_take() -> None:
    """All numbers of up to five digits, with zeros before them too."""
    for model in ("test", "test_2"):
        (file,) = manifest.load(ROOT / "models" / model).files
        good = re.compile(str(file.pattern)).fullmatch
        for number in range(100_000):
            for digits in range(len(str(number)), 6):
                text = f"{number:0{digits}}"
                assert bool(good(text)) == (number <= 86400), text
        for text in ("", "-1", "1.5", "abc", "100000", "1 2"):
            assert not good(text)


needs_glpsol = pytest.mark.needs("glpk-utils")


class TestGlpsol:
    pytestmark = needs_glpsol

    def test_the_example(self, tmp_path: Path) -> None:
        archive.unpack(ROOT / "models/glpsol/example.zip", tmp_path / "input")
        (tmp_path / "output").mkdir()
        code, log, output = finished(
            "glpsol", tmp_path / "input", tmp_path / "output", os.environ["PATH"]
        )
        assert code == 0
        report = (output / "report.txt").read_text()
        assert report.startswith("Result:     INTEGER OPTIMAL\nObjective:  cost = 430740 (MIN")
        assert report.strip() in log
        assert "import3" in (output / "solution.txt").read_text()
        assert log.rstrip().endswith("::progress 100 INTEGER OPTIMAL")

    @pytest.mark.parametrize(
        ("more", "result", "objective"),
        [
            ("", "OPTIMAL", "cost = 8 (MINimum)"),
            (" most: x + y <= 3\n", "INFEASIBLE: no solution", "none"),
            ("Bounds\n y <= 1\nGeneral\n x\n", "INTEGER OPTIMAL", "cost = 8 (MINimum)"),
            ("Bounds\n -inf <= x <= 9\n", "OPTIMAL", "cost = 8 (MINimum)"),
            ("Bounds\n x free\n y free\n", "UNBOUNDED", "none"),
            (" odd: 2 x - 2 y = 1\nBounds\n x <= 9\nGeneral\n x\n y\n", "INFEASIBLE", "none"),
        ],
    )
    def test_what_is_found_is_a_result(
        self, more: str, result: str, objective: str, tmp_path: Path
    ) -> None:
        code, log, output = run("glpsol", tmp_path, {"problem.lp": LP.format(more)})
        report = (output / "report.txt").read_text()
        assert code == 0, log
        assert f"Result:     {result}" in report
        assert f"Objective:  {objective}\n" in report
        assert ("mean nothing" in report) == (objective == "none")

    @pytest.mark.parametrize("text", ["Minimize\n x: a +* b\n", "hello\n", "\0\1", "\n"])
    def test_what_cannot_be_read_fails_with_its_line(self, text: str, tmp_path: Path) -> None:
        code, log, output = run("glpsol", tmp_path, {"problem.lp": text})
        assert code == 2
        assert "problem.lp:" in log.splitlines()[-1]
        assert not (output / "solution.txt").exists()

    def test_an_empty_problem(self, tmp_path: Path) -> None:
        code, log, _ = run("glpsol", tmp_path, {"problem.lp": ""})
        assert code == 2
        assert "missing or empty" in log


def test_glpsol_without_glpsol(tmp_path: Path) -> None:
    """With a PATH that has what the script needs, and no solver."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "cat", "grep", "head", "sed", "tail", "tee"):
        (programs / name).symlink_to(str(shutil.which(name)))
    code, log, _ = run("glpsol", tmp_path, {"problem.lp": LP.format("")}, str(programs))
    assert code == 127
    assert "glpsol is not installed" in log and "apt-get install glpk-utils" in log


def test_the_sample_zips_are_what_the_script_makes() -> None:
    samples = runpy.run_path(str(ROOT / "examples/make_samples.py"))["samples"]()
    for path, content in samples.items():
        assert (ROOT / path).read_bytes() == content, f"{path}: run examples/make_samples.py"
    assert {f"models/{m}/example.zip" for m in manifest.load_all(ROOT / "models")[0]} <= set(
        samples
    )


def test_each_example_is_what_its_model_asks_for() -> None:
    for model in manifest.load_all(ROOT / "models")[0].values():
        archive.check(model.folder / "example.zip", Expectations(model.files))
    model = manifest.load(ROOT / "models/test")
    for number in (8, 30):
        path = ROOT / f"examples/sleep_count_{number}.zip"
        archive.check(path, Expectations(model.files))
        assert archive.listing(path) == [archive.Entry("sleep_count", len(f"{number}\n"))]
