"""What a model says of one file of its input: ``[input.files."NAME"]`` in model.toml. Pure."""

from __future__ import annotations

import msgspec


class InputFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a model's input, by its path within the zip.

    ``description`` completes the sentence "expected: ...". ``columns`` are names that the
    first line of this CSV file must hold. ``pattern`` is a regular expression that its
    whole text, without blanks at both ends, must match. Both hold for an ``optional``
    file that is there, too.
    """

    name: str
    description: str = ""
    optional: bool = False
    columns: tuple[str, ...] = ()
    pattern: str | None = None
