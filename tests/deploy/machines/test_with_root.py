"""From bare machines to a running system and back, with root: every promise of ``deploy``.

alpha is the primary behind nginx; beta, by way of sudo, and gamma are workers. Each of
the tests is a step of one story.
"""

from __future__ import annotations

import json
import os
import shutil
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from deploy.release import version_of
from tests.deploy.machines import footprint
from tests.deploy.machines.keeper import Keeper
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
user = "root"
[hosts.alpha.primary]
nginx = true

[hosts.beta]
address = "{beta}"
user = "keeper"
sudo = true
[hosts.beta.worker]
models = ["left", "both"]

[hosts.gamma]
address = "{gamma}"
user = "root"
[hosts.gamma.worker]
models = ["right", "both"]
"""
DATA = "/var/lib/modelrunner"
OURS = ("/opt/modelrunner", "/etc/modelrunner", "/etc/systemd/system", "/etc/ssh", "/etc/nginx")
SERVICES = ("modelrunner-primary", "modelrunner-runner", "modelrunner-worker")


class Story:
    """What the steps hand on."""

    def __init__(self) -> None:
        self.bare: dict[str, Mapping[str, str]] = {}
        self.jobs: list[str] = []
        self.version = ""


@pytest.fixture(scope="module")
def story(keeper: Keeper) -> Iterator[Story]:
    keeper.hosts(HOSTS)
    for name in ("left", "right", "both"):
        keeper.add_model(name)
    keeper.open("beta", "gamma")
    certificate = keeper.folder / "certificate.pem"
    keeper.server = f"https://{keeper.machines['alpha'].address}"
    os.environ["SSL_CERT_FILE"] = str(certificate)  # the client believes it, and no other
    try:
        yield Story()
    finally:
        del os.environ["SSL_CERT_FILE"]


def every(keeper: Keeper) -> list[Machine]:
    return list(keeper.machines.machines.values())


def pids(machine: Machine) -> dict[str, str]:
    """The main process of each of our services that runs there."""
    show = ("systemctl", "show", "--property=MainPID", "--value")
    found = {name: machine.run(*show, name).strip() for name in SERVICES}
    return {name: pid for name, pid in found.items() if pid != "0"}


def runs_on_both(keeper: Keeper, word: str) -> list[str]:
    """Two jobs, one for each worker, end well there."""
    jobs = [keeper.submit("left", word), keeper.submit("right", word)]
    for job, name in zip(jobs, ("beta", "gamma"), strict=True):
        lines = keeper.result(job)
        assert lines[0] == f"on {name}"
        assert lines[-1] == word
    return jobs


def wait_claimed(keeper: Keeper, job: str) -> str:
    """The worker that runs it."""
    return str(keeper.wait(job, "RUNNING")["worker"])


# --- the story -------------------------------------------------------------------------


def test_plan_says_what_it_would_do_and_does_nothing(keeper: Keeper, story: Story) -> None:
    story.bare = {machine.name: footprint.files(machine) for machine in every(keeper)}
    said = keeper.deploy("plan")
    for expected in ("alpha", "beta", "gamma", "/opt/modelrunner", "nginx", "account"):
        assert expected in said
    for machine in every(keeper):
        after = footprint.files(machine)
        assert footprint.difference(story.bare[machine.name], after) == []


def test_apply_asks_before_it_acts(keeper: Keeper, story: Story) -> None:
    """Without a terminal nobody can be asked, and --yes was not said."""
    assert "--yes" in keeper.deploy("apply", code=1)
    alpha = keeper.machines["alpha"]
    assert footprint.difference(story.bare["alpha"], footprint.files(alpha)) == []


def test_apply_makes_a_system_of_bare_machines(keeper: Keeper, story: Story) -> None:
    keeper.deploy("apply", "--yes")
    story.version = version_of(ROOT)
    _trust(keeper)
    assert set(keeper.versions().values()) == {story.version}
    story.jobs += runs_on_both(keeper, "first")


def test_nginx_serves_finished_files_itself(keeper: Keeper, story: Story) -> None:
    url = f"{keeper.server}/data/{story.jobs[0]}/output.zip"
    target = keeper.folder / "output.zip"
    curl = ["curl", "--silent", "--show-error", "--fail", "--cacert", os.environ["SSL_CERT_FILE"]]
    got = subprocess.run(
        [*keeper.machines.lan.on_keeper, *curl, "--dump-header", "-", "-o", str(target), url],
        capture_output=True,
        text=True,
        check=True,
    )
    header = got.stdout.lower()
    assert "server: nginx" in header
    assert "x-accel" not in header
    held = keeper.machines["alpha"].path(f"{DATA}/data/jobs/{story.jobs[0]}/output.zip")
    assert target.read_bytes() == held.read_bytes()
    log = keeper.machines["alpha"].read("/var/log/nginx/access.log")
    assert f"/data/{story.jobs[0]}/output.zip" in log


def test_a_second_apply_changes_nothing_and_says_so(keeper: Keeper, story: Story) -> None:
    def state() -> list[tuple[Mapping[str, str], Mapping[str, str]]]:
        return [(footprint.exactly(m, *OURS), pids(m)) for m in every(keeper)]

    before = state()
    assert all(running for _, running in before)
    assert "nothing to do" in keeper.deploy("apply", "--yes")
    assert "nothing to do" in keeper.deploy("plan")
    for (files, running), (files_now, running_now) in zip(before, state(), strict=True):
        assert footprint.difference(files, files_now) == []
        assert running == running_now
    del story


def test_a_worker_that_loses_power_loses_no_job(keeper: Keeper, story: Story) -> None:
    keeper.shut("beta", "gamma")
    job = keeper.submit("both", "power")
    name = wait_claimed(keeper, job)
    other = {"beta": "gamma", "gamma": "beta"}[name]
    keeper.open(other)
    keeper.machines[name].power_off()
    assert keeper.result(job)[0] == f"on {other}"
    assert keeper.job(job)["attempt"] == 2
    keeper.open(name)
    keeper.machines[name].switch_on()
    keeper.machines[name].wait_up()
    story.jobs += [job, *runs_on_both(keeper, "again")]


def test_the_primary_comes_back_by_itself_after_a_reboot(keeper: Keeper, story: Story) -> None:
    keeper.shut("beta", "gamma")
    jobs = [keeper.submit("both", f"reboot{n}") for n in range(3)]  # two run, one waits
    wait_for(
        lambda: [keeper.job(job)["status"] for job in jobs].count("RUNNING") == 2,
        "a run on each worker",
    )
    keeper.machines["alpha"].reboot()
    keeper.open("beta", "gamma")
    for job in jobs:
        assert keeper.wait(job, "COMPLETE")["attempt"] == 1
    story.jobs += jobs


def test_an_upgrade_lets_a_run_go_on(keeper: Keeper, story: Story) -> None:
    keeper.shut("beta", "gamma")
    job = keeper.submit("both", "upgrade")
    wait_claimed(keeper, job)
    newer = keeper.checkout("newer", "worker_agent.py", "\n# newer\n")
    keeper.deploy("--source", str(newer), "upgrade", "--yes")
    story.version = version_of(newer)
    assert keeper.versions() == dict.fromkeys(keeper.versions(), story.version)
    assert len(keeper.versions()) == 3
    assert keeper.job(job)["status"] == "RUNNING"
    keeper.open("beta", "gamma")
    keeper.result(job)
    assert keeper.job(job)["attempt"] == 1
    story.jobs.append(job)


def test_a_worker_that_cannot_start_takes_the_upgrade_back(keeper: Keeper, story: Story) -> None:
    """The primary was switched already, and goes back to the old version as well."""
    main = "\n\ndef main() -> None:\n    raise SystemExit('broken by a test')\n"
    broken = keeper.checkout("broken", "worker_agent.py", main)
    said = keeper.deploy("--source", str(broken), "upgrade", "--yes", code=1)
    assert story.version in said  # what runs again
    wait_for(
        lambda: list(keeper.versions().values()) == [story.version] * 3, "the old version on all"
    )
    story.jobs += runs_on_both(keeper, "rolled-back")


def test_a_model_is_updated_and_set_up_on_its_workers(keeper: Keeper, story: Story) -> None:
    keeper.add_model("left", setup='#!/bin/sh\necho "set up anew" > "${0%/*}/made"\n')
    running = {machine.name: pids(machine) for machine in every(keeper)}
    keeper.deploy("model", "left", "--yes")
    job = keeper.submit("left", "model")
    assert keeper.result(job) == ["on beta", "set up anew", "model"]
    assert {machine.name: pids(machine) for machine in every(keeper)} == running
    story.jobs.append(job)


def test_services_are_stopped_started_and_looked_at(keeper: Keeper, story: Story) -> None:
    gamma = keeper.machines["gamma"]
    before = pids(gamma)
    keeper.deploy("stop", "gamma")
    assert "modelrunner-worker" not in pids(gamma)
    assert pids(keeper.machines["beta"])
    assert "inactive" in keeper.deploy("status", code=1)
    keeper.deploy("start", "gamma")
    started = pids(gamma)
    assert started["modelrunner-worker"] != before["modelrunner-worker"]
    keeper.deploy("restart", "gamma")
    restarted = pids(gamma)
    assert restarted["modelrunner-worker"] != started["modelrunner-worker"]
    assert restarted["modelrunner-runner"] == started["modelrunner-runner"]
    json.loads(keeper.deploy("status", "--json"))
    assert "is ready" in keeper.deploy("logs", "gamma", "-n", "20")
    del story


def test_a_step_that_fails_says_where_and_what_to_do(keeper: Keeper, story: Story) -> None:
    """The disk of one worker is full; the other gets its model, and the next try is whole."""
    keeper.add_model("both")
    (keeper.models / "both" / "large").write_bytes(os.urandom(4 << 20))
    gamma = keeper.machines["gamma"]
    place = "/opt/modelrunner/model-versions"
    gamma.run("mount", "-t", "tmpfs", "-o", "size=1m", "none", place)
    said = keeper.deploy("model", "both", "--yes", code=1)
    assert "gamma" in said
    assert "No space left" in said
    assert gamma.run("find", place, "-mindepth", "1") == ""  # no litter
    gamma.run("umount", place)
    story.jobs += runs_on_both(keeper, "old-model")
    keeper.deploy("model", "both", "--yes")


def test_a_machine_that_is_off_is_named(keeper: Keeper, story: Story) -> None:
    gamma = keeper.machines["gamma"]
    gamma.pull_plug()
    said = keeper.deploy("apply", "--yes", code=1)
    assert "gamma" in said
    gamma.switch_on()
    gamma.wait_up()
    del story


def test_a_worker_that_hosts_toml_names_no_more_is_told(keeper: Keeper, story: Story) -> None:
    keeper.hosts(HOSTS.partition("[hosts.gamma]")[0])
    said = keeper.deploy("plan")
    told, _, away = said.partition("this takes it away: ")
    assert "worker gamma is let in here" in told
    keeper.machines["alpha"].run("sh", "-c", away.splitlines()[0])
    assert "gamma" not in keeper.deploy("plan")
    keeper.hosts(HOSTS)
    assert "let in" in keeper.deploy("apply", "--yes")
    story.jobs += runs_on_both(keeper, "old-model")


def test_remove_leaves_nothing_but_the_data(keeper: Keeper, story: Story) -> None:
    keeper.shut("beta", "gamma")
    job = keeper.submit("both", "removed")
    wait_claimed(keeper, job)
    keeper.deploy("remove", "--yes")
    story.jobs.append(job)
    for machine in every(keeper):
        left = footprint.difference(story.bare[machine.name], footprint.files(machine))
        left = [line for line in left if f" {DATA}" not in line]
        assert left == [], "\n".join(left)
    data = keeper.folder / "data"
    shutil.copytree(keeper.machines["alpha"].path(f"{DATA}/data"), data, symlinks=True)
    subprocess.run(
        [sys.executable, "-m", "modelrunner", "ledger", "verify", "--data", str(data)],
        check=True,
        cwd=ROOT,
    )


def test_the_data_that_was_left_is_taken_up_again(keeper: Keeper, story: Story) -> None:
    """Also the job whose run the removal has ended."""
    keeper.open("beta", "gamma")
    keeper.deploy("apply", "--yes")
    _trust(keeper)
    for job in story.jobs:
        keeper.wait(job, "COMPLETE")
    runs_on_both(keeper, "at-last")


def _trust(keeper: Keeper) -> None:
    """Take the certificate that nginx shows for the one to believe."""
    with keeper.machines.lan.inside():
        shown = ssl.get_server_certificate((keeper.machines["alpha"].address, 443))
    Path(os.environ["SSL_CERT_FILE"]).write_text(shown)
