"""Plans, from made-up findings: what is as it shall be needs no step, and each lack its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import admitting, fronting
from deploy.commanding import command_all
from deploy.desired import Wanted, desired
from deploy.fleet import Fleet, Host, Primary, Worker
from deploy.found import Entry, Found, ServiceState
from deploy.nginx import certificate
from deploy.plan import plan, plan_model, plan_upgrade
from deploy.removal import plan_removal
from deploy.steps import Bundle, FileOf, HostPlan, Phase, Step
from deploy.switching import back
from spool.errors import Refused
from tests.deploy.finding import found

OLD, NEW = "0.1.0+aaaaaaaaaaaa", "0.1.0+bbbbbbbbbbbb"
ALPHA = Host(name="alpha", address="10.0.0.1", primary=Primary(nginx=True))
BETA = Host(name="beta", address="10.0.0.2", worker=Worker(slots=2))
GAMMA = Host(name="gamma", address="10.0.0.3", worker=Worker(models=("count",)))
FLEET = Fleet(hosts=(ALPHA, BETA, GAMMA), models=Path("models"), names=("count", "spring"))
MODELS = {"count": "111111111111", "spring": "222222222222"}
WANTED = Wanted(fleet=FLEET, version=NEW, models=MODELS, new_key="a-new-admin-key")
HOST_KEY = "ssh-ed25519 AAAAhostkey"
PROGRAMS = {name: f"/usr/bin/{name}" for name in ("tar", "ssh-keygen", "nginx", "crontab")}
GRANTED = {"beta": True, "gamma": True}


def bare(**changes: Any) -> dict[str, Found]:
    """Three machines with what Debian has, and nothing of ours."""
    one = found(programs=PROGRAMS, host_keys=(HOST_KEY,), port=22, **changes)
    return dict.fromkeys(("alpha", "beta", "gamma"), one)


def as_wanted(wanted: Wanted = WANTED, **changes: Any) -> dict[str, Found]:
    """The same, each exactly as it shall be."""
    machines = bare(**changes)
    return {host.name: _made(wanted, host, machines) for host in wanted.fleet.hosts}


def _made(wanted: Wanted, host: Host, machines: Mapping[str, Found]) -> Found:
    here, shall = machines[host.name], desired(wanted, host, machines)
    where = shall.paths
    owner = f"{where.account}:{where.account}"
    puts = [*shall.files, *shall.units.values()]
    entries = {f.path: Entry(kind="folder", owner=f.owner, mode=f.mode) for f in shall.folders}
    if host.primary is not None:
        entries[where.primary_env] = Entry(kind="file", owner="root:root", mode=0o600)
        if host.primary.nginx:
            puts.append(fronting.site(shall))
            entries[certificate(where)] = Entry(kind="file", owner="root:root", mode=0o644)
    for put in puts:
        entries[put.path] = Entry(kind="file", owner=put.owner, mode=put.mode, text=put.text)
    if shall.remote_worker:
        key = f"{where.ssh}/id_ed25519.pub"
        entries[key] = Entry(kind="file", owner=owner, mode=0o644, text="ssh-ed25519 KEY worker\n")
        entries[key.removesuffix(".pub")] = Entry(kind="file", owner=owner, mode=0o600)
    well = ServiceState(active="active", enabled=True)
    return msgspec.structs.replace(
        here,
        accounts={where.account: where.account, "www-data": "www-data"},
        groups={where.account: ("www-data",)},
        entries=entries,
        services=dict.fromkeys((*shall.services, "nginx"), well),
        versions=(wanted.version,),
        version=wanted.version,
        models=dict(shall.models),
    )


def sentences(planned: HostPlan) -> list[str]:
    return [step.sentence for step in sorted(planned.steps, key=lambda step: step.phase)]


def changed(machines: dict[str, Found], name: str, **changes: Any) -> dict[str, Found]:
    return {**machines, name: msgspec.structs.replace(machines[name], **changes)}


def without(machines: dict[str, Found], name: str, *paths: str) -> dict[str, Found]:
    entries = {p: e for p, e in machines[name].entries.items() if p not in paths}
    return changed(machines, name, entries=entries)


def test_what_is_so_already_needs_no_step() -> None:
    planned = plan(WANTED, as_wanted(), GRANTED)
    assert [sentences(one) for one in planned.values()] == [[], [], []]
    assert all(not one.steps for one in plan_upgrade(WANTED, as_wanted()).values())


def test_what_is_so_without_root_needs_no_step() -> None:
    alpha = msgspec.structs.replace(ALPHA, primary=Primary(), worker=Worker())
    fleet = msgspec.structs.replace(FLEET, hosts=(alpha, BETA))
    wanted = msgspec.structs.replace(WANTED, fleet=fleet)
    for manager, linger in (("user", True), ("user", False), ("none", False)):
        user = {"uid": 1000, "user": "ann", "home": "/home/ann", "root": False}
        machines = as_wanted(wanted, manager=manager, linger=linger, **user)
        planned = plan(wanted, machines, {"beta": True})
        assert [sentences(one) for one in planned.values()] == [[], []], manager
        paths = [path for here in machines.values() for path in here.entries]
        assert paths and all(path.startswith("/home/ann/.local/") for path in paths)


def test_from_nothing_the_order_is_the_order_of_need() -> None:
    planned = plan(WANTED, bare(), {})
    said = sentences(planned["beta"])
    order = ("account", "folders", "version", "model count", "key", "/etc/modelrunner/ssh/config")
    places = [next(n for n, text in enumerate(said) if text.startswith(word)) for word in order]
    assert places == sorted(places)
    assert said[-1] == f"runner and worker started, version {NEW}"
    phases = {step.sentence: step.phase for one in planned.values() for step in one.steps}
    assert phases[f"primary started, version {NEW}"] == Phase.PRIMARY
    assert phases[said[-1]] == Phase.WORKERS
    grants = [step for step in planned["alpha"].steps if step.phase == Phase.GRANT]
    key = "/etc/modelrunner/ssh/id_ed25519.pub"
    assert [step.input for step in grants] == [FileOf("beta", key), FileOf("gamma", key), None]
    looks = [step.sentence for step in planned["alpha"].steps if step.phase == Phase.CHECK]
    assert [text.split()[1] for text in looks] == ["beta", "gamma"]
    assert planned["gamma"].steps[2].input == Bundle("release", "gamma")


@pytest.mark.parametrize(
    ("name", "path", "expected"),
    [
        ("alpha", "/etc/systemd/system/modelrunner-primary.service", ["written", "restarted"]),
        ("alpha", "/etc/nginx/conf.d/modelrunner.conf", ["written"]),
        ("alpha", "/etc/modelrunner/tls/certificate.pem", ["made, signed by itself"]),
        ("alpha", "/etc/modelrunner/primary.env", ["written"]),
        ("beta", "/etc/modelrunner/ssh/known_hosts", ["written", "restarted"]),
        ("beta", "/etc/modelrunner/ssh/id_ed25519.pub", ["made"]),
        ("beta", "/etc/modelrunner/ssh/id_ed25519", ["made"]),
        ("beta", "/var/lib/modelrunner/worker", ["folders made: /var/lib/modelrunner/worker"]),
        ("beta", "/etc/systemd/system/modelrunner-runner.service", ["written", "restarted"]),
    ],
)
def test_one_thing_that_lacks_is_put_right_alone(name: str, path: str, expected: list[str]) -> None:
    planned = plan(WANTED, without(as_wanted(), name, path), GRANTED)
    said = sentences(planned[name])
    own = [text for text in said if "seen by the primary" not in text]
    assert len(own) == len(expected)
    assert all(text.endswith(word) for text, word in zip(own, expected, strict=True)), own
    others = [one for other, one in planned.items() if other not in (name, "alpha")]
    assert not any(one.steps for one in others)


def test_what_was_written_and_not_yet_read_is_read() -> None:
    """An apply that was cut off between a service's file and its restart."""
    machines = as_wanted()
    for name, service, restarts in (
        ("alpha", "modelrunner-primary", True),
        ("beta", "modelrunner-worker", True),
        ("beta", "modelrunner-runner", False),
    ):
        path = f"/etc/systemd/system/{service}.service"
        for changed_at, due in ((1000.0, restarts), (961.0, False), (0.0, False)):
            here = machines[name]
            entry = msgspec.structs.replace(here.entries[path], changed=changed_at)
            state = msgspec.structs.replace(here.services[service], since="1970-01-01T00:16:00Z")
            cut = changed(
                machines,
                name,
                entries={**here.entries, path: entry},
                services={**here.services, service: state},
            )
            said = sentences(plan(WANTED, cut, GRANTED)[name])
            assert (said[:1] != []) == due and all("restarted" in text for text in said[:1]), path


def test_the_account_itself_makes_its_key() -> None:
    """Root would follow links that the account put into its folder."""
    planned = plan(WANTED, bare(), {})
    commands = [
        c for step in planned["beta"].steps for c in step.commands if "-t ed25519" in str(c)
    ]
    assert [command[:3] for command in commands] == [("runuser", "-u", "modelrunner")]


def test_what_a_removal_left_halfway_is_taken_up() -> None:
    groups: dict[str, tuple[str, ...]] = {"modelrunner": ("www-data",)}
    made = plan(WANTED, bare(groups=groups), {})["beta"].steps[0].commands[0]
    assert made[0] == "useradd" and "--gid" in made and "--user-group" not in made
    left = changed(bare(), "beta", accounts={"modelrunner": "modelrunner"})
    assert "account and group modelrunner removed" in sentences(plan_removal(FLEET, left)["beta"])
    assert plan_removal(FLEET, bare())["beta"].steps == ()


def test_a_runner_is_started_and_never_restarted() -> None:
    machines = changed(as_wanted(), "beta", version=OLD, versions=(OLD,))
    commands = [
        command
        for step in plan(WANTED, machines, GRANTED)["beta"].steps
        for command in step.commands
    ]
    text = " ".join(word for command in commands for word in command)
    assert "systemctl start modelrunner-runner" in text
    assert "restart modelrunner-runner" not in text
    assert "restart modelrunner-worker" in text
    for verb, runs in (("restart", False), ("start", True), ("stop", True)):
        steps = command_all(verb, FLEET.hosts, as_wanted())["beta"].steps
        assert any("runner" in step.sentence for step in steps) is runs
    assert [s.sentence for s in steps] == ["worker stopped", "runner stopped"]


def test_an_upgrade_is_the_version_alone_and_the_way_back_is_the_old_one() -> None:
    machines = as_wanted(msgspec.structs.replace(WANTED, version=OLD))
    machines = changed(machines, "beta", models={})
    planned = plan_upgrade(WANTED, machines)
    for one in planned.values():
        own = [text for text in sentences(one) if "seen" not in text]
        assert [text.split()[0] for text in own] == ["version", own[1].split()[0]]
        assert own[1].endswith(f"switched from version {OLD} to {NEW}")
    entry = machines["beta"].entries["/etc/systemd/system/modelrunner-worker.service"]
    before = {**machines["beta"].entries}
    before["/etc/systemd/system/modelrunner-worker.service"] = msgspec.structs.replace(
        entry, text="# of the old version\n"
    )
    machines = changed(machines, "beta", entries=before)
    shall = desired(WANTED, BETA, machines)
    steps = list(back(shall, machines["beta"]))
    assert [step.put.text for step in steps if step.put] == ["# of the old version\n"]
    assert steps[-1].sentence == f"runner and worker: back to version {OLD}"


def test_nothing_is_upgraded_where_nothing_is() -> None:
    with pytest.raises(Refused, match="beta: there is no version"):
        plan_upgrade(WANTED, changed(as_wanted(), "beta", version=None))


def test_a_model_goes_to_its_workers_and_to_the_primary() -> None:
    newer = msgspec.structs.replace(WANTED, models={**MODELS, "spring": "333333333333"})
    planned = plan_model(newer, "spring", as_wanted())
    assert [bool(planned[name].steps) for name in ("alpha", "beta", "gamma")] == [True, True, False]
    assert sentences(planned["beta"])[0] == "model spring installed, version 333333333333"
    assert sentences(planned["alpha"])[0] == "model spring installed, version 333333333333-bare"


def test_a_model_that_hosts_toml_names_no_more_is_taken_away() -> None:
    machines = as_wanted()
    machines = changed(machines, "gamma", models={**machines["gamma"].models, "old": "4"})
    assert sentences(plan(WANTED, machines, GRANTED)["gamma"]) == ["models taken away: old"]


def test_a_worker_that_hosts_toml_names_no_more_is_told_and_kept() -> None:
    machines = changed(as_wanted(), "alpha", let_in=("beta", "gamma", "old"))
    told = plan(WANTED, machines, GRANTED)
    assert [note.split(",")[0] for note in told["alpha"].notes] == ["worker old is let in here"]
    assert told["alpha"].notes[0].endswith("/bin/modelrunner spool revoke old")
    assert not told["beta"].notes and not any(its.steps for its in told.values())
    machines = bare(uid=1000, user="ann", home="/home/ann", root=False, manager="none")
    lacking = changed(machines, "alpha", let_in=("old",))
    notes = list(admitting.notes(FLEET, ALPHA, lacking["alpha"]))
    assert len(notes) == 1 and notes[0].endswith("from /home/ann/.ssh/authorized_keys")


def test_the_admin_key_is_made_once_and_shown_nowhere() -> None:
    planned = plan(WANTED, bare(), {})
    steps = [step for one in planned.values() for step in one.steps]
    with_key = [step for step in steps if WANTED.new_key in repr(step)]
    assert [step.put.secret for step in with_key if step.put] == [True]
    assert not any(WANTED.new_key in " ".join(c) for s in steps for c in s.commands)


def test_data_that_a_removal_left_is_given_to_the_new_account() -> None:
    machines = as_wanted()
    data = {"/var/lib/modelrunner/data": Entry(kind="folder", owner="root:root", mode=0o750)}
    machines = changed(machines, "alpha", entries={**machines["alpha"].entries, **data})
    said = sentences(plan(WANTED, machines, GRANTED)["alpha"])
    assert said[0].startswith("/var/lib/modelrunner/data, which was there already, given to")


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"programs": {"tar": "/bin/tar"}, "debian": False}, "beta: there is no ssh-keygen"),
        ({"manager": "none"}, "beta: this machine has no systemd"),
        ({"problems": ("the disk is read-only",)}, "beta: the disk is read-only"),
    ],
)
def test_what_no_step_puts_right_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(Refused, match=what):
        plan(WANTED, changed(bare(), "beta", **changes), {})


def test_offline_installs_no_packages() -> None:
    machines = changed(bare(), "alpha", programs={"tar": "/bin/tar"})
    online = sentences(plan(WANTED, machines, {})["alpha"])
    assert online[0] == "Debian's nginx-light installed"
    wanted = msgspec.structs.replace(WANTED, offline=True)
    with pytest.raises(Refused, match=r"alpha: there is no nginx .--offline"):
        plan(wanted, machines, {})


def test_a_removal_ends_workers_first_and_leaves_the_data() -> None:
    planned = plan_removal(FLEET, as_wanted())
    phases: dict[str, set[Phase]] = {
        name: {step.phase for step in one.steps} for name, one in planned.items()
    }
    assert max(phases["beta"]) < min(phases["alpha"])
    removed = [_removed(step) for one in planned.values() for step in one.steps]
    paths = {path for some in removed for path in some}
    assert {"/opt/modelrunner", "/etc/modelrunner"} <= paths
    assert not any(path.startswith("/var/lib/modelrunner/data") for path in paths)
    assert all(not one.steps for one in plan_removal(FLEET, bare()).values())


def _removed(step: Step) -> set[str]:
    return {word for c in step.commands if c[0] == "rm" for word in c[1:] if word[0] == "/"}
