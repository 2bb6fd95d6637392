"""Commands on a real sshd: their input and output, their end, and lines that break."""

from __future__ import annotations

import hashlib
import math
import os
import shlex
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from deploy import remote as remote_module
from deploy.exchange import MOST
from deploy.fleet import Host
from deploy.remote import Ended, Lost, Overdue, Remote, for_any_shell, shown
from spool.errors import Refused, SpoolError, Unreachable
from tests.sshd import Sshd, make_key, sshd
from tests.system import wait_for

PIECE = b"x" * (1 << 20)
NAP = [f"6{n}.{os.getpid()}" for n in range(8)]  # seconds; nobody else on this machine has them
UNFINISHED = f"unfinished {os.getpid()}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    root = tmp_path_factory.mktemp("host")
    (root / "served").mkdir()
    with sshd(root / "sshd", root / "served", chroot=False) as running:
        yield running


@pytest.fixture
def alpha(server: Sshd) -> Iterator[Remote]:
    with Remote(host(server), server.ssh) as opened:
        yield opened


def host(server: Sshd, **other: Any) -> Host:
    return Host(name="alpha", address=server.host, user=server.user, port=server.port, **other)


def running(*words: str) -> list[psutil.Process]:
    """The processes of this machine with all ``words`` in their command."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if all(word in line for word in words) and process.pid != os.getpid():
            found.append(process)
    return found


# --- a command -----------------------------------------------------------------------


def test_a_command_arrives_as_it_is_and_its_end_comes_back(alpha: Remote) -> None:
    odd = ["a b", "$(id)", "it's", '"', "\\", "line\nbreak", "", "*", "~", "!!", "-n"]
    ended = alpha.run(["python3", "-c", "import sys; print(sys.argv[1:])", *odd])
    assert ended == Ended(0, f"{odd}\n".encode(), b"")
    ended = alpha.run(["sh", "-c", "cat; pwd; echo $LC_ALL >&2; exit 7"], input=b"given\n")
    assert ended == Ended(7, b"given\n/\n", b"C\n")
    assert "/usr/sbin" in alpha.run(["sh", "-c", "echo $PATH"]).out.decode().strip().split(":")
    assert alpha.run(["no-such-program"]).code == 127


def test_every_login_shell_takes_our_words() -> None:
    """csh has no quoted line breaks and reads !, fish takes a backslash before another away."""
    line = shlex.join(["printf", "%s", "it's\n!!\\\\ $(id) grün"])
    words = for_any_shell(line)
    assert not set(words.split("'")[1]) & set("\n!'") and "\\\\" not in words
    said = subprocess.run(["sh", "-c", words], capture_output=True, check=True).stdout
    assert said.decode() == "it's\n!!\\\\ $(id) grün"


def test_who_logged_in_and_through_which_port(alpha: Remote, server: Sshd) -> None:
    assert alpha.login == (os.getuid(), server.user, server.port)
    assert alpha.rooted == (os.getuid() == 0)


def test_a_large_input_arrives_whole(alpha: Remote) -> None:
    ended = alpha.run(["sha256sum"], input=(PIECE for _ in range(50)))
    assert ended.out.split()[0].decode() == hashlib.sha256(PIECE * 50).hexdigest()


def test_an_input_is_not_read_ahead_of_a_command_that_waits(alpha: Remote) -> None:
    asked = 0

    def endless() -> Iterator[bytes]:
        nonlocal asked
        while True:
            asked += 1
            yield PIECE

    with pytest.raises(Overdue):
        alpha.run(["sleep", NAP[1]], input=endless(), seconds=1)
    assert 0 < asked < 16


def test_a_command_need_not_read_its_input(alpha: Remote) -> None:
    assert alpha.run(["echo", "enough"], input=(PIECE for _ in range(20))).out == b"enough\n"


def test_an_input_that_fails_ends_the_command(alpha: Remote) -> None:
    def failing() -> Iterator[bytes]:
        yield b"half"
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        alpha.run(["sh", "-c", "cat; exit 0", UNFINISHED], input=failing())
    wait_for(lambda: not running(UNFINISHED), "the command's end")


def test_output_beyond_the_bound_is_dropped_and_said(alpha: Remote) -> None:
    ended = alpha.run(["head", "-c", str(MOST + 5_000_000), "/dev/zero"])
    assert (ended.code, len(ended.out), ended.cut) == (0, MOST, True)


def test_what_a_command_leaves_behind_does_not_hold_us(alpha: Remote) -> None:
    ended = alpha.run(["sh", "-c", f"sleep {NAP[2]} & echo started"], seconds=50)
    assert ended == Ended(0, b"started\n", b"")
    for process in running("sleep", NAP[2]):
        process.kill()


# --- its end -------------------------------------------------------------------------


def test_a_command_that_takes_too_long_is_ended_there(alpha: Remote) -> None:
    with pytest.raises(Overdue) as caught:
        alpha.run(["sh", "-c", f"echo begun; sleep {NAP[3]}"], seconds=1)
    assert str(caught.value).startswith(f"alpha: sh -c 'echo begun; sleep {NAP[3]}': was ended")
    assert "printed: begun" in str(caught.value) and caught.value.hint
    assert caught.value.printed == b"begun\n"
    assert not running("sleep", NAP[3])


def test_what_is_followed_ends_with_us(alpha: Remote) -> None:
    class Enough(Exception):
        pass

    def hear(data: bytes) -> None:
        assert data == b"first\n"
        wait_for(lambda: running("sleep", NAP[4]), "what is followed")
        raise Enough

    with pytest.raises(Enough):
        alpha.run(["sh", "-c", f"echo first; exec sleep {NAP[4]}"], seconds=math.inf, each=hear)
    wait_for(lambda: not running("sleep", NAP[4]), "the end of what was followed")


def test_a_line_that_breaks_says_that_nothing_is_known(alpha: Remote, server: Sshd) -> None:
    errors: list[SpoolError] = []

    def run() -> None:
        try:
            alpha.run(["sh", "-c", f"echo begun; exec sleep {NAP[5]}"])
        except SpoolError as e:
            errors.append(e)

    thread = threading.Thread(target=run)
    thread.start()
    asleep = wait_for(lambda: running("sleep", NAP[5]), "the command")
    for session in server.sessions():
        if "sshd" in session.name():
            session.kill()
    thread.join(30)
    for process in asleep:
        process.kill()
    assert isinstance(errors[0], Lost)
    assert f"alpha: sh -c 'echo begun; exec sleep {NAP[5]}': the connection broke" in str(errors[0])
    assert "may or may not have been done" in str(errors[0])
    assert alpha.run(["true"]).code == 0  # connects anew


def test_a_host_that_falls_silent_is_given_up(
    alpha: Remote, server: Sshd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote_module, "GRACE", 0.2)

    def freeze() -> None:
        wait_for(lambda: running("sleep", NAP[6]), "the command")
        for session in server.sessions():
            if "sshd" in session.name():
                session.suspend()

    thread = threading.Thread(target=freeze)
    thread.start()
    with pytest.raises(Lost, match="no end was heard of"):
        alpha.run(["sleep", NAP[6]], seconds=2)
    thread.join()
    server.stop()
    server.start()


def test_a_closed_connection_stays_closed(alpha: Remote) -> None:
    assert alpha.run(["true"]).code == 0
    alpha.close()
    with pytest.raises(Unreachable, match="alpha: the connection was closed here"):
        alpha.run(["true"])


# --- no way in -----------------------------------------------------------------------


def test_an_unknown_host_key_is_refused_with_the_line_to_add(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "id_ed25519")
    with pytest.raises(Refused) as caught:
        Remote(host(server), tmp_path).run(["true"])
    assert str(caught.value).startswith("alpha: ") and "host key is not known" in str(caught.value)
    assert f"[127.0.0.1]:{server.port} ssh-ed25519 AAAA" in caught.value.hint


def test_a_key_that_is_not_let_in_is_refused_with_what_to_do(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "id_ed25519")
    (tmp_path / "known_hosts").write_text((server.ssh / "known_hosts").read_text())
    with pytest.raises(Refused) as caught:
        Remote(host(server), tmp_path).run(["true"])
    assert "alpha: " in str(caught.value) and "accepted no key" in str(caught.value)
    assert "ssh-copy-id" in caught.value.hint and "spool grant" not in caught.value.hint


def test_nobody_there_is_said(server: Sshd) -> None:
    gone = Host(name="beta", address="127.0.0.1", user=server.user, port=1)
    with pytest.raises(Unreachable, match=r"beta: .*cannot be reached"):
        Remote(gone, server.ssh).run(["true"])


def test_an_account_without_a_shell_is_said(tmp_path: Path) -> None:
    (tmp_path / "served").mkdir()
    more = "ForceCommand echo This account is not available.; exit 1"
    with (
        sshd(tmp_path / "sshd", tmp_path / "served", chroot=False, more=more) as closed,
        Remote(host(closed), closed.ssh) as opened,
        pytest.raises(Refused, match=r"alpha: its login runs no commands") as caught,
    ):
        opened.run(["true"], root=True)
    assert "shell" in caught.value.hint


# --- sudo ----------------------------------------------------------------------------

SUDO = {
    "works": ('exec env -i DONE_BY=sudo PATH=$PATH "$@"', ""),
    "asks": ("echo 'sudo: a password is required' >&2; exit 1", "sudo asks for a password"),
    "forbids": (
        "echo 'keeper is not in the sudoers file.' >&2; exit 1",
        "sudo does not let keeper: keeper is not in the sudoers file",
    ),
    "is not there": ("exit 127", "there is no sudo"),
}


@pytest.fixture(scope="module")
def sudoer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A login that is not root, with a sudo of ours: this machine may have none."""
    root = tmp_path_factory.mktemp("sudo")
    (root / "served").mkdir()
    programs = root / "served" / "bin"
    programs.mkdir()
    program(programs / "id", '[ "$1" = -u ] && echo 1000 || echo keeper')
    more = f"SetEnv PATH={programs}:{os.environ['PATH']}:/usr/bin:/bin"
    with sshd(root / "sshd", root / "served", chroot=False, more=more) as server:
        yield server


@pytest.mark.parametrize(("does", "said"), SUDO.values(), ids=SUDO.keys())
def test_sudo(does: str, said: str, sudoer: Sshd) -> None:
    sudo = sudoer.served / "bin" / "sudo"
    program(sudo, f'[ "$*" != "${{*#-n -H --}}" ] || exit 2; shift 3; {does}')
    with Remote(host(sudoer, sudo=True), sudoer.ssh) as opened:
        assert opened.rooted and opened.login.uid == 1000
        if not said:
            command = ("sh", "-c", 'echo "$DONE_BY"; cat; exit 3')
            assert opened.run(command, input=b"x", root=True) == Ended(3, b"sudo\nx", b"")
            assert opened.run(command, input=b"x") == Ended(3, b"\nx", b"")
            return
        with pytest.raises(Refused) as caught:
            opened.run(("echo", "never"), root=True)
        assert f"alpha: {said}" in str(caught.value)
        assert "leave sudo out of hosts.toml" in caught.value.hint


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        (("ls", "-l", "a b"), "ls -l 'a b'"),
        (("sh", "-c", "one\n  two"), "sh -c 'one two'"),
        (("echo", "x" * 500), f"echo {'x' * 154}…"),
    ],
)
def test_a_command_in_a_message_is_one_short_line(command: Sequence[str], text: str) -> None:
    assert shown(command) == text
