"""The way to a primary as ``~/.ssh/config`` has it: the hosts to pass, and how to log in to each.

What is read: HostName, User, Port, IdentityFile, IdentitiesOnly, IdentityAgent,
ProxyJump, ProxyCommand, HostKeyAlias, UserKnownHostsFile, GlobalKnownHostsFile,
ConnectTimeout, AddressFamily, in ``Host`` and ``Match`` blocks, with ``Include``.
Everything else is left alone; host keys are always checked, whatever
StrictHostKeyChecking says. ``/etc/ssh/ssh_config`` is not read.
"""

from __future__ import annotations

import getpass
import glob
import os
import re
import shlex
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import paramiko

from spool.address import Address
from spool.errors import Refused, Unreachable

PORT = 22
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
SYSTEM_KNOWN_HOSTS = (Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
MAX_HOPS = 8
MAX_INCLUDES = 16  # nested, as OpenSSH has it

_INCLUDE = re.compile(r"\s*include(?:\s*=\s*|\s+)(.+)", re.IGNORECASE)
_BLOCK = re.compile(r"\s*(?:host|match)[\s=]", re.IGNORECASE)
_MATCH = re.compile(r"\s*match(?:\s*=\s*|\s+)(.+)", re.IGNORECASE)
# What paramiko decides truly. Of any other criterion it would say that it holds.
_CRITERIA = {"all", "canonical", "final", "host", "originalhost", "user", "localuser"}
_FAMILIES = {"inet": socket.AF_INET, "inet6": socket.AF_INET6}


class Hop(NamedTuple):
    """One host on the way, and how to log in to it."""

    host: str
    port: int
    user: str
    known_as: str  # its name in known_hosts
    known_hosts: tuple[Path, ...]  # the operator's own file first
    keys: tuple[Path, ...]  # key files to try
    own_keys: bool  # the configuration names those files; they are no default
    only_keys: bool  # of an agent's keys only those
    agent: str | None  # the path of an agent's socket
    connect_timeout: float | None  # seconds
    family: socket.AddressFamily
    command: str | None  # ProxyCommand, for the first hop
    ssh: Path  # the folder whose configuration says all this

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + (f":{self.port}" if self.port != PORT else "")


class _Config(paramiko.SSHConfig):
    """paramiko would ask the DNS for this machine's own name (%l) at every IdentityFile."""

    TOKENS_BY_CONFIG_KEY = {  # noqa: RUF012  # the library's own class variable
        **paramiko.SSHConfig.TOKENS_BY_CONFIG_KEY,
        "identityfile": ["~", "%d", "%h", "%u", "%r"],
    }


def route(address: Address, ssh: Path) -> list[Hop]:
    """The hops to ``address``, the primary's machine last; ``ssh`` is a folder like ``~/.ssh``.

    May ask the DNS (CanonicalizeHostname), so it may take as long as that does, and raise
    Unreachable. Raises Refused where the configuration cannot be followed.
    """
    path = ssh / "config"
    try:
        return _route(_text(path, ssh, 0), address, ssh)
    except Refused:
        raise
    except paramiko.ssh_exception.CouldNotCanonicalize as e:
        raise Unreachable(f"{address.host}: has no canonical name at present: {e}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise Refused(f"{path}: cannot be read: {e}", "make it readable to this account") from None
    except ImportError:
        raise Refused(f"{path}: Match exec is not supported", "write a Host block") from None
    except Exception as e:  # noqa: BLE001  # paramiko lets whatever its parser met through
        reason = str(e) or type(e).__name__
        raise Refused(f"{path}: cannot be followed: {reason}", "correct that line") from None


def _route(text: str, address: Address, ssh: Path) -> list[Hop]:
    """Jump hosts have their own entries; the first may have jump hosts of its own."""
    found: list[Hop] = []
    target = address
    while True:
        entry = _entry(text, target)
        jumps = _jumps(entry, ssh)
        command = entry.get("proxycommand") if not jumps and _before(entry) else None
        found.insert(0, _hop(entry, ssh, command))
        for jump in reversed(jumps[1:]):
            found.insert(0, _hop(_entry(text, jump), ssh, None))
        if len(found) > MAX_HOPS:
            raise Refused(f"{ssh / 'config'}: more than {MAX_HOPS} hosts on the way", _LOOP)
        if not jumps:
            return found
        target = jumps[0]


def _entry(text: str, target: Address) -> Mapping[str, Any]:
    """What the configuration says of a host; user and port of its address come first."""
    first = f"User {target.user}\n" if target.user else ""
    first += f"Port {target.port}\n" if target.port else ""
    return _Config.from_text(first + text).lookup(target.host)


_LOOP = "look for a ProxyJump that leads in a circle"


def _before(entry: Mapping[str, Any]) -> bool:
    """Whether ProxyCommand holds: of it and ProxyJump the one that comes first does."""
    first = next((key for key in entry if key in ("proxycommand", "proxyjump")), None)
    return first == "proxycommand"


def _jumps(entry: Mapping[str, Any], ssh: Path) -> list[Address]:
    text = entry.get("proxyjump") or "none"
    if text.lower() == "none" or _before(entry):
        return []
    return [_jump(part.strip(), ssh) for part in text.split(",")]


def _jump(text: str, ssh: Path) -> Address:
    """``[user@]host[:port]``, ``[ssh://]`` before it or not; an IPv6 address in brackets."""
    bare = text.removeprefix("ssh://").rstrip("/")
    user, _, place = bare.rpartition("@")
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d{1,5}))?", place)
    if match is None:
        what = f"ProxyJump {text}: expected [USER@]HOST[:PORT]"
        raise Refused(what, f"correct {ssh / 'config'}")
    host, port = match.groups()
    return Address(host.strip("[]"), "", user or None, int(port) if port else None)


def _hop(entry: Mapping[str, Any], ssh: Path, command: str | None) -> Hop:
    host = entry["hostname"]
    port = int(entry.get("port", PORT))
    files = [text for text in entry.get("identityfile", []) if text.lower() != "none"]
    keys = [Path(text).expanduser() for text in files]
    timeout = entry.get("connecttimeout", "none").lower()
    family = entry.get("addressfamily", "any").lower()
    return Hop(
        host,
        port,
        entry.get("user") or getpass.getuser(),
        entry.get("hostkeyalias") or _known_as(host, port),
        _known_hosts(entry, ssh),
        tuple(keys) if "identityfile" in entry else tuple(ssh / name for name in DEFAULT_KEYS),
        "identityfile" in entry,
        entry.get("identitiesonly", "no").lower() == "yes",
        _agent(entry),
        None if timeout == "none" else float(timeout) or None,
        _FAMILIES.get(family, socket.AF_UNSPEC),
        command,
        ssh,
    )


def _known_as(host: str, port: int) -> str:
    """As OpenSSH writes a host into known_hosts."""
    return host.lower() if port == PORT else f"[{host.lower()}]:{port}"


def _known_hosts(entry: Mapping[str, Any], ssh: Path) -> tuple[Path, ...]:
    own = _paths(entry.get("userknownhostsfile"), (ssh / "known_hosts", ssh / "known_hosts2"))
    return own + _paths(entry.get("globalknownhostsfile"), SYSTEM_KNOWN_HOSTS)


def _paths(text: str | None, default: tuple[Path, ...]) -> tuple[Path, ...]:
    if text is None:
        return default
    home = os.path.expanduser("~")
    names = [name.replace("%d", home) for name in shlex.split(text)]
    return tuple(Path(name).expanduser() for name in names if name.lower() != "none")


def _agent(entry: Mapping[str, Any]) -> str | None:
    """The socket of the agent to ask: IdentityAgent, else that of the environment."""
    named = str(entry.get("identityagent", "SSH_AUTH_SOCK"))
    if named.lower() == "none":
        return None
    if named == "SSH_AUTH_SOCK":
        return os.environ.get("SSH_AUTH_SOCK") or None
    if named.startswith("$"):
        return os.environ.get(named.strip("${}")) or None
    return os.path.expanduser(named.replace("%d", "~", 1))


def _text(path: Path, ssh: Path, depth: int) -> str:
    """A configuration file with what it includes put in, which paramiko does not do."""
    if not path.exists() and depth == 0:
        return ""
    if depth > MAX_INCLUDES:
        raise Refused(f"{path}: Include goes too deep", "look for an Include in a circle")
    block = ""  # the line that began the block we are in
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if _BLOCK.match(line):
            block = line
            _check_match(path, line)
        include = _INCLUDE.match(line)
        if include is None:
            lines.append(line)
            continue
        text = "\n".join(_text(p, ssh, depth + 1) for p in _included(include[1], ssh))
        if any(map(_BLOCK.match, text.splitlines())):
            if block:
                what = f"{path}: {line.strip()}: brings Host or Match into {block.strip()}"
                raise Refused(what, "move the Include above the first Host")
            text += "\nHost *"
        lines.append(text)
    return "\n".join(lines)


def _included(patterns: str, ssh: Path) -> list[Path]:
    found = []
    for pattern in shlex.split(patterns, comments=True):
        whole = os.path.join(ssh, os.path.expanduser(pattern))
        found += [Path(name) for name in sorted(glob.glob(whole))]
    return found


def _check_match(path: Path, line: str) -> None:
    match = _MATCH.match(line)
    words = shlex.split(match[1], comments=True) if match else []
    while words:
        criterion = words.pop(0).lstrip("!").lower()
        if criterion not in _CRITERIA:
            what = f"{path}: {line.strip()}: {criterion} is not supported"
            raise Refused(what, "write a Host block for the primary above it")
        if criterion not in ("all", "canonical", "final"):
            del words[:1]
