"""What can go wrong at the spool, by who must act."""

from __future__ import annotations


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


class BadZip(SpoolError):
    """An input that is refused. The submitter acts: ``entry`` (shown safely) and ``reason``."""

    def __init__(self, reason: str, entry: str | None = None) -> None:
        self.reason, self.entry = reason, entry
        super().__init__(f"{entry!r}: {reason}" if entry is not None else reason)
