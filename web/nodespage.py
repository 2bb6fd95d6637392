"""What the page of the nodes shows."""

from __future__ import annotations

from primary.server import Primary


def context(primary: Primary) -> dict[str, object]:
    """The values of ``views/nodes.html``."""
    return {"nodes": primary.nodes(), "findings": primary.findings()}
