"""What stands in the documents is what stands in the code."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from deploy.hostkeys import HOST, PRIMARY, WORKER
from ledger.jobs import State
from primary.roles import ROLES
from primary.rows import ROWS
from tests.system import ROOT
from web.routes import Handlers, table

README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text()
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()


def _section(text: str, heading: str) -> str:
    """What stands between a heading and the next of its level."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
    assert found, f"no section {heading!r}"
    return found[1]


def test_file_table_is_the_one_in_the_code() -> None:
    rows = {}
    for line in _section(ARCHITECTURE, "The file table").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.fullmatch(r"[FD]\d", cells[0]):
            rows[cells[0]] = tuple(cells[1:])
    assert rows == {name: tuple(row) for name, row in ROWS.items()}


def test_every_row_is_named_where_the_code_may_die() -> None:
    """Rows that a crash leaves behind are named in the code that moves them on."""
    code = "".join(p.read_text() for p in (ROOT / "primary").glob("*.py") if p.name != "rows.py")
    named = set(re.findall(r"\b([FD]\d)\b", code))
    assert named <= set(ROWS)
    assert named >= {"F0", "F1", "F2", "F6", "F8", "F9", "D1", "D2"}


def test_every_route_is_in_the_readme_and_no_other() -> None:
    # The handlers are only named here, never called: no site is needed.
    handlers = Handlers(*map(object.__new__, get_type_hints(Handlers).values()))
    routes = {f"{route.method} {route.path}" for route in table(handlers)}
    written = set(
        re.findall(r"`((?:GET|POST|PUT) /[^`]*)`", _section(README, "The HTTP interface"))
    )
    assert written == routes


def test_every_command_is_in_the_readme() -> None:
    def commands(*words: str) -> set[str]:
        shown = subprocess.run(
            [sys.executable, "-m", "modelrunner", *words, "--help"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        return set(re.findall(r"^  (\w+)  ", shown.split("Commands:")[1], re.M))

    main = commands()
    assert main
    for name in main - {"ledger", "deploy"}:
        assert f"modelrunner {name}" in README, name
    for group in ("ledger", "deploy", "key"):
        for name in commands(group):
            assert f"modelrunner {group} {name}" in README, name


def test_options_in_the_readme_exist() -> None:
    for command in ("serve", "submit", "check", "example", "log", "outputs"):
        shown = subprocess.run(
            [sys.executable, "-m", "modelrunner", command, "--help"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        lines = re.findall(rf"modelrunner {command} [^`\n]*", README)
        assert lines, command
        for line in lines:
            for option in re.findall(r"--[a-z-]+", line):
                assert option in shown, f"{command} {option}"


def test_every_key_of_hosts_toml_is_in_the_readme_and_no_other() -> None:
    known = {"models", *(f"hosts.NAME.{key}" for key in HOST if key not in ("primary", "worker"))}
    known |= {f"hosts.NAME.primary.{key}" for key in PRIMARY}
    known |= {f"hosts.NAME.worker.{key}" for key in WORKER}
    rows = re.findall(
        r"^\| (`(?:models|hosts\.)[^|]*)\|", _section(README, "Setting hosts up"), re.M
    )
    assert {name for row in rows for name in re.findall(r"`([^`]+)`", row)} == known


@pytest.mark.parametrize("state", State)
def test_every_state_is_explained(state: State) -> None:
    assert state in README
    assert state in ARCHITECTURE


def test_every_role_is_explained_and_no_other() -> None:
    for text, heading in ((README, "Who may do what"), (SECURITY, "Roles")):
        assert tuple(re.findall(r"^\| `(\w+)` \|", _section(text, heading), re.M)) == ROLES


def test_the_house_is_the_one_that_stands() -> None:
    drawn = set(re.findall(r"^(\w+)/ ", _section(ARCHITECTURE, "The house"), re.M)) | {
        "examples",
        "bench",
    }
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.splitlines()
    standing = {path.split("/")[0] for path in tracked if "/" in path and path[0] != "."}
    assert drawn == standing


def test_files_that_the_documents_name_exist() -> None:
    for text in (README, ARCHITECTURE, CHANGELOG, SECURITY):
        for name in re.findall(r"\b(?:examples|models|tests)/[\w/]+\.\w+", text):
            assert (ROOT / name).exists(), name
        for target in re.findall(r"\]\(([\w./]+\.md)\)", text):
            assert (ROOT / target).exists(), target


def test_modules_that_the_architecture_names_exist() -> None:
    for name in set(
        re.findall(r"`((?:ledger|spool|engine|primary|web|deploy)\.\w+)", ARCHITECTURE)
    ):
        path = Path(ROOT, *name.split("."))
        assert path.with_suffix(".py").exists() or path.is_dir(), name
