"""The hardened layout: what accounts, groups and folders are called, and what sshd is told. Pure.

One account for each worker, one group for each model and each drop folder; every
account is shut into the spool (chroot) and speaks SFTP with the verbs that it
needs. An account is ours if its comment in /etc/passwd says so: it names the
worker, or the model and the colleague.
"""

from __future__ import annotations

import hashlib
import re

from spool import names
from spool.errors import Refused

# The verbs of the transport; tests/sshd.py serves the contract tests with the same.
VERBS = (
    "open", "close", "read", "write", "lstat", "stat", "fstat", "opendir", "readdir", "remove",
    "realpath", "posix-rename", "fsync", "statvfs", "limits",
)  # fmt: skip
# What people's clients (sftp, WinSCP, FileZilla) ask for besides. No mkdir, and no links.
DROP_VERBS = (*VERBS, "rename", "setstat", "fsetstat", "lsetstat", "expand-path")

WORKERS_GROUP, DROPS_GROUP = "mr-workers", "mr-drops"
NOLOGIN = "/usr/sbin/nologin"
NO_HOME = "/nonexistent"
KEYS = "/etc/ssh/modelrunner"  # <account>: its one key; root's
SSHD_CONFIG = "/etc/ssh/sshd_config"
SSHD_FILE = "/etc/ssh/sshd_config.d/modelrunner.conf"
MAX_STARTUPS = "MaxStartups 200:30:400"  # many workers may dial at once; for all of sshd

LONGEST_NAME = 32  # bytes of a Linux account or group
_ACCOUNT = re.compile(r"[a-z_][a-z0-9_-]*\Z", re.ASCII)
_OURS = re.compile(r"Model Runner (?:worker|drop) ")
_CHROOT = re.compile(r"/[A-Za-z0-9/._+-]+\Z", re.ASCII)  # what sshd_config takes as it stands


def default_account(name: str) -> str:
    return f"mr-{name}"


def is_account(account: str) -> bool:
    """Whether Linux takes it, and it cannot be taken for one of our groups."""
    ours = account in (WORKERS_GROUP, DROPS_GROUP) or account.startswith(("mr-model-", "mr-drop-"))
    return bool(_ACCOUNT.match(account)) and len(account) <= LONGEST_NAME and not ours


def model_group(model: str) -> str:
    """Who may claim tickets of ``model``."""
    return _group("mr-model-", model)


def drop_group(model: str) -> str:
    """Who may use the drop folder of ``model``."""
    return _group("mr-drop-", model)


def worker_comment(name: str) -> str:
    return f"Model Runner worker {name}"


def drop_comment(model: str, name: str) -> str:
    return f"Model Runner drop {model} {name}"


def is_ours(comment: str) -> bool:
    return bool(_OURS.match(comment))


def drop_home(model: str) -> str:
    """Where a colleague's session begins, seen from inside the chroot."""
    return f"/{names.drop_folder(model)}"


def sshd_file(chroot: str) -> str:
    """The whole of ``SSHD_FILE``. It names no worker: a further one changes nothing in it.

    Raises Refused for a path that sshd_config would not take as it stands.
    """
    if not _CHROOT.match(chroot):
        raise Refused(
            f"the spool's path {chroot!r} holds characters that sshd's configuration treats apart",
            "give another one with --spool-home",
        )
    # The files of a drop are 0644: its folder is closed to others, and a primary that
    # is not in the drop's group before its restart can read them all the same.
    return f"""\
# Written by `modelrunner spool grant`, whole each time: changes here are lost.
{MAX_STARTUPS}

# Workers
Match Group {WORKERS_GROUP}
{_shut_in(chroot, f"internal-sftp -u 0027 -p {','.join(VERBS)}")}

# Colleagues who drop zips: %d is the drop folder of their model, their home
Match Group {DROPS_GROUP}
{_shut_in(chroot, f"internal-sftp -u 0022 -d %d -p {','.join(DROP_VERBS)}")}
"""


def chroot_in(sshd_text: str) -> str | None:
    """The chroot that an earlier grant has written."""
    found = re.search(r"^\s*ChrootDirectory (\S+)$", sshd_text, re.M)
    return found[1] if found else None


def command_for(sshd_text: str, group: str) -> str:
    """The ForceCommand for ``group`` in ``sshd_file``'s text."""
    block = sshd_text.partition(f"Match Group {group}\n")[2]
    found = re.search(r"^\s*ForceCommand (.+)$", block, re.M)
    return found[1] if found else ""


def _shut_in(chroot: str, command: str) -> str:
    lines = (
        f"ChrootDirectory {chroot}",
        f"ForceCommand {command}",
        "DisableForwarding yes",
        "X11Forwarding no",
        "AllowTcpForwarding no",
        "AllowStreamLocalForwarding no",
        "AllowAgentForwarding no",
        "PermitTunnel no",
        "PermitTTY no",
        "PermitUserRC no",
        f"AuthorizedKeysFile {KEYS}/%u",
        "AuthorizedKeysCommand none",
        "PubkeyAuthentication yes",
        "AuthenticationMethods publickey",
        "PasswordAuthentication no",
        "KbdInteractiveAuthentication no",
        "HostbasedAuthentication no",
        "GSSAPIAuthentication no",
        "KerberosAuthentication no",
        "MaxSessions 4",
        "ClientAliveInterval 15",  # seconds; four without an answer end the connection
        "ClientAliveCountMax 4",
    )
    return "\n".join(f"    {line}" for line in lines)


def _group(prefix: str, model: str) -> str:
    if len(prefix + model) <= LONGEST_NAME and _ACCOUNT.match(prefix + model):
        return prefix + model
    mark = hashlib.sha256(model.encode()).hexdigest()[:8]
    room = LONGEST_NAME - len(prefix) - 1 - len(mark)
    return f"{prefix}{model.replace('.', '-')[:room]}-{mark}"
