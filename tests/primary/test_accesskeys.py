"""Access keys: made once, kept as hashes, known at once to a primary that runs."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from primary import accesskeys, config, private
from primary.accesskeys import FILE, digest
from primary.keyring import Keyring
from primary.roles import ROLES, greater, lesser, reaches
from spool.errors import Refused
from tests.system import ROOT


def key(*words: str, ok: bool = True) -> subprocess.CompletedProcess[str]:
    """``modelrunner key``."""
    command = [sys.executable, "-m", "modelrunner", "key", *words]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode == 0) is ok, done.stdout + done.stderr
    return done


def test_a_key_is_shown_once_and_kept_as_its_hash(tmp_path: Path) -> None:
    made = accesskeys.add(tmp_path, "anna", "submit")
    assert re.fullmatch(r"mr_anna_[0-9a-f]{48}", made)
    (kept,) = accesskeys.read(tmp_path)
    assert (kept.name, kept.role, kept.digest) == ("anna", "submit", digest(made.encode()))
    text = (tmp_path / FILE).read_text()
    assert made not in text and made.rpartition("_")[2] not in text
    assert stat.S_IMODE((tmp_path / FILE).stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == [FILE], "no half file is left"


def test_no_two_keys_are_alike_and_none_is_made_twice(tmp_path: Path) -> None:
    first, second = (accesskeys.add(tmp_path, name, "read") for name in ("a", "b"))
    assert first[-48:] != second[-48:]
    with pytest.raises(Refused, match="already"):
        accesskeys.add(tmp_path, "a", "admin")
    assert [key.name for key in accesskeys.remove(tmp_path, "a")] == ["b"]
    with pytest.raises(Refused, match="there are: b"):
        accesskeys.remove(tmp_path, "a")
    assert accesskeys.add(tmp_path, "a", "admin") != first


@pytest.mark.parametrize(
    "name", ["", "admin", "Anna", "a b", "a@b", "-a", "x" * 33, "é", "a\n", "a/b", "a=b", "a;b"]
)
def test_names_that_no_key_gets(tmp_path: Path, name: str) -> None:
    with pytest.raises(Refused, match="cannot name a key"):
        accesskeys.add(tmp_path, name, "read")
    assert not (tmp_path / FILE).exists()


def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    names = [f"k{n}" for n in range(12)]
    threads = [
        threading.Thread(target=accesskeys.add, args=(tmp_path, name, "read")) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(key.name for key in accesskeys.read(tmp_path)) == sorted(names)


def test_there_is_an_end_to_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accesskeys, "MOST", 2)
    for name in ("a", "b"):
        accesskeys.add(tmp_path, name, "read")
    with pytest.raises(Refused, match="2 keys"):
        accesskeys.add(tmp_path, "c", "read")


_KEPT = '{"name": "a", "role": "read", "sha256": "' + "0" * 64 + '"}'


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"keys": [{"name": "a", "role": "none", "sha256": "' + "0" * 64 + '"}]}',
        '{"keys": [{"name": "a", "role": "read", "sha256": "0"}]}',
        '{"keys": [{"name": "a@b", "role": "read", "sha256": "' + "0" * 64 + '"}]}',
        '{"keys": [{"name": "admin", "role": "read", "sha256": "' + "0" * 64 + '"}]}',
        '{"keys": [' + _KEPT + ", " + _KEPT + "]}",
    ],
)  # fmt: skip
def test_a_file_that_does_not_hold_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(Refused, match=re.escape(str(tmp_path / FILE))):
        accesskeys.read(tmp_path)


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    accesskeys.add(other, "a", "admin")
    (tmp_path / FILE).symlink_to(other / FILE)
    with pytest.raises(OSError, match="symbolic"):
        accesskeys.read(tmp_path)


def test_a_running_primary_knows_what_was_changed(tmp_path: Path) -> None:
    ring = Keyring(tmp_path)
    assert ring.keys() == ()
    text = accesskeys.add(tmp_path, "anna", "submit")
    found = ring.find(digest(text.encode()))
    assert found is not None and found.name == "anna" and ring.named("anna") == found
    assert ring.find(digest(text[:-1].encode())) is None
    accesskeys.remove(tmp_path, "anna")
    assert ring.find(digest(text.encode())) is None and ring.named("anna") is None


def test_a_file_that_was_spoiled_takes_no_key_away_and_is_told(tmp_path: Path) -> None:
    text = accesskeys.add(tmp_path, "anna", "submit")
    ring = Keyring(tmp_path)
    (tmp_path / FILE).write_text("{")
    assert ring.find(digest(text.encode())) is not None
    assert "hold as they were" in ring.trouble()
    (tmp_path / FILE).unlink()
    assert ring.find(digest(text.encode())) is None and ring.trouble() == ""


def test_a_secret_stays_the_same(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    made = private.secret(path)
    assert len(made) == private.SECRET and private.secret(path) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.write_bytes(made[:-1])  # what a disk has torn seals nothing
    assert private.secret(path) not in (made, made[:-1])


def test_each_role_may_what_those_before_it_may() -> None:
    for n, role in enumerate(ROLES):
        for m, other in enumerate(ROLES):
            assert reaches(role, other) is (n >= m)
            assert greater(role, other) == ROLES[max(n, m)]
            assert lesser(role, other) == ROLES[min(n, m)]


# --- the command


def test_the_command_makes_lists_and_removes(tmp_path: Path) -> None:
    data = tmp_path / "not" / "yet"
    made = key("add", "anna", "--role=submit", f"--data={data}")
    assert re.fullmatch(r"mr_anna_[0-9a-f]{48}\n", made.stdout), "nothing but the key"
    assert "shown this once" in made.stderr
    key("add", "bo", "--role=admin", f"--data={data}")
    listed = key("list", f"--data={data}").stdout
    assert re.fullmatch(r"anna  submit  \d{4}-.*Z\nbo    admin   \d{4}-.*Z\n", listed)
    assert made.stdout.strip() not in listed
    assert "signed out" in key("remove", "anna", f"--data={data}").stdout
    assert "No key of the role admin" in key("remove", "bo", f"--data={data}").stderr
    assert key("list", f"--data={data}").stdout == ""


def test_the_command_says_what_is_wrong_in_a_line(tmp_path: Path) -> None:
    for words in (("remove", "x"), ("add", "A", "--role=read"), ("add", "admin", "--role=admin")):
        done = key(*words, f"--data={tmp_path}", ok=False)
        assert done.stderr.startswith("Error:  ") and done.stderr.count("\n") == 1
    assert key("add", "x", "--role=none", f"--data={tmp_path}", ok=False).returncode == 2


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A folder that every account can pass through: pytest's own are root's alone."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.root
def test_what_root_makes_belongs_to_the_primarys_account(open_to_all: Path) -> None:
    data = open_to_all / "data"
    data.mkdir()
    os.chown(data, 12345, 12345)
    key("add", "anna", "--role=read", f"--data={data}")
    info = (data / FILE).stat()
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (12345, 12345, 0o600)
    # A link that the account put there leads root nowhere.
    target = open_to_all / "target"
    target.write_text("root's")
    target.chmod(0o600)
    (data / FILE).unlink()
    (data / FILE).symlink_to(target)
    assert key("add", "bo", "--role=read", f"--data={data}", ok=False).returncode == 1
    assert target.read_text() == "root's"


def test_another_user_is_told_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(Refused, match="belongs to user"), private.as_owner(tmp_path):
        raise AssertionError("it is let in")


@pytest.mark.root
def test_root_becomes_the_owner_and_root_again(tmp_path: Path) -> None:
    with private.as_owner(tmp_path):
        assert os.geteuid() == tmp_path.stat().st_uid
    os.chown(tmp_path, 12345, 12345)
    with private.as_owner(tmp_path):
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (12345, 12345, [])
    assert os.geteuid() == 0


# --- config.toml


def test_without_a_file_nothing_is_decided(tmp_path: Path) -> None:
    assert config.read(tmp_path).anonymous is None
    (tmp_path / config.FILE).write_text("")
    assert config.read(tmp_path).anonymous is None


@pytest.mark.parametrize("role", ROLES)
def test_what_may_be_done_without_a_key_is_written_down(tmp_path: Path, role: str) -> None:
    (tmp_path / config.FILE).write_text(f'[access]\nanonymous = "{role}"\n')
    assert config.read(tmp_path).anonymous == role


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[access", "no TOML"),
        ("[acess]", r"acess \(line 1\).*the tables are: access"),
        ("access = 1", "access"),
        ('[access]\nanonymus = "none"', r"access.anonymus \(line 2\).*has: anonymous"),
        ('[access]\n\nanonymous = "all"', r'access.anonymous \(line 3\).*"none" or "read"'),
        ("[access]\nanonymous = []", "anonymous"),
        ('anonymous = "none"', "the tables are"),
    ],
)
def test_a_mistake_opens_no_door(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / config.FILE).write_text(text)
    with pytest.raises(Refused, match=said):
        config.read(tmp_path)
