"""What the page of the models shows."""

from __future__ import annotations

from primary.server import Primary
from web.problems import Problem


def context(
    primary: Primary, *, checked: str = "", problem: Problem | None = None
) -> dict[str, object]:
    """The values of ``views/models.html``; ``checked``: the model that an input was checked for."""
    return {
        "models": primary.models(),
        "errors": primary.model_errors(),
        "checked": checked,
        "problem": problem,
    }
