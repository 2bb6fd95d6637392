"""The locked wheels for a host: those kept here, and by pip from an index those that are lacking.

The lock is universal. pip would evaluate its markers for the Python that runs pip, whatever
``--platform`` and ``--python-version`` say, so they are evaluated here, for the target, and pip
gets plain lines. A wheel is shipped only when its hash is one of the lock's.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from deploy.ownpip import pip
from deploy.targets import Target, platforms, tags
from spool.errors import Refused

NOT_ON_HOSTS = {"setuptools"}  # it builds our wheel; what hosts install is built


class Locked(msgspec.Struct, frozen=True):
    """One package of the lock; ``hashes`` are SHA-256 in hex, of its wheels for all targets."""

    name: str  # canonical: lower case, dashes
    version: str
    hashes: frozenset[str]


def locked(lock: Path, target: Target) -> tuple[Locked, ...]:
    """What the lock names for ``target``, but for ``NOT_ON_HOSTS``. Raises Refused."""
    environment = target.environment()
    found = []
    for line in _lines(lock):
        text, *hashes = line.split(" --hash=sha256:")
        try:
            wanted = Requirement(text.strip())
        except InvalidRequirement as e:
            raise _bad_lock(lock, line) from e
        version = re.fullmatch(r"==([^,*]+)", str(wanted.specifier))
        if version is None or not hashes:
            raise _bad_lock(lock, line)
        name = canonicalize_name(wanted.name)
        here = wanted.marker is None or wanted.marker.evaluate(environment)
        if here and name not in NOT_ON_HOSTS:
            found.append(Locked(name, version[1], frozenset(h.strip() for h in hashes)))
    return tuple(found)


def _bad_lock(lock: Path, line: str) -> Refused:
    return Refused(
        f"{lock}: not NAME==VERSION with hashes: {line[:60]!r}", "make lock writes it anew"
    )


def _lines(lock: Path) -> Iterator[str]:
    """Whole lines: those that end in a backslash go on."""
    for line in lock.read_text().replace("\\\n", " ").splitlines():
        whole = " ".join(line.split())
        if whole and not whole.startswith("#"):
            yield whole


def gather(
    lock: Path,
    target: Target,
    cache: Path,
    *,
    folders: Sequence[Path] = (),
    offline: bool,
    said: Callable[[str], None],
) -> tuple[Path, ...]:
    """A wheel for each package of the lock, its hash checked, in the order of the lock.

    Looks in ``folders`` (the keeper's) and in ``cache``, one folder for all targets and locks:
    a wheel's name tells what it is for, and the lock which it must be. What is in neither is
    downloaded into the cache; when ``offline``, no index is asked. Raises Refused: what is
    lacking, and how to get it.
    """
    wanted = locked(lock, target)
    try:
        chosen = _chosen(wanted, target, (*folders, cache))
        lacking = [one for one in wanted if one not in chosen]
        if lacking and offline:
            raise _offline(lacking, target, cache)
        if lacking:
            cache.mkdir(parents=True, exist_ok=True)
            said(f"downloading {len(lacking)} wheels for {target}")
            _download(lacking, target, cache)
            chosen = _chosen(wanted, target, (*folders, cache))
    except OSError as e:
        raise Refused(
            f"wheels cannot be kept in {cache}: {e.strerror}",
            "make room or put permissions right there, or set XDG_CACHE_HOME",
        ) from e
    lost = [one for one in wanted if one not in chosen]
    if lost:
        raise Refused(
            f"pip brought no wheel for {target} of {_names(lost)}",
            "a newer pip may help: make in the checkout installs the locked one",
        )
    return tuple(chosen[one] for one in wanted)


def _offline(lacking: Sequence[Locked], target: Target, cache: Path) -> Refused:
    return Refused(
        f"--offline, and neither the cache {cache} nor --wheels has a wheel of "
        f"{_names(lacking)} for {target}, as locked",
        "run it once without --offline where an index can be reached, or bring a folder of "
        "wheels: --wheels DIR",
    )


def _names(some: Sequence[Locked]) -> str:
    return ", ".join(f"{one.name} {one.version}" for one in some)


def _chosen(
    wanted: Sequence[Locked], target: Target, folders: Sequence[Path]
) -> Mapping[Locked, Path]:
    """The best wheel of each that the folders have; one that is not the lock's is none."""
    ranks = tags(target)
    by_name = {(one.name, one.version): one for one in wanted}
    found: dict[Locked, list[tuple[int, Path]]] = {}
    for path in (wheel for folder in folders for wheel in sorted(folder.glob("*.whl"))):
        try:
            name, version, _, its_tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        one = by_name.get((name, str(version)))
        rank = min((ranks[tag] for tag in its_tags if tag in ranks), default=None)
        if one is not None and rank is not None:
            found.setdefault(one, []).append((rank, path))
    best = {}
    for one, some in found.items():
        for _, path in sorted(some, key=lambda ranked: ranked[0]):
            if digest(path) in one.hashes:
                best[one] = path
                break
    return best


def digest(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(lacking: Sequence[Locked], target: Target, cache: Path) -> None:
    """Into the cache, by way of a folder beside it: a wheel appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=cache, prefix=".half-") as name:
        half = Path(name)
        lines = [
            " ".join([f"{one.name}=={one.version}", *(f"--hash=sha256:{h}" for h in one.hashes)])
            for one in lacking
        ]
        (half / "wanted.txt").write_text("\n".join(lines) + "\n")
        failed = pip(
            *("download", "--require-hashes", "--only-binary=:all:", "--no-deps"),
            # the ABIs follow from these two, the older stable ones among them
            *("--implementation", "cp", "--python-version", target.python),
            *(f"--platform={platform}" for platform in platforms(target)),
            *("--dest", "wheels", "-r", "wanted.txt"),
            cwd=half,
            environment={},
        )
        for wheel in (half / "wheels").glob("*.whl"):
            os.replace(wheel, cache / wheel.name)
    if failed:
        raise _not_downloaded(failed, target)


def _not_downloaded(said: str, target: Target) -> Refused:
    errors = [line.partition(":")[2].strip() for line in said.splitlines() if "ERROR:" in line]
    last = errors[-1] if errors else said.splitlines()[-1].strip()
    none = re.search(r"No matching distribution found for ([^\s=]+)==(\S+)", said)
    reached = "Retrying (" not in said and "connection" not in said.lower()
    if none and reached:
        return Refused(
            f"the package index has no wheel of {none[1]} {none[2]} for {target}",
            "that host needs another Python or system: one that such wheels are made for",
        )
    return Refused(
        f"the wheels for {target} could not be downloaded: {last}",
        "see that pip reaches its index from here (pip download shows it); or bring a folder of "
        "wheels: --wheels DIR",
    )
