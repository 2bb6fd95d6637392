"""One authenticated SSH connection to a primary's machine, with paramiko.

``~/.ssh/config`` says the way (``spool.route``), known_hosts who is believed
(``spool.hosts``), keys and agents who we are (``spool.keys``); ``spool.line`` ends
every wait.
"""

from __future__ import annotations

import itertools
import math
import os
import shlex
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import paramiko

from spool.address import Address
from spool.errors import Refused, Unreachable
from spool.hosts import algorithms, check, known_keys
from spool.keys import Agent, keys_for
from spool.line import Line, Transport, bounded, clean, within
from spool.route import DEFAULT_KEYS, PORT, Hop, route

CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")  # first: the fastest here
# A peer that is gone is noticed by the kernel after about 30 s, on a silent connection too.
TCP = {
    socket.TCP_NODELAY: 1,
    socket.TCP_KEEPIDLE: 10,  # seconds
    socket.TCP_KEEPINTVL: 5,  # seconds
    socket.TCP_KEEPCNT: 4,
    socket.TCP_USER_TIMEOUT: 30_000,  # milliseconds
}
KEEPALIVE = 15  # seconds of silence after which we say something: a NAT forgets, a peer may be gone


class Connection:
    """A live connection. ``user``, ``host`` and ``port`` are those that it was made with."""

    def __init__(self, hop: Hop, line: Line, patience: float) -> None:
        self.user, self.host, self.port = hop.user, hop.host, hop.port
        self._shown = str(hop)
        self._line = line
        self._patience = patience

    @property
    def alive(self) -> bool:
        return not self._line.over and self._line.transports[-1].is_active()

    def channel(self) -> paramiko.Channel:
        """A new channel with the sftp subsystem. Raises Unreachable, or Refused if there is none.

        A server that does not answer within ``patience`` loses the whole connection.
        """
        with within(self._line, self._patience, self._shown):
            return _sftp(self._line, self._shown)

    def execute(self, command: str) -> paramiko.Channel:
        """A new channel on which the account's shell runs ``command``. Raises as ``channel``."""
        with within(self._line, self._patience, self._shown):
            return _execute(self._line, self._shown, command)

    def shut(self) -> None:
        """End it at once, from any thread: whatever waits on it fails."""
        self._line.end()


def dial(address: Address, ssh: Path | None = None, *, patience: float = 30.0) -> Connection:
    """An authenticated connection to ``address``, within ``patience`` seconds.

    ``ssh`` is the folder of config, known_hosts and keys; by default ``~/.ssh``. Raises
    Unreachable (try again) or Refused (the operator acts; the hint says how).
    """
    until = time.monotonic() + patience
    folder = Path(os.path.expanduser("~/.ssh")) if ssh is None else ssh
    hops = bounded(lambda: route(address, folder), until, f"{address.host}: its configuration")
    line = Line()
    try:
        _open(line, hops[0], until)
        with within(line, until - time.monotonic(), str(hops[0])):
            _log_in(line, hops[0], line.socket, until)
        for before, hop in itertools.pairwise(hops):
            with within(line, until - time.monotonic(), f"{hop} by way of {before}"):
                _log_in(line, hop, _forward(line, before, hop), until)
        return Connection(hops[-1], line, patience)
    except BaseException as e:
        line.end()
        if isinstance(e, OSError):  # this machine has no descriptor or process left, say
            raise Unreachable(f"{hops[0]}: {e.strerror or e}") from None
        raise


# --- steps -----------------------------------------------------------------------------------


def _open(line: Line, hop: Hop, until: float) -> None:
    """A connected socket to ``hop``, or a ProxyCommand's."""
    if hop.command is not None:
        line.socket, theirs = socket.socketpair()
        with theirs:
            line.process = subprocess.Popen(
                ["/bin/sh", "-c", f"exec {hop.command}"],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                start_new_session=True,
            )
        return
    if hop.connect_timeout is not None:
        until = min(until, time.monotonic() + hop.connect_timeout)

    def resolve() -> list[Any]:
        return socket.getaddrinfo(hop.host, hop.port, hop.family, socket.SOCK_STREAM)

    try:
        found = bounded(resolve, until, str(hop))
    except (socket.gaierror, UnicodeError) as e:
        raise Unreachable(f"{hop}: cannot be resolved: {clean(e)}") from None
    failures = []
    for n, (family, kind, protocol, _, place) in enumerate(found):
        left = until - time.monotonic()
        try:
            line.socket = _connect(family, kind, protocol, place, left / (len(found) - n))
            return
        except OSError as e:
            failures.append(f"{place[0]}: {e.strerror or e}")
    raise Unreachable(f"{hop}: cannot be reached: {'; '.join(failures)}")


def _connect(family: int, kind: int, protocol: int, place: Any, seconds: float) -> socket.socket:
    made = socket.socket(family, kind, protocol)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in TCP.items():
            made.setsockopt(socket.IPPROTO_TCP, option, value)
        made.settimeout(max(0.01, seconds))
        made.connect(place)
    except BaseException:
        made.close()
        raise
    return made


def _log_in(line: Line, hop: Hop, sock: Any, until: float) -> None:
    """Key exchange, host key, login."""
    transport = Transport(sock)
    line.transports.append(transport)
    # Later than our watch, which knows better what to say.
    left = math.ceil(max(1.0, until - time.monotonic()))
    transport.banner_timeout = transport.auth_timeout = left + 1
    options = transport.get_security_options()
    options.key_types = algorithms(known_keys(hop.known_hosts, hop.known_as))
    options.ciphers = (*CIPHERS, *(c for c in options.ciphers if c not in CIPHERS))
    transport.start_client()
    key = transport.get_remote_server_key()
    check(hop.known_hosts, hop.known_as, key.get_name(), key.asbytes(), str(hop))
    agent = Agent(hop.agent, left)
    try:
        _offer_keys(transport, hop, agent)
    finally:
        agent.close()


def _offer_keys(transport: Transport, hop: Hop, agent: Agent) -> None:
    notes = [agent.note] if agent.note else []
    offered = []
    for shown, key in keys_for(hop, agent, notes):
        offered.append(shown)
        try:
            transport.auth_publickey(hop.user, key)
        except paramiko.BadAuthenticationType as e:
            what = f"{hop}: logs {hop.user} in by {', '.join(e.allowed_types)} only, not by key"
            raise Refused(what, "ask the keeper to allow keys for this account") from None
        except paramiko.AuthenticationException:
            if not transport.is_active():
                break
            continue
        if transport.is_authenticated():
            return
        raise Refused(f"{hop}: wants more than a key", "ask the keeper to ask for a key alone")
    if not transport.is_active() and "authentication failures" not in transport.said:
        raise EOFError
    raise _no_key(transport, hop, offered, notes)


def _no_key(transport: Transport, hop: Hop, offered: list[str], notes: list[str]) -> Refused:
    unused = f". Not offered: {'; '.join(notes)}" if notes else ""
    if not offered:
        looked = unused or f": none in {', '.join(map(str, hop.keys))}, none in an agent"
        make = _MAKE.format(shlex.quote(str(hop.ssh / DEFAULT_KEYS[0])))
        return Refused(f"{hop}: there is no key to log in with{looked}", f"{make}; {_let_in(hop)}")
    what = f"{hop}: accepted no key of {hop.user}; offered: {'; '.join(offered)}{unused}"
    if transport.said:
        what += f". It ended the connection: {transport.said}"
    return Refused(what, f"{_let_in(hop)}; {_CHOOSE} {hop.ssh / 'config'}")


def _let_in(hop: Hop) -> str:
    """Both ways: the quick one with an account that one has, and an account for the worker."""
    port = f"-p {hop.port} " if hop.port != PORT else ""
    return f"let the key in: ssh-copy-id {port}{hop.user}@{hop.host}{BY_GRANT}"


# Of no use to who sets the machine up.
BY_GRANT = (
    " for an account of your own, or the primary's keeper runs: "
    "modelrunner spool grant NAME --key FILE.pub --data DIR"
)
_CHOOSE = "of many keys in an agent choose one by IdentityFile and IdentitiesOnly yes in"
_MAKE = "make one: ssh-keygen -t ed25519 -f {}, without a passphrase, or put it into an agent"


def _forward(line: Line, before: Hop, hop: Hop) -> paramiko.Channel:
    """A way through ``before`` to ``hop``."""
    try:
        return line.transports[-1].open_channel(
            "direct-tcpip", (hop.host, hop.port), ("127.0.0.1", 0)
        )
    except paramiko.ChannelException as e:
        if e.code == paramiko.common.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
            what = f"{before}: does not forward to {hop.host}:{hop.port}"
            raise Refused(what, "its sshd must allow TCP forwarding for this account") from None
        raise Unreachable(f"{hop}: {before} cannot reach it: {clean(e.text)}") from None


_DROPPED = (
    "closed the connection after the login; if it does so every time, see the log of its sshd: "
    "a chroot, say, and all folders above it must belong to root and be writable by no other"
)


def _sftp(line: Line, shown: str) -> paramiko.Channel:
    channel = _session(line, shown)
    try:
        channel.invoke_subsystem("sftp")
    except paramiko.SSHException:
        channel.close()
        if line.over or not line.transports[-1].is_active():
            raise
        what = f"{shown}: has no sftp subsystem"
        raise Refused(what, "its sshd_config needs: Subsystem sftp internal-sftp") from None
    finally:
        line.opening.remove(channel)
    return channel


def _execute(line: Line, shown: str, command: str) -> paramiko.Channel:
    channel = _session(line, shown)
    try:
        for transport in line.transports:
            transport.set_keepalive(KEEPALIVE)
        channel.exec_command(command)
    except paramiko.SSHException:
        channel.close()
        if line.over or not line.transports[-1].is_active():
            raise
        what = f"{shown}: runs no commands for this account"
        raise Refused(what, "log in with an account that has a shell") from None
    finally:
        line.opening.remove(channel)
    return channel


def _session(line: Line, shown: str) -> paramiko.Channel:
    """A channel that is in ``line.opening``; the caller removes it there."""
    transport = line.transports[-1]
    try:
        channel = transport.open_session()
    except paramiko.ChannelException as e:
        raise Unreachable(f"{shown}: opens no channel: {clean(e.text)}") from None
    except (EOFError, OSError, paramiko.SSHException):
        if line.used or line.over or transport.said:
            raise
        raise Unreachable(f"{shown}: {_DROPPED}") from None
    line.used = True
    line.opening.append(channel)
    return channel
