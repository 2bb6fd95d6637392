"""The model ``spring``, run as a worker runs it."""

from __future__ import annotations

import csv
import datetime
import os
import struct
import subprocess
import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import pytest

from spool import archive, manifest
from spool.errors import BadZip
from spool.expectations import Expectations

ROOT = Path(__file__).parents[2]
MODEL = manifest.load(ROOT / "models/spring")
HEADER = "date,precipitation,temperature"
START = datetime.date(2024, 1, 1)


class Ran(NamedTuple):
    code: int
    log: str
    output: Path

    def days(self) -> list[dict[str, float]]:
        """discharge.csv without its dates."""
        with (self.output / "discharge.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{name: float(v) for name, v in row.items() if name != "date"} for row in rows]


def run(source: Path, output: Path) -> Ran:
    output.mkdir()
    done = subprocess.run(
        [*MODEL.command, source, output],
        cwd=MODEL.folder,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **MODEL.env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    return Ran(done.returncode, done.stdout, output)


def given(folder: Path, climate: list[str], parameters: str | None = None, sep: str = ",") -> Ran:
    """A run on lines of climate.csv, each a day's precipitation and temperature."""
    source = folder / "input"
    source.mkdir()
    lines = [HEADER.replace(",", sep)]
    for number, values in enumerate(climate):
        lines.append(f"{START + datetime.timedelta(number)}{sep}{values}")
    (source / "climate.csv").write_text("\r\n".join(lines), newline="")
    if parameters is not None:
        (source / "parameters.csv").write_text(parameters)
    return run(source, folder / "output")


def picture(path: Path) -> tuple[int, int, bytes]:
    """Width, height and the raw lines of an 8-bit RGB PNG, after checking its chunks."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at : at + 8])
        body = data[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(kind + body)
        chunks[kind] = body
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *rest = struct.unpack(">2I5B", chunks[b"IHDR"])
    assert rest == [8, 2, 0, 0, 0]
    pixels = zlib.decompress(chunks[b"IDAT"])
    assert len(pixels) == height * (1 + 3 * width)
    return width, height, pixels


def test_the_example(tmp_path: Path) -> None:
    archive.unpack(MODEL.folder / "example.zip", tmp_path / "input")
    ran = run(tmp_path / "input", tmp_path / "output")
    assert ran.code == 0, ran.log
    assert sorted(p.name for p in ran.output.iterdir()) == [
        "discharge.csv", "discharge.png", "summary.txt",
    ]  # fmt: skip
    assert all(name in MODEL.output_description for name in os.listdir(ran.output))
    progress = [int(x.split()[1]) for x in ran.log.splitlines() if x.startswith("::progress ")]
    assert progress == sorted(progress) and progress[-1] == 100 and len(progress) > 4
    assert (ran.output / "summary.txt").read_text().strip() in ran.log
    days = ran.days()
    assert len(days) == 1095
    assert all(day["discharge_m3s"] > 0 for day in days)
    assert max(day["snow_mm"] for day in days) > 10
    width, height, pixels = picture(ran.output / "discharge.png")
    assert (width, height) == (1200, 600)
    colours = {pixels[at : at + 3] for at in range(1 + 300 * 3601, 301 * 3601 - 2, 3)}
    assert len(colours) > 2  # the line crosses the middle of the picture


def test_no_water_is_made_or_lost(tmp_path: Path) -> None:
    """What fell is what flowed, evaporated, or is still there."""
    ran = given(tmp_path, [f"{n % 7},{(n % 50) - 20}" for n in range(400)], "name,value\nfast,3\n")
    assert ran.code == 0, ran.log
    days = ran.days()
    fell = sum(n % 7 for n in range(400))
    evaporated, recharge = (sum(d[f"{x}_mm"] for d in days) for x in ("evaporation", "recharge"))
    left = days[-1]["snow_mm"] + days[-1]["soil_mm"] - 90 / 2
    assert fell == pytest.approx(evaporated + recharge + left, abs=0.01 * len(days))
    flowed = sum(d["discharge_m3s"] for d in days) * 86400 / 12 / 1000  # mm
    assert 0 < flowed <= recharge + 60


@pytest.mark.parametrize("sep", [";", "\t"])
def test_other_separators_and_decimal_commas(sep: str, tmp_path: Path) -> None:
    for name, point in (("a", "."), ("b", ",")):
        (tmp_path / name).mkdir()
        ran = given(tmp_path / name, [f"2{point}5{sep}4"] * 40, sep=sep)
        assert ran.code == 0, ran.log
    assert (tmp_path / "a/output/discharge.csv").read_bytes() == ran.output.joinpath(
        "discharge.csv"
    ).read_bytes()


def test_parameters_matter(tmp_path: Path) -> None:
    found = {}
    for area in (1, 10):
        (tmp_path / str(area)).mkdir()
        ran = given(tmp_path / str(area), ["5,5"] * 40, f"value;name\n{area};area\n\n")
        assert ran.code == 0, ran.log
        found[area] = ran.days()[-1]["discharge_m3s"]
    assert found[10] == pytest.approx(10 * found[1], rel=0.01)


@pytest.mark.parametrize("days", [["0,-5"] * 30, ["0,0"] * 3000, ["1000,60"] * 30])
def test_odd_weather_can_be_drawn(days: list[str], tmp_path: Path) -> None:
    ran = given(tmp_path, days)
    assert ran.code == 0, ran.log
    picture(ran.output / "discharge.png")


GOOD = ["1,1"] * 40
WRONG = {
    "negative": ([*GOOD, "-3.2,1"], None, "climate.csv, line 42: precipitation is -3.2; it must"),
    "text": ([*GOOD, "1,warm"], None, "line 42: temperature is 'warm', which is no number"),
    "nothing": ([*GOOD, ","], None, "line 42: precipitation is '', which is no number"),
    "not a number": (["nan,1", *GOOD], None, "line 2: precipitation is nan; it must lie between 0"),
    "a short line": ([*GOOD, "1"], None, "line 42: temperature is '', which is no number"),
    "too few": (["1,1"] * 5, None, "climate.csv: it has 5 days; at least 30 are needed"),
    "a parameter": (GOOD, "name,value\naera,3\n", "parameters.csv, line 2: 'aera' is none of area"),
    "its value": (GOOD, "name,value\n\narea,0\n", "line 3, area: value is 0; it must lie between"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_is_said_with_its_line(case: str, tmp_path: Path) -> None:
    days, parameters, said = WRONG[case]
    ran = given(tmp_path, days, parameters)
    assert ran.code == 2
    assert said in ran.log.splitlines()[-1]
    assert ran.log.splitlines()[-2] == "Correct this, zip the files and send them again:"
    assert not list(ran.output.iterdir())


def test_wrong_dates(tmp_path: Path) -> None:
    """Each wrong line is said once: the days after it are not wrong for its sake."""
    source = tmp_path / "input"
    source.mkdir()
    days = [f"{START + datetime.timedelta(n)},1,1" for n in range(40)]
    days[5] = "05.01.2024,1,1"
    days[20:22] = []
    (source / "climate.csv").write_text("\n".join([HEADER, *days]))
    ran = run(source, tmp_path / "output")
    assert ran.code == 2
    assert "line 7: the date must be YYYY-MM-DD, not '05.01.2024'" in ran.log
    assert "line 22: 2024-01-23 does not follow 2024-01-20: a day is missing or twice" in ran.log


def test_columns_are_checked_before_it_runs(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        zipped.writestr("climate.csv", "date,rain,temperature\n")
    with pytest.raises(BadZip, match="the column 'precipitation' in its first line"):
        archive.check(tmp_path / "a.zip", Expectations(MODEL.files))
