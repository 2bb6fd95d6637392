"""Installs a version on a host, by that host's own Python: sent as install.py in the bundle.

Standard library alone, and of that what Debian's python3 has: ``venv``, but no ``ensurepip``. So
the environment is made without pip, and pip's own wheel, of the bundle, is unpacked (it is plain
Python) and run from there; it installs the others and stays out of the environment.

Scripts in an environment carry its path, so it is made where it will stay. What makes it a
version is the file ``.complete``, written last, when all else is on the disk: a folder without it
is as good as none, and so is one whose Python has gone with an upgrade of the system. Installs on
one host wait for each other: they lock the folder of versions.
"""

from __future__ import annotations

import sys

try:
    import argparse
    import errno
    import fcntl
    import hashlib
    import os
    import shutil
    import signal
    import subprocess
    import venv
    import zipfile
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from contextlib import contextmanager
    from pathlib import Path
except ImportError as e:  # Debian's python3-minimal is that small
    what = f"{sys.executable} lacks the module {e.name}, and a whole Python is needed"
    sys.exit(f"Error:  {what}; on Debian: apt-get install python3")

OLDEST = (3, 11)
COMPLETE = ".complete"
COMPILED = 2.0  # bytes on disk for each byte of a wheel's contents: modules are compiled
SPARE = 50 << 20  # bytes that shall be free afterwards


class Failed(Exception):
    """It cannot be installed. One line: what, and what to do."""


def main() -> int:
    """0 the version is there, whole; 1 it is not, and the reason is on stderr."""
    parser = argparse.ArgumentParser(description="Install a version of Model Runner.")
    parser.add_argument(
        "--bundle", type=Path, required=True, help="where the bundle lies, unpacked"
    )
    parser.add_argument("--to", type=Path, required=True, help="FOLDER/VERSION, to be made")
    given = parser.parse_args()
    bundle, to = given.bundle.absolute(), given.to.absolute()
    os.umask(0o022)  # the services' account must read it all
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(143))
    try:
        with locked(to.parent):
            if complete(to):
                print(f"{to.name} is installed already")
                return 0
            install(bundle, to)
    except Failed as e:
        print(f"Error:  {e}", file=sys.stderr)
        return 1
    except OSError as e:
        what = f"{e.filename}: {e.strerror}" if e.filename else e.strerror
        todo = "make room there" if e.errno in (errno.ENOSPC, errno.EDQUOT) else "put it right"
        print(f"Error:  {to.name} was not installed: {what}; {todo} and try again", file=sys.stderr)
        return 1
    print(f"{to.name} installed")
    return 0


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else installs or prunes there. Raises OSError."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    # If we are killed, pip may go on in a folder that the next one clears: it holds the lock too.
    os.set_inheritable(lock, True)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def complete(version: Path) -> bool:
    """Whether it is there, whole, and the Python that it was made with still is."""
    return (version / COMPLETE).exists() and (version / "bin/python").exists()


def install(bundle: Path, to: Path) -> None:
    """``to`` becomes a version, or is gone again. Raises Failed, OSError."""
    if sys.version_info < OLDEST:
        raise Failed(f"{sys.executable} is Python {sys.version.split()[0]}, and 3.11 is the oldest")
    wheels = _checked(bundle)
    shutil.rmtree(to, ignore_errors=True)  # what an interrupted one left
    _check_room(wheels.values(), to.parent)
    try:
        venv.create(to, symlinks=True, with_pip=False)
        _fill(bundle, wheels, to)
        _try(to)
        os.sync()  # power may fail; thousands of files, so not one by one
        with (to / COMPLETE).open("w") as file:
            file.write(f"{sys.version.split()[0]}\n")
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        shutil.rmtree(to, ignore_errors=True)
        raise


def _checked(bundle: Path) -> dict[str, Path]:
    """The wheels by package name, each as its line in SHA256SUMS says. Raises Failed, OSError."""
    found = {}
    for line in (bundle / "SHA256SUMS").read_text().splitlines():
        digest, _, name = line.partition("  ")
        path = bundle / name
        with path.open("rb") as file:
            if hashlib.sha256(file.read()).hexdigest() != digest:
                raise Failed(f"{path.name} was damaged on its way; try again")
        found[path.name.split("-")[0]] = path
    if "pip" not in found:
        raise Failed("the bundle has no wheel of pip; it is built with one")
    return found


def _check_room(wheels: Iterable[Path], folder: Path) -> None:
    needed = SPARE
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            needed += int(COMPILED * sum(entry.file_size for entry in archive.infolist()))
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise Failed(
            f"{folder} has {free >> 20} MB free, and {needed >> 20} MB are needed; make room there"
        )


def _fill(bundle: Path, wheels: Mapping[str, Path], to: Path) -> None:
    """Installs all wheels but pip's, compiled. Raises Failed, OSError."""
    with zipfile.ZipFile(wheels["pip"]) as archive:
        archive.extractall(bundle / "pip")
    lines = []
    for name, path in wheels.items():
        if name != "pip":
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{name}=={path.name.split('-')[1]} --hash=sha256:{digest}\n")
    (bundle / "requirements.txt").write_text("".join(lines))
    pip = (str(to / "bin/python"), "-I", str(bundle / "pip/pip"), "install", "--quiet")
    where = ("--no-index", "--find-links", str(bundle / "wheels"))
    how = ("--no-deps", "--require-hashes", "--no-cache-dir", "--disable-pip-version-check")
    command = (*pip, *where, *how, "--no-input", "-r", str(bundle / "requirements.txt"))
    said = _run(command, bundle, "its packages cannot be installed")
    if said:
        print(said)


def _try(to: Path) -> None:
    """Whether it runs at all. Raises Failed."""
    said = _run((str(to / "bin/modelrunner"), "--version"), to, "it does not run")
    if said.split()[-1:] != [to.name]:
        raise Failed(f"the bundle holds {said or 'nothing'}, not {to.name}; try again")
    everything = "import worker_agent, web.serving"
    _run((str(to / "bin/python"), "-I", "-c", everything), to, "it does not load")


def _run(command: Sequence[str], cwd: Path, what: str) -> str:
    """What the command printed. Raises Failed with ``what`` and its complaints, in one line."""
    environment = {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(cwd),
        "LANG": "C.UTF-8",
        "TMPDIR": str(cwd),  # /tmp may be small
        "PIP_CONFIG_FILE": os.devnull,  # this machine's settings are for others
    }
    ended = subprocess.run(
        command,
        cwd=cwd,
        env=environment,
        close_fds=False,  # the lock
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    said = ended.stdout.strip()
    if ended.returncode:
        lines = said.splitlines()
        errors = [line for line in lines if line.startswith("ERROR: ")] or lines[-1:]
        raise Failed(f"{what}: {' '.join(errors) or f'exit code {ended.returncode}'}")
    return said


if __name__ == "__main__":
    sys.exit(main())
