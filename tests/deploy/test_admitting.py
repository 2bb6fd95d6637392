"""Keys that are let in without root: lines of authorized_keys, as a shell writes them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from deploy import removal
from deploy.admitting import _ADD, is_listed

OWN = "ssh-ed25519 AAAAkeeper the keeper's own"
LINE = 'restrict,command="internal-sftp" '


def added(home: Path, worker: str, key: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", _ADD, "sh", str(home / ".ssh"), worker]
    return subprocess.run(command, input=key, capture_output=True, text=True, check=False)


def lines(home: Path) -> list[str]:
    return (home / ".ssh/authorized_keys").read_text().splitlines()


def test_a_key_is_let_in_and_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text(OWN)  # without a line break at its end
    (tmp_path / ".ssh/authorized_keys").chmod(0o640)
    assert added(tmp_path, "beta", "ssh-ed25519 AAAA+/1= modelrunner worker beta\n").returncode == 0
    ours = f"{LINE}ssh-ed25519 AAAA+/1= modelrunner worker beta"
    assert lines(tmp_path) == [OWN, ours]
    assert is_listed("ssh-ed25519 AAAA+/1= whatever", "\n".join(lines(tmp_path)))
    assert not is_listed("ssh-ed25519 AAAAkeeper", "\n".join(lines(tmp_path)))
    assert [path.name for path in (tmp_path / ".ssh").iterdir()] == ["authorized_keys"]
    assert (tmp_path / ".ssh/authorized_keys").stat().st_mode & 0o777 == 0o640


def test_a_new_file_is_the_accounts_alone(tmp_path: Path) -> None:
    assert added(tmp_path, "beta", "ssh-ed25519 AAAA b\n").returncode == 0
    assert (tmp_path / ".ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / ".ssh").stat().st_mode & 0o777 == 0o700


def test_a_worker_has_one_key(tmp_path: Path) -> None:
    for worker, key in (("a.b", "AAAA1"), ("axb", "AAAA2"), ("a.b", "AAAA3"), ("a.b", "AAAA3")):
        assert added(tmp_path, worker, f"ssh-ed25519 {key} c\n").returncode == 0
    assert [line.split()[2:] for line in lines(tmp_path)] == [
        ["AAAA2", "modelrunner", "worker", "axb"],
        ["AAAA3", "modelrunner", "worker", "a.b"],
    ]


@pytest.mark.parametrize(
    "said",
    ["", "\n", "ssh-ed25519\n", 'command="sh" ssh-ed25519 AAAA\n', "ssh-ed25519 AA$(id)AA\n"],
)
def test_what_is_no_key_changes_nothing(tmp_path: Path, said: str) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text(f"{OWN}\n")
    ended = added(tmp_path, "beta", said)
    assert ended.returncode == 1 and "no public key" in ended.stderr
    assert lines(tmp_path) == [OWN]


def test_a_removal_takes_ours_whatever_a_worker_called_its_key(tmp_path: Path) -> None:
    assert added(tmp_path, "beta", 'ssh-ed25519 AAAA "mine"\nssh-rsa more\n').returncode == 0
    file = tmp_path / ".ssh/authorized_keys"
    file.write_text(f"{OWN}\n{file.read_text()}")
    subprocess.run(["sh", "-c", removal._UNLIST, "sh", str(file)], check=True)
    assert lines(tmp_path) == [OWN]
