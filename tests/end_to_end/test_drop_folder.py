"""A colleague with nothing but a folder."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from tests.system import System, wait_for


def _answer(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text())["status"])
    except FileNotFoundError:
        return None


def test_a_zip_copied_in_pieces_becomes_a_job(system: System) -> None:
    system.start(1)
    drop = system.data / "spool" / "models" / "count" / "drop"
    data = system.zip(count="2").read_bytes()
    target = drop / "spring run.zip"
    with target.open("wb", buffering=0) as file:
        for at in range(0, len(data), 40):
            file.write(data[at : at + 40])
            assert target.exists(), "taken before it was whole"
    job_json = drop / "spring run.job.json"
    wait_for(lambda: _answer(job_json) == "COMPLETE", "the answer beside the drop")
    assert not target.exists()
    with zipfile.ZipFile(drop / "spring run.output.zip") as output:
        assert output.namelist() == ["result.txt"]
    assert (drop / "spring run.log.txt").read_text() == "1\n2\n"
    listed = system.client.jobs()
    assert [(job["name"], job["source"]) for job in listed] == [("spring run", "drop")]


def test_a_bad_zip_is_rejected_in_place_with_the_reason(system: System) -> None:
    system.start(1)
    drop = system.data / "spool" / "models" / "count" / "drop"
    (drop / "bad.zip").write_bytes(system.zip(wrong="x").read_bytes())
    wait_for((drop / "bad.zip.rejected").exists, "the rejection")
    assert "count" in (drop / "bad.why.txt").read_text()
    assert system.client.jobs() == []


def test_dropped_while_the_primary_is_down(system: System) -> None:
    system.start(1)
    system.stop()
    drop = system.data / "spool" / "models" / "count" / "drop"
    (drop / "night.zip").write_bytes(system.zip(count="1").read_bytes())
    system.start(1)
    wait_for(lambda: _answer(drop / "night.job.json") == "COMPLETE", "the answer beside the drop")
