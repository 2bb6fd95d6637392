"""Whether services are well, asked of a real primary with a real worker."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from deploy import health
from deploy.fleet import Primary
from deploy.paths import paths
from tests.system import System

VERSION = version("modelrunner")


def _health(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-m", "deploy.health", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_a_real_primary_and_its_worker(system: System, capsys: pytest.CaptureFixture[str]) -> None:
    away = _health("primary", "--url=http://127.0.0.1:1", "--version=1", "--seconds=0")
    assert away.returncode == 1
    assert "http://127.0.0.1:1/healthz does not answer" in away.stderr
    assert away.stderr.count("\n") == 1

    system.start()
    url = f"--url={system.address}"
    # A proxy that the environment names is not asked for what runs here.
    assert health.main(["primary", url, f"--version={VERSION}", "--seconds=30"]) == 0
    assert health.main(["primary", url, "--version=other", "--seconds=0"]) == 1
    assert f"the primary is of version {VERSION}, not other" in capsys.readouterr().err
    worker = ["worker", url, "--name=bee", f"--version={VERSION}"]
    assert health.main([*worker, "--seconds=0"]) == 1
    assert "has not heard of worker bee yet" in capsys.readouterr().err
    system.start_worker("bee")
    assert health.main([*worker, "--seconds=30"]) == 0
    assert health.main(["worker", url, "--name=bee", "--version=other", "--seconds=0"]) == 1
    assert "worker bee is of version" in capsys.readouterr().err


NODE = {"node_type": "WORKER", "name": "bee", "liveness": "alive", "version": "1", "last_seen": 2.0}


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({}, ""),
        ({"liveness": "unreachable"}, "worker bee is unreachable: it was heard 2 s ago"),
        ({"liveness": "stopped", "last_seen": None}, "it was heard never"),
        ({"version": "2"}, "worker bee is of version 2, not 1"),
        ({"node_type": "PRIMARY"}, "has not heard of worker bee"),
    ],
)
def test_a_worker_is_well_when_it_lives_in_that_version(change: dict[str, Any], wrong: str) -> None:
    fault = health.worker_fault([{**NODE, **change}], "bee", "1")
    assert wrong in fault and bool(wrong) == bool(fault)


def test_it_waits_for_what_comes() -> None:
    answers = iter(["starting", "starting", ""])
    assert health.waited(lambda: next(answers), 60) == ""
    assert health.waited(lambda: "wrong", 0) == "wrong"


def test_the_command_asks_on_the_machine_itself() -> None:
    where = paths("system", "/root", "root")
    assert health.primary_command(where, "0.0.0.0:8080", "1+a", 60.0) == (
        *("/opt/modelrunner/current/bin/python", "-I", "-m", "deploy.health", "primary"),
        *("--url", "http://127.0.0.1:8080", "--version", "1+a", "--seconds", "60"),
    )
    look = health.worker_command(where, Primary(listen=":80"), "bee", "1", 9)
    assert "--name" in look and "--key-file" not in look
    shut = Primary(listen=":80", anonymous="none")
    assert where.primary_env in health.worker_command(where, shut, "bee", "1", 9)


def test_where_nobody_may_look_without_a_key_the_primarys_own_is_used(
    system: System, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "primary.env"
    system.start(0, "--anonymous=none", "--admin-key=s3cret key")
    system.start_worker("bee")
    asked = ["worker", f"--url={system.address}", "--name=bee", f"--version={VERSION}"]
    assert health.main([*asked, "--seconds=0"]) == 1
    assert "answered 401" in capsys.readouterr().err
    for written in (
        "MODELRUNNER_ADMIN_KEY=s3cret key",
        'A=b\nMODELRUNNER_ADMIN_KEY="s3cret key"\n',
    ):
        file.write_text(written)
        assert health.main([*asked, f"--key-file={file}", "--seconds=30"]) == 0
    assert health.main(["primary", asked[1], f"--version={VERSION}", "--seconds=0"]) == 0
