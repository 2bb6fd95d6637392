"""Where a primary's spool lies, and who owns what of it. Only looks.

As root, or as the account that runs the primary: others may not see into the
data directory.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from deploy.grants.facts import Account, Entry, Place, Spool
from spool import names
from spool.errors import Refused

_MODEL_FOLDERS = (names.new_folder, names.drop_folder)


def look(data: Path, worker: str | None, spool_home: Path | None) -> Spool:
    """The spool of the primary whose data directory is ``data``.

    ``worker``: whose folders to look at. Raises Refused where the data directory
    cannot be seen or is none.
    """
    try:
        return _look(data.resolve(strict=True), worker, spool_home)
    except PermissionError as e:
        hint = "run it as root, or as the account that runs the primary"
        raise Refused(f"{e.filename}: this user may not look there", hint) from e
    except OSError as e:
        hint = "--data is the primary's data directory; start the primary once, it lays it out"
        raise Refused(f"{e.filename}: {e.strerror}", hint) from e


def _look(data: Path, worker: str | None, spool_home: Path | None) -> Spool:
    link = data / "spool"
    path = link.resolve(strict=True)
    homes = tuple(_place(folder) for folder in data.parents)
    wanted = _place(spool_home.absolute().parent.resolve(strict=True)) if spool_home else None
    spool = Spool(
        data=str(data),
        owner=_owner(data),
        link=str(link),
        path=str(path),
        mount=_mount(path),
        above=tuple(_place(folder) for folder in path.parents),
        homes=homes,
        wanted=wanted,
        taken=frozenset(),
        entries=dict(_entries(path, worker)),
    )
    could = [spool.home_in(home) for home in homes]
    if spool_home and wanted:
        could.append(str(Path(wanted.path, spool_home.name)))
    return msgspec.structs.replace(spool, taken=frozenset(filter(os.path.lexists, could)))


def account_of(found: pwd.struct_passwd) -> Account:
    return Account(found.pw_name, _group(found.pw_gid), found.pw_gecos.rstrip(","))


def entry_of(path: Path) -> Entry | None:
    """What lies at ``path``; links are not followed."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        return None
    mode = stat.S_IMODE(info.st_mode)
    return Entry(_kind(info.st_mode), _user(info.st_uid), _group(info.st_gid), mode)


def _kind(mode: int) -> Literal["folder", "file", "link", "other"]:
    if stat.S_ISDIR(mode):
        return "folder"
    if stat.S_ISREG(mode):
        return "file"
    return "link" if stat.S_ISLNK(mode) else "other"


def _owner(data: Path) -> Account:
    uid = data.stat().st_uid
    try:
        return account_of(pwd.getpwuid(uid))
    except KeyError:
        hint = "the primary must run under an account of this machine"
        raise Refused(f"{data} belongs to user {uid}, who has no account here", hint) from None


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _entries(spool: Path, worker: str | None) -> Iterator[tuple[str, Entry]]:
    """What a grant looks at: not the queues, which may be long."""
    paths = ["", names.BELL, names.MODELS, names.WORKERS]
    for folder in (names.MODELS, names.WORKERS):
        if (spool / folder).is_dir() and not (spool / folder).is_symlink():
            below = [n for n in sorted(os.listdir(spool / folder)) if names.is_plain(n)]
            paths += [f"{folder}/{name}" for name in below]
            if folder == names.MODELS:
                paths += [path(name) for name in below for path in _MODEL_FOLDERS]
    if worker is not None:
        paths += [f"{names.worker_folder(worker)}/{name}" for name in names.WORKER_FOLDERS]
    for path in paths:
        try:
            entry = entry_of(spool / path)
        except NotADirectoryError:
            continue
        if entry is not None:
            yield path, entry


def _place(folder: Path) -> Place:
    return Place(str(folder), all(_roots(p) for p in (folder, *folder.parents)), _mount(folder))


def _roots(folder: Path) -> bool:
    """What sshd asks of every folder down to a chroot."""
    info = folder.stat()
    return info.st_uid == 0 and not info.st_mode & 0o022


def _mount(folder: Path) -> str:
    """Which mount, and of which device: neither renames nor links cross from one to another."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        text = Path(f"/proc/self/fdinfo/{fd}").read_text()
        device = os.fstat(fd).st_dev
    finally:
        os.close(fd)
    found = re.search(r"^mnt_id:\s*(\d+)$", text, re.M)
    return f"{found[1] if found else '?'} {device}"
