"""What can go wrong at the spool, by who must act."""

from __future__ import annotations

import msgspec


class SpoolError(Exception):
    """The root of the spool's errors."""


class Gone(SpoolError):
    """The file is not there (any more). Nobody acts: somebody else was faster."""


class Unreachable(SpoolError):
    """The spool could not be reached. The loop acts: try again."""


class NoSpace(SpoolError):
    """The disk is full. The loop waits until there is room."""


class Refused(SpoolError):
    """The spool does not let us. The operator acts: ``hint`` says how."""

    def __init__(self, what: str, hint: str = "") -> None:
        self.hint = hint
        super().__init__(what + (f" ({hint})" if hint else ""))


class Flooded(Refused):
    """A folder holds more names than anybody looks at. Its owner clears it; until then it waits."""


class Unbelievable(SpoolError):
    """A peer's file is not what it must be. The peer delivers again; the file goes to bad/."""


class BadName(SpoolError, ValueError):
    """A name that does not follow the spool's rules."""


class BadModel(SpoolError):
    """A model.toml that does not hold. The modeller acts: file, key and what was expected."""

    def __init__(self, file: str, key: str, expected: str) -> None:
        self.file, self.key, self.expected = file, key, expected
        super().__init__(f"{file}: {key}: {expected}" if key else f"{file}: {expected}")


class Finding(msgspec.Struct, frozen=True):
    """One thing about an input that is not as it must be, each part in words for its submitter.

    ``file`` is a name within the zip (shown safely), or ``THE_ZIP``.
    """

    file: str
    expected: str
    found: str

    def __str__(self) -> str:
        return f"{self.file}: expected {self.expected}; found {self.found}"


THE_ZIP = "the zip"
MOST = 20  # findings that one refusal has
WHOLE = "a zip that is whole, and whose parts agree with each other"


class BadZip(SpoolError):
    """An input that is refused. The submitter acts.

    ``reason`` is one sentence that stands alone but for ``entry``, the name (shown
    safely) that it is about, if it is about one. ``findings`` are all that was found,
    from one to ``MOST``; of a zip that cannot be read that is the reason, against what was
    ``expected``.
    """

    def __init__(
        self,
        reason: str,
        entry: str | None = None,
        findings: tuple[Finding, ...] = (),
        *,
        expected: str = WHOLE,
    ) -> None:
        self.reason, self.entry = reason, entry
        if not findings:
            # What a stranger called an entry goes to terminals and text files, too.
            file = THE_ZIP if entry is None else repr(entry)[1:-1]
            findings = (Finding(file, expected, reason),)
        self.findings = findings[:MOST]
        super().__init__(f"{entry!r}: {reason}" if entry is not None else reason)
