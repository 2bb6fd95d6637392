"""A text against a model's pattern, with an end.

A pattern can be slow beyond all measure (``(a+)+b`` on forty letters takes hours), and
Python's ``re`` holds up every thread of its process meanwhile. So a child tries it, under
limits: 15 ms for each file with a pattern, and the primary never hangs.
"""

from __future__ import annotations

import subprocess
import sys

MAX_TEXT = 64 * 1024  # bytes of a file that has a pattern
CPU = 2  # seconds that one comparison may compute
_WALL = 60.0  # seconds until the child is ended, however busy the machine is
_MEMORY = 512 * 1024**2  # bytes of address space
_YES, _NO = 10, 11  # exit codes that an interpreter in trouble does not have

_CHILD = f"""
import re, resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({CPU}, {CPU}))
resource.setrlimit(resource.RLIMIT_AS, ({_MEMORY}, {_MEMORY}))
pattern, text = sys.stdin.buffer.read().decode().split("\\0")
sys.exit({_YES} if re.fullmatch(pattern, text) else {_NO})
"""


class TooSlow(Exception):
    """The pattern needs too much time or memory for this text. The modeller acts."""


def matches(pattern: str, text: str) -> bool:
    """Whether all of ``text`` matches ``pattern``. Neither holds a NUL.

    Raises TooSlow; OSError where no process can be started.
    """
    try:
        done = subprocess.run(
            # -I -S: nothing but the standard library, wherever we run.
            [sys.executable, "-I", "-S", "-c", _CHILD],
            input=f"{pattern}\0{text}".encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={},
            timeout=_WALL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise TooSlow from None
    if done.returncode not in (_YES, _NO):
        raise TooSlow
    return done.returncode == _YES
