"""What a program asks of the file system, as the kernel has seen it: strace, in words of ours.

Nothing that a program does with files escapes it, whichever library does it.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

CALLS = (
    "openat", "open", "creat", "close", "dup", "dup2", "dup3", "fcntl", "lseek",
    "write", "pwrite64", "writev", "pwritev", "ftruncate", "truncate", "fallocate",
    "copy_file_range", "sendfile", "ioctl", "fsync", "fdatasync", "sync", "syncfs",
    "rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat",
    "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir",
)  # fmt: skip
_LONGEST = 16 * 1024 * 1024  # bytes of one write that are recorded whole

_LINE = re.compile(r"(?P<thread>\d+) +(?P<rest>.*)\Z")
_RESUMED = re.compile(r"<\.\.\. \w+ resumed>")
_UNFINISHED = "<unfinished ...>"
_CALL = re.compile(r"(?P<name>\w+)\((?P<args>.*)\) += (?P<result>-?\d+|\?)")
_TOKEN = re.compile(
    r'"(?P<text>(?:\\x[0-9a-f]{2})*)"'
    r"|(?P<fd>AT_FDCWD|\d+)<(?P<path>(?:\\x[0-9a-f]{2})*)[^>]*>"
    r"|(?P<word>[^,\s\[\]{}]+)"
)


class Fd(NamedTuple):
    """A descriptor among the arguments, and the path that it had (None: the working folder's)."""

    number: int | None
    path: str


Argument = str | int | bytes | Fd


class Call(NamedTuple):
    """One call that succeeded. Strings are bytes; flags stay text."""

    name: str
    args: tuple[Argument, ...]
    result: int


def run(command: Sequence[str], trace: Path, *, timeout: float, cwd: Path) -> None:
    """Run ``command`` under strace, which writes to ``trace``. Raises CalledProcessError."""
    tracer = ("strace", "-f", "-y", "-xx", "-s", str(_LONGEST), "-o", str(trace))
    chosen = ("-e", f"trace={','.join(CALLS)}", "-e", "signal=none")
    subprocess.run(
        [*tracer, *chosen, *command], check=True, timeout=timeout, cwd=cwd, capture_output=True
    )


def calls(trace: Path) -> Iterator[Call]:
    """The calls in the order in which they were done; a descriptor is closed when that begins."""
    begun: dict[str, str] = {}
    with trace.open() as lines:
        for line in lines:
            found = _LINE.match(line.rstrip("\n"))
            if found is None:
                continue
            thread, rest = found["thread"], found["rest"]
            if rest.endswith(_UNFINISHED):
                begun[thread] = rest.removesuffix(_UNFINISHED).rstrip()
                if rest.startswith("close("):  # its number may be given to another file at once
                    yield from _call(f"{begun[thread]}) = 0")
                continue
            if resumed := _RESUMED.match(rest):
                start = begun.pop(thread, "")
                if start.startswith("close("):
                    continue
                rest = start + rest[resumed.end() :]
            yield from _call(rest)


def _call(text: str) -> Iterator[Call]:
    found = _CALL.match(text)
    if found is None or not found["result"].isdigit():
        return  # an exit, a signal, or it failed
    args = tuple(_argument(token) for token in _TOKEN.finditer(found["args"]))
    yield Call(found["name"], args, int(found["result"]))


def _argument(token: re.Match[str]) -> Argument:
    if token["text"] is not None:
        return _unhexed(token["text"])
    if token["fd"] is not None:
        number = None if token["fd"] == "AT_FDCWD" else int(token["fd"])
        return Fd(number, _unhexed(token["path"]).decode(errors="replace"))
    word = token["word"]
    return int(word) if re.fullmatch(r"-?\d+", word) else word


def _unhexed(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))
