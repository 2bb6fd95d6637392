"""What of a log may reach a terminal. Pure.

A log is a model's own words, and those of whatever it read: an escape sequence in it can
rename the window, answer in the user's place or hide what follows. Colours and the
carriage returns of progress bars are let through, and nothing else that is not text.
"""

from __future__ import annotations

import codecs
import re

# ECMA-48. A string (OSC, DCS, SOS, PM, APC) ends with BEL or ST; CAN and SUB break any
# sequence, and so does a new line here: a string without an end must not swallow the log.
# Lengths are bounded, so that what follows a sequence that is too long is text again.
_COLOUR = re.compile(r"\x1b\[[0-9;:]{0,64}m")
_CSI = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}([@-~]|(?P<open>\Z))?")
_STRING = re.compile(r"\x1b[]PX^_][^\x07\x18\x1a\x1b\n]{0,4096}(\x07|\x1b\\|(?P<open>\x1b?\Z))?")
_OTHER = re.compile(r"\x1b(?![]\[PX^_])[ -/]{0,8}([0-~]|(?P<open>\Z))?")
_ALLOWED = "\n\r\b\t"
_RESET = b"\x1b[0m"


class LogFilter:
    """Takes a log in pieces, cut anywhere, and gives what may be shown of each."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""  # a sequence whose end has not come yet
        self._coloured = False

    def feed(self, data: bytes) -> bytes:
        text, self._rest = self._rest + self._decoder.decode(data), ""
        return self._clean(text).encode()

    def end(self) -> bytes:
        """What is still to be written: colours end with the log."""
        self._rest = ""
        return _RESET if self._coloured else b""

    def _clean(self, text: str) -> str:
        kept: list[str] = []
        at = 0
        while at < len(text):
            if text[at] != "\x1b":
                end = text.find("\x1b", at)
                end = len(text) if end < 0 else end
                kept.append("".join(c for c in text[at:end] if _shown(c)))
                at = end
                continue
            found = _CSI.match(text, at) or _STRING.match(text, at) or _OTHER.match(text, at)
            assert found is not None, "an escape is at least itself"
            if found["open"] is not None:
                self._rest = text[at:]
                break
            if colour := _COLOUR.fullmatch(found[0]):
                kept.append(colour[0])
                self._coloured = True
            at = found.end()
        return "".join(kept)


def _shown(character: str) -> bool:
    code = ord(character)
    return character in _ALLOWED or not (code < 0x20 or 0x7F <= code < 0xA0)
