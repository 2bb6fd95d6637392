"""The lines of a failed job's log that say why, as well as can be guessed. Pure.

In this order: the end of the last Python traceback; the last lines that look like
errors, with what stands around them; the last lines of all.
"""

from __future__ import annotations

import re
from typing import NamedTuple

MOST = 12  # lines that are shown
LONGEST = 300  # characters of one line that are shown
LOOKED_AT = 400  # lines at the end of the log; an error farther up is not why it ended
BEFORE, AFTER = 2, 3  # lines of context
NEAR = 6  # lines between two errors that are told together
FRAMES = 6  # lines of a traceback above its last: two frames, each with place, code and marks

_TRACEBACK = "Traceback (most recent call last):"
_GROUP = re.compile(r"\s*[|+-]*\s*")  # what exception groups draw before each line

# What compilers, interpreters, shells, solvers and libraries write when they give up.
_ERROR = re.compile(
    r"""
      \b(?: error | errors | fatal | exception | panic(?:ked)? | abort(?:ed|ing)? | failed | failure
          | segmentation\ fault | core\ dumped | bus\ error | stack\ smashing | overflow
          | command\ not\ found | no\ such\ file | not\ found | permission\ denied | killed
          | cannot | can't | could\ not | couldn't | unable\ to | undefined | unknown\ symbol
          | out\ of\ memory | no\ space\ left | bad_alloc | infeasible | unbounded
          | invalid | illegal | assertion | execution\ halted | halted | traceback
      )\b
    | (?-i: [A-Za-z](?:Error|Exception)\b )   # ValueError, java.io.IOException
    | ^\s*\*{3,4}\s+\S                   # GAMS and many a Fortran program
    """,
    re.IGNORECASE | re.VERBOSE,
)
# Looks like one, and is none: "0 errors", "no error", "error: 0.0012", "relative error = 3e-5".
# What may stand between is limited: a line of 64 KiB of "error error ..." takes seconds else.
_NO_ERROR = re.compile(
    r"\b(?:0|no|without)\ (?:\w+\ )?(?:errors?|failures?)\b"
    r"|\berrors?\b[\w\s()%]{0,60}[=:]\s{0,60}[-+]?\.?\d"
    r"|\b(?:failed|failures|aborted)\s*[=:]\s*0\b",
    re.IGNORECASE,
)
_PROGRESS = re.compile(r"::progress +\d{1,3}(?: |$)")


class Line(NamedTuple):
    """``wrong``: it looks like the reason itself, not like what stands around it."""

    text: str
    wrong: bool = False


def last_lines(text: str) -> list[Line]:
    """Up to ``MOST`` lines of ``text``, the end of a log in plain text, that say why it ended."""
    lines = [line.rstrip() for line in text.splitlines() if not _PROGRESS.match(line)]
    lines = lines[-LOOKED_AT:]
    while lines and not lines[-1]:
        lines.pop()
    found = _traceback(lines) or _errors(lines) or [Line(line) for line in lines if line][-10:]
    return [Line(line.text[:LONGEST], line.wrong) for line in found]


def looks_wrong(line: str) -> bool:
    """Whether a line reads like an error's."""
    return bool(_ERROR.search(line)) and not _NO_ERROR.search(line)


def _traceback(lines: list[str]) -> list[Line]:
    """The last frames of the last Python traceback, and what it ends with."""
    starts = [n for n, line in enumerate(lines) if line.endswith(_TRACEBACK)]
    if not starts:
        return []
    start = starts[-1]
    margin = _GROUP.match(lines[start])
    depth = margin.end() if margin else 0
    end = start + 1
    while end < len(lines) and (not lines[end].strip() or lines[end][depth : depth + 1] == " "):
        end += 1
    if end == len(lines):  # cut off, or swallowed
        return [Line(line, n == 0) for n, line in enumerate(lines[start:][-MOST:])]
    frames = [line for line in lines[start + 1 : end] if line.strip()]
    shown = [Line(lines[start])]
    if len(frames) > FRAMES:
        shown.append(Line("  ..."))
    shown += [Line(line) for line in frames[-FRAMES:]]
    shown.append(Line(lines[end], wrong=True))
    # A message of several lines goes on at the margin; so does what follows the traceback.
    shown += [Line(line) for line in lines[end + 1 : end + 1 + AFTER] if line.strip()]
    return shown[:MOST]


def _errors(lines: list[str]) -> list[Line]:
    """The last lines that look like errors and stand together, with their context."""
    wrong = [n for n, line in enumerate(lines) if looks_wrong(line)]
    if not wrong:
        return []
    first = last = wrong[-1]
    for n in reversed(wrong[:-1]):
        if first - n > NEAR:
            break
        first = n
    begin, end = max(0, first - BEFORE), min(len(lines), last + 1 + AFTER)
    shown = [Line(lines[n], n in wrong) for n in range(begin, end) if lines[n]]
    if len(shown) <= MOST:
        return shown
    half = MOST // 2  # the first says what went wrong, the last what came of it
    return [*shown[:half], Line("..."), *shown[len(shown) - (MOST - half - 1) :]]
