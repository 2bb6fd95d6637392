"""Folders of the spool: made with modes of their own, and listed with a cap.

Modes are said outright, whatever the umask, and only where a folder is made:
what an operator has set, by hand or with ``modelrunner spool grant``, stays.
A folder that a peer can write in may hold a million names, or may have been
put in another one's place: so a listing follows no link, and ends at a cap.
"""

from __future__ import annotations

import os
import stat
from itertools import islice
from pathlib import Path

from spool.errors import Refused
from spool.local import is_utf8, translated, translating

MAX_NAMES = 10_000  # in one folder; an honest one holds some hundreds

SPOOL_MODE = 0o711  # of spool/, models/, workers/ and models/<m>/: passed through, not listed
QUEUE_MODE = 0o750  # of new/ and drop/, where no operator says more
BELL_MODE = 0o644
ANSWER_MODE = 0o640  # of what is written for people, whose group the folder gives
SHARED_MODE = 0o444  # of an input or a result whose group cannot be changed: its folders protect it


def make_folder(path: Path, mode: int) -> None:
    """One folder, where it is missing. Raises Refused, which says what to do, or NoSpace.

    Its name lasts: what people put into it, and sync, is not lost with it.
    """
    if path.is_dir():
        return
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        if path.is_dir():
            return
        raise Refused(f"{path}: not a folder", "move it away") from None
    except PermissionError:
        raise Refused(
            f"{path} is missing, and {path.parent} does not belong to user {os.geteuid()}",
            "run 'modelrunner spool grant' as root, which makes what is missing",
        ) from None
    except OSError as e:
        raise translated(e, str(path)) from e
    with translating(str(path)):
        # setgid comes from the folder above, and a plain chmod would take it away
        os.chmod(path, mode | (os.stat(path).st_mode & stat.S_ISGID))
        _sync(path.parent)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def names_in(path: str, what: str) -> list[str]:
    """The names in the folder; hidden ones and what is not UTF-8 left out. Raises as below."""
    found = all_names_in(path, what)
    return [name for name in found if not name.startswith(".") and is_utf8(name)]


def all_names_in(path: str, what: str) -> list[str]:
    """The names in the folder, in no order, whatever bytes they are.

    Raises Gone, also for a link in the folder's place, and Refused above MAX_NAMES.
    """
    with translating(what):
        at = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            with os.scandir(at) as entries:
                found = [entry.name for entry in islice(entries, MAX_NAMES + 1)]
        finally:
            os.close(at)
    if len(found) > MAX_NAMES:
        raise Refused(f"{what}: more than {MAX_NAMES} names", "remove what does not belong there")
    return found


def give_group(path: Path, group: int) -> None:
    """Let ``group`` read an input or a result; where we may not say so, let everybody.

    Then the folders alone keep others out: ``jobs/`` is the primary's, and
    ``new/``, ``cur/`` and ``drop/`` are closed. Raises OSError.
    """
    info = os.lstat(path)
    if info.st_gid == group:
        return
    try:
        os.chown(path, -1, group, follow_symlinks=False)
    except PermissionError:
        if stat.S_IMODE(info.st_mode) != SHARED_MODE:
            os.chmod(path, SHARED_MODE)
