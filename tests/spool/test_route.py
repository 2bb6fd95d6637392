"""What ``~/.ssh/config`` says of the way to a primary, and what cannot be followed."""

from __future__ import annotations

import getpass
import socket
from pathlib import Path

import pytest

from spool.address import Address
from spool.errors import Refused
from spool.route import MAX_HOPS, MAX_INCLUDES, SYSTEM_KNOWN_HOSTS, Hop, route


def way(folder: Path, text: str, address: Address | None = None) -> list[Hop]:
    (folder / "config").write_text(text)
    return route(address or Address("p", "/"), folder)


def places(hops: list[Hop]) -> list[str]:
    return [str(hop) for hop in hops]


def test_the_address_goes_into_tokens_and_matches(tmp_path: Path) -> None:
    text = "ProxyCommand relay %h %p %r\nMatch user w\nConnectTimeout 9\n"
    (hop,) = way(tmp_path, text, Address("p", "/", "w", 77))
    assert (hop.command, hop.connect_timeout) == ("relay p 77 w", 9.0)


def test_without_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", "/agent")
    (hop,) = route(Address("Primary", "/"), tmp_path)
    assert hop == Hop(
        host="Primary",
        port=22,
        user=getpass.getuser(),
        known_as="primary",
        known_hosts=(tmp_path / "known_hosts", tmp_path / "known_hosts2", *SYSTEM_KNOWN_HOSTS),
        keys=(tmp_path / "id_ed25519", tmp_path / "id_ecdsa", tmp_path / "id_rsa"),
        own_keys=False,
        only_keys=False,
        agent="/agent",
        connect_timeout=None,
        family=socket.AF_UNSPEC,
        command=None,
        ssh=tmp_path,
    )
    (hop,) = route(Address("::1", "/", "w", 2222), tmp_path)
    assert (str(hop), hop.known_as) == ("w@[::1]:2222", "[::1]:2222")


def test_all_that_is_honoured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/w")
    text = """
        Host p other   # the alias
            HostName %h.example.org
            User "w1"
            Port=2222
            IdentityFile ~/keys/%r
            IdentityFile /srv/two
            IdentitiesOnly yes
            IdentityAgent %d/agent
            HostKeyAlias the-primary
            UserKnownHostsFile ~/known "/srv/known hosts" none
            GlobalKnownHostsFile none
            ConnectTimeout 7
            AddressFamily inet6
        Host *
            User nobody
            IdentityFile /srv/three
    """
    (hop,) = way(tmp_path, text)
    assert hop == Hop(
        host="p.example.org",
        port=2222,
        user="w1",
        known_as="the-primary",
        known_hosts=(Path("/home/w/known"), Path("/srv/known hosts")),
        keys=(Path("/home/w/keys/w1"), Path("/srv/two"), Path("/srv/three")),
        own_keys=True,
        only_keys=True,
        agent="/home/w/agent",
        connect_timeout=7.0,
        family=socket.AF_INET6,
        command=None,
        ssh=tmp_path,
    )
    (hop,) = way(tmp_path, text, Address("p", "/", "me", 22))
    assert (hop.user, hop.port) == ("me", 22)  # the address says more than the configuration


AGENTS = {
    "none": None,
    "SSH_AUTH_SOCK": "/agent",
    "$OTHER": "/other",
    "${OTHER}": "/other",
    "$MISSING": None,
    "/run/a": "/run/a",
    "~/a": "/home/w/a",
}


@pytest.mark.parametrize(("text", "path"), AGENTS.items())
def test_identity_agent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, path: str | None
) -> None:
    for name, value in {"SSH_AUTH_SOCK": "/agent", "OTHER": "/other", "HOME": "/home/w"}.items():
        monkeypatch.setenv(name, value)
    assert way(tmp_path, f"IdentityAgent {text}")[0].agent == path


def test_no_identity_file_at_all(tmp_path: Path) -> None:
    (hop,) = way(tmp_path, "IdentityFile none")
    assert (hop.keys, hop.own_keys) == ((), True)


WAYS = {
    "ProxyJump j": ["u@j", "u@p"],
    "ProxyJump v@j:77": ["v@j:77", "u@p"],
    "ProxyJump ssh://v@[::2]:77/": ["v@[::2]:77", "u@p"],
    "ProxyJump none": ["u@p"],
    "ProxyJump a,b,c": ["u@a", "u@b", "u@c", "u@p"],
    "ProxyJump a, b": ["u@a", "u@b", "u@p"],
    "ProxyJump j\nHost j\nPort 7\nUser x": ["x@j:7", "u@p"],
    "ProxyJump j\nHost j\nHostName jump.example": ["u@jump.example", "u@p"],
    "ProxyJump j\nHost j\nProxyJump k": ["u@k", "u@j", "u@p"],
    "ProxyJump a,j\nHost j\nProxyJump k": ["u@a", "u@j", "u@p"],  # -J overrides, as in OpenSSH
    "ProxyJump j\nProxyCommand x": ["u@j", "u@p"],
    "ProxyCommand x\nProxyJump j": ["u@p"],
    "ProxyCommand none\nProxyJump none": ["u@p"],
}


@pytest.mark.parametrize(("text", "expected"), WAYS.items())
def test_jump_hosts(tmp_path: Path, text: str, expected: list[str]) -> None:
    hops = way(tmp_path, f"Host p\n{text}\nHost *\nUser u\n")
    assert places(hops) == expected
    assert all(hop.command is None for hop in hops[1:])
    assert hops[0].command == ("x" if text.startswith("ProxyCommand x") else None)


def test_include(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "1").write_text("Host p\n  Port 7\n")
    (tmp_path / "conf.d" / "2").write_text("Host q\n  Port 8\nInclude more\n")
    (tmp_path / "more").write_text("ConnectTimeout 3\n")
    text = "Include conf.d/* missing\nUser u\nHost p\n  Include ~/more\n"
    (hop,) = way(tmp_path, text)
    assert (str(hop), hop.connect_timeout) == ("u@p:7", 3.0)
    (hop,) = way(tmp_path, text, Address("q", "/"))
    assert (str(hop), hop.connect_timeout) == ("u@q:8", 3.0)
    (hop,) = way(tmp_path, text, Address("z", "/"))
    assert (str(hop), hop.connect_timeout) == ("u@z", None)


REFUSED = {
    "Host p\nnonsense": "nonsense",
    'Host "p': "config",
    "Port many": "many",
    "ConnectTimeout soon": "soon",
    "Match exec true\nPort 1": "exec is not supported",
    "Match localnetwork 10.0.0.0/8\nPort 1": "localnetwork is not supported",
    "Match user w !tagged x\nPort 1": "tagged is not supported",
    "Match host": "config",
    "CanonicalizeHostname yes": "config",
    "Host p\nProxyJump p": f"more than {MAX_HOPS} hosts",
    "ProxyJump a,b:c": "b:c: expected",
    "Host p\nInclude circle": "Host or Match",
    "Include itself": "too deep",
}


@pytest.mark.parametrize(("text", "said"), REFUSED.items(), ids=map(ascii, REFUSED))
def test_what_cannot_be_followed_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "circle").write_text("Host q\n")
    (tmp_path / "itself").write_text("Include itself\n")
    with pytest.raises(Refused) as caught:
        way(tmp_path, text)
    assert said in str(caught.value) and caught.value.hint
    assert MAX_INCLUDES == 16


def test_a_configuration_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_bytes(b"Host \xff\n")
    with pytest.raises(Refused, match="config: cannot be read"):
        route(Address("p", "/"), tmp_path)
    (tmp_path / "config").unlink()
    (tmp_path / "config").mkdir()
    with pytest.raises(Refused, match="config: cannot be read"):
        route(Address("p", "/"), tmp_path)


def test_match_as_far_as_it_can_be_decided(tmp_path: Path) -> None:
    text = "Match host p !user x\nPort 7\nMatch all\nPort 8\nMatch originalhost q\nPort 9\n"
    assert way(tmp_path, text)[0].port == 7
    text = "Match originalhost q\nPort 9\nMatch all\nPort 8\n"
    assert way(tmp_path, text)[0].port == 8
