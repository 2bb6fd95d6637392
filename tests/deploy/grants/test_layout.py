"""Names of accounts and groups, and the verbs that sshd is told."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.grants import layout
from spool.errors import Refused
from tests import sshd

PLAIN = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,63}", fullmatch=True)
LINUX = re.compile(r"[a-z_][a-z0-9_-]{0,31}")


@given(PLAIN)
def test_every_model_has_groups_that_linux_takes(model: str) -> None:
    new, drop = layout.model_group(model), layout.drop_group(model)
    assert LINUX.fullmatch(new) and LINUX.fullmatch(drop)
    assert new != drop
    # and no worker's account can be called like one of them
    assert not layout.is_account(new) and not layout.is_account(drop)


def test_short_names_stand_in_the_group_as_they_are() -> None:
    assert layout.model_group("count") == "mr-model-count"
    assert layout.drop_group("count_2-b") == "mr-drop-count_2-b"


@pytest.mark.parametrize(
    ("one", "other"), [("a.b", "a-b"), ("m" * 40, "m" * 41), ("x." + "y" * 30, "x-" + "y" * 30)]
)
def test_names_that_are_alike_have_groups_of_their_own(one: str, other: str) -> None:
    assert layout.model_group(one) != layout.model_group(other)


@pytest.mark.parametrize(
    ("account", "holds"),
    [
        ("mr-gpu1", True),
        ("_a", True),
        ("a" * 32, True),
        ("a" * 33, False),
        ("1a", False),
        ("-a", False),
        ("a.b", False),
        ("A", False),
        ("", False),
        ("a\n", False),
        ("mr-workers", False),
        ("mr-drops", False),
        ("mr-model-count", False),
        ("mr-drop-count", False),
        ("mr-dropper", True),
    ],
)
def test_which_names_an_account_may_have(account: str, holds: bool) -> None:
    assert layout.is_account(account) is holds


def test_the_verbs_are_those_that_the_contract_is_tested_with() -> None:
    assert ",".join(layout.VERBS) == sshd.VERBS


@pytest.mark.needs("openssh-server")
def test_sshd_knows_every_verb() -> None:
    server = Path("/usr/lib/openssh/sftp-server")
    known = subprocess.run([server, "-Q", "requests"], check=True, capture_output=True, text=True)
    assert set(layout.DROP_VERBS) <= set(known.stdout.split())


def test_no_list_has_a_verb_that_makes_links_or_folders() -> None:
    forbidden = {"mkdir", "rmdir", "symlink", "hardlink", "readlink", "copy-data"}
    assert not forbidden & {*layout.VERBS, *layout.DROP_VERBS}
    assert not {"rename", "setstat", "fsetstat", "lsetstat"} & {*layout.VERBS}


def test_what_is_written_can_be_read_again() -> None:
    text = layout.sshd_file("/srv/data-spool")
    assert layout.chroot_in(text) == "/srv/data-spool"
    assert ",".join(layout.VERBS) in layout.command_for(text, layout.WORKERS_GROUP)
    assert "-d %d" in layout.command_for(text, layout.DROPS_GROUP)
    assert layout.chroot_in("Port 22\n") is None


@pytest.mark.parametrize("path", ["/srv/my data", "/srv/%u", '/srv/"x', "/srv/a\nPermitTTY yes"])
def test_a_path_that_sshd_would_read_otherwise_is_refused(path: str) -> None:
    with pytest.raises(Refused, match="--spool-home"):
        layout.sshd_file(path)
