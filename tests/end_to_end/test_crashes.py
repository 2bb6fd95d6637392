"""Processes that are really killed, and what must be true after a restart."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from client.api import ClientError
from tests.system import System, wait_for

SEED = 20261123
KILLS = 8  # of the primary, under load


def _ledger_kinds(system: System) -> Counter[tuple[str, str]]:
    """How often each (job, kind) stands in the ledger."""
    found: Counter[tuple[str, str]] = Counter()
    for segment in sorted((system.data / "ledger").glob("*.jsonl")):
        for line in segment.read_bytes().splitlines():
            record = json.loads(line)
            found[record["job"], record["kind"]] += 1
    return found


def _begun(system: System, key: str) -> Callable[[], bool]:
    return lambda: key in system.started()


def test_agent_killed_and_the_model_goes_on(system: System) -> None:
    system.start()
    worker = system.start_worker("w1")
    job = system.submit("count", system.zip(count="30"))
    system.wait_status(job, "RUNNING")
    wait_for(lambda: system.client.log(job).data.startswith(b"1\n2\n"), "the log to begin")
    worker.kill()
    worker.wait()
    system.start_worker("w1")
    end = system.wait_status(job, "COMPLETE", "FAILED", "KILLED")
    assert (end["status"], end["attempt"]) == ("COMPLETE", 1)
    assert system.started() == [f"{job}.1"]
    assert system.client.log(job).data == b"".join(b"%d\n" % n for n in range(1, 31))


def test_agent_killed_while_its_run_ends(system: System) -> None:
    """The run ends while no agent looks; the next one delivers it."""
    system.start()
    worker = system.start_worker("w1")
    job = system.submit("count", system.zip(count="5"))
    wait_for(lambda: system.started() == [f"{job}.1"], "the model to start")
    worker.kill()
    worker.wait()
    run = system.root / "state-w1" / "runs" / f"{job}.1"
    wait_for((run / "exit.json").exists, "the run to end without an agent")
    assert system.status(job) == "RUNNING"
    system.start_worker("w1")
    system.wait_status(job, "COMPLETE")
    assert system.output(job) == {"result.txt": f"{job}.1\n"}
    wait_for(lambda: not run.exists(), "the run directory to be forgotten")


def test_runner_killed_and_the_job_runs_again(system: System) -> None:
    system.start(1)
    job = system.submit("count", system.zip(count="20"))
    system.wait_status(job, "RUNNING")
    wait_for(lambda: system.started() == [f"{job}.1"], "the model to start")
    runner = system.runner()
    assert runner is not None
    os.kill(runner, signal.SIGKILL)
    end = system.wait_status(job, "COMPLETE", "FAILED")
    assert (end["status"], end["attempt"]) == ("COMPLETE", 2)
    assert system.output(job) == {"result.txt": f"{job}.2\n"}


def test_model_given_up_after_its_attempts(system: System) -> None:
    system.add_model("lossy", more="attempts = 2")
    system.start(1)
    job = system.submit("lossy", system.zip(count="100"))
    for attempt in (1, 2):
        key = f"{job}.{attempt}"
        wait_for(_begun(system, key), f"the start of attempt {attempt}")
        runner = wait_for(lambda: system.runner(), "a runner")
        os.kill(runner, signal.SIGKILL)
    end = system.wait_status(job, "FAILED", "COMPLETE")
    assert (end["status"], end["failure"]) == ("FAILED", "lost")


def test_primary_killed_finds_its_worker_again(system: System) -> None:
    system.start(1)
    job = system.submit("count", system.zip(count="30"))
    system.wait_status(job, "RUNNING")
    agent = system.agent()
    system.kill_primary()
    system.start(1)
    assert system.status(job) == "RUNNING"
    end = system.wait_status(job, "COMPLETE")
    assert end["attempt"] == 1
    assert system.agent() == agent, "the living local worker was replaced"


def test_primary_killed_at_random_moments_under_load(system: System) -> None:
    """Every acknowledged job ends once; the seed is fixed, the moments are not."""
    rng = random.Random(SEED)
    system.add_model("quick", '#!/bin/bash\necho "$MODELRUNNER_JOB_ID" > "$2/id"\n', "parallel = 4")
    system.start(2)
    system.start_worker("w2", slots=2)
    zip_file = system.zip(count="1")
    acknowledged: list[str] = []
    done = threading.Event()

    def load() -> None:
        while not done.is_set():
            try:
                acknowledged.append(str(system.client.submit("quick", zip_file)["uuid"]))
            except ClientError:
                time.sleep(0.02)  # the primary is down: nothing was promised

    loader = threading.Thread(target=load)
    loader.start()
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.05, 1.0))  # the moment of the kill: it waits for nothing
        system.kill_primary()
        system.start(2)
    done.set()
    loader.join()
    assert len(acknowledged) > KILLS
    for job in acknowledged:
        end = system.wait_status(job, "COMPLETE", "FAILED", "KILLED")
        assert end["status"] == "COMPLETE", end["reason"]
    kinds = _ledger_kinds(system)
    assert all(kinds[job, "Completed"] == 1 for job in acknowledged)
    assert all(count == 1 for (_, kind), count in kinds.items() if kind == "Completed")
    sample = rng.sample(acknowledged, min(10, len(acknowledged)))
    assert all(system.output(job) == {"id": f"{job}\n"} for job in sample)
    print(f"{KILLS} kills, {len(acknowledged)} acknowledged jobs, each completed once")


def test_agent_killed_at_random_moments_under_load(system: System) -> None:
    rng = random.Random(SEED + 1)
    system.add_model("quick", '#!/bin/bash\necho "$MODELRUNNER_JOB_ID" > "$2/id"\n', "parallel = 2")
    system.start()
    worker = system.start_worker("w1", slots=2)
    zip_file = system.zip(count="1")
    jobs = [system.submit("quick", zip_file) for _ in range(60)]
    for _ in range(KILLS):
        time.sleep(rng.uniform(0.02, 0.8))  # the moment of the kill: it waits for nothing
        worker.kill()
        worker.wait()
        worker = system.start_worker("w1", slots=2)
    for job in jobs:
        end = system.wait_status(job, "COMPLETE", "FAILED", "KILLED")
        assert end["status"] == "COMPLETE", end["reason"]
    kinds = _ledger_kinds(system)
    assert all(kinds[job, "Completed"] == 1 for job in jobs)


def test_everything_killed_at_once(system: System) -> None:
    """What a power cut does to processes: primary, agent, runner and model are gone."""
    system.start(1)
    job = system.submit("count", system.zip(count="20"))
    waiting = system.submit("count", system.zip(count="1"))
    wait_for(lambda: system.started() == [f"{job}.1"], "the model to start")
    agent, runner = system.agent(), system.runner()
    assert agent is not None and runner is not None
    system.kill_primary()
    os.kill(agent, signal.SIGKILL)
    os.kill(runner, signal.SIGKILL)
    wait_for(lambda: system.runner() is None, "the runner's end")
    system.start(1)
    first = system.wait_status(job, "COMPLETE", "FAILED")
    assert (first["status"], first["attempt"]) == ("COMPLETE", 2)
    system.wait_status(waiting, "COMPLETE")


def test_kill_asked_while_the_worker_is_dead(system: System) -> None:
    system.start()
    worker = system.start_worker("w1")
    job = system.submit("count", system.zip(count="600"))
    system.wait_status(job, "RUNNING")
    worker.kill()
    worker.wait()
    system.client.kill(job)
    assert system.client.job(job)["kill_requested"] is True
    assert system.status(job) == "RUNNING", "nobody could confirm that it is gone"
    system.start_worker("w1")
    assert system.wait_status(job, "KILLED")["confirmed"] is True


def test_two_agents_under_one_name(system: System) -> None:
    system.start()
    system.start_worker("w1")
    job = system.submit("count", system.zip(count="1"))
    system.wait_status(job, "COMPLETE")
    second = system.start_worker("w1", state="other-machine", ready=False)
    assert second.wait(timeout=60) == 1
    assert second.stdout is not None
    assert "working under the name 'w1'" in second.stdout.read()
    system.wait_status(system.submit("count", system.zip(count="1")), "COMPLETE")


def test_two_agents_on_one_state_directory(system: System) -> None:
    system.start()
    system.start_worker("w1")
    second = system.start_worker("w1", ready=False)
    assert second.wait(timeout=60) == 1
    assert second.stdout is not None
    assert "uses the state directory" in second.stdout.read()


def test_clean_stop_leaves_no_process(system: System) -> None:
    system.start(1)
    system.wait_status(system.submit("count", system.zip(count="1")), "COMPLETE")
    assert system.agent() and system.runner()
    system.stop()
    wait_for(lambda: not (system.agent() or system.runner()), "agent and runner to end")


def test_lost_worker_is_shown_before_it_is_called_lost(system: System) -> None:
    system.add_model("short", more="lease = 3\nattempts = 2")
    system.start()
    worker = system.start_worker("w1")
    job = system.submit("short", system.zip(count="600"))
    system.wait_status(job, "RUNNING")
    worker.kill()
    worker.wait()
    os.kill(system.runner(system.root / "state-w1") or 0, signal.SIGKILL)
    system.start_worker("w2")
    wait_for(lambda: f"{job}.2" in system.started(), "the second attempt on the other worker")
    found = system.wait_status(job, "RUNNING")
    assert (found["attempt"], found["worker"]) == (2, "w2")
    system.client.kill(job)
    system.wait_status(job, "KILLED")


def test_who_waits_outlives_a_restart_of_the_primary(system: System) -> None:
    port = _free_port()
    client = system.start(1, f"--listen=127.0.0.1:{port}")
    job = system.submit("count", system.zip(count="40"))
    system.wait_status(job, "RUNNING")
    ends: list[dict[str, Any]] = []
    heard: list[bytes] = []
    waiting = threading.Thread(
        target=lambda: ends.append(dict(client.wait(job, on_log=heard.append)))
    )
    waiting.start()
    wait_for(lambda: heard, "the log to be followed")
    system.kill_primary()
    system.start(1, f"--listen=127.0.0.1:{port}")
    waiting.join(60)
    assert [end["status"] for end in ends] == ["COMPLETE"]
    assert b"".join(heard) == b"".join(b"%d\n" % n for n in range(1, 41))


def test_a_broken_model_does_not_stop_the_others(system: System) -> None:
    system.add_model("windows", "#!/bin/bash\r\necho hello\r\n")
    system.start(1)
    zip_file = system.zip(count="1")
    broken = [system.submit("windows", zip_file) for _ in range(4)]
    for job in broken[:3]:
        end = system.wait_status(job, "FAILED")
        assert end["failure"] == "system"
        assert "could not be started" in end["reason"]
    system.wait_status(system.submit("count", zip_file), "COMPLETE")
    assert system.status(broken[3]) == "QUEUED"
    findings = wait_for(
        lambda: [f for f in system.client.doctor() if "windows" in f], "a finding of the doctor"
    )
    assert "could not be started" in findings[0]
    (system.models / "windows" / "run.sh").write_text("#!/bin/bash\necho hello\n")
    text = (system.models / "windows" / "model.toml").read_text()
    (system.models / "windows" / "model.toml").write_text(text + "\n")
    system.wait_status(broken[3], "COMPLETE")


def test_another_size_replaces_the_local_worker_and_its_run_goes_on(system: System) -> None:
    system.start(1)
    job = system.submit("count", system.zip(count="30"))
    system.wait_status(job, "RUNNING")
    agent = system.agent()
    system.kill_primary()
    system.start(2)
    wait_for(lambda: system.agent() not in (agent, None), "another agent")
    end = system.wait_status(job, "COMPLETE")
    assert (end["attempt"], system.started()) == (1, [f"{job}.1"])
    nodes = {node["name"]: node for node in system.client.status()}
    assert nodes["local"]["slots"] == 2


def test_a_model_that_removes_its_output_folder_fails(system: System) -> None:
    system.add_model("tidy", '#!/bin/bash\nrm -rf "$2"\n')
    system.start(1)
    end = system.wait_status(system.submit("tidy", system.zip(count="1")), "FAILED", "COMPLETE")
    assert (end["status"], end["failure"]) == ("FAILED", "model")
    assert "output directory" in end["reason"]


def test_parallel_holds_after_a_restart_of_the_agent(system: System) -> None:
    system.start()
    worker = system.start_worker("w1", slots=2)
    first = system.submit("count", system.zip(count="40"))
    system.wait_status(first, "RUNNING")
    worker.kill()
    worker.wait()
    second = system.submit("count", system.zip(count="1"))
    system.start_worker("w1", slots=2)
    wait_for(lambda: len(system.client.log(first).data) > 30, "the first run to go on")
    assert system.status(second) == "QUEUED"
    system.wait_status(first, "COMPLETE")
    system.wait_status(second, "COMPLETE")


def test_what_runs_cannot_read_the_admin_key(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELRUNNER_ADMIN_KEY", "open-sesame")
    system.add_model("spy", "#!/bin/bash\ncat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'\n")
    client = system.start(1)
    job = system.submit("spy", system.zip(count="1"))
    system.wait_status(job, "COMPLETE", "FAILED")
    log = client.log(job).data
    assert b"MODELRUNNER_JOB_ID" in log
    assert b"open-sesame" not in log


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_two_agents_start_under_one_name_at_once_and_no_job_waits_for_a_lease(
    system: System,
) -> None:
    """Both may have claimed before either has read the other's beat."""
    system.add_model("wide", more="parallel = 4")
    system.start()
    jobs = [system.submit("wide", system.zip(count="20")) for _ in range(8)]
    workers = [
        system.start_worker("dup", slots=2, state=state, ready=False) for state in ("one", "two")
    ]
    for job in jobs:
        end = system.wait_status(job, "COMPLETE", "FAILED")
        assert (end["status"], end["attempt"]) == ("COMPLETE", 1)
    wait_for(lambda: any(w.poll() is not None for w in workers), "one of the two to give way")
    ended = [w for w in workers if w.poll() is not None]
    assert len(ended) == 1
    assert ended[0].returncode == 1
    assert ended[0].stdout is not None
    assert "'dup'" in ended[0].stdout.read()
    again = system.submit("wide", system.zip(count="1"))
    system.wait_status(again, "COMPLETE")


def test_a_worker_refused_at_its_start_leaves_no_trace_of_itself(system: System) -> None:
    system.start()
    system.start_worker("w1")
    refused = system.start_worker("phantom", state="w1", ready=False)
    assert refused.wait(timeout=60) == 1
    assert not (system.data / "spool" / "workers" / "phantom").exists()
