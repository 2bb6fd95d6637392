"""Dialing a primary: who is let in, who is believed, and by which way. Against a real sshd."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from spool.address import parse_address
from spool.dial import dial
from spool.errors import Refused, Unreachable
from tests.dialing import (
    SHORT,
    another,
    dialed,
    greets,
    held,
    refused,
    running_agent,
    shut_while_waiting,
    unreachable,
)
from tests.sshd import Sshd, make_key, sshd

pytestmark = [pytest.mark.needs("openssh-server"), pytest.mark.needs("openssh-client")]


@pytest.fixture(autouse=True)
def no_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    root = tmp_path_factory.mktemp("sshd")
    (root / "served").mkdir()
    with sshd(root / "sshd", root / "served") as running:
        yield running


@pytest.fixture
def ssh(server: Sshd, tmp_path: Path) -> Path:
    """A folder like ~/.ssh that a test may change."""
    return Path(shutil.copytree(server.ssh, tmp_path / "ssh"))


# --- logging in --------------------------------------------------------------------------


def test_login_by_key_file(server: Sshd) -> None:
    before = held()
    connection = dial(parse_address(server.url), server.ssh)
    assert (connection.user, connection.host) == (server.user, server.host)
    assert connection.port == server.port
    assert connection.alive
    first, second = greets(connection), greets(connection)
    transport: Any = first.get_transport()  # the stubs do not know what was agreed upon
    assert transport.remote_cipher == transport.local_cipher == "aes128-gcm@openssh.com"
    second.close()
    connection.shut()
    connection.shut()
    assert not connection.alive
    assert first.recv(1) == b""
    with pytest.raises(Unreachable):
        connection.channel()
    assert held() == before


def test_ssh_folder_of_the_account_by_default(
    server: Sshd, ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh.rename(ssh.parent / ".ssh")
    monkeypatch.setenv("HOME", str(ssh.parent))
    connection = dial(parse_address(server.url))
    connection.shut()


def test_an_alias_with_all_options(server: Sshd, ssh: Path, tmp_path: Path) -> None:
    (ssh / "id_ed25519").rename(tmp_path / "own key")
    key = (ssh / "known_hosts").read_text().partition(" ")[2]
    (ssh / "known_hosts").unlink()
    (tmp_path / "known").write_text(f"the-primary {key}")
    (ssh / "config").write_text(
        f"Host primary\n HostName {server.host}\n Port {server.port}\n User {server.user}\n"
        f' IdentityFile "{tmp_path}/own key"\n IdentitiesOnly yes\n HostKeyAlias the-primary\n'
        f" UserKnownHostsFile {tmp_path}/known\n ConnectTimeout 20\nHost *\n User nobody\n Port 1\n"
    )
    with dialed("sftp://primary/", ssh) as connection:
        assert (connection.user, connection.port) == (server.user, server.port)
        greets(connection)


def test_a_locked_key_is_used_through_an_agent_alone(
    server: Sshd, ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ssh / "id_ed25519"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with running_agent(tmp_path / "agent"):
        subprocess.run(["ssh-add", "-q", str(key)], check=True)
        lock = ["ssh-keygen", "-q", "-p", "-N", "a passphrase", "-f", str(key)]
        subprocess.run(lock, check=True, capture_output=True)
        (ssh / "config").write_text(f"IdentityFile {key}\nIdentitiesOnly yes\n")
        for public_beside in (True, False):
            if not public_beside:
                key.with_suffix(".pub").unlink()
            with dialed(server.url, ssh) as connection:
                greets(connection)
    refused(server.url, ssh, f"{key} has a passphrase", "ssh-add", "does not answer")


def test_keys_of_an_agent(
    server: Sshd, ssh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ssh / "id_ed25519"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    with running_agent(tmp_path / "agent") as process:
        make_key(ssh / "other")
        make_key(ssh / "unwilling")
        # The agent asks before each use of this one, and there is nobody to answer.
        subprocess.run(["ssh-add", "-q", "-c", str(ssh / "unwilling")], check=True)
        subprocess.run(["ssh-add", "-q", str(ssh / "other"), str(key)], check=True)
        key.unlink()
        with dialed(server.url, ssh) as connection:
            greets(connection)
        (ssh / "config").write_text("IdentitiesOnly yes\nIdentityFile none\n")
        refused(server.url, ssh, "no key to log in with")
        (ssh / "config").write_text("IdentityAgent none\n")
        refused(server.url, ssh, "no key to log in with", str(key))
        (ssh / "config").unlink()
        process.send_signal(signal.SIGSTOP)
        shutil.copy(server.ssh / "id_ed25519", key)
        with dialed(server.url, ssh) as connection:  # a dead agent is no reason to fail
            greets(connection)


def test_a_certificate_beside_a_key(server: Sshd, tmp_path: Path) -> None:
    """The server knows the authority alone; an old certificate does not stand in a key's way."""
    make_key(tmp_path / "authority")
    (tmp_path / "authority.pub").rename(tmp_path / "authority-public")
    more = f"TrustedUserCAKeys {tmp_path}/authority-public"
    with another(tmp_path / "other", more) as trusting:
        key = trusting.ssh / "id_ed25519"
        key.unlink()
        key.with_suffix(".pub").unlink()
        make_key(key)
        refused(trusting.url, trusting.ssh, "accepted no key")
        authority = str(tmp_path / "authority")
        sign = ["ssh-keygen", "-q", "-s", authority, "-I", "w", "-n", trusting.user]
        subprocess.run([*sign, str(key.with_suffix(".pub"))], check=True, stderr=subprocess.DEVNULL)
        with dialed(trusting.url, trusting.ssh) as connection:
            greets(connection)
        known = shutil.copytree(server.ssh, tmp_path / "ssh")
        (known / "known_hosts").write_text((server.ssh / "known_hosts").read_text())
        sign[-1] = "somebody-else"
        subprocess.run(
            [*sign, str(known / "id_ed25519.pub")], check=True, stderr=subprocess.DEVNULL
        )
        with dialed(server.url, known) as connection:
            greets(connection)


# --- logins that are refused -------------------------------------------------------------


def test_a_key_that_is_not_accepted(server: Sshd, ssh: Path) -> None:
    for name in ("id_ed25519", "id_ed25519.pub"):
        (ssh / name).unlink()
    refused(
        server.url,
        ssh,
        "no key to log in with",
        str(ssh / "id_ed25519"),
        "ssh-keygen",
        "ssh-copy-id",
        "spool grant NAME --key FILE.pub --data DIR",
    )
    make_key(ssh / "id_ed25519")
    (ssh / "id_rsa").write_text("no key")
    shown = subprocess.run(
        ["ssh-keygen", "-lf", ssh / "id_ed25519"], check=True, capture_output=True, text=True
    )
    mark = shown.stdout.split()[1]
    refused(
        server.url,
        ssh,
        f"{server.user}@{server.host}:{server.port}",
        f"{ssh}/id_ed25519 (ssh-ed25519 {mark})",
        f"{ssh}/id_rsa is no private key",
        f"ssh-copy-id -p {server.port} {server.user}@{server.host} for an account of your own",
        "modelrunner spool grant NAME --key FILE.pub --data DIR",
    )


def test_too_many_keys(tmp_path: Path) -> None:
    with another(tmp_path / "strict", "MaxAuthTries 2") as strict:
        lines = []
        for n in range(4):
            make_key(strict.ssh / f"key{n}")
            lines.append(f"IdentityFile {strict.ssh}/key{n}\n")
        (strict.ssh / "config").write_text("".join(lines))
        refused(strict.url, strict.ssh, "Too many authentication failures", "IdentitiesOnly")


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("PubkeyAuthentication no", "not by key"),
        ("AuthenticationMethods publickey,publickey", "more than a key"),
        ("DenyUsers *", "accepted no key"),
    ],
)
def test_an_account_that_keys_do_not_open(tmp_path: Path, more: str, said: str) -> None:
    with another(tmp_path / "strict", more) as strict:
        refused(strict.url, strict.ssh, said)


# --- host keys ---------------------------------------------------------------------------


def test_an_unknown_host_key_is_refused_with_the_line_that_helps(server: Sshd, ssh: Path) -> None:
    known = ssh / "known_hosts"
    line = known.read_text().strip()
    known.unlink()
    with pytest.raises(Refused) as caught:
        dial(parse_address(server.url), ssh)
    assert line in caught.value.hint and str(known) in caught.value.hint
    shown = subprocess.run(
        ["ssh-keygen", "-lf", server.folder / "host_key.pub"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.split()[1] in str(caught.value)
    assert not known.exists()
    known.write_text(line)
    with dialed(server.url, ssh) as connection:
        assert connection.alive


def test_a_hashed_host_is_known(server: Sshd, ssh: Path) -> None:
    command = ["ssh-keygen", "-q", "-H", "-f", str(ssh / "known_hosts")]
    subprocess.run(command, check=True, capture_output=True)
    assert server.host not in (ssh / "known_hosts").read_text()
    with dialed(server.url, ssh) as connection:
        assert connection.alive


def test_a_changed_and_a_revoked_host_key(server: Sshd, ssh: Path) -> None:
    known = ssh / "known_hosts"
    line = known.read_text()
    other = (ssh / "id_ed25519.pub").read_text().split()[1]
    known.write_text(f"# ours\n{line.split()[0]} ssh-ed25519 {other}\n")
    refused(server.url, ssh, "CHANGED", "attack", f"{known}:2")
    known.write_text(f"{line}@revoked * {line.partition(' ')[2]}")
    refused(server.url, ssh, "revoked", f"{known}:2")


def test_the_type_of_host_key_that_is_known_is_asked_for(tmp_path: Path) -> None:
    key = tmp_path / "rsa_key"
    command = ["ssh-keygen", "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True)
    with another(tmp_path / "two", f"HostKey {key}") as two:
        public = key.with_suffix(".pub").read_text().split()
        (two.ssh / "known_hosts").write_text(f"[{two.host}]:{two.port} {' '.join(public[:2])}\n")
        with dialed(two.url, two.ssh) as connection:
            assert greets(connection).get_transport().host_key_type == "rsa-sha2-512"


# --- jump hosts and commands -------------------------------------------------------------


def jumping(server: Sshd, jump: Sshd, folder: Path) -> Path:
    """A folder for a way to ``server`` by way of ``jump``, each with a key of its own."""
    folder.mkdir(exist_ok=True)
    (folder / "known_hosts").write_text(
        (server.ssh / "known_hosts").read_text() + (jump.ssh / "known_hosts").read_text()
    )
    (folder / "config").write_text(
        f"Host primary\n HostName {server.host}\n Port {server.port}\n User {server.user}\n"
        f" IdentityFile {server.key}\n ProxyJump jump\n"
        f"Host jump\n HostName {jump.host}\n Port {jump.port}\n User {jump.user}\n"
        f" IdentityFile {jump.key}\n"
    )
    return folder


def test_a_jump_host(server: Sshd, tmp_path: Path) -> None:
    before = held()
    with another(tmp_path / "jump", "") as jump:
        ssh = jumping(server, jump, tmp_path / "ssh")
        connection = dial(parse_address("sftp://primary/"), ssh)
        assert (connection.host, connection.port) == (server.host, server.port)
        channel = greets(connection)
        assert jump.sessions()
        shut_while_waiting(connection, channel)
        assert held() == before

        known = (ssh / "known_hosts").read_text().splitlines()
        for missing in known:
            (ssh / "known_hosts").write_text("\n".join(line for line in known if line != missing))
            refused("sftp://primary/", ssh, "not known", missing)
        (ssh / "known_hosts").write_text("\n".join(known))
        config = (ssh / "config").read_text()
        with socket.socket() as closed:
            closed.bind((server.host, 0))
            port = closed.getsockname()[1]
            (ssh / "config").write_text(config.replace(str(server.port), str(port)))
            unreachable("sftp://primary/", ssh, "cannot reach it")
    unreachable("sftp://primary/", ssh, "refused")
    assert held() == before


def test_several_jump_hosts(server: Sshd, tmp_path: Path) -> None:
    with another(tmp_path / "jump", "") as jump:
        ssh = jumping(server, jump, tmp_path / "ssh")
        config = (ssh / "config").read_text()
        (ssh / "config").write_text(config.replace("Jump jump", "Jump jump,jump"))
        with dialed("sftp://primary/", ssh) as connection:
            greets(connection)


def test_a_jump_host_that_does_not_forward(server: Sshd, tmp_path: Path) -> None:
    with another(tmp_path / "jump", "AllowTcpForwarding no") as jump:
        ssh = jumping(server, jump, tmp_path / "ssh")
        refused("sftp://primary/", ssh, "does not forward")


def test_a_proxy_command(server: Sshd, ssh: Path, tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    relay = tmp_path / "relay.py"
    relay.write_text(
        "import os, socket, sys, threading\n"
        f"open({str(marker)!r}, 'w').write(str(os.getpid()))\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while b := os.read(0, 1 << 16): s.sendall(b)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while b := s.recv(1 << 16): os.write(1, b)\n"
    )
    (ssh / "config").write_text(f"ProxyCommand {sys.executable} {relay} %h %p\n")
    before = held()
    connection = dial(parse_address(server.url), ssh)
    channel = greets(connection)
    shut_while_waiting(connection, channel)
    assert not psutil.pid_exists(int(marker.read_text()))
    (ssh / "config").write_text("ProxyCommand false\n")
    unreachable(server.url, ssh, "closed the connection")
    (ssh / "config").write_text("ProxyCommand sleep 1000\n")
    unreachable(server.url, ssh, "no answer within 1 s", SHORT)
    assert held() == before
