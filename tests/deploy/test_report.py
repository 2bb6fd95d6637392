"""What a plan and its outcome look like: the whole text, since each word of it is for somebody."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from deploy import report, showing
from deploy.fleet import Fleet, Host, Primary, Worker
from deploy.found import Found
from deploy.push import Outcome, StepFailed
from deploy.showing import Line
from deploy.steps import HostPlan, Phase, Put, Step
from deploy.survey import Trouble

ALPHA = Host(name="alpha", address="10.0.0.1", user="keeper", sudo=True, primary=Primary())
BETA = Host(name="beta", address="10.0.0.2", worker=Worker())
GAMMA = Host(name="gamma", address="gamma.example.org", port=2222, worker=Worker())
FLEET = Fleet(hosts=(ALPHA, BETA, GAMMA), models=Path("models"), names=("test",))

FOUND = Found(
    uid=1000,
    user="keeper",
    home="/home/keeper",
    root=True,
    system="Debian GNU/Linux 12 (bookworm)",
    machine="x86_64",
    libc="glibc 2.36",
    python="/usr/bin/python3",
    python_version="3.11",
    manager="system",
    linger=False,
    programs={},
    debian=True,
    accounts={},
    groups={},
    entries={},
    services={},
    versions=(),
    version=None,
    models={},
    host_keys=(),
    port=22,
    free=1 << 40,
)


def found(**changes: Any) -> Found:
    return msgspec.structs.replace(FOUND, **changes)


LOOK: dict[str, Found | Trouble] = {
    "alpha": found(version="0.1.0+aaa", notes=("its clock is 7 min late",)),
    "beta": found(root=False, version="0.1.0+bbb"),
    "gamma": Trouble("gamma", "gamma: no answer from gamma.example.org:2222", "is it on?"),
}
UNIT = Put(
    path="/etc/systemd/system/modelrunner-primary.service",
    text="[Unit]\nDescription=x\n[Service]\nExecStart=new\n",
    owner="root:root",
)
SECRET = Put(path="/etc/modelrunner/primary.env", text="KEY=hidden\n", mode=0o600, secret=True)
PLANS = {
    "alpha": HostPlan(
        host="alpha",
        steps=(
            Step(phase=Phase.PRIMARY, sentence="primary switched", commands=(("true",),), mark="~"),
            Step(phase=Phase.PREPARE, sentence="account modelrunner made", mark="+"),
            Step(
                phase=Phase.PREPARE,
                sentence=f"{UNIT.path} written",
                put=UNIT,
                before="[Unit]\nDescription=x\n[Service]\nExecStart=old\n",
            ),
            Step(phase=Phase.PREPARE, sentence=f"{SECRET.path} written", put=SECRET),
            Step(
                phase=Phase.PREPARE,
                sentence="/etc/x written",
                put=Put(path="/etc/x", text="one\ntwo\n"),
            ),
            Step(phase=Phase.WORKERS, sentence="model old taken away", mark="-"),
        ),
        notes=("open the port 443",),
        same=("folders", "nginx"),
    ),
    "beta": HostPlan(host="beta"),
}

PLAN = """\
alpha  keeper@10.0.0.1  Debian GNU/Linux 12 (bookworm) x86_64, Python 3.11  with root  \
0.1.0+aaa -> 0.1.0+bbb
  1 + account modelrunner made
  2 ~ /etc/systemd/system/modelrunner-primary.service written
        0644 root:root
        @@ -2,3 +2,3 @@
         Description=x
         [Service]
        -ExecStart=old
        +ExecStart=new
  3 + /etc/modelrunner/primary.env written
        0600, secret: not shown
  4 + /etc/x written
        0644, new, 2 lines
  5 ~ primary switched
  6 - model old taken away
    as it should be: folders, nginx
    note: open the port 443
    note: its clock is 7 min late

beta  10.0.0.2  Debian GNU/Linux 12 (bookworm) x86_64, Python 3.11  without root, as keeper  \
version 0.1.0+bbb
    as it should be

gamma  gamma.example.org:2222
    no answer from gamma.example.org:2222
    what to do: is it on?

6 steps on 1 host; 1 host is as it should be; cannot be planned: gamma
"""


def text(lines: Iterable[Line]) -> str:
    return "".join(f"{line.text}\n" for line in lines)


def test_a_plan() -> None:
    assert text(report.plan(FLEET, LOOK, PLANS, "0.1.0+bbb")) == PLAN


def test_a_plan_in_full_has_the_commands_and_the_new_files() -> None:
    whole = text(report.plan(FLEET, LOOK, PLANS, "0.1.0+bbb", full=True))
    new = "        0644, new, 2 lines\n        @@ -0,0 +1,2 @@\n        +one\n        +two\n"
    assert new in whole
    assert "  5 ~ primary switched\n        $ true\n" in whole
    assert "hidden" not in whole


def test_a_long_difference_is_cut_where_not_all_is_wanted() -> None:
    put = Put(path="/x", text="".join(f"{n}\n" for n in range(200)))
    step = Step(phase=Phase.PREPARE, sentence="/x written", put=put, before="")
    plans = {"beta": HostPlan(host="beta", steps=(step,))}
    cut = text(report.plan(FLEET, LOOK, plans, None))
    assert "        +58\n        … 141 more lines\n" in cut
    assert "        +199\n" in text(report.plan(FLEET, LOOK, plans, None, full=True))


def test_nothing_to_do_is_said() -> None:
    fine = {host.name: found(version="1") for host in FLEET.hosts}
    plans = {host.name: HostPlan(host=host.name) for host in FLEET.hosts}
    said = text(report.plan(FLEET, fine, plans, "1")).splitlines()
    assert said[-1] == "nothing to do: all hosts are as hosts.toml says"
    # a host that could not be looked at may have something to do
    assert report.totals(FLEET, {**fine, "gamma": LOOK["gamma"]}, plans) == (
        "no steps; 2 hosts are as they should be; cannot be planned: gamma"
    )


def test_a_removal_and_what_makes_a_plan_impossible() -> None:
    look = {**LOOK, "alpha": found(version="1", problems=("/opt is read-only: mount it",))}
    said = text(report.plan(FLEET, look, {}, None))
    assert said.startswith("alpha  keeper@10.0.0.1  Debian GNU/Linux 12 (bookworm) x86_64, ")
    assert "  1 -> nothing\n    problem: /opt is read-only: mount it\n" in said


def test_a_plan_for_programs_has_no_secrets() -> None:
    told = json.dumps(report.plan_json(FLEET, LOOK, PLANS, "0.1.0+bbb"))
    assert "hidden" not in told
    whole = json.loads(told)
    assert (whole["version"], whole["changes"]) == ("0.1.0+bbb", True)
    alpha, beta, gamma = whole["hosts"]
    assert [step["mark"] for step in alpha["steps"]] == ["+", "~", "+", "+", "~", "-"]
    assert alpha["steps"][1] == {
        "phase": "prepare",
        "mark": "~",
        "sentence": f"{UNIT.path} written",
        "path": UNIT.path,
        "diff": ["@@ -2,3 +2,3 @@", " Description=x", " [Service]", *_CHANGED],
    }
    assert alpha["notes"] == ["open the port 443", "its clock is 7 min late"]
    assert (beta["steps"], beta["root"], beta["version"]) == ([], False, "0.1.0+bbb")
    assert gamma["error"] == "gamma: no answer from gamma.example.org:2222"


_CHANGED = ["-ExecStart=old", "+ExecStart=new"]


# --- outcomes ----------------------------------------------------------------------

FAILED = StepFailed(
    host="beta",
    sentence="model test installed, version abc",
    what="exit code 1",
    command="sh -c …",
    code=1,
    output=("cc: not found", "Error:  setup of model test ended with exit code 1"),
    hint="put its setup script right",
    undone=True,
    left="it was undone: the host is as it was before this step",
)

BROKEN = """\
beta: FAILED: model test installed, version abc
    exit code 1
    command: sh -c …
    the last that it printed:
    | cc: not found
    | Error:  setup of model test ended with exit code 1
    what to do: put its setup script right
    it was undone: the host is as it was before this step
    1 step of this host was done
    not done:
      worker started

gamma: stopped after 2 steps
    not done:
      worker started
failed on beta: 4 steps done
the same command goes on with what is missing; what is done already is left out then
"""


def test_an_outcome_with_a_failure() -> None:
    ended = Outcome(
        done={"alpha": ("a",), "beta": ("b",), "gamma": ("c", "d")},
        missing={
            "alpha": (),
            "beta": ("model test installed, version abc", "worker started"),
            "gamma": ("worker started",),
        },
        failed=(FAILED,),
    )
    assert text(report.outcome(ended)) == BROKEN


def test_a_failure_without_an_end() -> None:
    lost = msgspec.structs.replace(FAILED, code=None, output=(), hint="", left="unknown")
    assert text(report.failure(lost)).splitlines()[1:] == [
        "    exit code 1",
        "    command: sh -c …",
        "    unknown",
    ]


def test_outcomes_without_a_failure() -> None:
    whole = Outcome(done={"alpha": ("a", "b"), "beta": ("c",)}, missing={"alpha": (), "beta": ()})
    assert text(report.outcome(whole)) == "done: 3 steps on 2 hosts\n"
    broken = Outcome(done={"alpha": ("a",)}, missing={"alpha": ("b",)}, interrupted=True)
    assert text(report.outcome(broken)).splitlines()[:4] == [
        "alpha: stopped after 1 step",
        "    not done:",
        "      b",
        "broken off: 1 step done",
    ]


# --- printing ----------------------------------------------------------------------


@pytest.mark.parametrize("terminal", [False, True])
def test_a_pipe_gets_plain_text_and_nothing_drives_the_terminal(terminal: bool) -> None:
    file = io.StringIO()
    console = Console(
        file=file, force_terminal=terminal, width=40, highlight=False, color_system="standard"
    )
    showing.lines([Line(f"[bold]{'x' * 60}[/] \x1b[2J", "red")], console)
    printed = file.getvalue()
    assert f"[bold]{'x' * 60}[/]  [2J" in printed
    assert ("\x1b[31m" in printed) == terminal


def test_a_table_for_a_pipe_has_tabs() -> None:
    file = io.StringIO()
    rows = [("alpha", "active"), ("beta", "a\tb")]
    showing.table(("host", "state"), rows, Console(file=file, highlight=False, width=10))
    assert file.getvalue() == "host\tstate\nalpha\tactive\nbeta\ta b\n"
