"""What a promise's test counted, and how long the counting goes on."""

from __future__ import annotations

import os
from collections.abc import Callable

Figure = Callable[[str, object], None]
"""``figure(what, value)``: printed in the section *figures* at the end of the test run."""

SOAK = bool(os.environ.get("MR_SOAK"))
"""Whether the long figures are wanted (``make soak``), and not those of a CI run."""


def count(ci: int, soak: int) -> int:
    """How many of them in this run."""
    return soak if SOAK else ci
