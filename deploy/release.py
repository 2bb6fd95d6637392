"""What is shipped: our wheel, built from the checkout, and the locked ones.

The version tells what is in it: behind setup.py's stands a digest of the sources that go into
the wheel, of setup.py and of the lock, so two checkouts that differ there are two versions.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from deploy.ownpip import pip
from deploy.targets import Target
from deploy.wheels import gather
from spool.errors import Refused

LOCK = "requirements.lock"
RECIPE = ("setup.py", LOCK)  # they tell what a version is, besides the wheel's sources
FORGOTTEN = 7 * 24 * 3600.0  # seconds that our own wheels are kept
LABEL = 12  # digits of the digest in a version: 48 bits

# setup.py itself says what goes into the wheel; nothing is built, and nothing written.
_LISTED = """
import json, setuptools
from distutils.core import run_setup
dist = run_setup("setup.py", ["build_py"], stop_after="commandline")
command = dist.get_command_obj("build_py")
command.ensure_finalized()
print(json.dumps([dist.get_version(), sorted(set(command.get_output_mapping().values()))]))
"""


class Release(msgspec.Struct, frozen=True):
    """``version`` such as "0.1.0+3f2a91c04d7e"; ``files``: wheels on this machine, ours first."""

    version: str
    files: tuple[Path, ...]


def cache_folder() -> Path:
    """Where wheels are kept; it may be deleted at any time."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "modelrunner"


def source(given: Path | None = None) -> Path:
    """The checkout: ``given``, or the one that this program runs from. Raises Refused."""
    folder = (given or Path(__file__).parent.parent).resolve()
    if all((folder / name).is_file() for name in (*RECIPE, "modelrunner.py")):
        return folder
    if given is None:
        raise Refused(
            "modelrunner was installed from a wheel, and is shipped from a checkout",
            "run .venv/bin/modelrunner of a checkout, or name one: --source DIR",
        )
    raise Refused(
        f"{given} is no checkout of Model Runner",
        "its folder has modelrunner.py, setup.py and requirements.lock",
    )


def version_of(source: Path) -> str:
    """The version of what stands in a checkout. Raises Refused."""
    version, sources = _listed(source)
    try:
        return _version(source, version, sources)
    except OSError as e:  # somebody is at work in the checkout
        raise Refused(f"{e.filename}: {e.strerror}", "setup.py packs this file; try again") from e


def _listed(source: Path) -> tuple[str, list[str]]:
    """setup.py's version, and the wheel's sources, relative to the checkout. Raises Refused."""
    ended = subprocess.run(
        (sys.executable, "-B", "-c", _LISTED),
        cwd=source,
        env={name: value for name, value in os.environ.items() if name != "MODELRUNNER_BUILD"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no word"])[-1]
        raise Refused(
            f"setup.py of {source} does not say what it packs: {last}",
            "make in the checkout makes an environment with what it needs, .venv; use that one",
        )
    version, sources = json.loads(ended.stdout.splitlines()[-1])
    return str(version), [str(name) for name in sources]


def _version(source: Path, version: str, sources: Sequence[str]) -> str:
    whole = hashlib.sha256()
    for name in sorted({*sources, *RECIPE}):
        data = (source / name).read_bytes()
        whole.update(f"{len(name)} {name} {len(data)}\n".encode() + data)
    label = whole.hexdigest()[:LABEL]
    # digits alone would be a number, and lose leading zeros
    return f"{version}+" + ("d" + label[1:] if label.isdigit() else label)


def build(
    source: Path,
    target: Target,
    cache: Path,
    *,
    offline: bool,
    said: Callable[[str], None],
    folders: Sequence[Path] = (),
) -> Release:
    """All wheels for a target: ours, built, and the locked ones (see ``wheels.gather``).

    The wheel is built from a copy, so the checkout stays as it is. ``folders``: --wheels.
    Raises Refused.
    """
    wheels = gather(
        source / LOCK, target, cache / "wheels", folders=folders, offline=offline, said=said
    )
    try:
        with tempfile.TemporaryDirectory(prefix="modelrunner-build-") as name:
            version, wheel = _built(source, Path(name), said)
            kept = cache / "built" / version / wheel.name
            kept.parent.mkdir(parents=True, exist_ok=True)
            _forget(kept.parent.parent)
            half = kept.with_name(f".half-{os.getpid()}-{wheel.name}")
            shutil.copyfile(wheel, half)
            os.replace(half, kept)
    except OSError as e:
        raise Refused(
            f"our wheel could not be built: {e.filename}: {e.strerror}",
            "make room, or put permissions right there",
        ) from e
    return Release(version, (kept, *wheels))


def _forget(builds: Path) -> None:
    """Old versions of ours: nobody needs them, each is built anew."""
    for build in builds.iterdir():
        if time.time() - build.stat().st_mtime > FORGOTTEN:
            shutil.rmtree(build, ignore_errors=True)


def _built(source: Path, folder: Path, said: Callable[[str], None]) -> tuple[str, Path]:
    """The version of a copy made in ``folder``, and its wheel. Raises Refused, OSError."""
    copy = folder / "copy"
    _, sources = _listed(source)
    for name in (*sources, *RECIPE, "pyproject.toml"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, copy / name)
    version = version_of(copy)  # of the copy: the checkout may change at any moment
    said(f"building version {version}")
    failed = pip(
        *("wheel", "--no-index", "--no-deps", "--no-build-isolation"),
        *("--wheel-dir", str(folder), str(copy)),
        cwd=folder,
        environment={
            "MODELRUNNER_BUILD": "+" + version.partition("+")[2],
            "SOURCE_DATE_EPOCH": "946684800",  # any, so long as equal sources give equal bytes
        },
    )
    found = list(folder.glob("modelrunner-*.whl"))
    if failed or len(found) != 1:
        last = (failed.splitlines() or ["pip made no wheel"])[-1].strip()
        raise Refused(
            f"our wheel could not be built: {last}",
            "make in the checkout makes an environment that can, .venv: use that one",
        )
    return version, found[0]
