"""What a terminal would show of a piece of log, as plain text. Pure.

Progress bars rewrite their line with carriage returns and backspaces, and many
programs colour what they say. Pages without JavaScript, the box about a failure
and the command line get the text that was left standing; ``static/terminal.js``
does the same in the browser, and ``tests/web/terminal_cases.json`` holds both to it.

The cost is linear in the length of the data, whatever they are: each character
is written once, and erasing takes no longer than writing what is erased.
"""

from __future__ import annotations

import re

REPLACEMENT = "\ufffd"

# CSI; OSC, DCS and the like with their text; other escapes. Each may be cut off at its end.
_SEQUENCE = (
    r"\x1b\[[0-?]*[ -/]*[@-~]?"
    r"|\x1b[\]PX^_][^\x00-\x1f\x7f-\x9f]*(?:\x07|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
)
_TOKEN = re.compile(rf"{_SEQUENCE}|[\r\b]|[^\x00-\x08\x0a-\x1f\x7f-\x9f]+|[\x00-\x1f\x7f-\x9f]")
_SPECIAL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_BREAK = re.compile(r"\r?[\n\v\f]")  # what ends a line

# The rest of a sequence, or of a character, that was cut in two by where the data begin.
_REST = re.compile(r"\A(?:\[[0-9;:?]*|[0-9;:?]+)[A-HJKSTfhlmnrsu]")
_CONTINUED = re.compile(rb"\A[\x80-\xbf]{1,3}")
_ERASE = ("\x1b[K", "\x1b[0K", "\x1b[2K")  # from the cursor on, or the whole line
_MOVES = "\r\b\x1b\x00\x07"  # what such a token begins with stands nowhere


def plain(data: bytes, *, cut: bool = False) -> str:
    """``data`` as text, with no control characters but newlines and tabs.

    ``cut`` says that the data begin anywhere, as the tail of a log does: what
    looks like the rest of a colour there is left out.
    """
    if cut:
        data = _CONTINUED.sub(b"", data)
    text = data.decode(errors="replace")
    return shown(_REST.sub("", text) if cut else text)


def shown(text: str) -> str:
    """The same for text."""
    if not _SPECIAL.search(text):
        return text
    lines = _BREAK.split(text)
    return "\n".join(_line(line) if _SPECIAL.search(line) else line for line in lines)


def _line(text: str) -> str:
    """What stands there after ``text``, a line without its end, was written."""
    cells: list[str] = []
    column = 0  # never beyond the end of cells
    for match in _TOKEN.finditer(text):
        token = match[0]
        first = token[0]
        if first == "\r" or token == "\x1b[2K":
            # A terminal leaves the cursor where it is when it erases a line. All that write
            # this go to the line's beginning as well, and so nothing need be filled up.
            column = 0
        elif first == "\b":
            column = max(0, column - 1)
        if token in _ERASE:
            del cells[column:]
        elif first not in _MOVES:
            written = REPLACEMENT if _SPECIAL.match(first) else token
            cells[column : column + len(written)] = written
            column += len(written)
    return "".join(cells)
