"""The main job: submit, run, kill, queue; over HTTP, bash, the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from client.api import ClientError
from tests.system import ROOT, System, wait_for

SESSION = """
MR_TMP_DIR=$(mktemp -d)
. examples/api_functions.sh
job_id=$(mr_create_job test_job_1 "test" "@examples/sleep_count_8.zip")
echo $(mr_job_status $job_id)
mr_kill_job $job_id
job_id=$(mr_create_job test_job_2 "test" "@examples/sleep_count_8.zip")
mr_wait_for_status $job_id "COMPLETE" 60
echo "ended with $?"
"""


@pytest.fixture
def shipped(system: System) -> System:
    """A system with the models that ship with it, and a local worker of two slots."""
    for model in ("test", "test_2", "glpsol"):
        os.symlink(ROOT / "models" / model, system.models / model)
    system.start(2)
    return system


def test_submit_and_complete(system: System) -> None:
    system.start(1)
    job = system.submit("count", system.zip(count="3"))
    end = system.wait_status(job, "COMPLETE", "FAILED")
    assert end["status"] == "COMPLETE"
    assert (end["exit_code"], end["attempt"]) == (0, 1)
    assert end["wall_seconds"] > 0.2
    assert end["peak_memory"] > 0
    assert system.output(job) == {"result.txt": f"{job}.1\n"}
    assert system.client.log(job).data == b"1\n2\n3\n"
    kinds = [event["kind"] for event in system.client.events(job)]
    assert kinds == ["Submitted", "Queued", "Started", "Processed", "Completed"]


def test_running_shows_soon_and_killed_soon(system: System) -> None:
    system.start(1)
    began = time.monotonic()
    job = system.submit("count", system.zip(count="600"))
    system.wait_status(job, "RUNNING")
    running = time.monotonic() - began
    began = time.monotonic()
    system.client.kill(job)
    end = system.wait_status(job, "KILLED")
    killed = time.monotonic() - began
    print(f"RUNNING after {running:.3f} s, KILLED after {killed:.3f} s (goal: 1 s each)")
    assert end["confirmed"] is True
    with pytest.raises(ClientError, match="ended already") as refused:
        system.client.kill(job)
    assert refused.value.status == 409


def test_two_models_at_once_and_one_at_a_time_each(shipped: System) -> None:
    zip_file = ROOT / "examples" / "sleep_count_30.zip"
    first, second = (shipped.submit(m, zip_file) for m in ("test", "test_2"))
    third = shipped.submit("test", zip_file)
    shipped.wait_status(first, "RUNNING")
    shipped.wait_status(second, "RUNNING")
    assert shipped.status(third) == "QUEUED"
    for job in (third, first, second):
        shipped.client.kill(job)
    for job in (first, second, third):
        shipped.wait_status(job, "KILLED")


def test_queue_of_three(system: System) -> None:
    system.start(1)
    zip_file = system.zip(count="600")
    first, second, third = (system.submit("count", zip_file) for _ in range(3))
    system.wait_status(first, "RUNNING")
    system.client.kill(second)
    system.wait_status(second, "KILLED")
    assert system.status(first) == "RUNNING"
    system.client.kill(first)
    system.wait_status(first, "KILLED")
    system.wait_status(third, "RUNNING")
    system.client.kill(third)
    system.wait_status(third, "KILLED")
    assert system.started() == [f"{first}.1", f"{third}.1"]
    assert len(system.client.jobs()) == 3


def test_bash_session_runs_as_printed(shipped: System) -> None:
    environment = {"PATH": os.environ["PATH"], "MR_SERVER": shipped.address.removeprefix("http://")}
    done = subprocess.run(
        ["bash", "-c", SESSION], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    first, *_, last = done.stdout.splitlines()
    assert first in ("QUEUED", "RUNNING"), done.stderr
    assert "OK:  Killed job id " in done.stdout
    assert last == "ended with 0", done.stderr


def test_curl_as_printed(shipped: System) -> None:
    done = subprocess.run(
        [
            *("curl", "-s", "-F", "job_name=x", "-F", "model=test"),
            *("-F", "zip_file=@examples/sleep_count_8.zip", f"{shipped.address}/jobs"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    answer = json.loads(done.stdout)
    assert answer == {"id": answer["id"], "message": f"OK:  Submitted job id {answer['id']}"}
    shipped.wait_status(answer["id"], "RUNNING")
    shipped.client.kill(answer["id"])


@pytest.mark.needs("glpk-utils")
def test_a_real_model(shipped: System) -> None:
    job = shipped.submit("glpsol", ROOT / "examples" / "glpsol_example.zip")
    end = shipped.wait_status(job, "COMPLETE", "FAILED")
    assert end["status"] == "COMPLETE", end["reason"]
    assert "OPTIMAL" in "".join(shipped.output(job).values())


def test_command_line_follows_a_job_to_its_end(system: System, tmp_path: Path) -> None:
    system.start(1)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "modelrunner", "submit", "--server", system.address),
            *("--model", "count", "--wait", "--output", str(tmp_path / "results")),
            str(system.zip(count="3")),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    assert "1\n2\n3\n" in done.stdout
    assert sorted(p.name for p in (tmp_path / "results").iterdir()) == ["job_log.txt", "output.zip"]


def test_a_failure_says_why(system: System) -> None:
    system.add_model("broken", "#!/bin/bash\necho 'no water in the well' >&2\nexit 7\n")
    system.start(1)
    job = system.submit("broken", system.zip(count="1"))
    end = system.wait_status(job, "FAILED")
    assert (end["failure"], end["exit_code"]) == ("model", 7)
    assert "exit code 7" in end["reason"]
    assert "no water in the well" in end["reason"]
    assert system.client.log(job).data == b"no water in the well\n"


def test_a_model_that_dies_by_a_signal_has_failed(system: System) -> None:
    system.add_model("dies", "#!/bin/bash\necho part > $2/part.txt\nkill -SEGV $$\n")
    system.start(1)
    job = system.submit("dies", system.zip(count="1"))
    end = system.wait_status(job, "FAILED", "KILLED", "COMPLETE")
    assert (end["status"], end["failure"], end["signal"]) == ("FAILED", "model", 11)
    assert system.output(job) == {"part.txt": "part\n"}


def test_a_model_that_takes_too_long_has_failed(system: System) -> None:
    system.add_model("slow", more="timeout = 0.5")
    system.start(1)
    end = system.wait_status(system.submit("slow", system.zip(count="600")), "FAILED")
    assert end["failure"] == "limit"
    assert "0.5" in end["reason"]


def test_a_model_added_while_it_runs_is_found(system: System) -> None:
    system.start(1)
    system.add_model("later")
    wait_for(lambda: "later" in {m["name"] for m in system.client.models()}, "the new model")
    system.wait_status(system.submit("later", system.zip(count="1")), "COMPLETE")


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        ("count", b"PK\x03\x04 cut", "zip"),
        ("nope", None, "nope"),
    ],
)
def test_bad_input_is_refused_and_makes_no_job(
    system: System, model: str, data: bytes | None, said: str
) -> None:
    system.start()
    path = system.zip(count="1")
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(ClientError, match=said) as refused:
        system.client.submit(model, path)
    assert refused.value.status == 400
    assert system.client.jobs() == []
    assert list((system.data / "jobs").iterdir()) == []
    wait_for(lambda: not list((system.data / "incoming").iterdir()), "incoming/ to be empty")


def test_a_missing_required_file_is_named(system: System) -> None:
    system.start()
    with pytest.raises(ClientError, match=r"count.*readme") as refused:
        system.client.submit("count", system.zip(readme="hello"))
    assert refused.value.status == 400
