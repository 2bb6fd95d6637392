"""The HTML pages: templates from views/, escaped by bottle's SimpleTemplate."""

from __future__ import annotations

from pathlib import Path

import bottle

from ledger.jobs import FINAL, State
from web import present

VIEWS = Path(__file__).parent / "views"
STATIC = Path(__file__).parent / "static"

NAMES = ("jobs", "submit", "job", "nodes", "models", "doctor", "problem")


class Pages:
    """The templates, compiled once; ``render`` may be called from any thread."""

    def __init__(self) -> None:
        self._templates = {
            name: bottle.SimpleTemplate(name=f"{name}.html", lookup=[str(VIEWS)]) for name in NAMES
        }

    def render(self, name: str, *, admin: bool, signed_in: bool, **values: object) -> bytes:
        """The page ``views/<name>.html``; every page knows who looks at it."""
        text: str = self._templates[name].render(
            admin=admin,
            signed_in=signed_in,
            present=present,
            states=list(State),
            final=FINAL,
            **values,
        )
        return text.encode()
