"""A worker over SSH, with a real sshd: what an operator sees, and what a bad line costs."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from engine.entrance import RemoteEntrance
from spool import wire
from spool.address import parse_address
from spool.bell import IDLE
from spool.wire import Wire
from tests.engine.house import Crew, House
from tests.relay import Relay
from tests.sshd import Sshd, sshd
from tests.system import PATIENCE, System, wait_for

pytestmark = pytest.mark.needs("openssh-server")

BIG = """#!/bin/bash
head -c 20000000 /dev/urandom > "$2/big"
sha256sum < "$2/big" | cut -d' ' -f1
"""
WAITING = """#!/bin/bash
echo "$MODELRUNNER_JOB_ID.$MODELRUNNER_ATTEMPT" >> "$STARTS"
echo begun
while [ ! -e "$STARTS.go" ]; do sleep 0.05; done
echo result > "$2/result.txt"
"""


@pytest.fixture
def server(system: System) -> Iterator[Sshd]:
    """The primary is up, and an sshd serves its spool."""
    system.add_model("big", BIG)
    system.add_model("waiting", WAITING)
    system.start()
    with sshd(system.root / "sshd", system.data / "spool") as made:
        yield made


@pytest.fixture
def home(system: System, server: Sshd) -> dict[str, str]:
    """The environment of a worker that knows this server."""
    return server.environment(system.root / "home")


def run_worker(
    system: System, url: str, environment: Mapping[str, str], *options: str, name: str = "w1"
) -> subprocess.CompletedProcess[str]:
    """The command, until it ends by itself."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "worker_agent", f"--primary={url}", f"--name={name}"),
            *(f"--models={system.models}", f"--state={system.root / f'state-{name}'}", *options),
        ],
        capture_output=True,
        text=True,
        env=dict(environment),
        timeout=PATIENCE,
    )


def go(system: System) -> None:
    """The waiting model may end."""
    system.starts.with_name(system.starts.name + ".go").touch()


def said(system: System, name: str = "w1") -> str:
    return (system.root / f"{name}.said").read_text()


# --- jobs --------------------------------------------------------------------------------


def test_a_job_from_submission_to_complete(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    system.start_remote_worker("w1", server.url, home)
    job = system.submit("count", system.zip(count="20"))
    system.wait_status(job, "RUNNING")
    wait_for(lambda: b"1\n" in system.client.log(job).data, "a live log")
    end = system.wait_status(job, "COMPLETE", "FAILED")
    assert (end["status"], end["attempt"], end["exit_code"]) == ("COMPLETE", 1, 0)
    assert end["worker_url"].startswith("ssh://")
    assert system.output(job) == {"result.txt": f"{job}.1\n"}
    assert system.client.log(job).data.split() == [b"%d" % n for n in range(1, 21)]
    worker = system.data / "spool/workers/w1"
    left = [p for p in worker.rglob("*") if p.is_file() and p.name != "beat.json"]
    wait_for(lambda: not any(p.exists() for p in left), "an empty folder")


def test_a_kill_of_a_running_job(system: System, server: Sshd, home: dict[str, str]) -> None:
    system.start_remote_worker("w1", server.url, home)
    job = system.submit("count", system.zip(count="6000"))
    system.wait_status(job, "RUNNING")
    system.client.kill(job)
    assert system.wait_status(job, "KILLED")["confirmed"] is True


def test_an_output_larger_than_all_that_is_on_its_way_at_once(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    system.start_remote_worker("w1", server.url, home)
    job = system.submit("big", system.zip(x="1"))
    assert system.wait_status(job, "COMPLETE", "FAILED")["status"] == "COMPLETE"
    target = system.root / "output.zip"
    system.client.download(job, "output.zip", target)
    with zipfile.ZipFile(target) as made:
        found = hashlib.sha256(made.read("big")).hexdigest()
    assert system.client.log(job).data.decode().strip() == found


def test_the_agent_is_killed_and_started_again_while_a_job_runs(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    first = system.start_remote_worker("w1", server.url, home)
    job = system.submit("waiting", system.zip(x="1"))
    system.wait_status(job, "RUNNING")
    first.kill()
    first.wait()
    go(system)
    system.start_remote_worker("w1", server.url, home)
    assert system.wait_status(job, "COMPLETE")["attempt"] == 1
    assert system.started() == [f"{job}.1"]


def test_the_server_is_away_while_a_job_ends(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    worker = system.start_remote_worker("w1", server.url, home)
    job = system.submit("waiting", system.zip(x="1"))
    system.wait_status(job, "RUNNING")
    server.stop()
    wait_for(lambda: "cannot reach the primary" in said(system), "a word about it")
    go(system)
    final = system.root / f"state-w1/runs/{job}.1/final.json"
    wait_for(final.exists, "the results on the worker's disk")
    assert worker.poll() is None
    server.start()
    end = system.wait_status(job, "COMPLETE", "FAILED")
    assert (end["status"], end["attempt"]) == ("COMPLETE", 1)
    wait_for(lambda: "reachable again" in said(system), "a word about it")
    assert said(system).count("cannot reach the primary") == 1
    assert "bell:" not in said(system)
    assert "Traceback" not in said(system)


# --- starting and ending -----------------------------------------------------------------


def test_a_server_that_is_away_at_the_start_is_waited_for(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    server.stop()
    worker = system.start_remote_worker("w1", server.url, home, ready=False)
    wait_for(lambda: "trying again" in said(system), "a word about it")
    assert worker.poll() is None
    server.start()
    wait_for(lambda: "is ready" in said(system), "it to be ready")
    assert said(system).count("cannot reach") == 1
    job = system.submit("count", system.zip(count="1"))
    system.wait_status(job, "COMPLETE")


def test_an_unknown_host_key_ends_it_with_the_line_to_add(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    known = Path(home["HOME"]) / ".ssh" / "known_hosts"
    line = known.read_text().strip()
    known.write_text("")
    done = run_worker(system, server.url, home)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    first, second = done.stderr.strip().splitlines()
    assert "host key is not known" in first
    assert line in second
    known.write_text(f"{line}\n")
    system.start_remote_worker("w1", server.url, home)


def test_a_key_that_is_not_accepted_ends_it(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    key = Path(home["HOME"]) / ".ssh" / "id_ed25519"
    for path in (key, key.with_suffix(".pub")):
        path.unlink()
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(make, check=True, stdin=subprocess.DEVNULL)
    done = run_worker(system, server.url, home)
    assert done.returncode == 1
    first, second = done.stderr.strip().splitlines()
    assert "accepted no key" in first
    assert "spool grant" in second


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("sftp://h", "the path is missing"),
        ("sftp://u:secret@h/p", "passwords are never used"),
        ("http://h/p", "expected sftp://"),
    ],
)
def test_a_bad_address_is_said(system: System, url: str, what: str) -> None:
    for options in ((), ("--check",)):
        done = run_worker(system, url, os.environ, *options)
        assert done.returncode == 1
        assert what in done.stderr + done.stdout
        assert "secret" not in done.stderr + done.stdout


def test_a_path_without_a_spool_is_said(system: System, server: Sshd, home: dict[str, str]) -> None:
    url = server.url.rstrip("/") + "/models"
    done = run_worker(system, url, home)
    assert done.returncode == 1
    first, second = done.stderr.strip().splitlines()
    assert "no spool at this path" in first
    assert "path /" in second


def test_what_goes_on_when_it_ends_is_said(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    worker = system.start_remote_worker("w1", server.url, home)
    job = system.submit("waiting", system.zip(x="1"))
    system.wait_status(job, "RUNNING")
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=PATIENCE) == 0
    assert said(system).endswith("\n1 run goes on here; start this worker again to deliver it\n")
    go(system)
    worker = system.start_remote_worker("w1", server.url, home)
    assert system.wait_status(job, "COMPLETE")["attempt"] == 1
    worker.send_signal(signal.SIGINT)
    assert worker.wait(timeout=PATIENCE) == 0
    assert said(system).count("\n") == 1, said(system)


def test_a_line_that_hangs_does_not_hold_up_the_end(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    with _relayed(server, home) as (relay, url):
        worker = system.start_remote_worker("w1", url, home)
        relay.freeze()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=PATIENCE) == 0
        relay.thaw()


def _relayed(server: Sshd, home: dict[str, str]) -> RelayedTo:
    return RelayedTo(server, home)


class RelayedTo:
    """A relay before the server, whose host key is known by the relay's port too."""

    def __init__(self, server: Sshd, home: dict[str, str]) -> None:
        self._server = server
        self._relay = Relay(server.host, server.port)
        known = Path(home["HOME"]) / ".ssh" / "known_hosts"
        _, kind, key = known.read_text().split()
        with known.open("a") as file:
            file.write(f"[127.0.0.1]:{self._relay.port} {kind} {key}\n")

    def __enter__(self) -> tuple[Relay, str]:
        url = self._server.url.replace(f":{self._server.port}", f":{self._relay.port}")
        return self._relay, url

    def __exit__(self, *_: object) -> None:
        self._relay.close()


def test_two_machines_under_one_name(system: System, server: Sshd, home: dict[str, str]) -> None:
    system.start_remote_worker("w1", server.url, home)
    beat = system.data / "spool/workers/w1/reports/beat.json"
    wait_for(beat.exists, "a beat")
    other = {**home, "XDG_STATE_HOME": str(system.root / "elsewhere")}
    command = [sys.executable, "-m", "worker_agent", f"--primary={server.url}", "--name=w1"]
    done = subprocess.run(
        [*command, f"--models={system.models}"],
        capture_output=True,
        text=True,
        env=other,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "another worker on this machine" in done.stderr
    assert "is working under the name 'w1'" in done.stderr


@pytest.mark.parametrize("remote", [False, True], ids=["local", "sftp"])
def test_a_name_is_taken_over_with_a_new_state_directory(
    system: System, server: Sshd, home: dict[str, str], remote: bool
) -> None:
    def start(state: str) -> subprocess.Popen[str]:
        if not remote:
            return system.start_worker("w1", state=state)
        return system.start_remote_worker("w1", server.url, home, state=state)

    beat = system.data / "spool/workers/w1/reports/beat.json"
    first = start("first")
    wait_for(beat.exists, "a beat")
    first.send_signal(signal.SIGINT)
    assert first.wait(timeout=PATIENCE) == 0
    second = start("second")
    job = system.submit("count", system.zip(count="1"))
    assert system.wait_status(job, "COMPLETE", "FAILED")["status"] == "COMPLETE"
    assert second.poll() is None


# --- what it costs -----------------------------------------------------------------------


def _quiet(asked: list[int], house: House) -> None:
    """Until no folder was listed for as long as three beats take."""

    def still() -> bool:
        looks, beats = asked.count(wire._OPENDIR), house.beat().counter
        wait_for(lambda: house.beat().counter >= beats + 3, "three beats")
        return asked.count(wire._OPENDIR) == looks

    wait_for(still, "the worker to be idle")


def test_an_idle_worker_looks_at_the_bell_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the number of its models: one small request a second, and its beats."""
    house = House(tmp_path)  # models with a short lease: quick beats
    for n in range(30):
        house.add_model(f"m{n}")
    asked: list[int] = []
    real = Wire._send

    def send(self: Wire, kind: int, *parts: bytes) -> int:
        asked.append(kind)
        return real(self, kind, *parts)

    monkeypatch.setattr(Wire, "_send", send)
    with sshd(tmp_path / "sshd", house.dispatch.root) as server:
        entrance = RemoteEntrance(parse_address(server.url), server.ssh)
        entrance.enter("w1")
        crew = Crew(house, line=entrance.transport)
        watcher = entrance.watcher(crew.agent)
        try:
            with crew:
                wait_for((house.home / "reports/beat.json").exists, "a beat")
                watcher.start()
                wait_for(lambda: asked.count(wire._OPENDIR) >= 2 * 31, "the looks of the start")
                _quiet(asked, house)  # on a slow machine its first look at the bell comes after
                first, began, counter = len(asked), time.monotonic(), house.beat().counter
                wait_for(lambda: house.beat().counter >= counter + 8, "more beats")
                since, seconds = asked[first:], time.monotonic() - began
                assert wire._OPENDIR not in since
                assert since.count(wire._LSTAT) <= seconds / IDLE + 4  # and once for a namesake
                assert since.count(wire._WRITE) <= 10  # beats
                house.dispatch.ring()
                wait_for(
                    lambda: asked[first:].count(wire._OPENDIR) >= 31, "a look at all the queues"
                )
        finally:
            watcher.stop()
            entrance.close()


# --- --check -----------------------------------------------------------------------------


def findings(done: subprocess.CompletedProcess[str]) -> dict[str, list[str]]:
    """The lines of a check by their verdict, hints included."""
    found: dict[str, list[str]] = {"ok": [], "FAILED": [], "note": []}
    verdict = ""
    for line in done.stdout.splitlines():
        verdict = line.split()[0] if not line.startswith(" ") else verdict
        found[verdict].append(line)
    return found


def tree(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_check_of_a_worker_before_its_first_start(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    before = tree(system.data / "spool")
    done = run_worker(system, server.url, home, "--check")
    found = findings(done)
    assert found["FAILED"] == [], done.stdout
    assert done.returncode == 0
    text = "\n".join(found["ok"])
    for what in ("can be reached", "host key is known", "logged in as", "free at the primary"):
        assert what in text
    assert "not there yet" in text
    assert "jobs can be claimed" in text
    assert tree(system.data / "spool") == before
    assert not (system.root / "state-w1").exists()


def test_check_beside_the_living_worker_changes_nothing(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    system.start_remote_worker("w1", server.url, home)
    job = system.submit("waiting", system.zip(x="1"))
    system.wait_status(job, "RUNNING")
    done = run_worker(system, server.url, home, "--check")
    found = findings(done)
    assert (found["FAILED"], done.returncode) == ([], 0), done.stdout
    assert any("is running now" in line for line in found["note"])
    text = "\n".join(found["ok"])
    assert "posix-rename" in text
    assert "this worker's own" in text
    folder = system.data / "spool/workers/w1"
    assert not [name for name in tree(folder) if "check" in name]
    go(system)
    assert system.wait_status(job, "COMPLETE")["attempt"] == 1


def test_check_locally(system: System) -> None:
    system.start()
    done = run_worker(system, str(system.data / "spool"), os.environ, "--check")
    assert (done.returncode, findings(done)["FAILED"]) == (0, []), done.stdout


def test_check_says_what_is_wrong_here(system: System, server: Sshd, home: dict[str, str]) -> None:
    broken = system.models / "typo"
    broken.mkdir()
    (broken / "model.toml").write_text('comand = ["./x"]\n')
    system.add_model("dos", "#!/bin/bash\r\nexit 0\r\n")
    system.add_model("closed")
    (system.models / "closed/run.sh").chmod(0o644)
    system.add_model("absent")
    (system.models / "absent/run.sh").unlink()
    system.add_model("snake", "#!/usr/bin/env nosuchsnake\n")
    done = run_worker(system, server.url, home, "--check")
    failed = "\n".join(findings(done)["FAILED"])
    assert done.returncode == 1
    for what in ("comand", "Windows line ends", "chmod +x", "no file", "nosuchsnake"):
        assert what in failed, done.stdout
    assert "model count" in "\n".join(findings(done)["ok"])
    assert "logged in as" in done.stdout  # the rest is tried all the same


def test_check_says_what_is_wrong_on_the_way(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    known = Path(home["HOME"]) / ".ssh" / "known_hosts"
    line = known.read_text()
    known.write_text("")
    done = run_worker(system, server.url, home, "--check")
    assert done.returncode == 1
    assert line.strip() in done.stdout
    known.write_text(line)
    server.stop()
    done = run_worker(system, server.url, home, "--check")
    assert done.returncode == 1
    assert "cannot be reached" in done.stdout


def test_check_says_that_another_machine_has_the_name(
    system: System, server: Sshd, home: dict[str, str]
) -> None:
    system.start_remote_worker("w1", server.url, home)
    beat = system.data / "spool/workers/w1/reports/beat.json"
    wait_for(beat.exists, "a beat")
    state = system.root / "state-other"
    command = [sys.executable, "-m", "worker_agent", f"--primary={server.url}", "--name=w1"]
    done = subprocess.run(
        [*command, f"--models={system.models}", f"--state={state}", "--check"],
        capture_output=True,
        text=True,
        env=home,
        timeout=PATIENCE,
    )
    assert done.returncode == 1
    assert "is working under the name" in done.stdout
    assert not state.exists()


def test_a_folder_of_its_own_for_keys_and_known_hosts(system: System, server: Sshd) -> None:
    """As a service has it, whose account has no home to speak of."""
    nowhere = {**os.environ, "HOME": "/nonexistent", "SSH_AUTH_SOCK": ""}
    options = ("--check", f"--ssh={server.ssh}")
    done = run_worker(system, server.url, nowhere, *options)
    assert (done.returncode, "logged in as" in done.stdout) == (0, True), done.stdout
    server.key.rename(server.ssh / "elsewhere")
    done = run_worker(system, server.url, nowhere, *options)
    assert done.returncode == 1
    assert f"ssh-keygen -t ed25519 -f {server.key}" in done.stdout
    assert "~/.ssh" not in done.stdout
