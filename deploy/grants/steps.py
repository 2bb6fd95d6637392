"""Steps that set a host up, and the shell script that does the same. Pure.

A step is a sentence, commands, and perhaps a file. The sentence says what is so
when the step is done, so that it can stand in a script and in a report.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import msgspec

PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
_END = "END_OF_FILE"

Command = tuple[str, ...]


def unless(done: str, command: Command) -> Command:
    """``command``, but for where the shell's ``done`` succeeds: for what cannot be done twice."""
    return ("sh", "-c", f"{done} || {shlex.join(command)}")


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of root's, 0644, that appears whole.

    Where one of ``checks`` fails, what lay there before is put back.
    """

    path: str
    text: str
    checks: tuple[Command, ...] = ()


class Step(msgspec.Struct, frozen=True):
    """One thing to do: first the commands in their order, then the file."""

    sentence: str
    commands: tuple[Command, ...] = ()
    file: File | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Steps, and what somebody should know besides; no steps if all is so already.

    ``beyond``: what they change that others notice. ``models``: what was asked for;
    ``before``: further models that the account has already.
    """

    account: str
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()
    beyond: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    chroot: str = ""


def half_of(path: str) -> str:
    """Where a file is written before it takes its place; no ``*.conf`` matches it."""
    return f"{path}.new"


def before_of(path: str) -> str:
    """Where the earlier file lies while the new one is checked."""
    return f"{path}.before"


def script(title: str, why: Sequence[str], steps: Sequence[Step]) -> str:
    """A shell script for root that does the steps, and ends at the first that fails.

    It can be run again.
    """
    lines = ["#!/bin/sh", f"# {_shown(title)}", "#"]
    lines += [f"# {_shown(line)}".rstrip() for line in why]
    lines += ["set -eu", f"PATH={PATH}", "export PATH", "export LC_ALL=C"]
    lines.append("umask 022")
    for step in steps:
        lines += ["", f"# {_shown(step.sentence)}"]
        lines += [_line(command) for command in step.commands]
        if step.file is not None:
            lines += _written(step.file)
        # not echo: dash's makes something of backslashes
        lines.append(rf"printf '%s\n' {shlex.quote(_shown(step.sentence))}")
    return "\n".join(lines) + "\n"


def _line(command: Command) -> str:
    if command[:2] == ("sh", "-c") and len(command) == 3:
        return command[2]  # the script is a shell already
    return shlex.join(command)


def _written(file: File) -> list[str]:
    path, half = shlex.quote(file.path), shlex.quote(half_of(file.path))
    if _END in file.text.splitlines() or not file.text.endswith("\n"):
        raise ValueError(f"{file.path}: cannot stand in a here-document")
    lines = [f"cat >{half} <<'{_END}'\n{file.text}{_END}", f"chmod 0644 {half}"]
    if not file.checks:
        return [*lines, f"mv -f {half} {path}"]
    before = shlex.quote(before_of(file.path))
    checks = " && ".join(shlex.join(check) for check in file.checks)
    return [
        *lines,
        f"rm -f {before}",
        f"if [ -e {path} ]; then cp -p {path} {before}; fi",
        f"mv -f {half} {path}",
        f"if {checks}; then",
        f"    rm -f {before}",
        "else",
        f"    if [ -e {before} ]; then mv -f {before} {path}; else rm -f {path}; fi",
        rf"    printf '%s\n' {shlex.quote(f'{file.path} did not hold, and was taken back')} >&2",
        "    exit 1",
        "fi",
    ]


def _shown(text: str) -> str:
    """On one line: a path may hold anything, and must not become a command."""
    return "".join(c if c.isprintable() else "?" for c in text)
