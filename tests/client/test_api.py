"""The Python client against a real primary."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.api import Client, ClientError, TimedOut, Unreachable

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


def test_killing(client: Client, good: Path) -> None:
    id = client.submit("echo", good)["uuid"]
    assert client.kill(id) == f"OK:  Killed job id {id}"
    assert client.job(id)["kill_requested"] is True


@pytest.mark.parametrize("hand", ["submit"], indirect=True)
def test_killing_with_the_key(hand: Any, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    id = Client(hand.url).submit("echo", good)["uuid"]
    with pytest.raises(ClientError, match="admin key"):
        Client(hand.url).kill(id)
    with pytest.raises(ClientError, match="admin key"):
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
    ends: list[dict[str, Any]] = []

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
    ends: list[dict[str, Any]] = []
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
    pieces = client.follow(id)
    assert next(pieces) == b"first attempt, lost\n"
    hand.requeue(id)
    hand.start(id, 2).write_bytes(b"second\n")
    hand.end(id, b"second\nend\n", attempt=2)
    assert b"".join(pieces) == b"second\nend\n"
    part = client.log(id, 7)
    assert (part.data, part.end, part.final, part.attempt) == (b"end\n", 11, True, 2)


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
