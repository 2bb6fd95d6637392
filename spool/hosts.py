"""Which host keys are known: known_hosts files, read as OpenSSH reads them.

Hashed names, ``[host]:port``, wildcards with ``!`` and ``@revoked`` are
understood. ``@cert-authority`` is not: such lines are passed over, and a server
that shows a certificate alone is unknown. Nothing is ever written.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from spool.errors import Refused

# What a host key's type is called in the key exchange; an RSA key signs in two ways.
ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}


class Known(NamedTuple):
    """A line of a known_hosts file that is about the host in question."""

    file: Path
    line: int
    type: str
    key: bytes
    revoked: bool


def known_keys(files: Iterable[Path], name: str) -> list[Known]:
    """The lines about ``name`` ("host" or "[host]:port"), those of the first file first.

    Raises Refused where a file is there and cannot be read.
    """
    return [known for file in files for known in _read(file, name)]


def algorithms(known: Iterable[Known]) -> tuple[str, ...]:
    """The host key algorithms to ask for, those that we can check first.

    Else a server that prefers another type would look unknown.
    """
    types = [k.type for k in known if not k.revoked and k.type in ALGORITHMS]
    order = dict.fromkeys([*types, *ALGORITHMS])
    return tuple(algorithm for type_ in order for algorithm in ALGORITHMS[type_])


def check(files: Iterable[Path], name: str, type_: str, key: bytes, shown: str) -> None:
    """Whether the host may be talked to: its key, of ``type_``, is known under ``name``.

    ``shown`` is the host in messages. Raises Refused: revoked, changed or unknown.
    """
    files = list(files)
    known = known_keys(files, name)
    bare = re.fullmatch(r"\[(.*)\]:\d+", name)
    without_port = known_keys(files, bare[1]) if bare else []
    mark = fingerprint(key)
    revoked = next((k for k in (*known, *without_port) if k.revoked and k.key == key), None)
    if revoked is not None:
        what = f"{shown}: its host key {mark} is revoked in {revoked.file}:{revoked.line}"
        raise Refused(what, "somebody may stand in between; ask the keeper for the new host key")
    valid = [k for k in known if not k.revoked]
    if any(k.key == key for k in valid):
        return
    other = next((k for k in valid if k.type == type_), None)
    if other is not None:
        what = (
            f"{shown}: its host key has CHANGED, which may be an attack: it shows {type_} {mark}, "
            f"and {other.file}:{other.line} has {fingerprint(other.key)}"
        )
        raise Refused(what, "ask the keeper; if the key was replaced, replace that line")
    # OpenSSH, too, takes a key that is known for the host without its port.
    if any(k.key == key for k in without_port):
        return
    line = f"{name} {type_} {base64.b64encode(key).decode()}"
    also = "".join(f"; {k.file}:{k.line} has another type for it, {k.type}" for k in valid[:1])
    where = files[0] if files else "a file that UserKnownHostsFile names"
    what = f"{shown}: its host key is not known: {type_} {mark}{also}"
    raise Refused(what, f"compare it with the keeper's, then add to {where} the line: {line}")


def fingerprint(key: bytes) -> str:
    """As ``ssh-keygen -lf`` shows it."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return f"SHA256:{digest.rstrip('=')}"


def _read(file: Path, name: str) -> Iterator[Known]:
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as e:
        what = f"{file}: cannot be read: {e.strerror}"
        raise Refused(what, "make it readable to this account") from None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked"):
            continue
        names, type_, encoded = words[:3]
        if not _matches(names, name):
            continue
        try:
            key = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            continue
        yield Known(file, number, type_, key, bool(marker))


def _matches(names: str, name: str) -> bool:
    found = False
    for pattern in names.split(","):
        if pattern.startswith("|"):
            found |= _hashed(pattern, name)
        elif pattern.startswith("!"):
            if _wildcard(pattern[1:], name):
                return False
        else:
            found |= _wildcard(pattern, name)
    return found


def _wildcard(pattern: str, name: str) -> bool:
    """Only * and ? mean something; [ ] belong to ports and IPv6 addresses."""
    parts = {"*": ".*", "?": "."}
    expression = "".join(parts.get(c) or re.escape(c) for c in pattern.lower())
    return re.fullmatch(expression, name.lower()) is not None


def _hashed(pattern: str, name: str) -> bool:
    try:
        _, kind, salt, digest = pattern.split("|")
        expected = base64.b64decode(digest, validate=True)
        made = hmac.new(base64.b64decode(salt, validate=True), name.lower().encode(), "sha1")
    except (ValueError, binascii.Error):
        return False
    return kind == "1" and hmac.compare_digest(made.digest(), expected)
