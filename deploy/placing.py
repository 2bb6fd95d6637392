"""Puts one file in its place, whole: runs on a host, by the host's own Python.

``doing`` sends this file with ``python3 -c``, so it needs the standard library alone. On
standard input: a line of JSON, then the text. Nothing of that is in the arguments, which
every user of the host can read.

    {"path", "owner": USER:GROUP or "", "mode", "sha256", "tell"}   put it there
    {"path", "remove": true}                                        take it away

With ``tell`` it prints what was there before, as JSON: null, or a line that would put it
back with its text in base64, or {"kind": "other"} where that cannot be.
"""

from __future__ import annotations

import base64
import contextlib
import grp
import hashlib
import json
import os
import pwd
import stat
import sys
from typing import Any

LARGEST = 4 << 20  # bytes of a file that can be put back


def main() -> None:
    line, _, text = sys.stdin.buffer.read().partition(b"\n")
    try:
        order = json.loads(line)
        if order.get("remove"):
            _remove(order["path"])
        else:
            _put(order, text)
    except (OSError, ValueError) as e:
        reason = getattr(e, "strerror", None) or str(e)
        where = getattr(e, "filename", None)
        sys.exit(f"{where}: {reason}" if where else reason)


def _put(order: dict[str, Any], text: bytes) -> None:
    if hashlib.sha256(text).hexdigest() != order["sha256"]:
        raise ValueError("{}: its text did not arrive whole".format(order["path"]))
    path = order["path"]
    owner = _owner(order["owner"])
    before = _before(path) if order["tell"] else None
    folder, name = os.path.split(path)
    half = os.path.join(folder, f".{name}.half")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(half)  # of a connection that broke
    try:
        _write(half, text, owner, order["mode"])
        os.rename(half, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(half)
        raise
    _sync(folder)
    if order["tell"]:
        print(json.dumps(before))


def _write(half: str, text: bytes, owner: tuple[int, int], mode: int) -> None:
    """Nobody who may not read the file ever can: owner and mode are there before the text."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(half, flags, 0o600), "wb") as file:
        if owner != (-1, -1):
            os.fchown(file.fileno(), *owner)
        os.fchmod(file.fileno(), mode)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _owner(shown: str) -> tuple[int, int]:
    """Numbers are taken as they are."""
    if not shown:
        return -1, -1
    user, _, group = shown.partition(":")
    try:
        return (
            int(user) if user.isdigit() else pwd.getpwnam(user).pw_uid,
            int(group) if group.isdigit() else grp.getgrnam(group).gr_gid,
        )
    except KeyError as e:
        raise ValueError(f"there is no owner {shown}: {e.args[0]}") from None


def _before(path: str) -> dict[str, Any] | None:
    """What puts back the file that lies there now."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST:
        return {"kind": "other"}
    with open(path, "rb") as file:
        text = file.read()
    return {
        "kind": "file",
        "owner": f"{info.st_uid}:{info.st_gid}" if os.geteuid() == 0 else "",
        "mode": stat.S_IMODE(info.st_mode),
        "text": base64.b64encode(text).decode(),
    }


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        _sync(os.path.dirname(path))


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
