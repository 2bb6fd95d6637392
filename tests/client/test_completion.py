"""Completion, in a real bash."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.api import Client
from tests.client.process import COMMAND, Terminal, run


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A PATH on which ``modelrunner`` is this very code."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "modelrunner"
    program.write_text(
        f"#!{sys.executable}\nfrom modelrunner import main\nmain(prog_name='modelrunner')\n"
    )
    program.chmod(0o755)
    root = Path(__file__).resolve().parents[2]
    return f"{folder}:/usr/bin:/bin|{root}"


def _bash(path: str, server: str) -> Terminal:
    where, _, root = path.partition("|")
    shell = Terminal(
        *("bash", "--norc", "--noprofile", "-i"),
        columns=200,
        PATH=where,
        PYTHONPATH=root,
        PS1="> ",
        TERM="dumb",
        HISTFILE="",
        MODELRUNNER_SERVER=server,
    )
    shell.press('eval "$(modelrunner completion bash)"; echo rea""dy\n')
    shell.until("\nready")
    return shell


@pytest.fixture
def bash(hand: Any, path: str) -> Iterator[Terminal]:
    shell = _bash(path, hand.url)
    yield shell
    shell.close()


def _typed(bash: Terminal, keys: str, wanted: str) -> None:
    bash.press(keys + "\t")
    bash.until(wanted)
    bash.press("\x15")  # away with the line


def test_commands_options_models_and_jobs(bash: Terminal, hand: Any, good: Path) -> None:
    id = Client(hand.url).submit("echo", good)["uuid"]
    hand.start(id)
    hand.end(id, b"", output={"plots/figure.png": "", "table.csv": ""})
    _typed(bash, "modelrunner comp", "completion ")
    _typed(bash, "modelrunner submit --mod", "--model ")
    _typed(bash, "modelrunner submit --model e", "echo ")
    _typed(bash, f"modelrunner log {id[:5]}", f"{id} ")
    _typed(bash, f"modelrunner outputs {id[:8]} pl", "plots/figure.png ")
    _typed(bash, "modelrunner jobs --state que", "queued ")
    _typed(bash, f"modelrunner check --model echo {str(good)[:-4]}", "good.zip ")


def test_without_a_server_there_is_nothing_and_no_noise(path: str) -> None:
    shell = _bash(path, "http://127.0.0.1:1")
    try:
        shell.press("modelrunner log \t\t")
        shell.press("\x15echo nothing\n")
        assert "Error" not in shell.until("\nnothing")
        _typed(shell, "modelrunner comp", "completion ")
    finally:
        shell.close()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_has_a_script(shell: str) -> None:
    done = run("completion", shell)
    assert (done.returncode, done.stderr) == (0, "")
    assert "_MODELRUNNER_COMPLETE" in done.stdout and "modelrunner" in done.stdout
    assert run("completion", "csh").returncode == 2


def test_names_of_commands_load_none_of_them() -> None:
    """A key was pressed: the server's libraries and SSH's would take half a second."""
    code = (
        "import os, sys\n"
        "os.environ |= {'_MODELRUNNER_COMPLETE': 'bash_complete', 'COMP_WORDS': 'modelrunner s',"
        " 'COMP_CWORD': '1'}\n"
        "from modelrunner import main\n"
        "try: main(prog_name='modelrunner')\n"
        "except SystemExit: pass\n"
        "heavy = {'paramiko', 'bottle', 'rich', 'client', 'deploy'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)\n"
    )
    done = _python(code)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line] == [
        "plain,serve",
        "plain,submit",
        "plain,status",
        "plain,spool",
    ]


def _python(code: str) -> Any:
    import subprocess

    return subprocess.run(
        [COMMAND[0], "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
