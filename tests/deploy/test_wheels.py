"""Which wheels a host gets: for its system, and what the lock says or none."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from deploy.targets import Target, platforms, tags
from deploy.wheels import gather, locked
from spool.errors import Refused
from tests.system import ROOT

DEBIAN = Target()


@pytest.mark.parametrize(
    ("target", "first", "some"),
    [
        (DEBIAN, "manylinux_2_36_x86_64", "manylinux2014_x86_64"),
        (Target(machine="arm64"), "manylinux_2_36_aarch64", "manylinux_2_17_aarch64"),
        (Target(libc="glibc 2.31-13"), "manylinux_2_31_x86_64", "manylinux1_x86_64"),
        (Target(libc="musl 1.2.3"), "musllinux_1_2_x86_64", "musllinux_1_1_x86_64"),
        (Target(libc="musl"), "musllinux_1_2_x86_64", "musllinux_1_0_x86_64"),
    ],
)
def test_platforms_are_those_of_the_target_best_first(
    target: Target, first: str, some: str
) -> None:
    found = platforms(target)
    assert found[0] == first
    assert some in found
    assert not [one for one in found if "2_37" in one]


@pytest.mark.parametrize("libc", ["", "glibc", "bionic 1.0", "glibc 3.0"])
def test_another_c_library_is_refused(libc: str) -> None:
    with pytest.raises(Refused, match="no wheels are made"):
        platforms(Target(libc=libc))


def test_stable_abis_of_older_pythons_are_taken_and_newer_ones_are_not() -> None:
    names = {str(tag) for tag in tags(Target(python="3.12"))}
    assert {"cp312-cp312-manylinux_2_17_x86_64", "cp39-abi3-manylinux_2_34_x86_64"} <= names
    assert {"py3-none-any", "py3-none-manylinux_2_17_x86_64"} <= names
    assert not names & {"cp313-abi3-manylinux_2_17_x86_64", "cp311-cp311-manylinux_2_17_x86_64"}


def lock_of(folder: Path, *lines: str) -> Path:
    path = folder / "lock"
    path.write_text("".join(f"{line} \\\n    --hash=sha256:{'0' * 64}\n" for line in lines))
    return path


@pytest.mark.parametrize(
    ("marker", "there"),
    [
        ("python_version < '3.12'", False),
        ("python_full_version >= '3.12'", True),
        ("platform_machine == 'aarch64'", True),
        ("sys_platform == 'win32' or os_name == 'nt'", False),
        ("platform_python_implementation != 'PyPy'", True),
        ("implementation_name == 'cpython' and platform_system == 'Linux'", True),
    ],
)
def test_markers_ask_for_the_target_not_for_this_machine(
    tmp_path: Path, marker: str, there: bool
) -> None:
    lock = lock_of(tmp_path, f"some-thing==1.0 ; {marker}")
    found = locked(lock, Target(python="3.12", machine="arm64"))
    assert [one.name for one in found] == (["some-thing"] if there else [])


def test_the_lock_of_the_checkout_is_read_whole() -> None:
    names = {one.name for one in locked(ROOT / "requirements.lock", DEBIAN)}
    assert {"paramiko", "cffi", "pip"} <= names
    assert "setuptools" not in names


@pytest.mark.parametrize("line", ["thing>=1.0", "thing", "-e .", "thing==1.*"])
def test_what_is_not_locked_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(Refused, match="make lock"):
        locked(lock_of(tmp_path, line), DEBIAN)


class Shelf:
    """A lock of some packages, and folders for what pretends to be their wheels."""

    def __init__(self, root: Path) -> None:
        self.lock = root / "requirements.lock"
        self.cache, self.mine = root / "cache", root / "mine"
        self.cache.mkdir()
        self.mine.mkdir()
        self.lock.touch()

    def add(self, folder: Path, *names: str) -> None:
        """Wheels of one package."""
        package, version = names[0].split("-")[:2]
        line = f"{package}=={version}"
        for name in names:
            data = name.encode()
            (folder / name).write_bytes(data)
            line += f" --hash=sha256:{hashlib.sha256(data).hexdigest()}"
        with self.lock.open("a") as file:
            file.write(line + "\n")

    def gather(self, offline: bool = True) -> list[Path]:
        return list(
            gather(
                self.lock,
                DEBIAN,
                self.cache,
                folders=[self.mine],
                offline=offline,
                said=print,
            )
        )


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


PURE = "pure-1.0-py3-none-any.whl"
OURS = "fast-2.0-cp311-cp311-manylinux_2_34_x86_64.whl"
STABLE = "fast-2.0-cp39-abi3-manylinux_2_34_x86_64.whl"
OLDER = "fast-2.0-cp311-cp311-manylinux2014_x86_64.manylinux_2_17_x86_64.whl"
OTHERS = "fast-2.0-cp312-cp312-manylinux_2_17_x86_64.whl"


def test_the_best_of_the_fitting_wheels_is_taken_from_the_cache_and_from_a_folder(
    shelf: Shelf,
) -> None:
    shelf.add(shelf.cache, PURE)
    shelf.add(shelf.mine, OLDER, STABLE, OTHERS, OURS)
    (shelf.mine / "no-wheel.whl").touch()
    assert shelf.gather() == [shelf.cache / PURE, shelf.mine / OURS]


def test_offline_names_what_is_lacking_and_how_to_get_it(shelf: Shelf) -> None:
    shelf.add(shelf.cache, OTHERS)
    shelf.add(shelf.cache, PURE)
    with pytest.raises(Refused, match=r"a wheel of fast 2\.0 for Python 3\.11 on x86_64") as caught:
        shelf.gather()
    assert "pure" not in str(caught.value)
    assert "without --offline" in caught.value.hint
    assert "--wheels DIR" in caught.value.hint


def test_a_wheel_that_is_not_the_locks_is_none(shelf: Shelf) -> None:
    shelf.add(shelf.cache, PURE)
    (shelf.cache / PURE).write_bytes(b"damaged")
    with pytest.raises(Refused, match=r"pure 1\.0"):
        shelf.gather()
    (shelf.mine / PURE).write_bytes(PURE.encode())
    assert shelf.gather() == [shelf.mine / PURE]


def test_what_is_lacking_is_downloaded_into_the_cache(
    shelf: Shelf, release_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = release_cache / "modelrunner" / "wheels"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(there))
    [real] = there.glob("click-*.whl")
    digest = hashlib.sha256(real.read_bytes()).hexdigest()
    shelf.lock.write_text(f"click=={real.name.split('-')[1]} --hash=sha256:{digest}\n")
    (shelf.cache / real.name).write_bytes(b"damaged")
    assert shelf.gather(offline=False) == [shelf.cache / real.name]
    assert (shelf.cache / real.name).read_bytes() == real.read_bytes()
    assert list(shelf.cache.iterdir()) == [shelf.cache / real.name]
    assert shelf.gather() == [shelf.cache / real.name]


def test_a_target_that_nobody_made_a_wheel_for_is_named(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(shelf.mine))
    shelf.add(shelf.mine, OTHERS)
    with pytest.raises(Refused, match=r"has no wheel of fast 2\.0 for Python 3\.11") as caught:
        shelf.gather(offline=False)
    assert "\n" not in str(caught.value)
    assert list(shelf.cache.iterdir()) == []
