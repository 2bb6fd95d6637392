"""Exit codes and JSON: what scripts live on."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from client.api import Client, ClientError
from client.commands import outputs
from tests.client.process import COMMAND, environment, run
from tests.system import wait_for

NOBODY = "http://127.0.0.1:1"
ASKING = (
    *(["jobs"], ["status"], ["models"], ["doctor"], ["log", "0" * 8], ["kill", "0" * 8]),
    *(["wait", "0" * 8], ["outputs", "0" * 8], ["rerun", "0" * 8], ["example", "echo"]),
)


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    made = tmp_path / "bad"
    made.mkdir()
    (made / "other").touch()
    return made


@pytest.fixture
def ended(hand: Any, good: Path) -> dict[str, str]:
    """Jobs by how they ended."""
    client = Client(hand.url)
    ids = {}
    for how in ("COMPLETE", "FAILED"):
        ids[how] = client.submit("echo", good)["uuid"]
        hand.start(ids[how])
        hand.end(ids[how], b"one\ntwo\nthree\n", well=how == "COMPLETE")
    return ids


@pytest.mark.parametrize("command", ASKING, ids=lambda command: command[0])
def test_3_where_nobody_listens(command: list[str]) -> None:
    done = run(*command, MODELRUNNER_SERVER=NOBODY)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)
    assert done.stderr.startswith(f"Error:  no answer from {NOBODY}: ")


@pytest.mark.parametrize("command", ASKING[4:], ids=lambda command: command[0])
def test_3_where_the_server_refuses(cli: Any, command: list[str]) -> None:
    done = cli(*command)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)


@pytest.mark.parametrize(
    "command",
    [
        ["log"],
        ["log", "no id"],
        ["log", "abc"],
        ["jobs", "--from", "yesterday"],
        ["jobs", "--limit", "0"],
        ["submit", "nosuch.zip"],
        ["submit", "--model", "echo", "nosuch.zip"],
        ["check", "--model", "echo", "http://127.0.0.1/a.zip"],
        ["wait", "--timeout", "-1", "0" * 8],
        ["completion", "csh"],
        ["wait", "--output", "/dev/null/x", "00000000-0000-4000-8000-000000000000"],
    ],
    ids=" ".join,
)
def test_2_for_wrong_use(cli: Any, command: list[str]) -> None:
    done = cli(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr


def test_1_for_a_bad_input(cli: Any, bad: Path, good: Path) -> None:
    sent = cli("submit", "--model", "echo", bad)
    assert (sent.returncode, sent.stdout) == (1, "")
    assert sent.stderr.startswith("Error:  ") and "\n  a: expected " in sent.stderr
    checked = cli("check", "--model", "echo", bad)
    assert checked.returncode == 1
    file, expected, found = checked.stdout.rstrip("\n").split("\t")
    assert file == "a" and expected and "other" in found
    told = json.loads(cli("check", "--json", "--model", "echo", bad).stdout)
    assert told["good"] is False and told["message"]
    assert [finding["file"] for finding in told["findings"]] == ["a"]
    fine = cli("check", "--model", "echo", "--json", good)
    assert fine.returncode == 0 and json.loads(fine.stdout)["good"] is True
    assert cli("check", "--model", "echo", good).stdout == "The input is good for model echo\n"
    assert json.loads(cli("jobs", "--json").stdout) == []


@pytest.mark.parametrize(("how", "code"), [("COMPLETE", 0), ("FAILED", 1)])
def test_waiting_exits_as_the_job(cli: Any, ended: dict[str, str], how: str, code: int) -> None:
    done = cli("wait", ended[how])
    assert (done.returncode, done.stdout) == (code, "one\ntwo\nthree\n")
    assert f"Job {ended[how]} {how}" in done.stderr
    quiet = cli("wait", "-q", ended[how][:13])
    assert (quiet.returncode, quiet.stdout) == (code, "")
    told = cli("wait", "--json", ended[how])
    assert (told.returncode, json.loads(told.stdout)["status"]) == (code, how)
    if how == "FAILED":
        assert "modelrunner log" not in done.stderr, "it has just been shown"
        assert f"modelrunner log {ended[how][:8]} shows" in quiet.stderr


def test_4_when_it_takes_too_long(cli: Any, good: Path) -> None:
    done = cli("submit", "--model", "echo", "--timeout", "0.1", good)
    id = done.stdout.strip()
    assert done.returncode == 4 and "it goes on" in done.stderr
    for command in ("wait", "kill"):
        late = cli(command, "--timeout", "0.1", "--json", id)
        assert (late.returncode, late.stdout) == (4, "")
        assert f"job {id} is QUEUED" in late.stderr


def test_killing_and_waiting(hand: Any, cli: Any, good: Path) -> None:
    client = Client(hand.url)
    id = client.submit("echo", good)["uuid"]
    process = subprocess.Popen(
        [*COMMAND, "kill", "--wait", "--json", id],
        stdout=subprocess.PIPE,
        env=environment(MODELRUNNER_SERVER=hand.url),
        text=True,
    )
    wait_for(lambda: client.job(id)["kill_requested"], "the wish to kill it")
    hand.start(id)
    hand.end(id, b"")
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["status"] == "COMPLETE", "the model was faster"
    assert process.returncode == 1
    assert cli("kill", id).returncode == 3, "it has ended already"


def test_130_when_interrupted(hand: Any, good: Path) -> None:
    id = Client(hand.url).submit("echo", good)["uuid"]
    log = hand.start(id)
    log.write_bytes(b"it runs\n")
    process = subprocess.Popen(
        [*COMMAND, "wait", id],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(MODELRUNNER_SERVER=hand.url),
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "it runs\n"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"Job {id} goes on." in errors and "Traceback" not in errors


def test_whoever_reads_the_log_may_leave_and_the_result_stays_true(hand: Any, good: Path) -> None:
    id = Client(hand.url).submit("echo", good)["uuid"]
    hand.start(id)
    hand.end(id, b"line\n" * 200_000, well=False)
    command = " ".join(COMMAND)
    done = subprocess.run(
        ["bash", "-c", f"{command} wait {id} | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        env=environment(MODELRUNNER_SERVER=hand.url),
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "line\n")
    assert "FAILED" in done.stderr and "Broken" not in done.stderr
    done = subprocess.run(
        ["bash", "-c", f"{command} log {id} | head -1; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        env=environment(MODELRUNNER_SERVER=hand.url),
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "line\n", "")


def test_the_end_of_a_log(cli: Any, ended: dict[str, str]) -> None:
    id = ended["COMPLETE"]
    for lines, end in ((0, ""), (1, "three\n"), (2, "two\nthree\n"), (9, "one\ntwo\nthree\n")):
        assert cli("log", "-n", lines, id).stdout == end
    assert cli("log", "-f", "-n", 1, id).stdout == "three\n"
    (piece,) = map(json.loads, cli("log", "--json", "-n", 1, id).stdout.splitlines())
    assert piece == {"text": "three\n", "attempt": 1, "start": 8, "end": 14, "final": True}


def test_outputs_are_listed_and_fetched(hand: Any, cli: Any, good: Path, tmp_path: Path) -> None:
    id = Client(hand.url).submit("echo", good)["uuid"]
    hand.start(id)
    files = {"plots/a.png": "A", "plots/b.png": "B", "table.csv": "x,y\n"}
    hand.end(id, b"", output=files)
    listed = cli("outputs", id).stdout.splitlines()
    assert listed == ["plots/a.png\t1\tpicture", "plots/b.png\t1\tpicture", "table.csv\t4\ttable"]
    assert [file["path"] for file in json.loads(cli("outputs", "--json", id).stdout)] == [*files]
    some = tmp_path / "some"
    done = cli("outputs", id, "plots/*", "-o", some, "--json")
    assert [file["file"] for file in json.loads(done.stdout)] == [
        str(some / "plots" / "a.png"),
        str(some / "plots" / "b.png"),
    ]
    assert cli("outputs", id, "-o", tmp_path / "all").returncode == 0
    for name, text in files.items():
        assert (tmp_path / "all" / name).read_text() == text
    none = cli("outputs", id, "nosuch.csv")
    assert none.returncode == 3 and "holds no file 'nosuch.csv'" in none.stderr


@pytest.mark.parametrize(
    "path",
    [
        *("", ".", "..", "/etc/x", "../x", "./a", "a/..", "a/../../x", "a//b", "a/"),
        *("C:x", "a\\..\\b", "a\nb", "a\x00", "\x1b[2J"),
    ],
)
def test_a_files_name_never_leads_out_of_the_folder(path: str) -> None:
    with pytest.raises(ClientError, match="not safe"):
        outputs._safe(path)


@pytest.mark.parametrize("path", ["a", "a/b.c", "..a", "a..b/...", "ä ö/%20?#", "ab:c"])
def test_other_names_stay(path: str) -> None:
    assert outputs._safe(path) == path


def test_jobs_that_are_made_of_others(
    cli: Any, ended: dict[str, str], models: Path, good: Path, tmp_path: Path
) -> None:
    again = cli("rerun", ended["FAILED"][:8], "--name", "once more", "--json")
    job = json.loads(again.stdout)
    assert (job["rerun_of"], job["name"]) == (ended["FAILED"], "once more")
    (models / "echo" / "example.zip").write_bytes(good.read_bytes())
    assert cli("example", "echo", "--save", tmp_path).stdout == f"{tmp_path}/example.zip\n"
    id = cli("example", "echo").stdout.strip()
    assert json.loads(cli("status", "--json", id).stdout)["name"] == "Example of Echo"
    everything = json.loads(cli("jobs", "--all", "--json").stdout)
    assert [j["uuid"] for j in everything] == [id, job["uuid"], ended["FAILED"], ended["COMPLETE"]]
    narrowed = cli("jobs", "--text", "once", "--from", "2020-01-01", "--to", "2999-12-31")
    assert narrowed.stdout.split("\t")[0] == job["uuid"]
    assert cli("jobs", "--to", "2020-01-01T00:00:00Z").stdout == ""
