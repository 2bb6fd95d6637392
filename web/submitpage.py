"""What the form for a new job shows."""

from __future__ import annotations

from primary.server import Primary
from web.problems import Problem


def context(
    primary: Primary, fields: dict[str, str], problem: Problem | None = None
) -> dict[str, object]:
    """The values of ``views/submit.html``: what was filled in, and what was wrong with it."""
    return {"fields": fields, "problem": problem, "models": primary.models()}
