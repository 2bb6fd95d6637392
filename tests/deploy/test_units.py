"""The services' units: systemd itself reads them, and says how much they are shut in."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import msgspec
import pytest

from deploy import units
from deploy.fleet import Host, Primary, Worker
from deploy.paths import PRIMARY, RUNNER, SERVICES, WORKER, Mode, Paths, Service, paths
from spool.errors import Refused

SPOOL = "sftp://primary/"
HOST = Host(
    name="alpha",
    address="10.0.0.1",
    primary=Primary(names=("models.example.org",), allow_urls=("files.example.org",), nginx=True),
)
WORKER_HOST = Host(name="beta", address="10.0.0.2", worker=Worker(slots=3, name="bee"))
HOST_OF = {PRIMARY: HOST, RUNNER: WORKER_HOST, WORKER: WORKER_HOST}


def _text(service: Service, where: Paths) -> str:
    return units.unit(service, where, units.argv_of(service, where, HOST_OF[service], SPOOL))


def _written(tmp_path: Path, mode: Mode) -> list[str]:
    """All three unit files, with programs in place."""
    where = msgspec.structs.replace(paths(mode, "/home/k", "k"), base=str(tmp_path / "b"))
    programs = Path(where.current) / "bin"
    programs.mkdir(parents=True)
    for name in ("modelrunner", "modelrunner-worker", "python"):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    found = []
    for service in SERVICES:
        (tmp_path / f"{service}.service").write_text(_text(service, where))
        found.append(str(tmp_path / f"{service}.service"))
    return found


@pytest.mark.needs("systemd-container")
@pytest.mark.parametrize("mode", ["system", "user"])
def test_systemd_finds_no_fault_in_them(tmp_path: Path, mode: Mode) -> None:
    files = _written(tmp_path, mode)
    options = ["--user"] if mode == "user" else []
    done = subprocess.run(
        ["systemd-analyze", "verify", *options, *files],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    # It also tells what it finds in units of this machine: of ours there must be nothing.
    ours = [line for line in done.stderr.splitlines() if "modelrunner" in line]
    assert (done.returncode, ours) == (0, []), done.stderr


@pytest.mark.needs("systemd-container")
def test_primary_and_agent_are_shut_in_and_the_runner_as_far_as_models_can_live(
    tmp_path: Path,
) -> None:
    exposed = {}
    for service, file in zip(SERVICES, _written(tmp_path, "system"), strict=True):
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", file],
            capture_output=True,
            text=True,
            timeout=60,
        )
        found = re.search(r"exposure level for \S+: ([0-9.]+)", done.stdout)
        assert found, done.stdout + done.stderr
        exposed[service] = float(found[1])
    assert exposed[PRIMARY] < 2
    assert exposed[WORKER] < 2
    assert exposed[RUNNER] < 6


def test_a_runner_has_nothing_that_models_or_their_namespaces_cannot_bear() -> None:
    text = _text(RUNNER, paths("system", "/root", "root"))
    for option in (
        *("RestrictNamespaces", "PrivateUsers", "SystemCallFilter", "MemoryDenyWriteExecute"),
        *("ProtectKernelTunables", "ProtectKernelLogs", "ProtectHostname", "ProtectProc"),
        *("ProcSubset", "PrivateDevices", "ProtectClock", "WatchdogSec", "LockPersonality"),
        *("SystemCallArchitectures", "PartOf", "BindsTo"),
    ):
        assert f"{option}=" not in text, option
    assert "OOMPolicy=continue" in text


@pytest.mark.parametrize("service", SERVICES)
def test_each_writes_below_one_common_parent(service: Service) -> None:
    text = _text(service, paths("system", "/root", "root"))
    assert re.findall(r"ReadWritePaths=(.*)", text) == ["/var/lib/modelrunner"]
    assert "StateDirectory" not in text


def test_an_agents_end_is_its_own() -> None:
    for mode in ("system", "user"):
        agent = _text(WORKER, paths(mode, "/home/k", "k"))
        assert "KillMode=process\n" in agent
        assert f"Wants={RUNNER}.service\n" in agent
        assert "Requires=" not in agent


def test_without_root_nothing_is_asked_that_only_root_gets() -> None:
    for service in SERVICES:
        text = _text(service, paths("user", "/home/k", "k"))
        for option in ("User", "Protect", "Private", "Capability", "ReadWrite", "network-online"):
            assert not re.search(rf"^\S*{option}", text, re.MULTILINE), (service, option)
        assert "WantedBy=default.target" in text


def test_the_commands_say_what_hosts_toml_says() -> None:
    where = paths("system", "/root", "root")
    assert shlex.join(units.argv_of(PRIMARY, where, HOST, "")) == (
        "/opt/modelrunner/current/bin/modelrunner serve --data /var/lib/modelrunner/data"
        " --listen 127.0.0.1:8080 --models /opt/modelrunner/models --host models.example.org"
        " --host 10.0.0.1 --allow-url files.example.org --behind-proxy --accel /finished/"
    )
    assert shlex.join(units.argv_of(WORKER, where, WORKER_HOST, SPOOL)) == (
        "/opt/modelrunner/current/bin/modelrunner-worker --primary sftp://primary/"
        " --models /opt/modelrunner/models --name bee --slots 3 --state /var/lib/modelrunner/worker"
        " --ssh /etc/modelrunner/ssh --runner unit"
    )
    both = msgspec.structs.replace(HOST, worker=Worker())
    assert "--ssh" not in units.argv_of(WORKER, where, both, "/var/lib/modelrunner/data/spool")


def test_words_reach_the_service_as_they_are() -> None:
    where = paths("user", "/home/50% of $HOME", "k")
    text = units.unit(PRIMARY, where, ("/bin/x", 'a "quoted" \\ word', "$HOME 100%"))
    assert r'ExecStart=/bin/x "a \"quoted\" \\ word" "$$HOME 100%%"' in text
    with pytest.raises(Refused, match="unit file"):
        units.unit(PRIMARY, where, ("/bin/x", "two\nlines"))


def test_a_python_of_ours_runs_under_its_versions_true_name(tmp_path: Path) -> None:
    """As systemd would start it: what it loads later must not come from another version."""
    where = msgspec.structs.replace(paths("system", "/root", "root"), base=str(tmp_path))
    program = tmp_path / "versions" / "v1" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\necho "$0" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "current").symlink_to("versions/v1")
    text = _text(RUNNER, where)
    found = re.search(r"ExecStart=(.*)", text)
    assert found
    command = shlex.split(found[1].replace("$$", "$"))  # no other escape stands in it
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    assert said == f"{program} -I -m engine.runner --state /var/lib/modelrunner/worker --stay\n"


def test_the_supervisor_is_told_the_same() -> None:
    where = paths("user", "/home/k", "k")
    for service in SERVICES:
        argv = units.argv_of(service, where, HOST_OF[service], SPOOL)
        text = units.supervised(service, where, argv)
        told = msgspec.json.decode(text, type=units.Supervised)
        assert told.argv == argv
        assert bool(told.env_file) == (service == PRIMARY)
        assert (told.watchdog_seconds is None) == (service == RUNNER)
        assert json.loads(text)["stop_seconds"] == units.STOP_SECONDS[service]


def test_a_worker_beside_the_primary_runs_its_own_models_alone() -> None:
    """The primary's folder holds those of all workers, without what setup would make."""
    where = paths("system", "/root", "root")
    both = Host(name="a", address="h", primary=Primary(), worker=Worker(models=("two", "one")))
    argv = units.argv_of(WORKER, where, both, "/var/lib/modelrunner/data/spool")
    assert argv[argv.index("--only") :][:4] == ("--only", "one", "--only", "two")
    assert "--only" not in units.argv_of(WORKER, where, WORKER_HOST, SPOOL)


def test_at_shutdown_the_runner_ends_first_so_that_the_agent_can_tell() -> None:
    where = paths("system", "/root", "root")
    assert f"After={WORKER}.service" in _text(RUNNER, where)
    assert f"After={RUNNER}.service" not in _text(WORKER, where)
    assert f"Wants={RUNNER}.service" in _text(WORKER, where)
