"""How hosts stand, and their logs: asked over a real sshd, of a real primary and its worker."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import looking
from deploy.fleet import Fleet, Host, Primary, Worker
from deploy.found import Found, ServiceState
from deploy.looking import ABSENT, Node, Service, Stand, Standing
from deploy.paths import PRIMARY, RUNNER, WORKER, paths
from deploy.remote import Remote
from deploy.survey import Trouble
from tests.deploy.test_report import FOUND
from tests.sshd import Sshd, sshd
from tests.system import ROOT, System, wait_for

UP = ServiceState(active="active", enabled=True, since="2026-01-01T00:00:00+00:00")
NODE = Node(
    name="beta",
    node_type="WORKER",
    liveness="alive",
    version="1",
    slots=2,
    jobs=("a",),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    root = tmp_path_factory.mktemp("host")
    (root / "served").mkdir()
    with sshd(root / "sshd", root / "served", chroot=False) as running:
        yield running


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A login's home with a version in use: this checkout."""
    bin = tmp_path / ".local/lib/modelrunner/current/bin"
    bin.mkdir(parents=True)
    for name, words in (("python", ""), ("modelrunner", "-m modelrunner")):
        line = f"exec {shlex.quote(sys.executable)} {words}"
        (bin / name).write_text(f'#!/bin/sh\ncd {shlex.quote(str(ROOT))}\n{line} "$@"\n')
        (bin / name).chmod(0o755)
    return tmp_path


def kept(home: Path, services: dict[str, ServiceState]) -> Found:
    """What is found where we keep the services ourselves."""
    return msgspec.structs.replace(
        FOUND,
        root=False,
        manager="none",
        home=str(home),
        version="1",
        services=services,
    )


def fleet(server: Sshd, listen: str = "127.0.0.1:1") -> Fleet:
    where: dict[str, Any] = {
        "address": server.host,
        "user": server.user,
        "port": server.port,
    }
    alpha = Host(name="alpha", primary=Primary(listen=listen), worker=Worker(name="local"), **where)
    beta = Host(name="beta", address="beta", worker=Worker())
    return Fleet(hosts=(alpha, beta), models=Path("models"), names=("test",))


def test_the_primary_tells_how_its_workers_stand(server: Sshd, home: Path, tmp_path: Path) -> None:
    (tmp_path / "system").mkdir()
    system = System(tmp_path / "system")
    system.add_model("test")
    try:
        system.start(slots=2)
        wait_for(lambda: len(system.client.status()) == 2, "the worker to be seen")
        ours = fleet(server, system.address.removeprefix("http://"))
        found: dict[str, Found | Trouble] = {
            "alpha": kept(home, {PRIMARY: UP, RUNNER: UP}),
            "beta": Trouble("beta", "beta: no answer", "is it on?"),
        }
        with Remote(ours.hosts[0], server.ssh) as remote:
            stands = looking.standing(ours, found, {"alpha": remote})
            system.stop()
            later = looking.standing(ours, found, {"alpha": remote})
    finally:
        system.end()
    assert stands.unasked == ""
    alpha, beta = stands.hosts
    assert [s.state for s in alpha.services] == ["active", "active", ABSENT]
    assert alpha.worker is not None
    assert (alpha.worker.name, alpha.worker.liveness, alpha.worker.slots) == ("local", "alive", 2)
    assert (beta.trouble, beta.hint, beta.worker) == ("no answer", "is it on?", None)
    assert not alpha.well and not beta.well
    assert later.unasked.startswith(f"no answer from {system.address}: Connection refused")


def test_a_primary_that_shows_nothing_without_a_key_is_asked_with_its_own(
    server: Sshd, home: Path, tmp_path: Path
) -> None:
    env = Path(paths("user", str(home), server.user).primary_env)
    env.parent.mkdir(parents=True)
    env.write_text("MODELRUNNER_ADMIN_KEY='a key; $(false)'\n")
    (tmp_path / "system").mkdir()
    system = System(tmp_path / "system")
    system.add_model("test")
    try:
        system.start(0, "--anonymous=none", "--admin-key=a key; $(false)")
        system.start_worker("local")
        ours = fleet(server, system.address.removeprefix("http://"))
        role = Primary(listen=system.address.removeprefix("http://"), anonymous="none")
        shut = msgspec.structs.replace(ours.hosts[0], primary=role)
        found: dict[str, Found | Trouble] = {
            "alpha": kept(home, {PRIMARY: UP}),
            "beta": Trouble("beta", "beta: no answer"),
        }
        with Remote(ours.hosts[0], server.ssh) as remote:
            refused = looking.standing(ours, found, {"alpha": remote})
            shut_fleet = msgspec.structs.replace(ours, hosts=(shut, ours.hosts[1]))
            stands = looking.standing(shut_fleet, found, {"alpha": remote})
    finally:
        system.end()
    assert "needs a key" in refused.unasked
    assert stands.unasked == "" and stands.hosts[0].worker is not None


def test_a_host_stands_well_if_all_that_shall_run_does() -> None:
    services = (Service(name=WORKER, state="active", enabled=True),)
    stand = Stand(
        host="beta", address="b", version="1", services=services, worker=NODE, is_worker=True
    )
    assert stand.well
    changes: list[dict[str, object]] = [
        {"trouble": "no answer"},
        {"worker": None},
        {"worker": msgspec.structs.replace(NODE, liveness="unreachable")},
        {"worker": msgspec.structs.replace(NODE, paused="it is")},
        {"services": (Service(name=WORKER, state="failed", enabled=True),)},
        {"services": (Service(name=WORKER, state="active", enabled=False),)},
    ]
    for change in changes:
        changed = msgspec.structs.replace(stand, **change)
        assert not changed.well, change
        assert not Standing(hosts=(stand, changed)).well
    assert Standing(hosts=(stand,)).well
    assert not Standing(hosts=(stand,), unasked="no answer").well


def test_the_table() -> None:
    since = "2026-01-01"
    beta = Stand(
        host="beta",
        address="b",
        version="1",
        services=(
            Service(name=RUNNER, state="active", since=since, enabled=True),
            Service(name=WORKER, state="active", since=since),
        ),
        worker=msgspec.structs.replace(
            NODE, liveness="unreachable", last_seen=42.0, version="0", error="no space left"
        ),
        is_worker=True,
    )
    off = Stand(host="gamma", address="g", trouble="no answer", hint="is it on?", is_worker=True)
    heads, rows = looking.table(Standing(hosts=(beta, off)))
    assert heads == ("host", "service", "state", "since", "version", "seen by the primary")
    seen = "unreachable, 1/2 slots; silent for 42 s; runs version 0; no space left"
    assert rows == [
        ("beta", RUNNER, "active", since, "1", ""),
        ("", WORKER, "active, not enabled", since, "", seen),
        ("gamma", "", "off", "", "", "no answer is it on?"),
    ]
    _, rows = looking.table(Standing(hosts=(beta,), unasked="alpha is off"))
    assert rows[1][-1] == "unknown: alpha is off"
    stranger = msgspec.structs.replace(beta, worker=None)
    assert looking.table(Standing(hosts=(stranger,)))[1][1][-1] == "not let in"


# --- logs --------------------------------------------------------------------------


def test_logs_are_followed_until_ctrl_c(server: Sshd, home: Path) -> None:
    folder = home / ".local/share/modelrunner/log"
    folder.mkdir(parents=True)
    log = folder / f"{PRIMARY}.log"
    log.write_text("".join(f"line {n}\n" for n in range(20)))
    ours = fleet(server)
    found: dict[str, Found | Trouble] = {
        "alpha": kept(home, {}),
        "beta": Trouble("beta", "beta: no answer"),
    }
    told: list[str] = []
    with Remote(ours.hosts[0], server.ssh) as remote:

        def read(wanted: list[str], lines: int, *, follow: bool) -> list[Trouble]:
            told.clear()
            return looking.logs(
                ours, found, {"alpha": remote}, wanted, lines=lines, follow=follow, write=write
            )

        def write(text: str) -> None:
            told.append(text)
            if text.endswith("line 19") and text.startswith("alpha | "):  # it is followed
                with log.open("a") as file:
                    file.write("the next\n")
            if text.endswith("the next"):
                raise KeyboardInterrupt

        assert read(["alpha"], 3, follow=False) == []
        assert told[-1].endswith("line 19")
        assert len([text for text in told if "line" in text]) == 3
        with pytest.raises(KeyboardInterrupt):
            read(["alpha", "beta"], 1, follow=True)
    assert told[-1].startswith("alpha | ") and told[-1].endswith("the next")


def test_a_host_whose_logs_cannot_be_read_is_told(server: Sshd, home: Path) -> None:
    ours = fleet(server)
    found: dict[str, Found | Trouble] = {
        "alpha": kept(home / "elsewhere", {}),
        "beta": Trouble("beta", "beta: no answer"),
    }
    with Remote(ours.hosts[0], server.ssh) as remote:
        troubles = looking.logs(
            ours,
            found,
            {"alpha": remote},
            ["alpha", "beta"],
            lines=1,
            follow=False,
            write=lambda _: None,
        )
    assert [t.host for t in troubles] == ["alpha", "beta"]
    assert "alpha: its logs cannot be read: " in troubles[0].what
