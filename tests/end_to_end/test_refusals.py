"""What an operator is told when the primary cannot start."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system import ROOT, System


def _serve(data: Path, models: Path, listen: str = "127.0.0.1:0") -> tuple[int, str]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "modelrunner", "serve", f"--data={data}"),
            *(f"--listen={listen}", f"--models={models}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_data_in_use_by_another_primary(system: System) -> None:
    system.start()
    code, said = _serve(system.data, system.models)
    assert code == 1
    assert "another primary" in said.lower() or "in use" in said.lower()
    assert str(system.data) in said


def test_port_in_use(system: System) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, said = _serve(system.data, system.models, f"127.0.0.1:{port}")
    assert code == 1
    assert str(port) in said


def test_data_directory_cannot_be_written(system: System, tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.touch()
    code, said = _serve(file / "data", system.models)
    assert code == 1
    assert str(file) in said


@pytest.mark.parametrize("board", ["with its board", "without"])
def test_damaged_ledger(system: System, board: str) -> None:
    system.start(1)
    system.wait_status(system.submit("count", system.zip(count="1")), "COMPLETE")
    system.stop()
    segment = next((system.data / "ledger").glob("*.jsonl"))
    lines = segment.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(b'"count"', b'"cound"', 1)
    segment.write_bytes(b"".join(lines))
    if board == "without":
        (system.data / "board.sqlite").unlink()
    code, said = _serve(system.data, system.models)
    assert code == 1
    assert segment.name in said
    assert "line 1" in said
    assert segment.read_bytes() == b"".join(lines), "a damaged ledger was touched"


def test_model_with_a_typo_is_said_and_the_others_work(system: System) -> None:
    folder = system.models / "typo"
    folder.mkdir()
    (folder / "model.toml").write_text('title = "t"\ncomand = ["./x"]\n')
    system.start()
    findings = "\n".join(system.client.doctor())
    assert "typo" in findings
    assert "comand" in findings
    assert "command" in findings
    assert "count" in {model["name"] for model in system.client.models()}


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
def test_worker_without_the_right_to_its_spool(system: System) -> None:
    system.start()
    os.chmod(system.root, 0o755)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "worker_agent", f"--primary={system.data / 'spool'}"),
            *(f"--models={system.models}", "--name=w9", "--state=/proc/nowhere"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "/proc/nowhere" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_data_of_another_user(system: System) -> None:
    """Started once as root, its owner could not write to it any more."""
    system.data.mkdir()
    os.chown(system.data, 65534, 65534)
    code, said = _serve(system.data, system.models)
    assert code == 1
    assert "belongs to user 65534" in said
    assert list(system.data.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system takes root")
def test_an_output_that_fills_the_disk_is_given_up_and_the_job_ends(system: System) -> None:
    filler = "#!/bin/bash\nhead -c 2000000000 /dev/zero > $2/big\necho full\nexit 0\n"
    system.add_model("filler", filler)
    small = system.root / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300M", "none", str(small)], check=True)
    try:
        system.data = small / "data"
        system.states[0] = system.data / "local-worker"
        system.start(1)
        end = system.wait_status(system.submit("filler", system.zip(count="1")), "FAILED")
        assert end["failure"] == "limit"
        assert "disk" in end["reason"]
        system.wait_status(system.submit("count", system.zip(count="1")), "COMPLETE")
    finally:
        system.end()
        subprocess.run(["umount", str(small)], check=True)


def test_worker_with_a_folder_that_is_no_spool(system: System, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "worker_agent", f"--primary={tmp_path}"),
            *(f"--models={system.models}", "--name=w1", f"--state={tmp_path / 'state'}"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    assert done.returncode == 1
    assert "not a spool" in done.stderr
