"""The command line, as a process."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from client.api import Client
from client.commands.lists import remark as remark_of
from tests.client.process import LIMIT, run

HEAVY = ("bottle", "waitress", "multipart", "msgspec", "rich", "psutil", "watchdog", "sqlite3")
OURS = ("ledger", "spool", "engine", "primary", "web", "deploy")


@pytest.mark.parametrize(
    "code",
    [
        "import runpy; sys.argv = ['modelrunner', '--help']\n"
        "try: runpy.run_module('modelrunner', run_name='__main__')\nexcept SystemExit: pass",
        "from modelrunner import Client; Client('http://localhost:1')",
        "from modelrunner import main; main(['jobs', '--help'], standalone_mode=False)",
    ],
)
def test_little_is_loaded(code: str) -> None:
    check = f"\nbad = {{*{(*HEAVY, *OURS)!r}}} & set(sys.modules)\nassert not bad, bad"
    done = subprocess.run(
        [sys.executable, "-c", "import sys\n" + code + check],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_help_lists_every_command_and_each_has_help() -> None:
    text = run("--help").stdout
    client = "submit check example jobs status wait log outputs kill rerun models doctor"
    for name in (*client.split(), "serve", "completion", "ledger"):
        assert f"  {name} " in text
        shown = run(name, "--help")
        assert shown.returncode == 0
        if name in client.split():
            assert "Exit codes: 0 " in shown.stdout and "--json" in shown.stdout
    for code in (0, 1, 2, 3, 4, 130):
        assert f"\n    {code}  " in text
    assert run("--version").stdout.startswith("modelrunner ")
    assert run("nosuch").returncode == 2


def test_submit_prints_the_id_alone(cli: Any, good: Path, hand: Any) -> None:
    done = cli("submit", "--model", "echo", "--name", "n", good)
    assert (done.returncode, done.stderr) == (0, "")
    id = done.stdout.strip()
    assert hand.primary.job(id).name == "n"
    assert json.loads(cli("status", "--json", id).stdout)["uuid"] == id
    shown = [line.split(":")[0] for line in cli("status", id).stdout.splitlines()]
    assert shown[:4] == ["uuid", "name", "model", "status"], "first what one asks for first"
    killed = cli("kill", id[:8])
    assert killed.stdout.startswith(f"Job {id} was asked to end, and is QUEUED; ")
    assert (killed.returncode, killed.stderr) == (0, "")


def finish(hand: Any, well: bool) -> None:
    """Ends the next job that is submitted."""
    hand.primary.wait(0, LIMIT)
    (job,) = hand.primary.jobs(_query()).jobs
    hand.start(job.id)
    hand.end(job.id, b"the log\n", well=well)


def _query() -> Any:
    from ledger.board import Query

    return Query()


@pytest.mark.parametrize(("well", "code"), [(True, 0), (False, 1)])
def test_submit_wait_ends_as_the_job(
    hand: Any, good: Path, tmp_path: Path, well: bool, code: int
) -> None:
    output = tmp_path / "new" / "results"
    options = ["--server", hand.url, "--model", "echo", "--wait", "--output", str(output)]
    process = subprocess.Popen(
        [sys.executable, "-m", "modelrunner", "submit", *options, str(good)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    finish(hand, well)
    out, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == code, errors
    assert out.splitlines()[1:] == ["the log"]
    assert ("COMPLETE" if well else "FAILED: exit code 3") in errors
    assert {p.name for p in output.iterdir()} == {"job_log.txt", "output.zip"}
    assert (output / "job_log.txt").read_bytes() == b"the log\n"


def test_the_log_as_it_is(cli: Any, hand: Any, good: Path) -> None:
    id = cli("submit", "--model", "echo", good).stdout.strip()
    hand.start(id)
    hand.end(id, b"the log\n")
    assert cli("log", id).stdout == cli("log", "-f", id).stdout == "the log\n"


def test_the_list(cli: Any, good: Path) -> None:
    for name in ("a", "b\tx", "c"):
        cli("submit", "--model", "echo", "--name", name.replace("\t", " "), good)
    rows = [line.split("\t") for line in cli("jobs").stdout.splitlines()]
    assert [row[1] for row in rows] == ["c", "b x", "a"]
    assert all(datetime.fromisoformat(row[4]) for row in rows), "a pipe gets whole times"
    found = json.loads(cli("jobs", "--json", "--limit", "1", "--state", "queued").stdout)
    assert [job["name"] for job in found] == ["c"]
    assert cli("jobs", "--state", "FAILED").stdout == ""
    assert cli("jobs", "--state", "NOSUCH").returncode == 2
    assert cli("models").stdout.split("\t")[0] == "echo"
    head, primary = (line.split("\t") for line in cli("status").stdout.splitlines())
    assert head == ["name", "type", "status", "models", "jobs", "host", "remark"]
    assert primary[:2] == ["primary", "PRIMARY"]
    assert primary[4] == "", "the primary has no slots"


def test_what_goes_wrong_is_one_line_and_a_code(cli: Any, good: Path, tmp_path: Path) -> None:
    refused = cli("submit", "--model", "nope", good)
    assert (refused.returncode, refused.stderr.count("\n")) == (3, 1)
    assert refused.stderr.startswith("Error:  there is no model 'nope'")
    nobody = run("jobs", "--server", "http://127.0.0.1:1")
    assert (nobody.returncode, nobody.stderr.count("\n")) == (3, 1)
    assert "http://127.0.0.1:1" in nobody.stderr and "MODELRUNNER_SERVER" in nobody.stderr
    for wrong in (["submit", good], ["submit", "--model", "echo", tmp_path / "none.zip"], ["kill"]):
        assert cli(*wrong).returncode == 2
    unknown = cli("log", "00000000-0000-4000-8000-000000000000")
    assert unknown.returncode == 3 and "there is no job" in unknown.stderr


def test_a_kill_that_nobody_answers_says_so(
    cli: Any, hand: Any, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = cli("submit", "--model", "echo", good).stdout.strip()
    hand.start(id)
    assert "kill --wait waits" in cli("kill", id).stdout
    start = hand.primary._clock()
    monkeypatch.setattr(hand.primary, "_clock", lambda: start + 60)
    shown = cli("status", id).stdout
    assert "RUNNING; its worker w has been silent for " in shown and "worker_remark" not in shown
    told = json.loads(cli("status", "--json", id).stdout)
    assert (told["status"], told["worker_liveness"]) == ("RUNNING", "unreachable")
    done = cli("kill", id)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        f"Job {id} was asked to end, and is RUNNING: its worker w is silent, so it stays so "
        "until that answers or is given up\n"
    )


@pytest.mark.parametrize(
    ("node", "remark"),
    [
        ({"liveness": "new", "last_seen": None}, "granted, not started yet"),
        ({"liveness": "unreachable", "last_seen": 42.0}, "unreachable, silent for 42 s"),
        ({"liveness": "lost", "last_seen": 1200.0}, "lost, silent for 20 min"),
        ({"liveness": "lost", "last_seen": None}, "lost"),
        ({"liveness": "stopped", "last_seen": 5.0}, ""),
        ({"liveness": "stopped", "jobs": ["x"]}, "stopped, and holds jobs"),
        ({"liveness": "alive", "last_seen": 1.0}, "old"),
        ({"liveness": "alive", "last_seen": 1.0, "paused": "full"}, "paused: full"),
    ],
)
def test_what_is_remarked_of_a_node(node: Any, remark: str) -> None:
    assert remark_of({"paused": "", "error": "old", "jobs": [], "last_seen": 0} | node) == remark


def test_control_characters_do_not_reach_the_terminal(
    cli: Any, hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand.primary, "findings", lambda: ["bad \x1b[31m thing"])
    done = cli("doctor")
    assert (done.returncode, done.stdout) == (1, "bad  [31m thing\n")


def test_ledger_commands(hand: Any, good: Path, cli: Any) -> None:
    id = cli("submit", "--model", "echo", good).stdout.strip()
    data = hand.data
    kinds = [json.loads(line)["kind"] for line in run_ledger("show", data, id)]
    assert kinds == ["Submitted", "Queued"]
    assert [json.loads(line)["job"] for line in run_ledger("export", data)] == [id, id]
    assert all(set(json.loads(line)) >= {"seq", "hash"} for line in run_ledger("show", data, id))
    assert run("ledger", "verify", "--data", data).stdout.startswith("2 records")
    missing = run("ledger", "show", "--data", data, "nosuch")
    assert (missing.returncode, missing.stderr.count("\n")) == (1, 1)
    (data / "jobs" / "x").mkdir()
    empty = run("ledger", "verify", "--data", data / "jobs")
    assert (empty.returncode, empty.stderr.count("\n")) == (1, 1)


def run_ledger(command: str, data: Path, *more: str) -> list[str]:
    return run("ledger", command, "--data", data, *more).stdout.splitlines()


@pytest.mark.parametrize("listen", ["8080", "host:", "h:99999", "::1:80", "h:x", "[::1"])
def test_listen_addresses_that_are_none(listen: str, tmp_path: Path) -> None:
    done = run("serve", "--data", tmp_path / "d", "--models", tmp_path, "--listen", listen)
    assert done.returncode == 2 and "HOST:PORT" in done.stderr
    assert not (tmp_path / "d").exists()


def test_a_model_that_cannot_be_used_is_told_of(
    cli: Any, hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Client(hand.url).model_errors() == {} and cli("models").stderr == ""
    monkeypatch.setattr(hand.primary, "model_errors", lambda: {"broken": "it has\nno command"})
    done = cli("models")
    assert done.returncode == 0 and done.stdout.startswith("echo\t")
    assert done.stderr == "broken cannot be used: it has no command\n"
