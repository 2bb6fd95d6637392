"""The keys to log in with: an agent's and those in files. Never a password."""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from spool.hosts import fingerprint
from spool.route import Hop

LISTING = 5.0  # seconds that an agent may take to say what keys it has
_MAGIC = b"openssh-key-v1\x00"


class Key(NamedTuple):
    """A key to offer. ``shown`` says in messages which one it is."""

    shown: str
    key: paramiko.PKey


class Agent(paramiko.agent.AgentSSH):
    """A connection to an ssh-agent. A signature is awaited ``patience`` seconds at most.

    An agent that is not there, or does not answer, is one without keys: ``note`` says why.
    """

    def __init__(self, path: str | None, patience: float) -> None:
        super().__init__()
        self.note = ""
        self._socket: socket.socket | None = None
        if path is None:
            return
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(min(LISTING, patience))
        try:
            self._socket.connect(path)
            # paramiko's own Agent knows the environment's socket alone, and no time-out
            self._connect(self._socket)  # type: ignore[attr-defined]  # not in the stubs
            self._socket.settimeout(patience)
        except (OSError, paramiko.SSHException) as e:
            self.close()
            self.note = f"the agent at {path} does not answer ({e})"

    def close(self) -> None:
        """From any thread: a signature that is waited for fails."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()


class _AgentKey(paramiko.AgentKey):
    """A key of an agent that may say no: then the server does, and the next key is tried.

    paramiko signs in the connection's own thread, and an error there ends the connection.
    """

    def sign_ssh_data(self, data: Any, algorithm: str | None = None) -> Any:
        """Bytes, whatever the stubs say."""
        try:
            return super().sign_ssh_data(data, algorithm)
        except (OSError, paramiko.SSHException):
            return b""


def keys_for(hop: Hop, agent: Agent, notes: list[str]) -> Iterator[Key]:
    """The keys to try, in order; ``notes`` gets a line for each that cannot be used.

    The configured files come first (their keys in the agent, if it has them), then the
    agent's other keys, then the default files: a server allows six or so.
    """
    held = {key.asbytes(): key for key in agent.get_keys()}
    files = [path for path in hop.keys if hop.own_keys or path.exists()]
    given = set()
    if hop.own_keys:
        for path in files:
            public = _public(path)
            if public in held:
                given.add(public)
                yield _of_agent(agent, held[public], f"{path} by the agent")
            else:
                yield from _of_file(path, notes)
    if not hop.only_keys:
        for public, key in held.items():
            if public not in given:
                yield _of_agent(agent, key, f"{key.comment or 'a key'} of the agent")
    if not hop.own_keys:
        for path in files:
            public = _public(path)
            if public not in held:
                yield from _of_file(path, notes)
            elif hop.only_keys:
                yield _of_agent(agent, held[public], f"{path} by the agent")


def _of_agent(agent: Agent, key: paramiko.AgentKey, shown: str) -> Key:
    whole = f"{shown} ({key.get_name()} {fingerprint(key.asbytes())})"
    return Key(whole, _AgentKey(agent, key.blob, key.comment))


def _of_file(path: Path, notes: list[str]) -> Iterator[Key]:
    """The key in a file, with the certificate beside it (``-cert.pub``) if there is one."""
    try:
        key = paramiko.PKey.from_path(path)
    except FileNotFoundError:
        notes.append(f"{path} is not there")
    except (TypeError, paramiko.PasswordRequiredException):
        notes.append(
            f"{path} has a passphrase: put it into an agent (ssh-add {path}), "
            "or name a key of its own without one (IdentityFile)"
        )
    except OSError as e:
        notes.append(f"{path} cannot be read ({e.strerror})")
    except (
        ValueError,
        UnsupportedAlgorithm,
        paramiko.SSHException,
        paramiko.pkey.UnknownKeyType,
    ) as e:
        reason = str(e).partition("\n")[0][:200]
        notes.append(f"{path} is no private key that can be used ({reason})")
    else:
        if _open_to_others(path):
            quoted = shlex.quote(str(path))
            notes.append(
                f"{path} can be read by others, so that ssh refuses it: chmod 600 {quoted}"
            )
            return
        shown = f"({key.get_name()} {fingerprint(key.asbytes())})"
        if key.public_blob is not None:
            yield Key(f"{path}-cert.pub {shown}", key)
            key.public_blob = None  # refused: perhaps the key alone is not
        yield Key(f"{path} {shown}", key)


def _open_to_others(path: Path) -> bool:
    """As ssh sees it: another owner's file, such as a mounted secret, is that owner's affair."""
    info = path.stat()
    return info.st_uid == os.getuid() and bool(info.st_mode & 0o077)


def _public(path: Path) -> bytes | None:
    """The public key of a file, which may be a public key itself, or locked; None: not known."""
    for candidate in (path, path.with_name(path.name + ".pub")):
        try:
            text = candidate.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        found = _public_line(text) or _public_part(text)
        if found:
            return found
    return None


def _public_line(text: str) -> bytes | None:
    words = text.split()
    if len(words) < 2 or not words[0].startswith(("ssh-", "ecdsa-", "sk-")):
        return None
    with contextlib.suppress(binascii.Error, ValueError):
        return base64.b64decode(words[1], validate=True)
    return None


def _public_part(text: str) -> bytes | None:
    """What OpenSSH's own format says in clear, even of a key with a passphrase."""
    lines = text.strip().splitlines()
    if not lines or "BEGIN OPENSSH PRIVATE KEY" not in lines[0]:
        return None
    with contextlib.suppress(Exception):
        message = paramiko.Message(base64.b64decode("".join(lines[1:-1])))
        if message.get_bytes(len(_MAGIC)) == _MAGIC:
            for _ in ("cipher", "derivation", "its options"):
                message.get_binary()
            message.get_int()
            return message.get_binary()
    return None
