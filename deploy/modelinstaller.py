"""Installs a model on a host, by that host's own Python: sent as install.py with the model.

Standard library alone. A version of a model is a folder ``model-versions/NAME-VERSION`` that
nobody changes once ``NAME-VERSION.installed`` lies beside it, which also keeps what ``setup``
printed; ``models/NAME`` is a link to the one in use. What ``setup`` makes may carry its own path,
so the script runs where the folder stays, before anything leads there. The link is switched last,
by one rename: what fails before changes nothing. With root, ``setup`` runs under the services'
account, and then all is given to root.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import fcntl
import hashlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

SETUP = "setup"  # as spool.manifest has it: if it is executable it is run once, on workers
MANIFEST = "model.toml"
BARE = "-bare"  # ends the version of a model whose setup was left out
INSTALLED = ".installed"
GRACE = 5.0  # seconds between TERM and KILL of a setup that takes too long
OUTPUT_LINES, OUTPUT_BYTES = 200, 1 << 20  # of setup: told on failure, kept
# Seconds for which a version stays when the link leads to another: a worker may still be
# fetching the input of a run that it has claimed for it, and no process shows that.
SPARED = 3600.0
LITTER = 86400.0  # seconds after which a half of an install belongs to nobody
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"  # as the engine's runs have

Found = tuple[str, os.stat_result]  # a path within a model's folder


class Failed(Exception):
    """It cannot be installed: what, and what to do."""


def main() -> int:
    """0: done; 1: nothing was changed, and the reason is on stderr."""
    parser = argparse.ArgumentParser(description="Install a model, or remove what nothing uses.")
    parser.add_argument("--versions", type=Path, required=True, help="the folder model-versions")
    parser.add_argument("--models", type=Path, required=True, help="the folder of links")
    parser.add_argument("--state", type=Path, required=True, help="the worker's, with its runs")
    parser.add_argument("--half", type=Path, help="where the bundle lies, unpacked")
    parser.add_argument("--name", help="of the model")
    parser.add_argument("--version")
    parser.add_argument("--account", default="", help="who runs setup, where we are root")
    parser.add_argument("--seconds", type=float, default=3600.0, help="for setup")
    parser.add_argument("--drop", action="append", default=[], help="a model to take away")
    given = parser.parse_args()
    os.umask(0o022)  # the services' account must read it all
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        with _locked(given.versions):
            if given.half is None:
                dropped = {_drop(given.models / name) for name in given.drop}
                prune(given.versions, given.models, given.state, dropped)
            else:
                _install(given)
    except Failed as e:
        print(f"Error:  {e}", file=sys.stderr)
        return 1
    except OSError as e:
        what = f"{e.filename}: {e.strerror}" if e.filename else f"{e.strerror}"
        todo = "make room there" if e.errno in (errno.ENOSPC, errno.EDQUOT) else "put it right"
        print(f"Error:  {what}; {todo} and try again", file=sys.stderr)
        return 1
    return 0


def _install(given: argparse.Namespace) -> None:
    """Raises Failed, OSError; then what was there is as it was."""
    target = given.versions / f"{given.name}-{given.version}"
    mark = target.with_name(target.name + INSTALLED)
    if not mark.exists():
        source = given.half / "model"
        if version(source, entries(source)) != given.version.removesuffix(BARE):
            raise Failed(
                f"model {given.name} did not arrive as it was planned: it was cut off on its way, "
                "or changed meanwhile; try again"
            )
        _remove(target)  # what an interrupted one left
        try:
            source.rename(target)
            said = _set_up(target, given)
            os.sync()  # thousands of files: dearer one by one
            _write(mark, said)
        except BaseException:
            _remove(target)
            raise
    _switch(given.models / given.name, target)
    prune(given.versions, given.models, given.state)


def _drop(link: Path) -> str:
    """Take ``link`` away; the name of what it led to, or ""."""
    before = _target(link)
    link.unlink(missing_ok=True)
    return before


def _switch(link: Path, target: Path) -> None:
    """``link`` leads to ``target``, relatively. Raises Failed, OSError."""
    before = _target(link)
    if before == target.name:
        return
    with contextlib.suppress(FileNotFoundError):
        os.utime(target.with_name(before + INSTALLED))  # SPARED from now on
    link.parent.mkdir(parents=True, exist_ok=True)
    half = link.with_name(f".{link.name}.new")
    half.unlink(missing_ok=True)
    half.symlink_to(os.path.relpath(target, link.parent))
    half.rename(link)


def _target(link: Path) -> str:
    """The name of what ``link`` leads to; "" if it is not there. Raises Failed."""
    try:
        return os.path.basename(os.readlink(link))
    except FileNotFoundError:
        return ""
    except OSError as e:
        raise Failed(f"{link} is no link of ours ({e.strerror}): move it away") from None


# --- the setup script --------------------------------------------------------------


def _set_up(folder: Path, given: argparse.Namespace) -> bytes:
    """Run ``setup``, if there is one to be run; what it printed. Raises Failed, OSError."""
    script = folder / SETUP
    wanted = not given.version.endswith(BARE) and script.is_file() and os.access(script, os.X_OK)
    said = b""
    if wanted and os.geteuid() == 0 and given.account:
        who = _account(given.account)
        give(folder, from_=os.geteuid(), to=(who.pw_uid, who.pw_gid))
        home = Path(tempfile.mkdtemp(prefix=".home-", dir=folder.parent))
        try:
            os.chown(home, who.pw_uid, who.pw_gid)
            said = _run(folder, home, given, who)
        finally:
            _remove(home)
        give(folder, from_=who.pw_uid, to=(0, 0))
    elif wanted:
        said = _run(folder, Path.home(), given, None)
    if wanted:
        _check_made(folder, given.name)
    return said[-OUTPUT_BYTES:]


def _account(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        raise Failed(f"there is no account {name}, which would run {SETUP}") from None


def _check_made(folder: Path, name: str) -> None:
    """The command's program is there, if it is one of the folder. Raises Failed."""
    command = tomllib.loads((folder / MANIFEST).read_bytes().decode("utf-8-sig"))["command"]
    program = folder / command[0]
    if "/" in command[0] and not (program.is_file() and os.access(program, os.X_OK)):
        raise Failed(
            f"{SETUP} of model {name} ended well, but there is no program {command[0]} now, "
            "which is the command in its model.toml"
        )


def _run(
    folder: Path, home: Path, given: argparse.Namespace, who: pwd.struct_passwd | None
) -> bytes:
    """Raises Failed, with the end of what it printed."""
    environment = {
        "PATH": PATH,
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "MODELRUNNER_MODEL": given.name,
        **({"TMPDIR": str(home), "USER": who.pw_name, "LOGNAME": who.pw_name} if who else {}),
    }
    # A file, no pipe: what setup leaves behind in the background must not hold us up.
    with tempfile.TemporaryFile() as output:
        try:
            process = subprocess.Popen(
                [f"./{SETUP}"],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=who.pw_uid if who else None,
                group=who.pw_gid if who else None,
                extra_groups=os.getgrouplist(who.pw_name, who.pw_gid) if who else None,
            )
        except OSError as e:
            raise Failed(f"setup of model {given.name} cannot be started: {e.strerror}") from None
        how = _ended(process, given.seconds)
        output.seek(0)
        said = output.read()
    if how:
        lines = said.decode(errors="replace").splitlines()[-OUTPUT_LINES:]
        print(*lines, sep="\n", file=sys.stderr)
        raise Failed(f"setup of model {given.name} {how}")
    return said


def _ended(process: subprocess.Popen[bytes], seconds: float) -> str:
    """Wait for it; "" if it ended well, else how it ended. Nothing of its session is left."""
    try:
        code = process.wait(seconds)
        return "" if code == 0 else f"ended with exit code {code}"
    except subprocess.TimeoutExpired:
        _signal(process, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        return f"took longer than {seconds:.0f} s, and was ended"
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def give(folder: Path, *, from_: int, to: tuple[int, int]) -> None:
    """All in ``folder`` to the account ``to``, readable for all. Raises Failed, OSError.

    Nothing that setup may do meanwhile, or have left in the background, can make root touch a
    file elsewhere: no link is followed, and what is not of ``from_`` is refused.
    """
    for where, folders, files, at in os.fwalk(folder, follow_symlinks=False):
        _give(at, where, 0o755, from_, to)
        for name in (*files, *folders):
            mode = os.stat(name, dir_fd=at, follow_symlinks=False).st_mode
            if stat.S_ISLNK(mode):
                os.chown(name, *to, dir_fd=at, follow_symlinks=False)
            elif stat.S_ISREG(mode):
                file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
                try:
                    _give(file, f"{where}/{name}", 0o755 if mode & 0o111 else 0o644, from_, to)
                finally:
                    os.close(file)
            elif not stat.S_ISDIR(mode):
                os.unlink(name, dir_fd=at)  # sockets and the like that setup's tools left


def _give(file: int, name: str, mode: int, from_: int, to: tuple[int, int]) -> None:
    if os.fstat(file).st_uid != from_:
        raise Failed(f"{name} belongs to another account: setup must not link files of others")
    os.fchown(file, *to)
    os.fchmod(file, mode)  # after it: a change of owner takes bits away


# --- what is there -----------------------------------------------------------------


def entries(
    folder: Path, left_out: Callable[[str, str], bool] = lambda *_: False
) -> Iterator[Found]:
    """All in ``folder`` but for what is ``left_out`` (folder, name), in the order of bytes.

    Links are not followed. Raises OSError.
    """
    todo = [""]
    while todo:
        rel = todo.pop()
        info = os.lstat(folder / rel)
        if rel:
            yield rel, info
        if stat.S_ISDIR(info.st_mode):
            where = str(folder / rel)
            names = [name for name in os.listdir(where) if not left_out(where, name)]
            ordered = sorted(names, key=os.fsencode, reverse=True)
            todo += (f"{rel}/{name}" if rel else name for name in ordered)


def version(folder: Path, found: Iterable[Found]) -> str:
    """12 hex digits over paths, contents, links, and who may execute. Raises OSError."""
    digest = hashlib.sha256()
    for rel, info in found:
        path = folder / rel
        if stat.S_ISLNK(info.st_mode):
            kind, held = "link", os.fsencode(os.readlink(path))
        elif stat.S_ISDIR(info.st_mode):
            kind, held = "folder", b""
        else:
            kind = "program" if info.st_mode & 0o111 else "file"
            with path.open("rb") as file:
                held = hashlib.file_digest(file, "sha256").digest()
        for part in (kind.encode(), os.fsencode(rel), held):
            digest.update(b"%d:%b" % (len(part), part))
    return digest.hexdigest()[:12]


def prune(versions: Path, models: Path, state: Path, dropped: Iterable[str] = ()) -> None:
    """Remove the versions that no link leads to and no process uses.

    Those that a link led to a while ago are SPARED, but for ``dropped``.
    """
    linked, names = set(_linked(models)), {entry.name for entry in os.scandir(versions)}
    folders = {name for name in names if not name.startswith(".") and not _is_mark(name)}
    old = {name for name in folders if _age(versions / f"{name}{INSTALLED}") > SPARED}
    if idle := (folders & {*old, *dropped}) - linked:
        for name in idle - _used(versions, state):
            # F: with the mark gone the folder is no version any more
            (versions / f"{name}{INSTALLED}").unlink(missing_ok=True)
            _remove(versions / name)
    for name in names:
        if _is_mark(name) and not (versions / name.removesuffix(INSTALLED)).is_dir():
            (versions / name).unlink(missing_ok=True)
        elif name.startswith((".half-", ".home-")) and _age(versions / name) > LITTER:
            _remove(versions / name)


def _age(path: Path) -> float:
    """Seconds; of what is not there, for ever."""
    try:
        return time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:
        return float("inf")


def _linked(models: Path) -> Iterator[str]:
    for entry in os.scandir(models):
        if entry.is_symlink():
            yield os.path.basename(os.readlink(entry.path))


def _used(versions: Path, state: Path) -> set[str]:
    """The names in ``versions`` that a process has open, works in, or runs from; or a run will."""
    roots = "|".join({re.escape(os.fsencode(p)).decode() for p in (versions, versions.resolve())})
    pattern = re.compile(rf"(?:{roots})/([^/\s\0\"]+)".encode())
    found: set[str] = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for text in _told(f"/proc/{pid}"):
            found |= {os.fsdecode(name) for name in pattern.findall(text)}
    for order in state.glob("runs/*/order.json"):  # such as one that waits for its input
        with contextlib.suppress(OSError):
            found |= {os.fsdecode(name) for name in pattern.findall(order.read_bytes())}
    return found


def _told(process: str) -> Iterator[bytes]:
    """Where ``process`` tells of files; it may end meanwhile, or be none of ours."""
    links = [f"{process}/cwd", f"{process}/exe"]
    with contextlib.suppress(OSError):
        links += (f"{process}/fd/{name}" for name in os.listdir(f"{process}/fd"))
    for link in links:
        with contextlib.suppress(OSError):
            yield os.fsencode(os.readlink(link)) + b"/"
    for name in ("maps", "cmdline"):
        with contextlib.suppress(OSError):
            yield Path(f"{process}/{name}").read_bytes()


def _is_mark(name: str) -> bool:
    return name.endswith(INSTALLED)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    if not folder.is_dir() or os.geteuid() == 0:
        return
    for where, _, _ in os.walk(folder):  # without root a folder may keep us from what is in it
        with contextlib.suppress(OSError):
            os.chmod(where, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _write(file: Path, data: bytes) -> None:
    """It appears whole, when it is on the disk."""
    half = file.with_name(f".new-{file.name}")
    with half.open("wb") as out:
        out.write(data)
        out.flush()
        os.fsync(out.fileno())
    half.rename(file)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Installs of one host wait for each other."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


if __name__ == "__main__":
    sys.exit(main())
