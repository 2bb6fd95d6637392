"""The command line on a terminal: tables, the line that changes, keys, and hostile text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client.api import Client
from client.terminal import LiveLine
from tests.client.process import COMMAND, Terminal

Open = Callable[..., Terminal]
_DRAWING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def terminal(hand: Any) -> Iterator[Open]:
    """A command about the primary, on a terminal."""
    opened: list[Terminal] = []

    def open_(*arguments: object, columns: int = 100, **env: str) -> Terminal:
        made = Terminal(
            *(*COMMAND, *arguments), columns=columns, MODELRUNNER_SERVER=hand.url, **env
        )
        opened.append(made)
        return made

    yield open_
    for each in opened:
        each.close()


def plain(drawn: str) -> list[str]:
    return [line.rstrip() for line in _DRAWING.sub("", drawn).replace("\r", "").split("\n")]


def test_a_table_fits_and_shows_short_ids(terminal: Open, hand: Any, good: Path) -> None:
    client = Client(hand.url)
    job = client.submit("echo", good, name="a [red]name[/red] " + "very " * 20 + "long")
    shown = terminal("jobs", columns=80)
    assert shown.end() == 0
    head, row = plain(shown.drawn)[:2]
    assert head.split()[:4] == ["id", "name", "model", "state"]
    assert row.startswith(f"{job['uuid'][:8]}  a [red]name[/red] very ")
    assert "…" in row and " QUEUED " in row
    assert all(len(line) <= 80 for line in plain(shown.drawn))


def test_more_jobs_than_are_shown_are_told_of(terminal: Open, hand: Any, good: Path) -> None:
    client = Client(hand.url)
    for _ in range(2):
        client.submit("echo", good)
    assert "--all shows more" not in _ended(terminal("jobs", "--limit", 2))
    assert "The newest 1; --limit N or --all shows more." in _ended(terminal("jobs", "--limit", 1))


def test_an_empty_list_says_so(terminal: Open) -> None:
    assert plain(_ended(terminal("jobs", "--state", "FAILED")))[0] == "No job is like this."


def _ended(shown: Terminal) -> str:
    assert shown.end() == 0
    return shown.drawn


def test_waiting_shows_how_it_stands(terminal: Open, hand: Any, good: Path) -> None:
    job = Client(hand.url).submit("echo", good)
    id = job["uuid"]
    shown = terminal("wait", id)
    assert job["waiting"], "nobody has taken it"
    shown.until(f"QUEUED  {job['waiting'][:60]}")
    log = hand.start(id)
    shown.until("RUNNING")
    log.write_bytes(b"first line\nhalf a ")
    shown.until("half a ")
    hand.end(id, b"first line\nhalf a line\n")
    assert shown.end() == 0
    lines = [line.split("\x1b[2K")[-1].strip() for line in shown.drawn.splitlines()]
    assert "first line" in lines and "half a line" in lines, "the log is not mixed with it"
    assert lines[-2:] == [
        f"Job {id} COMPLETE",
        f"modelrunner outputs {id[:8]} lists what it left",
    ]


def test_interrupting_leaves_the_job_alone(terminal: Open, hand: Any, good: Path) -> None:
    shown = terminal("submit", "--model", "echo", "--wait", good)
    shown.until("QUEUED")
    shown.press("\x03")
    assert shown.end() == 130
    (job,) = Client(hand.url).jobs()
    assert f"Job {job['uuid']} goes on." in shown.drawn
    assert f"modelrunner kill {job['uuid'][:8]} ends it" in shown.drawn
    assert not job["kill_requested"] and "Traceback" not in shown.drawn


HOSTILE = b"\x1b]0;owned\x07\x1b[2Jtext\x1b[31mred\n50 %\r100 %\n\x1b[6n"


def test_a_log_cannot_drive_the_terminal(terminal: Open, hand: Any, good: Path) -> None:
    id = Client(hand.url).submit("echo", good)["uuid"]
    hand.start(id)
    hand.end(id, HOSTILE)
    for command in (["log", id], ["log", "-f", id], ["wait", id]):
        drawn = _ended(terminal(*command))
        _, log, after = drawn.partition("text\x1b[31mred\r\n50 %\r100 %\r\n")
        assert log and "\x1b[0m" in after, "colours end with it"
        assert "owned" not in drawn and "\x1b[2J" not in drawn and "\x1b[6n" not in drawn
    assert HOSTILE.replace(b"\n", b"\r\n").decode() in _ended(terminal("log", "--raw", id))


def test_what_the_server_says_cannot_either(
    terminal: Open, hand: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hand.primary, "findings", lambda: ["bad \x1b]0;owned\x07 thing"])
    shown = terminal("doctor")
    assert shown.end() == 1
    assert "bad  ]0;owned  thing" in shown.drawn and "\x1b" not in shown.drawn


def test_findings_are_a_table(terminal: Open, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "b").touch()
    shown = terminal("check", "--model", "echo", tmp_path / "in", columns=70)
    assert shown.end() == 1
    lines = plain(shown.drawn)
    (head,) = (n for n, line in enumerate(lines) if line.split() == ["file", "expected", "found"])
    assert lines[head + 1].startswith("a "), "the file that is missing"
    assert all(len(line) <= 70 for line in lines[head:])


def test_a_large_upload_has_a_bar(terminal: Open, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    (folder / "a").write_text("1")
    (folder / "noise").write_bytes(os.urandom(2_000_000))
    shown = terminal("submit", "--model", "echo", folder)
    assert shown.end() == 0
    assert "Zipping" in shown.drawn and "MB" in shown.drawn
    assert "See " in shown.drawn, "where the job's page is"


def test_the_line_is_drawn_only_when_it_changes_and_never_into_a_line_of_the_log() -> None:
    drawn: list[str] = []

    class File:
        """What a terminal gets, in pieces."""

        encoding = "utf-8"

        def write(self, text: str) -> int:
            drawn.append(text)
            return len(text)

        def flush(self) -> None:
            pass

        def isatty(self) -> bool:
            return True

    line = _live(File())
    line.show("RUNNING")
    before = len(drawn)
    line.show("RUNNING")
    assert len(drawn) == before
    line.above(lambda: drawn.append("LOG half"), whole_line=False)
    line.show("RUNNING  50 %")
    assert drawn[-1] == "LOG half"
    line.above(lambda: drawn.append(" whole\n"), whole_line=True)
    assert "RUNNING  50 %" in "".join(drawn[drawn.index(" whole\n") :])


def _live(file: Any) -> LiveLine:
    from rich.console import Console

    return LiveLine(Console(file=file, force_terminal=True, width=40, color_system=None))
