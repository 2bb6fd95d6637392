"""Public keys, as ``ssh-keygen`` writes them into a ``.pub`` file. Pure."""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from spool.errors import Refused
from spool.hosts import fingerprint

TYPES = (
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "ssh-rsa",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
LONGEST = 16 * 1024  # bytes of a file that may be a public key
RSA_BITS = 2048  # at least
_PRIVATE = ("PRIVATE KEY", "PuTTY-User-Key-File")
_RFC4716 = "BEGIN SSH2 PUBLIC KEY"
_HINT = "give the .pub file as ssh-keygen wrote it: its type, the key, a comment"


class PublicKey(NamedTuple):
    """One public key. ``comment`` is printable ASCII, or empty."""

    type: str
    blob: str  # base64
    comment: str

    def __str__(self) -> str:
        return " ".join(part for part in self if part)

    @property
    def fingerprint(self) -> str:
        """As ``ssh-keygen -l`` shows it."""
        return fingerprint(base64.b64decode(self.blob))


def parse_public_key(data: bytes, shown: str) -> PublicKey:
    """The one key in ``data``, the content of the file that is called ``shown``.

    Raises Refused, which never repeats anything of the content.
    """
    text = data.decode("utf-8", errors="replace")
    if any(mark in text for mark in _PRIVATE):
        hint = "give the file that ends in .pub; a private key never leaves its machine"
        raise Refused(f"{shown} is a private key", hint)
    if _RFC4716 in text:
        hint = f"convert it: ssh-keygen -i -f {shown} > key.pub"
        raise Refused(f"{shown} is a public key in another format than OpenSSH's", hint)
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise Refused(f"{shown}: {len(lines)} lines instead of one public key", _HINT)
    type_, _, rest = lines[0].partition(" ")
    if type_ not in TYPES:
        what = "does not begin with a type of key that is known (nor are options allowed)"
        raise Refused(f"{shown} {what}", f"known are {', '.join(TYPES)}")
    blob, _, comment = rest.strip().partition(" ")
    _examine(type_, blob, shown)
    printable = comment.isascii() and comment.isprintable()
    return PublicKey(type_, blob, comment.strip() if printable else "")


def fingerprint_of(line: str) -> str:
    """The fingerprint of a line ``TYPE KEY``; empty if it is none."""
    try:
        return fingerprint(base64.b64decode(line.split(" ")[1]))
    except (IndexError, binascii.Error):
        return ""


def _examine(type_: str, blob: str, shown: str) -> None:
    try:
        fields = list(_fields(base64.b64decode(blob, validate=True)))
    except (binascii.Error, ValueError):
        raise Refused(f"{shown}: its key is cut off or damaged", _HINT) from None
    if not fields or fields[0] != type_.encode():
        raise Refused(f"{shown}: its key is not of the type that stands before it", _HINT)
    if len(fields) < 2:
        raise Refused(f"{shown}: its key is cut off or damaged", _HINT)
    if type_ == "ssh-rsa":
        bits = int.from_bytes(fields[-1], "big").bit_length()
        if bits < RSA_BITS:
            hint = "make a new one: ssh-keygen -t ed25519"
            raise Refused(f"{shown}: an RSA key of {bits} bits is too weak", hint)


def _fields(data: bytes) -> list[bytes]:
    """The length-prefixed fields of a key. Raises ValueError if they do not fill it."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[:4], "big")
        if len(data) < end:
            raise ValueError("cut off")
        found.append(data[4:end])
        data = data[end:]
    return found
