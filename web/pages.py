"""The HTML pages: templates from views/, escaped by bottle's SimpleTemplate."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import bottle

from ledger.jobs import FINAL
from primary.server import VERSION
from web import advice, words

VIEWS = Path(__file__).parent / "views"
STATIC = Path(__file__).parent / "static"


# What every template may use, beside ``now``, the time at which the page is made.
_EVERYWHERE: dict[str, object] = {
    "words": words,
    "advice": advice,
    "final": FINAL,
    "version": VERSION,
}


class Pages:
    """The templates, compiled at once; ``render`` may be called from any thread."""

    def __init__(self) -> None:
        self._templates = {
            path.stem: bottle.SimpleTemplate(name=path.name, lookup=[str(VIEWS)])
            for path in VIEWS.glob("*.html")
        }
        for template in self._templates.values():
            _ = template.co  # compiled now: a mistake shows at the start, and nobody waits later

    def render(self, name: str, values: dict[str, object]) -> bytes:
        """The page ``views/<name>.html``; ``values`` may bring a ``now`` of their own."""
        given = {"now": datetime.now(UTC)} | _EVERYWHERE | values
        text: str = self._templates[name].render(**given)
        return text.encode()
