"""The Python client against a real primary."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from client import following, lists
from client.api import BadInput, Client, ClientError, TimedOut, Unreachable
from client.shapes import JobDetail, JobState
from tests.relay import relay
from tests.system import wait_for

LIMIT = 30  # seconds for anything to happen


@pytest.fixture
def client(hand: Any) -> Client:
    return Client(hand.url)


def test_a_submission_is_sent_in_pieces_and_told(client: Client, good: Path, hand: Any) -> None:
    told: list[tuple[int, int]] = []
    job = client.submit("echo", good, on_progress=lambda done, all: told.append((done, all)))
    assert (job["name"], job["status"], job["model"]) == ("good", "QUEUED", "echo")
    assert told and told[-1][0] == told[-1][1] > good.stat().st_size
    kept = hand.data / "jobs" / job["uuid"] / "input.zip"
    assert kept.read_bytes() == good.read_bytes()
    assert client.submit("echo", str(good), name="näme")["name"] == "näme"


def test_a_refusal_is_the_servers_sentence(client: Client, good: Path, tmp_path: Path) -> None:
    with pytest.raises(ClientError, match="there is no model 'nope'") as caught:
        client.submit("nope", good)
    assert (caught.value.status, caught.value.field) == (400, "model")
    empty = tmp_path / "empty"
    empty.touch()
    with pytest.raises(ClientError, match="zip_file"):
        client.submit("echo", empty)
    empty.unlink()
    empty.mkdir()
    with pytest.raises(OSError, match="no file in this folder"):
        client.submit("echo", empty)
    with pytest.raises(FileNotFoundError):
        client.submit("echo", tmp_path / "nosuch.zip")
    with pytest.raises(ClientError, match=r"127\.0\.0\.1"):
        client.submit("echo", "http://127.0.0.1/x.zip")
    assert client.jobs() == []


def test_reading(client: Client, good: Path) -> None:
    ids = [client.submit("echo", good, name=f"job {n}")["uuid"] for n in range(3)]
    assert [job["uuid"] for job in client.jobs()] == ids[::-1]
    assert len(client.jobs(limit=2)) == 2
    assert client.jobs(states=("FAILED", "KILLED")) == []
    assert [job["name"] for job in client.jobs(text="job 1", model="echo")] == ["job 1"]
    assert [record["kind"] for record in client.events(ids[0])] == ["Submitted", "Queued"]
    assert [model["name"] for model in client.models()] == ["echo"]
    assert client.status()[0]["node_type"] == "PRIMARY"
    assert isinstance(client.doctor(), list)
    with pytest.raises(ClientError, match="there is no job"):
        client.job("00000000-0000-4000-8000-000000000000")
    with pytest.raises(ClientError):
        client.job("../../models")


def test_killing(client: Client, good: Path, hand: Any) -> None:
    id = client.submit("echo", good)["uuid"]
    assert client.kill(id)["kill_requested"] is True
    assert client.kill(id)["status"] == "QUEUED", "asking again is no error"
    with pytest.raises(TimedOut):
        client.kill(id, wait=True, timeout=0.1)
    other = client.submit("echo", good)["uuid"]
    waiting: list[JobDetail] = []
    killing = in_background(lambda: waiting.append(client.kill(other, wait=True)))
    wait_for(lambda: client.job(other)["kill_requested"], "the request to be there")
    hand.start(other)
    hand.end(other, b"", well=False)
    killing.join(LIMIT)
    assert waiting[0]["status"] == "FAILED"
    with pytest.raises(ClientError, match="has ended already"):
        client.kill(other)


@pytest.mark.parametrize("hand", ["submit"], indirect=True)
def test_killing_with_the_key(hand: Any, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id = Client(hand.url).submit("echo", good)["uuid"]
    with pytest.raises(ClientError, match="admin key"):
        Client(hand.url).kill(id)
    with pytest.raises(ClientError, match="none of this server's"):
        Client(hand.url, "wrong").kill(id)
    monkeypatch.setenv("MODELRUNNER_KEY", hand.key)
    assert Client(hand.url).kill(id)


def test_validating(client: Client, good: Path, tmp_path: Path) -> None:
    client.validate("echo", good)
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no zip")
    with pytest.raises(ClientError, match="zip"):
        client.validate("echo", bad)


def in_background(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_waiting_follows_the_log_to_its_end(client: Client, good: Path, hand: Any) -> None:
    id = client.submit("echo", good)["uuid"]
    got = bytearray()
    seen = threading.Event()
    ends: list[JobDetail] = []

    def on_log(data: bytes) -> None:
        got.extend(data)
        seen.set()

    waiting = in_background(lambda: ends.append(client.wait(id, LIMIT, on_log=on_log)))
    log = hand.start(id)
    log.write_bytes(b"one\n")
    assert seen.wait(LIMIT)
    hand.end(id, b"one\ntwo\n")
    waiting.join(LIMIT)
    assert bytes(got) == b"one\ntwo\n"
    assert ends[0]["status"] == "COMPLETE"


def test_waiting_without_the_log_wakes_at_the_end(client: Client, good: Path, hand: Any) -> None:
    id = client.submit("echo", good)["uuid"]
    ends: list[JobDetail] = []
    waiting = in_background(lambda: ends.append(client.wait(id, LIMIT)))
    hand.start(id)
    hand.end(id, b"", well=False)
    waiting.join(LIMIT)
    assert (ends[0]["status"], ends[0]["reason"]) == ("FAILED", "exit code 3")
    again = client.submit("echo", good)["uuid"]
    with pytest.raises(TimedOut, match="QUEUED"):
        client.wait(again, 0.2)


def test_following_a_log_that_begins_anew(client: Client, good: Path, hand: Any) -> None:
    id = client.submit("echo", good)["uuid"]
    hand.start(id).write_bytes(b"first attempt, lost\n")
    parts = client.follow(id)
    first = next(parts)
    assert (first.text, first.attempt) == ("first attempt, lost\n", 1)
    hand.requeue(id)
    hand.start(id, 2).write_bytes(b"second\n")
    hand.end(id, b"second\nend\n", attempt=2)
    rest = list(parts)
    assert b"".join(part.data for part in rest) == b"second\nend\n"
    assert rest[-1].final and {part.attempt for part in rest} == {2}
    part = client.log(id, 7)
    assert (part.data, part.end, part.final, part.attempt) == (b"end\n", 11, True, 2)
    assert client.tail(id, 4) == part
    assert list(client.follow(id, client.log(id)))[0:] == [], "nothing follows what is final"


def test_downloading(client: Client, good: Path, hand: Any, tmp_path: Path) -> None:
    id = client.submit("echo", good)["uuid"]
    hand.start(id)
    log = os.urandom(700_000)
    hand.end(id, log)
    told: list[tuple[int, int]] = []
    path = client.download(
        id, "job_log.txt", tmp_path, on_progress=lambda done, all: told.append((done, all))
    )
    assert path == tmp_path / "job_log.txt" and path.read_bytes() == log
    assert told[-1] == (len(log), len(log))
    named = client.download(id, "output.zip", tmp_path / "out.zip")
    assert named.read_bytes() == (hand.data / "jobs" / id / "output.zip").read_bytes()
    other = client.submit("echo", good)["uuid"]
    with pytest.raises(ClientError, match="no output"):
        client.download(other, "output.zip", tmp_path / "none.zip")
    assert not (tmp_path / "none.zip").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_what_changes_of_a_job_is_told(client: Client, good: Path, hand: Any) -> None:
    id = client.submit("echo", good)["uuid"]
    told: list[JobState | None] = []
    running = threading.Event()

    def on_state(state: JobState | None) -> None:
        told.append(state)
        if state is not None and state["status"] == "RUNNING":
            running.set()

    ends: list[JobDetail] = []
    waiting = in_background(lambda: ends.append(client.wait(id, LIMIT, on_state=on_state)))
    hand.start(id)
    assert running.wait(LIMIT)
    hand.end(id, b"")
    waiting.join(LIMIT)
    last = told[-1]
    assert last is not None and last["status"] == "COMPLETE" and last["final"]
    assert ends[0]["status"] == client.state(id)["status"] == "COMPLETE"


def test_the_list_is_read_in_pages(
    client: Client, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [client.submit("echo", good)["uuid"] for _ in range(5)][::-1]
    monkeypatch.setattr(lists, "PAGE", 2)
    every = client.all_jobs()
    assert next(every)["uuid"] == ids[0]
    assert [job["uuid"] for job in every] == ids[1:]
    assert list(client.all_jobs(states=["FAILED"])) == []


def test_a_job_is_found_by_the_beginning_of_its_id(client: Client, good: Path) -> None:
    id = client.submit("echo", good, name="one")["uuid"]
    client.submit("echo", good, name=f"not {id[:8]}")
    assert client.find(id[:8]) == client.find(id[:8].upper()) == id
    with pytest.raises(ClientError, match="no job whose id begins with '0000'"):
        client.find("0000")
    while len(sharing := [job for job in client.jobs() if job["uuid"][0] == id[0]]) < 2:
        client.submit("echo", good)
    with pytest.raises(ClientError, match="more than one") as caught:
        client.find(id[0])
    assert all(f"{job['uuid']} ({job['name']})" in str(caught.value) for job in sharing)


def test_days_bound_the_list(client: Client, good: Path) -> None:
    job = client.submit("echo", good)
    today = datetime.fromisoformat(job["created"]).date()
    day = timedelta(days=1)
    assert client.jobs(since=today, until=today) == client.jobs() != []
    assert client.jobs(since=today + day) == client.jobs(until=str(today - day)) == []
    created = datetime.fromisoformat(job["created"])
    east = timezone(timedelta(hours=5))
    assert client.jobs(since=created) == client.jobs(since=created.replace(tzinfo=UTC)) != []
    assert client.jobs(since=created.replace(tzinfo=east) + timedelta(hours=5)) != []
    assert client.jobs(since=created + timedelta(seconds=1)) == []


def test_running_again(client: Client, good: Path, hand: Any) -> None:
    old = client.submit("echo", good)
    new = client.rerun(old, name="once more")
    assert (new["rerun_of"], new["name"], new["status"]) == (old["uuid"], "once more", "QUEUED")
    assert client.rerun(old["uuid"])["name"] == old["name"]
    kept = hand.data / "jobs" / new["uuid"] / "input.zip"
    assert kept.read_bytes() == good.read_bytes()


def test_the_example(client: Client, good: Path, models: Path, tmp_path: Path) -> None:
    assert [model["example"] for model in client.models()] == [None]
    with pytest.raises(ClientError, match="example"):
        client.example("echo")
    (models / "echo" / "example.zip").write_bytes(good.read_bytes())
    assert client.models()[0]["example"] == "/models/echo/example.zip"
    assert client.example("echo")["name"] == "Example of Echo"
    assert client.example_input("echo", tmp_path).read_bytes() == good.read_bytes()


def test_the_files_of_an_output(client: Client, good: Path, hand: Any, tmp_path: Path) -> None:
    job = client.submit("echo", good)
    with pytest.raises(ClientError, match="no output"):
        client.outputs(job)
    hand.start(job["uuid"])
    output = {"result.txt": "42", "plots/1 % of #1?.csv": "a,b\n1,2\n"}
    hand.end(job["uuid"], b"", output=output)
    listed = client.outputs(job)
    assert {(file["path"], file["size"]) for file in listed} == {
        (name, len(text)) for name, text in output.items()
    }
    assert {file["kind"] for file in listed} == {"text", "table"}
    for name, text in output.items():
        path = client.output(job, name, tmp_path)
        assert path == tmp_path / Path(name).name and path.read_text() == text
    with pytest.raises(ClientError):
        client.output(job, "../input.zip", tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_an_answer_that_is_lost_makes_no_second_job(client: Client, good: Path, hand: Any) -> None:
    """The server has made the job, and the connection drops before the client hears of it."""
    address = urlsplit(hand.url)
    assert address.hostname is not None and address.port is not None
    with relay(address.hostname, address.port) as line:
        line.trap(lambda: bool(client.jobs()))
        made: list[JobDetail] = []
        through = Client(f"http://127.0.0.1:{line.port}")
        submitting = in_background(lambda: made.append(through.submit("echo", good)))
        assert line.trapped.wait(LIMIT), "the job was never made"
        line.cut()
        line.thaw()
        submitting.join(LIMIT)
    assert [job["uuid"] for job in client.jobs()] == [made[0]["uuid"]]
    assert line.accepted >= 3, "twice to submit, and once to look"


# waitress leaves the half body of a cut request to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_upload_that_is_cut_begins_again(client: Client, hand: Any, tmp_path: Path) -> None:
    address = urlsplit(hand.url)
    assert address.hostname is not None and address.port is not None
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "noise").write_bytes(os.urandom(2_000_000))
    told: list[int] = []
    with relay(address.hostname, address.port) as line:
        line.cut_after("up", 1_000_000)
        through = Client(f"http://127.0.0.1:{line.port}")
        job = through.submit("echo", folder, on_progress=lambda done, _: told.append(done))
        assert line.passed["up"] > 2_000_000
    assert [each["uuid"] for each in client.jobs()] == [job["uuid"]]
    assert told != sorted(told), "what had come before the cut was sent again"
    gc.collect()


def test_a_long_log_is_read_in_pieces(
    client: Client, good: Path, hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "PIECE", 1_000)
    id = client.submit("echo", good)["uuid"]
    hand.start(id)
    whole = os.urandom(10_500)
    hand.end(id, whole)
    first = client.log(id)
    assert (first.data, first.final) == (whole[:1_000], False)
    parts = [first, *client.follow(id, first)]
    assert b"".join(part.data for part in parts) == whole
    assert [part.final for part in parts] == [False] * 10 + [True]
    heard = bytearray()
    client.wait(id, on_log=heard.extend)
    assert bytes(heard) == whole
    assert client.tail(id, 50_000).data == whole[-1_000:]


def test_where_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELRUNNER_SERVER", "127.0.0.1:1")
    with pytest.raises(Unreachable) as caught:
        Client().jobs()
    for text in ("http://127.0.0.1:1", "Connection refused", "--server", "MODELRUNNER_SERVER"):
        assert text in str(caught.value)


@pytest.mark.parametrize("server", ["ftp://x", "http://", "http://h:port", "http://h:99999"])
def test_an_address_that_is_none(server: str) -> None:
    with pytest.raises(ClientError, match="HOST:PORT"):
        Client(server)


def test_states_may_be_one_word(client: Client, good: Path) -> None:
    id = client.submit("echo", good)["uuid"]
    assert [job["uuid"] for job in client.jobs(states="QUEUED")] == [id]
    assert client.jobs(states="FAILED") == list(client.all_jobs(states="FAILED")) == []


def test_searching_a_log_goes_on_to_its_end(client: Client, good: Path, hand: Any) -> None:
    id = client.submit("echo", good)["uuid"]
    hand.start(id)
    hand.end(id, b"".join(b"step %d\nquiet\n" % n for n in range(250)))
    found = list(client.search(id, "STEP"))
    assert [line["text"] for line in found] == [f"step {n}" for n in range(250)]
    log = client.log(id).data
    assert all(log[line["offset"] :].startswith(line["text"].encode()) for line in found)
    assert list(client.search(id, "nothing like it")) == []


def test_what_ran_in_the_last_day(client: Client, good: Path, hand: Any) -> None:
    id = client.submit("echo", good)["uuid"]
    hand.start(id)
    (run,) = client.timeline()["data"]
    assert client.timeline(1)["data"] == [run]
    assert (run["job"], run["worker"], run["ended"], run["end"]) == (id, "w", None, "RUNNING")


def test_a_target_that_cannot_be_written_is_named_as_it_was_given(
    client: Client, good: Path, tmp_path: Path
) -> None:
    id = client.submit("echo", good)["uuid"]
    target = tmp_path / "no such folder" / "in.zip"
    with pytest.raises(FileNotFoundError) as caught:
        client.download(id, "input.zip", target)
    assert caught.value.filename == str(target)


def test_an_error_does_not_say_the_same_twice(client: Client, tmp_path: Path) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(b"no zip")
    with pytest.raises(BadInput) as caught:
        client.submit("echo", bad)
    assert str(caught.value) == caught.value.message and caught.value.findings
    assert repr(client) == f"Client({client.server!r})"
