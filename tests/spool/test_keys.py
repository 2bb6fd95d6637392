"""Which keys are offered, in which order, and what is said of those that cannot be."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import paramiko
import pytest

from spool.address import Address
from spool.keys import Agent, keys_for
from spool.route import route

pytestmark = pytest.mark.needs("openssh-client")

FORMATS = [(type_, form) for type_ in ("ed25519", "ecdsa", "rsa") for form in ("", "PEM")]


def keygen(path: Path, type_: str, form: str = "", passphrase: str = "") -> None:
    how = ["-m", form] if form and type_ != "ed25519" else []
    bits = ["-b", "2048"] if type_ == "rsa" else []
    subprocess.run(
        ["ssh-keygen", "-q", "-t", type_, *bits, *how, "-N", passphrase, "-f", str(path)],
        check=True,
    )


def offered(folder: Path, config: str = "", agent: Agent | None = None) -> tuple[list[str], str]:
    """The keys' files (or comments) in order, and the notes."""
    (folder / "config").write_text(config)
    (hop,) = route(Address("p", "/", "w"), folder)
    notes: list[str] = []
    names = [key.shown.split(" (")[0] for key in keys_for(hop, agent or Agent(None, 1.0), notes)]
    return [name.removeprefix(f"{folder}/") for name in names], "; ".join(notes)


@pytest.mark.parametrize(("type_", "form"), FORMATS)
def test_key_files(tmp_path: Path, type_: str, form: str) -> None:
    keygen(tmp_path / "good", type_, form)
    keygen(tmp_path / "locked", type_, form, "a passphrase")
    names, notes = offered(
        tmp_path, f"IdentityFile {tmp_path}/locked\nIdentityFile {tmp_path}/good\n"
    )
    assert names == ["good"]
    assert notes.startswith(f"{tmp_path}/locked has a passphrase: put it into an agent")


def test_what_is_no_key_is_noted(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "bytes").write_bytes(bytes(range(256)))
    (tmp_path / "folder").mkdir()
    keygen(tmp_path / "key", "ed25519")
    whole = (tmp_path / "key").read_text()
    (tmp_path / "cut").write_text(whole[: len(whole) // 2])
    (tmp_path / "changed").write_text(whole.replace("A", "B"))
    bad = ["missing", "empty", "bytes", "folder", "cut", "changed", "key.pub"]
    lines = [f"IdentityFile {tmp_path}/{name}\n" for name in (*bad, "key")]
    names, notes = offered(tmp_path, "".join(lines))
    assert names == ["key"]
    for name, said in zip(bad, notes.split(f"; {tmp_path}"), strict=True):
        assert f"/{name} " in said and "\n" not in said


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620])
def test_a_key_that_others_can_read_is_refused_as_ssh_does(tmp_path: Path, mode: int) -> None:
    key = tmp_path / "id_ed25519"
    keygen(key, "ed25519")
    key.chmod(mode)
    names, notes = offered(tmp_path)
    assert names == []
    assert notes.startswith(f"{key} can be ") and notes.endswith(f": chmod 600 {key}")
    for closed in (0o600, 0o400):
        key.chmod(closed)
        assert offered(tmp_path) == (["id_ed25519"], "")


@pytest.mark.root
def test_a_key_of_another_owner_is_that_owner_s_affair(tmp_path: Path) -> None:
    keygen(tmp_path / "id_ed25519", "ed25519")
    os.chown(tmp_path / "id_ed25519", 65534, -1)
    (tmp_path / "id_ed25519").chmod(0o644)
    assert offered(tmp_path) == (["id_ed25519"], "")


def test_the_defaults_and_no_word_of_those_that_are_not_there(tmp_path: Path) -> None:
    assert offered(tmp_path) == ([], "")
    keygen(tmp_path / "id_rsa", "rsa")
    keygen(tmp_path / "id_ed25519", "ed25519")
    assert offered(tmp_path) == (["id_ed25519", "id_rsa"], "")


class Holding(Agent):
    """An agent that holds these keys; no socket is needed for who is offered when."""

    def __init__(self, *files: Path) -> None:
        super().__init__(None, 1.0)
        self._files = files

    def get_keys(self) -> tuple[Any, ...]:
        blobs = [paramiko.PKey.from_path(path).asbytes() for path in self._files]
        own: Any = self
        named = zip(blobs, self._files, strict=True)
        return tuple(paramiko.AgentKey(own, blob, path.name) for blob, path in named)


ORDERS = {
    "": ["a of the agent", "id_ed25519 of the agent", "id_rsa"],
    "IdentitiesOnly yes": ["id_ed25519 by the agent", "id_rsa"],
    "IdentityFile {0}/b": ["b", "a of the agent", "id_ed25519 of the agent"],
    "IdentityFile {0}/a.pub\nIdentityFile {0}/b": [
        "a.pub by the agent",
        "b",
        "id_ed25519 of the agent",
    ],
    "IdentityFile {0}/a\nIdentitiesOnly yes": ["a by the agent"],
    "IdentityFile none\nIdentitiesOnly yes": [],
}


@pytest.mark.parametrize(("config", "order"), ORDERS.items())
def test_the_order(tmp_path: Path, config: str, order: list[str]) -> None:
    for name in ("a", "b", "id_ed25519"):
        keygen(tmp_path / name, "ed25519")
    keygen(tmp_path / "id_rsa", "rsa")
    agent = Holding(tmp_path / "a", tmp_path / "id_ed25519")
    assert offered(tmp_path, config.format(tmp_path), agent) == (order, "")


def test_an_agent_that_is_not_there(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        agent = Agent(str(path), 1.0)
        assert agent.get_keys() == () and f"{path} does not answer" in agent.note
        agent.close()
