"""One host over SSH: commands are run there, with root where they need it.

The way, the keys and the known hosts are those of ``~/.ssh`` (``spool.dial``). Every
command ends: the host itself ends it when its time is up, by ``timeout``, and if nothing
is heard even then, the connection is given up.
"""

from __future__ import annotations

import math
import shlex
import string
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

from deploy.exchange import Exchange
from deploy.fleet import Host
from spool.address import Address
from spool.dial import BY_GRANT, Connection, dial
from spool.errors import Refused, SpoolError, Unreachable
from spool.line import clean

GRACE = 15.0  # seconds for a command that is ended there to be heard of
KILL = 5  # seconds from TERM to KILL, there; less than GRACE
SHOWN = 160  # characters of a command in messages

# $1: seconds; then the command. 0: for ever, that is until our side closes the channel, which
# ends its input. In /, for a folder in the login's home might be taken for a package of ours.
_SCRIPT = """\
PATH="$PATH:/usr/local/sbin:/usr/sbin:/sbin"; LC_ALL=C; export PATH LC_ALL
if [ -z "$XDG_RUNTIME_DIR" ] && [ -d "/run/user/$(id -u)" ]; then
XDG_RUNTIME_DIR="/run/user/$(id -u)"; export XDG_RUNTIME_DIR; fi
cd / || exit 1; n=$1; shift
if [ "$n" = 0 ]; then
exec 3<&0; "$@" </dev/null & p=$!
{ cat <&3; kill "$p"; } >/dev/null 2>&1 & q=$!
wait "$p"; n=$?; kill "$q"; exit "$n"; fi
if timeout -k 1 9 true 2>/dev/null; then timeout -k KILL "$n" "$@"
else "$@"; fi; exit $?""".replace("KILL", str(KILL))

_PLAIN = frozenset(string.ascii_letters + string.digits + " _-+=:,./@")
_WITHOUT = "or leave sudo out of hosts.toml to run without root"


class Ended(msgspec.Struct, frozen=True):
    """How a command ended, and what it printed; ``cut``: not all of that was kept."""

    code: int
    out: bytes
    err: bytes
    cut: bool = False


class Overdue(Refused):
    """A command took longer than it may. It was ended there."""

    printed = b""


class Lost(Unreachable):
    """The connection broke, or the host fell silent: a command may or may not have been done."""

    printed = b""


class Login(NamedTuple):
    """Who logged in, and the port of the sshd there."""

    uid: int
    user: str
    port: int


class Remote:
    """A host. Connects when it is first needed, and again after a connection broke.

    ``ssh`` is a folder like ``~/.ssh``, the default. May be used by several threads.
    """

    def __init__(self, host: Host, ssh: Path | None = None, *, patience: float = 30.0) -> None:
        self.host = host
        self._ssh = ssh
        self._patience = patience  # seconds for a login, and for a command to begin
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._login: Login | None = None
        self._sudo_works = False
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """From any thread, and for good: what runs there is no longer heard of."""
        self._closed = True
        connection = self._connection
        if connection is not None:
            connection.shut()

    @property
    def login(self) -> Login:
        """Asked once. Raises Unreachable, or Refused if this is no shell as we need it."""
        if self._login is None:
            ended = self._run(("sh", "-c", 'id -u; id -un; echo "$SSH_CONNECTION"'), seconds=30)
            words = ended.out.decode(errors="replace").split()[-6:]
            if ended.code or len(words) < 6 or not (words[0] + words[5]).isdigit():
                said = clean(ended.err.decode(errors="replace")) or f"exit code {ended.code}"
                raise Refused(
                    f"{self.host.name}: its login runs no commands: {said}",
                    "log in with an account that has a shell",
                )
            self._login = Login(int(words[0]), words[1], int(words[5]))
        return self._login

    @property
    def rooted(self) -> bool:
        """Whether this host is set up with root."""
        return self.host.sudo or self.login.uid == 0

    def run(
        self,
        command: Sequence[str],
        *,
        input: bytes | Iterable[bytes] = b"",
        root: bool = False,
        seconds: float = 120.0,
        each: Callable[[bytes], None] | None = None,
    ) -> Ended:
        """Run ``command`` there, in ``/``, with ``input`` on its standard input.

        ``root``: by sudo, unless the login is root. ``seconds``: it is ended then; math.inf:
        when we go, and it has no input. ``each`` gets the output as it comes; it is not in
        the result then. Raises Unreachable (Lost, if it had begun), Refused (Overdue, if it
        took too long), and whatever ``input`` raises.
        """
        sudo = root and self.login.uid != 0
        if sudo and not self._sudo_works:
            self._check_sudo()
        return self._run(command, given=input, sudo=sudo, seconds=seconds, each=each)

    # --- inside --------------------------------------------------------------------

    def _run(
        self,
        command: Sequence[str],
        *,
        given: bytes | Iterable[bytes] = b"",
        sudo: bool = False,
        seconds: float,
        each: Callable[[bytes], None] | None = None,
    ) -> Ended:
        limit = 0 if math.isinf(seconds) else max(1, math.ceil(seconds))
        whole = ["/bin/sh", "-c", _SCRIPT, "modelrunner", str(limit), *command]
        if sudo:
            whole = ["env", "LC_ALL=C", "sudo", "-n", "-H", "--", *whole]
        connection = self._connected()
        began = time.monotonic()
        what = f"{self.host.name}: {shown(command)}"
        try:
            channel = connection.execute(for_any_shell(shlex.join(whole)))
        except SpoolError as e:
            raise self._named(e) from None
        try:
            until = began + limit + GRACE if limit else math.inf
            heard = Exchange(channel, until).hold(given if limit else None, each)
        except BaseException:
            channel.close()
            raise
        if heard.late:
            connection.shut()  # a line on which nothing moves: closing a channel would wait, too
            raise _lost(f"{what}: no end was heard of within {seconds + GRACE:.0f} s", heard.err)
        channel.close()
        printed = heard.out + heard.err
        if heard.code is None:
            raise _lost(f"{what}: the connection broke", printed)
        if heard.code in (124, 128 + 9) and limit and time.monotonic() - began >= limit:
            raise _overdue(f"{what}: was ended, for it took longer than {limit} s", printed)
        return Ended(heard.code, heard.out, heard.err, heard.cut)

    def _connected(self) -> Connection:
        with self._lock:
            if self._closed:
                raise Unreachable(f"{self.host.name}: the connection was closed here")
            if self._connection is None or not self._connection.alive:
                if self._connection is not None:
                    self._connection.shut()
                host = self.host
                address = Address(host.address, "", host.user, host.port)
                try:
                    self._connection = dial(address, self._ssh, patience=self._patience)
                except SpoolError as e:
                    raise self._named(e) from None
            return self._connection

    def _named(self, e: SpoolError) -> SpoolError:
        """The error with the host's name in hosts.toml before it."""
        if isinstance(e, Refused):
            what = str(e).removesuffix(f" ({e.hint})")
            return Refused(f"{self.host.name}: {what}", e.hint.replace(BY_GRANT, ""))
        return Unreachable(f"{self.host.name}: {e}")

    def _check_sudo(self) -> None:
        ended = self._run(("true",), sudo=True, seconds=30)
        if ended.code == 0:
            self._sudo_works = True
            return
        said = clean(ended.err.decode(errors="replace"))
        user, name = self.login.user, self.host.name
        if "password" in said or "terminal" in said or "tty" in said:
            what, hint = f"{name}: sudo asks for a password", f"allow NOPASSWD for {user}"
        elif ended.code == 127:
            what, hint = f"{name}: there is no sudo", "install it there"
        else:
            what, hint = f"{name}: sudo does not let {user}: {said}", f"allow {user} in sudoers"
        raise Refused(what, f"{hint}, or log in as root, {_WITHOUT}")


def for_any_shell(line: str) -> str:
    """``line``, for sh, in words that every login shell takes: csh knows no quoted line breaks."""
    coded = "".join(c if c in _PLAIN else "".join(f"\\0{b:03o}" for b in c.encode()) for c in line)
    return f"""exec /bin/sh -c 'eval "$(printf %b "{coded}")"'"""


def shown(command: Sequence[str]) -> str:
    """A command in a message: one line, not too long."""
    text = " ".join(shlex.join(command).split())
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _lost(what: str, printed: bytes) -> Lost:
    said = _said(printed)
    e = Lost(f"{what}; it may or may not have been done{said}")
    e.printed = printed
    return e


def _overdue(what: str, printed: bytes) -> Overdue:
    e = Overdue(f"{what}{_said(printed)}", "log in there and see what it waits for")
    e.printed = printed
    return e


def _said(printed: bytes) -> str:
    last = printed[-2000:].decode(errors="replace").strip().splitlines()[-1:]
    return f". The last that it printed: {clean(last[0])}" if last else ""
