"""Which form of an answer a client wants, from its Accept header. Pure."""

from __future__ import annotations

HTML = ("text/html", "application/xhtml+xml")
JSON = ("application/json", "application/problem+json", "*/json")


def ranges(accept: str) -> list[tuple[str, float]]:
    """(media range, quality) in the header's order; what cannot be read counts as quality 1."""
    found = []
    for part in accept.split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name.strip().lower() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 1.0
        if media:
            found.append((media.lower(), quality))
    return found


def _first(named: tuple[str, ...], given: list[tuple[str, float]]) -> tuple[float, int] | None:
    """(quality, minus place) of the best of ``named``: larger is wanted more. None: not named."""
    hits = [(q, -place) for place, (media, q) in enumerate(given) if media in named and q > 0]
    return max(hits, default=None)


def names_json(accept: str) -> bool:
    """Whether JSON is named, and ahead of HTML if that is named too."""
    given = ranges(accept)
    json, html = _first(JSON, given), _first(HTML, given)
    return json is not None and (html is None or json > html)


def names_html(accept: str) -> bool:
    """Whether HTML is named, and JSON is not ahead of it."""
    return _first(HTML, ranges(accept)) is not None and not names_json(accept)


def api_only(accept: str) -> bool:
    """Whether the header is what API clients send: nothing, ``*/*`` or JSON, and no more."""
    return all(media in ("*/*", *JSON) for media, _ in ranges(accept))
