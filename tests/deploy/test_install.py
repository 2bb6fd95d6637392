"""A version on a host: whole, or not there; installed and removed by the real commands."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from deploy.install import bundle, install_command, prune_command
from deploy.installer import complete
from deploy.paths import Paths, paths
from deploy.release import Release
from tests.system import wait_for

# The host's Python: not this environment's, which has pip.
PYTHON = str(getattr(sys, "_base_executable", sys.executable))
ENVIRONMENT = {"PATH": os.environ["PATH"], "LANG": "C"}


@pytest.fixture(scope="module")
def sent(release: Release) -> bytes:
    return b"".join(bundle(release))


@pytest.fixture
def where(tmp_path: Path) -> Paths:
    return paths("user", str(tmp_path), "keeper")


def install(where: Paths, version: str, sent: bytes) -> subprocess.CompletedProcess[str]:
    ended = subprocess.run(
        install_command(PYTHON, where, version), input=sent, capture_output=True, env=ENVIRONMENT
    )
    return subprocess.CompletedProcess(
        ended.args, ended.returncode, ended.stdout.decode(), ended.stderr.decode()
    )


def there(where: Paths) -> list[str]:
    """All that lies where versions lie, hidden names too."""
    return sorted(path.name for path in Path(where.versions).iterdir())


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, release: Release, sent: bytes) -> Paths:
    """A host with the version, which is current."""
    where = paths("user", str(tmp_path_factory.mktemp("host")), "keeper")
    ended = install(where, release.version, sent)
    assert (ended.returncode, ended.stderr) == (0, "")
    Path(where.current).symlink_to(where.version(release.version))
    return where


def run(where: Paths, *command: str) -> str:
    made = [f"{where.current}/bin/{command[0]}", *command[1:]]
    return subprocess.run(
        made, check=True, capture_output=True, text=True, env=ENVIRONMENT, cwd="/"
    ).stdout


def test_it_is_installed_and_says_its_version(installed: Paths, release: Release) -> None:
    assert run(installed, "modelrunner", "--version") == f"modelrunner {release.version}\n"
    assert there(installed) == [release.version]
    refused = run(
        installed,
        "python",
        "-I",
        "-c",
        "import deploy.release as r\ntry: r.source()\nexcept r.Refused as e: print(e)",
    )
    assert "--source DIR" in refused, "an installed one is no checkout"


def test_a_version_whose_python_has_gone_is_none(
    installed: Paths, release: Release, tmp_path: Path
) -> None:
    whole = Path(installed.version(release.version))
    assert complete(whole)
    links = [os.readlink(link) for link in (whole / "bin").glob("python*") if link.is_symlink()]
    [made_with] = [link for link in links if "/" in link]
    assert re.search(r"/python3\.\d+$", made_with), "a name that the next Python has not"

    (tmp_path / "bin").mkdir()
    (tmp_path / ".complete").touch()
    (tmp_path / "bin/python").symlink_to("/usr/bin/python3.0")
    assert not complete(tmp_path)


def test_everybody_may_read_it_and_nobody_else_may_write(installed: Paths) -> None:
    for path in Path(installed.versions).rglob("*"):
        if not path.is_symlink():
            mode = path.stat().st_mode
            assert mode & 0o044 == 0o044 and not mode & 0o022, path
            assert not path.is_dir() or mode & 0o011 == 0o011, path


def test_modules_are_compiled_and_pip_stays_out(installed: Paths, release: Release) -> None:
    [packages] = Path(installed.version(release.version)).glob("lib/python*/site-packages")
    assert list(packages.glob("ledger/__pycache__/jobs.*.pyc"))
    assert not (packages / "pip").exists()
    assert not list(packages.glob("*.dist-info/direct_url.json")), "the bundle's folder is gone"


def test_again_does_nothing(installed: Paths, release: Release, sent: bytes) -> None:
    mark = Path(installed.version(release.version)) / ".complete"
    before = mark.stat()
    ended = install(installed, release.version, sent)
    assert (ended.returncode, ended.stdout) == (0, f"{release.version} is installed already\n")
    assert mark.stat() == before
    assert there(installed) == [release.version]


def test_a_damaged_wheel_is_refused(where: Paths, release: Release, sent: bytes) -> None:
    with tarfile.open(fileobj=BytesIO(sent)) as archive:
        last = archive.getmembers()[-1]
    place = last.offset_data + last.size // 2
    damaged = sent[:place] + bytes([sent[place] ^ 1]) + sent[place + 1 :]
    ended = install(where, release.version, damaged)
    assert ended.returncode == 1
    name = last.name.rpartition("/")[2]
    assert ended.stderr == f"Error:  {name} was damaged on its way; try again\n"
    assert there(where) == []


def test_a_bundle_that_breaks_off_leaves_nothing(
    where: Paths, release: Release, sent: bytes
) -> None:
    ended = install(where, release.version, sent[: len(sent) // 2])
    assert ended.returncode == 1
    assert "the bundle was not unpacked" in ended.stderr
    assert there(where) == []


def test_a_version_that_does_not_run_is_none(where: Paths, release: Release) -> None:
    alone = tuple(path for path in release.files if path.name.startswith(("modelrunner-", "pip-")))
    ended = install(where, release.version, b"".join(bundle(Release(release.version, alone))))
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error:  it does not run: ModuleNotFoundError")
    assert ended.stderr.count("\n") == 1
    assert there(where) == []


def test_wheels_for_another_python_are_refused_by_name(
    where: Paths, release: Release, tmp_path: Path
) -> None:
    files = []
    for path in release.files:
        name = path.name
        if name.startswith("msgspec-"):
            name = "-".join([*name.split("-")[:2], "cp39-cp39-manylinux_2_17_x86_64.whl"])
        files.append(Path(shutil.copyfile(path, tmp_path / name)))
    ended = install(
        where, release.version, b"".join(bundle(Release(release.version, tuple(files))))
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("Error:  its packages cannot be installed: ERROR: ")
    assert "No matching distribution found for msgspec" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert there(where) == []


@contextmanager
def half_way(where: Paths, version: str, sent: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """An install that pip is at work in; it is a group of its own."""
    process = subprocess.Popen(
        install_command(PYTHON, where, version),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(sent)
    process.stdin.close()
    folder = Path(where.version(version))
    try:
        # the first packages are there, more come
        wait_for(lambda: any(folder.glob("lib/python*/site-packages/*")), "the first package")
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_killed_install_is_no_version_and_the_next_one_succeeds(
    where: Paths, release: Release, sent: bytes
) -> None:
    with half_way(where, release.version, sent) as process:
        os.killpg(process.pid, signal.SIGKILL)
    left = Path(where.version(release.version))
    assert left.is_dir()
    assert not (left / ".complete").exists()
    (left / "rubbish").touch()
    ended = install(where, release.version, sent)
    assert (ended.returncode, ended.stdout) == (0, f"{release.version} installed\n")
    assert not (left / "rubbish").exists()

    # What the killed one had unpacked goes when it is a day old.
    [litter] = Path(where.versions).glob(".bundle-*")
    os.utime(litter, (0, 0))
    Path(where.current).symlink_to(left)
    subprocess.run(prune_command(where, [release.version]), check=True, env=ENVIRONMENT)
    assert there(where) == [release.version]


def test_an_install_that_is_stopped_cleans_up(where: Paths, release: Release, sent: bytes) -> None:
    with half_way(where, release.version, sent) as process:
        os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(60) != 0
    assert there(where) == []


@pytest.mark.root
def test_a_disk_without_room_is_refused_before_anything_is_made(
    where: Paths, release: Release, sent: bytes
) -> None:
    versions = Path(where.versions)
    versions.mkdir(parents=True)
    subprocess.run(("mount", "-t", "tmpfs", "-o", "size=40m", "none", versions), check=True)
    try:
        ended = install(where, release.version, sent)
        assert ended.returncode == 1
        assert "MB are needed; make room there" in ended.stderr
        assert there(where) == []
    finally:
        subprocess.run(("umount", versions), check=True)


def test_pruning_leaves_the_current_the_kept_and_the_used_version(
    installed: Paths, release: Release
) -> None:
    versions = Path(installed.versions)
    for name in ("old", "kept", "used"):
        (versions / name / "lib").mkdir(parents=True)
        (versions / name / "lib" / "thing.so").write_bytes(b"x" * 4096)
    code = (
        "import mmap, sys; f = open(sys.stdin.readline().strip(), 'r+b');"
        "m = mmap.mmap(f.fileno(), 0); print('mapped', flush=True); sys.stdin.read()"
    )
    user = subprocess.Popen(
        (PYTHON, "-c", code), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert user.stdin is not None and user.stdout is not None
    with user:
        user.stdin.write(f"{versions}/used/lib/thing.so\n")
        user.stdin.flush()
        assert user.stdout.readline() == "mapped\n"
        said = subprocess.run(
            prune_command(installed, ["kept"]),
            check=True,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
        ).stdout
        assert said.splitlines() == [
            "version old removed",
            f"version used stays: process {user.pid} uses it",
        ]
        assert there(installed) == sorted([release.version, "kept", "used"])
    subprocess.run(prune_command(installed, []), check=True, env=ENVIRONMENT)
    assert there(installed) == [release.version]
