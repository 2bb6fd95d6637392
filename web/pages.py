"""The HTML pages: templates from views/, escaped by bottle's SimpleTemplate."""

from __future__ import annotations

from pathlib import Path

import bottle

from ledger.jobs import FINAL, State
from web import history, words

VIEWS = Path(__file__).parent / "views"
STATIC = Path(__file__).parent / "static"


# What every template may use.
_EVERYWHERE: dict[str, object] = {
    "words": words,
    "history": history,
    "states": list(State),
    "final": FINAL,
}


class Pages:
    """The templates, compiled once; ``render`` may be called from any thread."""

    def __init__(self) -> None:
        self._templates = {
            path.stem: bottle.SimpleTemplate(name=path.name, lookup=[str(VIEWS)])
            for path in VIEWS.glob("*.html")
        }

    def render(self, name: str, values: dict[str, object]) -> bytes:
        """The page ``views/<name>.html``."""
        text: str = self._templates[name].render(
            **_EVERYWHERE,
            **values,
        )
        return text.encode()
