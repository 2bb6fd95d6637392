"""The version tells what is in it, and building leaves the checkout as it is."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from deploy.release import Release, build, source, version_of
from spool.errors import Refused
from tests.deploy.conftest import HERE
from tests.system import ROOT


def test_the_version_follows_the_sources_and_nothing_else(checkout: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy)
    first = version_of(copy)
    assert re.fullmatch(r"0\.1\.0\+[0-9a-f]{12}", first)
    assert first == version_of(checkout)

    (copy / "ledger/__pycache__").mkdir()
    (copy / "ledger/__pycache__/jobs.cpython-311.pyc").write_bytes(b"compiled")
    (copy / "README.md").write_text("for people")
    assert version_of(copy) == first

    seen = {first}
    for name in ("ledger/jobs.py", "web/static/style.css", "worker_agent.py", "requirements.lock"):
        with (copy / name).open("ab") as file:
            file.write(b"\n")
        seen.add(version_of(copy))
    assert len(seen) == 5
    (copy / "ledger/more.py").touch()
    assert version_of(copy) not in seen


def test_equal_sources_give_equal_wheels_and_nothing_is_left_beside_them(
    checkout: Path, release: Release, release_cache: Path
) -> None:
    before = sorted(checkout.rglob("*"))
    first = release.files[0].read_bytes()
    again = build(checkout, HERE, release_cache / "modelrunner", offline=True, said=print)
    assert again == release
    assert again.files[0].read_bytes() == first
    assert sorted(checkout.rglob("*")) == before
    assert list(release.files[0].parent.iterdir()) == [release.files[0]]


def test_the_wheel_has_its_version_and_all_that_is_not_a_module(release: Release) -> None:
    assert release.files[0].name == f"modelrunner-{release.version}-py3-none-any.whl"
    with zipfile.ZipFile(release.files[0]) as wheel:
        names = set(wheel.namelist())
    assert {"deploy/installer.py", "web/views/layout.html", "client/py.typed"} <= names
    assert not [name for name in names if name.startswith(("tests/", "models/"))]
    shipped = {path.name.partition("-")[0] for path in release.files}
    assert {"modelrunner", "pip", "paramiko", "msgspec"} <= shipped
    assert "setuptools" not in shipped


def test_the_checkout_is_the_one_that_runs_or_the_one_that_is_named(
    checkout: Path, tmp_path: Path
) -> None:
    assert source() == ROOT
    assert source(checkout) == checkout
    with pytest.raises(Refused, match="is no checkout"):
        source(tmp_path)


def test_a_checkout_that_cannot_be_packed_says_so_in_one_line(
    checkout: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkout, copy)
    (copy / "setup.py").write_text("raise ValueError('the recipe is lost')\n")
    with pytest.raises(Refused, match="the recipe is lost") as caught:
        version_of(copy)
    assert "\n" not in str(caught.value)
