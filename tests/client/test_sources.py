"""Where an input comes from, and what a job on it is called."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import sources
from client.api import BadInput, Client, ClientError
from tests.client.conftest import zipped
from tests.client.process import COMMAND, LIMIT, environment


@pytest.fixture
def client(hand: Any) -> Client:
    return Client(hand.url)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("folder/dry year.zip", "dry year"),
        (Path("dry.year.zip"), "dry.year"),
        ("a\nb\tc.zip", "a b c"),
        ("a\udcffb.zip", "a b"),
        ("x" * 250 + ".zip", "x" * 200),
        ("x" * 199 + " y.zip", "x" * 199),
        (" .zip", "input"),
        ("https://a.example/b/dry%20year.zip", "dry year"),
        ("HTTPS://a.example/b/dry%0Ayear.ZIP?version=2", "dry year"),
        ("https://a.example/runs/7/", "7"),
        ("https://a.example", "a.example"),
        (io.BytesIO(), "input"),
    ],
)
def test_the_name_is_the_files_as_far_as_a_job_may_have_it(
    source: sources.Source, name: str
) -> None:
    assert sources.name(source) == name


def test_names_of_folders_and_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sources.name(".") == tmp_path.name
    (tmp_path / "wet.zip").touch()
    with open("wet.zip", "rb") as file:
        assert sources.name(file) == "wet"
    end, other = os.pipe()
    os.close(other)
    with os.fdopen(end, "rb") as pipe:
        assert sources.name(pipe) == "input"


def test_a_file_may_be_open_or_in_memory(client: Client, good: Path, hand: Any) -> None:
    data = good.read_bytes()
    before = io.BytesIO(b"something else" + data)
    before.seek(len(b"something else"))
    with good.open("rb") as file:
        jobs = [client.submit("echo", each) for each in (file, io.BytesIO(data), before)]
    assert [job["name"] for job in jobs] == ["good", "input", "input"]
    for job in jobs:
        assert (hand.data / "jobs" / job["uuid"] / "input.zip").read_bytes() == data
    with pytest.raises(BadInput):
        client.validate("echo", io.BytesIO(zipped(b="1")))


@pytest.mark.parametrize("command", ["submit", "check"])
@pytest.mark.parametrize("source", ["-", "/dev/stdin"])
def test_a_zip_may_come_out_of_a_pipe(hand: Any, good: Path, command: str, source: str) -> None:
    done = subprocess.run(
        [*COMMAND, command, "--server", hand.url, "--model", "echo", source],
        input=good.read_bytes(),
        capture_output=True,
        timeout=LIMIT,
        env=environment(),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if command == "submit":
        id = done.stdout.decode().strip()
        assert (hand.data / "jobs" / id / "input.zip").read_bytes() == good.read_bytes()


@pytest.mark.parametrize("address", ["ftp://a.example/x.zip", "file:///tmp/x.zip"])
def test_an_address_that_nobody_fetches_is_said_to_be_one(client: Client, address: str) -> None:
    for send in (client.submit, client.validate):
        with pytest.raises(FileNotFoundError, match="no address") as caught:
            send("echo", address)
        assert caught.value.filename == address
    with pytest.raises(FileNotFoundError, match="no address"):
        client.validate("echo", "https://a.example/x.zip")


def test_no_name_is_not_the_present_folder(
    cli: Any, client: Client, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(good.parent)
    for send in (client.submit, client.validate):
        with pytest.raises(FileNotFoundError, match="is empty"):
            send("echo", "")
    done = cli("submit", "--model", "echo", "")
    assert done.returncode == 2 and "Error: the name of the input is empty" in done.stderr
    assert client.jobs() == []


def test_a_key_of_ones_own_is_one_job_in_the_next_run_too(
    hand: Any, client: Client, good: Path
) -> None:
    def once(send: Callable[[Client], Any]) -> str:
        first, again = send(client), send(Client(hand.url))
        assert first["uuid"] == again["uuid"]
        return str(first["uuid"])

    job = once(lambda c: c.submit("echo", good, idempotency_key="study 1, run 7"))
    other = once(lambda c: c.rerun(job, name="again", idempotency_key="study 1, run 7 again"))
    assert len(client.jobs()) == 2 and other != job
    with pytest.raises(ClientError, match="another name") as caught:
        client.submit("echo", good, name="other", idempotency_key="study 1, run 7")
    assert caught.value.status == 422
    with pytest.raises(ClientError, match="Idempotency-Key"):
        client.submit("echo", good, idempotency_key="")


def test_the_same_folder_with_the_same_key_is_the_same_job(cli: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run 7"
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "b").write_text("2")
    command = ("submit", "--model", "echo", "--idempotency-key", "run 7", folder)
    first, again = cli(*command), cli(*command)
    assert first.returncode == again.returncode == 0
    assert first.stdout == again.stdout
    (folder / "a").write_text("3")
    changed = cli(*command)
    assert changed.returncode == 3 and "another input" in changed.stderr
