"""A grant while the primary runs: its spool moves under it, and no job notices."""

from __future__ import annotations

import contextlib
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.api import Client
from tests.deploy.grants.host import DATA, PRIMARY, Host, host
from tests.system import wait_for

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("openssh-server"),
    pytest.mark.needs("passwd"),
    pytest.mark.needs("util-linux"),
]

MODELS = "/srv/modelrunner/models"
COUNT = """#!/bin/sh
for i in $(seq "$(cat "$1/count")"); do echo "$i"; sleep 0.1; done
echo done > "$2/result.txt"
"""


@contextlib.contextmanager
def serving(host: Host) -> Iterator[Client]:
    """A primary with a local worker, under its own account; ended by TERM."""
    serve = ["-m", "modelrunner", "serve", f"--data={DATA}", f"--models={MODELS}"]
    words = [sys.executable, *serve, "--listen=127.0.0.1:0", "--slots=2"]
    with (host.folder / "serve.err").open("a") as errors:
        process = subprocess.Popen(
            host.command(*words, user=PRIMARY),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=host.environment(),
        )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if ready := re.search(r"http://\S+", line):
                yield Client(ready[0].rstrip("/"))
                break
        else:
            raise AssertionError((host.folder / "serve.err").read_text())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Host, Client]]:
    with host(tmp_path / "host") as made:
        made.add_primary("count")
        folder = made.srv / "modelrunner/models/count"
        folder.mkdir(parents=True)
        (folder / "model.toml").write_text(
            'title = "count"\ndescription = "counts"\ncommand = ["./run.sh"]\nparallel = 2\n'
        )
        (folder / "run.sh").write_text(COUNT)
        (folder / "run.sh").chmod(0o755)
        made.run("chown", "-R", f"{PRIMARY}:{PRIMARY}", "/srv/modelrunner")
        with serving(made) as client:
            yield made, client


def make_zip(path: Path, count: int) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("count", str(count))
    path.chmod(0o644)
    return path


def test_jobs_before_during_and_after_a_move(running: tuple[Host, Client], tmp_path: Path) -> None:
    host, client = running
    jobs = [_submit(client, make_zip(tmp_path / "in.zip", 20)) for _ in range(3)]
    wait_for(lambda: _state(client, jobs[0]) == "RUNNING", "the first job to run")

    key = shutil.copy(f"{host.key('bob')}.pub", host.srv)
    words = ("spool", "grant", "bob", "--drop", "count", "--key", f"/srv/{Path(key).name}")
    said = host.modelrunner(*words, "--data", DATA).stdout
    assert f"spool moved from {DATA}/spool" in said
    assert "restart the primary" in said
    jobs += [_submit(client, make_zip(tmp_path / "in.zip", 1)) for _ in range(2)]

    host.start_sshd()
    dropped = make_zip(tmp_path / "mine.zip", 2)
    assert host.sftp("mr-bob", "bob", f"put {dropped}").stderr == ""
    wait_for(lambda: "mine.output.zip" in _listed(host), "the results of the dropped zip")
    got = tmp_path / "got.zip"
    assert host.sftp("mr-bob", "bob", f"get mine.output.zip {got}").stderr == ""
    with zipfile.ZipFile(got) as results:
        assert results.read("result.txt") == b"done\n"
    assert "mine.zip" not in _listed(host).split()

    for job in jobs:
        wait_for(lambda j=job: _state(client, j) == "COMPLETE", f"job {job} to end")  # type: ignore[misc]
        assert client.job(job)["attempt"] == 1


def _submit(client: Client, source: Path) -> str:
    return str(client.submit("count", source)["uuid"])


def _state(client: Client, job: str) -> str:
    return str(client.job(job)["status"])


def _listed(host: Host) -> str:
    return host.sftp("mr-bob", "bob", "ls -1").stdout
