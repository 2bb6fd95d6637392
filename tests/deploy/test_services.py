"""The commands for whoever keeps the services, and the firewall's lines."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from deploy import firewall, services, supervise
from deploy.fleet import Fleet, Host, Primary, Worker
from deploy.found import Manager
from deploy.kept import Kept
from deploy.paths import WORKER, paths
from deploy.steps import Command

SYSTEM, USER = paths("system", "/root", "root"), paths("user", "/home/k", "k")


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Stand-ins for systemctl and crontab, that write down what they are told."""
    for name, script in {
        "systemctl": 'echo "$XDG_RUNTIME_DIR $*" >>"$SAID"; [ "$*" != "$ABSENT" ]',
        "crontab": 'case $1 in -l) cat "$TABLE" ;; -) cat >"$TABLE" ;; -r) rm "$TABLE" ;; esac',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return tmp_path


def _run(command: Command, programs: Path, **more: str) -> list[str]:
    """Run it; the lines that were said to systemctl."""
    said = programs / "said"
    said.write_text("")
    env = {"PATH": f"{programs}:/usr/bin:/bin", "SAID": str(said), "TABLE": str(programs / "table")}
    subprocess.run(command, check=True, timeout=60, env={**env, **more})
    return said.read_text().splitlines()


def test_the_users_systemd_is_found_without_a_session(programs: Path) -> None:
    told = _run(services.restart("user", USER, WORKER), programs)
    assert told == [f"/run/user/{os.getuid()} --user restart modelrunner-worker"]
    there = _run(services.restart("user", USER, WORKER), programs, XDG_RUNTIME_DIR="/run/x")
    assert there == ["/run/x --user restart modelrunner-worker"]
    assert services.restart("system", SYSTEM, WORKER) == ("systemctl", "restart", WORKER)
    assert services.reload_units("none", USER) == ()


def test_what_is_not_there_has_ended(programs: Path) -> None:
    ended = _run(services.end("system", SYSTEM, WORKER), programs)
    assert [line.split()[0] for line in ended] == ["cat", "disable", "reset-failed"]
    absent = _run(services.end("system", SYSTEM, WORKER), programs, ABSENT=f"cat {WORKER}")
    assert [line.split()[0] for line in absent] == ["cat"]
    where = msgspec.structs.replace(USER, base=str(programs / "nothing"))
    assert _run(services.end("none", where, WORKER), programs) == []


def test_the_reboot_line_goes_and_the_rest_stays(programs: Path) -> None:
    table = programs / "table"
    ours = "@reboot x >/dev/null 2>&1 # modelrunner deploy\n"
    table.write_text(f"0 3 * * * back up 100\\%\n{ours}")
    _run(services.forget_reboot(USER), programs)
    assert table.read_text() == "0 3 * * * back up 100\\%\n"
    table.write_text(ours)
    _run(services.forget_reboot(USER), programs)
    assert not table.exists()
    _run(services.forget_reboot(USER), programs)  # no table: nothing to forget


def test_the_supervisor_understands_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str], str]] = []
    for verb in ("start", "stop", "restart", "enable", "disable", "status", "logs"):

        def note(kept: Sequence[Kept], options: argparse.Namespace, verb: str = verb) -> int:
            seen.append((verb, [k.name for k in kept], str(options.logs)))
            return 0

        monkeypatch.setitem(supervise._VERBS, verb, note)
    manager: Manager = "none"
    commands = [
        services.start(manager, USER, WORKER),
        services.stop(manager, USER, WORKER),
        services.restart(manager, USER, WORKER),
        services.enable(manager, USER, WORKER),
        services.disable(manager, USER, WORKER),
        services.status(manager, USER, [WORKER]),
        services.logs(manager, USER, [WORKER], 9, follow=True),
    ]
    for command in commands:
        assert command[:4] == (f"{USER.current}/bin/python", "-I", "-m", "deploy.supervise")
        assert supervise.main(list(command[4:])) == 0
    assert seen == [
        (verb, [WORKER], USER.logs)
        for verb in ("start", "stop", "restart", "enable", "disable", "status", "logs")
    ]


def test_logs_are_journald_s_of_the_right_kind() -> None:
    assert "--unit=modelrunner-worker" in services.logs("system", SYSTEM, [WORKER], 5)
    assert "--user-unit=modelrunner-worker" in services.last_lines("user", USER, WORKER, 5)


FLEET = Fleet(
    hosts=(
        Host(name="alpha", address="10.0.0.1", primary=Primary(nginx=True), worker=Worker()),
        Host(name="beta", address="2001:db8::2", worker=Worker()),
        Host(name="gamma", address="gamma-by-name", worker=Worker()),
    ),
    models=Path("models"),
    names=(),
)


def test_the_firewall_lets_in_who_must_come_in() -> None:
    text = "\n".join(firewall.lines(FLEET, 2222))
    assert "ufw allow proto tcp from 2001:db8::2 to any port 2222 comment 'worker beta'" in text
    assert "ip6 saddr 2001:db8::2 tcp dport 2222 accept" in text
    assert "<address of gamma-by-name>" in text and "gamma-by-name: put the addresses" in text
    assert {rule.port for rule in firewall.rules(FLEET, 22)} == {22, 80, 443}
    assert not any(rule.source == "10.0.0.1" for rule in firewall.rules(FLEET, 22))  # it is there


@pytest.mark.parametrize(
    ("role", "ports"),
    [
        (Primary(nginx=True, tls=False), {80}),
        (Primary(listen="127.0.0.1:8080"), set()),
        (Primary(listen="[::1]:8080"), set()),
        (Primary(listen="localhost:8080"), set()),
        (Primary(listen="0.0.0.0:8080"), {8080}),
        (Primary(listen=":8080"), {8080}),
    ],
)
def test_the_web_is_open_where_it_is_meant_to_be(role: Primary, ports: set[int]) -> None:
    alone = Fleet(
        hosts=(Host(name="a", address="10.0.0.1", primary=role, worker=Worker()),),
        models=Path("models"),
        names=(),
    )
    assert {rule.port for rule in firewall.rules(alone, 22)} == ports
