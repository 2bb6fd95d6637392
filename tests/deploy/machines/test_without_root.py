"""The same without root: everything lies in a user's home.

alpha and beta let the user's services live without a login (lingering); gamma does not,
so there a background process keeps them, and cron starts it. Each of the tests is a step
of one story.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from functools import partial

import pytest

from client.errors import ClientError
from deploy.release import version_of
from tests.deploy.machines import footprint
from tests.deploy.machines.keeper import Keeper
from tests.image import PLAIN
from tests.machines import Machine
from tests.system import ROOT, wait_for

pytestmark = [
    pytest.mark.root,
    *(pytest.mark.needs(name) for name in ("debootstrap", "systemd-container", "iproute2")),
]

HOSTS = """
models = "models"

[hosts.alpha]
address = "{alpha}"
user = "plain"
[hosts.alpha.primary]
listen = "0.0.0.0:8080"

[hosts.beta]
address = "{beta}"
user = "plain"
[hosts.beta.worker]
models = ["left", "both"]

[hosts.gamma]
address = "{gamma}"
user = "plain"
[hosts.gamma.worker]
models = ["right", "both"]
"""
HOME = f"/home/{PLAIN}"
DATA = f"{HOME}/.local/share/modelrunner"


class Story:
    """What the steps hand on."""

    def __init__(self) -> None:
        self.bare: dict[str, Mapping[str, str]] = {}
        self.jobs: list[str] = []
        self.version = ""


@pytest.fixture(scope="module")
def story(keeper: Keeper) -> Story:
    keeper.hosts(HOSTS)
    for name in ("left", "right", "both"):
        keeper.add_model(name)
    for name in ("alpha", "beta"):
        keeper.machines[name].run("loginctl", "enable-linger", PLAIN)
    keeper.open("beta", "gamma")
    keeper.server = f"http://{keeper.machines['alpha'].address}:8080"
    return Story()


def every(keeper: Keeper) -> list[Machine]:
    return list(keeper.machines.machines.values())


def ours(machine: Machine) -> dict[int, str]:
    """The processes of the user that run our programs, by their numbers there."""
    listed = machine.run("ps", "-u", PLAIN, "-o", "pid=,args=", check=False)
    rows = [line.split(None, 1) for line in listed.splitlines()]
    return {int(row[0]): row[1] for row in rows if ".local/lib/modelrunner" in row[1]}


def runs_on_both(keeper: Keeper, word: str) -> list[str]:
    """Two jobs, one for each worker, end well there."""
    jobs = [keeper.submit("left", word), keeper.submit("right", word)]
    for job, name in zip(jobs, ("beta", "gamma"), strict=True):
        assert keeper.result(job) == [f"on {name}", f"set up on {name} by {PLAIN}", word]
    return jobs


# --- the story -------------------------------------------------------------------------


def test_plan_says_what_it_would_do_and_does_nothing(keeper: Keeper, story: Story) -> None:
    for name in keeper.machines.machines:
        keeper.machines.login(PLAIN, name, "true")
    story.bare = {machine.name: footprint.files(machine) for machine in every(keeper)}
    said = keeper.deploy("plan")
    for expected in ("alpha", "beta", "gamma", f"{HOME}/.local", "without root"):
        assert expected in said
    for machine in every(keeper):
        after = footprint.files(machine)
        assert footprint.difference(story.bare[machine.name], after) == []


def test_apply_sets_it_up_in_the_user_s_home(keeper: Keeper, story: Story) -> None:
    keeper.deploy("apply", "--yes")
    story.version = version_of(ROOT)
    assert set(keeper.versions().values()) == {story.version}
    story.jobs += runs_on_both(keeper, "first")
    for machine in every(keeper):
        changed = footprint.difference(story.bare[machine.name], footprint.files(machine))
        elsewhere = [line for line in changed if f" {HOME}" not in line]
        allowed = " /var/spool/cron" if machine.name == "gamma" else " /nowhere"
        assert [line for line in elsewhere if allowed not in line] == []


def test_a_second_apply_changes_nothing_and_says_so(keeper: Keeper, story: Story) -> None:
    local = f"{HOME}/.local"

    def state() -> list[tuple[Mapping[str, str], Mapping[int, str]]]:
        kept = (f"{local}/lib", f"{local}/etc", f"{local}/share/systemd", "/var/spool/cron")
        return [(footprint.exactly(m, *kept), ours(m)) for m in every(keeper)]

    before = state()
    assert "nothing to do" in keeper.deploy("apply", "--yes")
    for (files, running), (files_now, running_now) in zip(before, state(), strict=True):
        assert footprint.difference(files, files_now) == []
        assert running == running_now
    del story


def test_it_all_survives_logout(keeper: Keeper, story: Story) -> None:
    """Each command of the keeper was a login that has ended."""
    before = [ours(machine) for machine in every(keeper)]
    assert all(before)
    for machine in every(keeper)[1:]:  # at the primary the workers are logged in
        keeper.machines.login(PLAIN, machine.name, "true")
        wait_for(partial(_nobody_is_logged_in, machine), "the end of all logins")
    assert [ours(machine) for machine in every(keeper)] == before
    story.jobs += runs_on_both(keeper, "logged-out")


def test_it_comes_back_by_itself_after_a_reboot(keeper: Keeper, story: Story) -> None:
    for machine in every(keeper):
        machine.power_off()
    for machine in every(keeper):
        machine.switch_on()
    for machine in every(keeper):
        machine.wait_up()
    wait_for(lambda: _answers(keeper), "the primary")
    story.jobs += runs_on_both(keeper, "rebooted")


def test_a_primary_that_cannot_start_takes_the_upgrade_back(keeper: Keeper, story: Story) -> None:
    serve = "\n\ndef serve(**_: object) -> int:\n    raise SystemExit('broken by a test')\n"
    broken = keeper.checkout("broken", "web/serving.py", serve)
    said = keeper.deploy("--source", str(broken), "upgrade", "--yes", code=1)
    assert story.version in said  # what runs again
    assert set(keeper.versions().values()) == {story.version}
    story.jobs += runs_on_both(keeper, "rolled-back")


def test_an_upgrade_lets_a_run_go_on(keeper: Keeper, story: Story) -> None:
    keeper.shut("beta", "gamma")
    jobs = [keeper.submit("both", f"upgrade{n}") for n in range(2)]
    wait_for(
        lambda: all(keeper.job(job)["status"] == "RUNNING" for job in jobs), "a run on each worker"
    )
    newer = keeper.checkout("newer", "worker_agent.py", "\n# newer\n")
    keeper.deploy("--source", str(newer), "upgrade", "--yes")
    assert list(keeper.versions().values()) == [version_of(newer)] * 3
    keeper.open("beta", "gamma")
    for job in jobs:
        keeper.result(job)
        assert keeper.job(job)["attempt"] == 1
    story.jobs += jobs


def test_services_are_stopped_started_and_looked_at(keeper: Keeper, story: Story) -> None:
    gamma = keeper.machines["gamma"]
    before = ours(gamma)
    keeper.deploy("stop", "gamma")
    assert not ours(gamma)
    assert "inactive" in keeper.deploy("status", code=1)
    keeper.deploy("start", "gamma")
    assert not before.keys() & ours(gamma).keys()
    assert "is ready" in keeper.deploy("logs", "gamma", "-n", "20")
    story.jobs += runs_on_both(keeper, "started")


def test_remove_leaves_nothing_but_the_data(keeper: Keeper, story: Story) -> None:
    keeper.deploy("remove", "--yes")
    for machine in every(keeper):
        assert not ours(machine)
        left = footprint.difference(story.bare[machine.name], footprint.files(machine))
        above = [f"+ {folder}:" for folder in (f"{HOME}/.local", f"{HOME}/.local/share")]
        left = [s for s in left if f" {DATA}" not in s and not s.startswith(tuple(above))]
        assert left == [], "\n".join(left)
    data = keeper.folder / "data"
    shutil.copytree(keeper.machines["alpha"].path(f"{DATA}/data"), data, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "modelrunner", "ledger", "verify", "--data", str(data)],
        check=True,
        cwd=ROOT,
    )


def _nobody_is_logged_in(machine: Machine) -> bool:
    return not machine.run("pgrep", "-u", PLAIN, "sshd", check=False)


def _answers(keeper: Keeper) -> bool:
    try:
        return bool(keeper.versions())
    except ClientError:
        return False
