"""The words in which ``web.operations`` says what a route takes and answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

Schema = dict[str, object]

Need = Literal["none", "read", "submit", "kill"]
"""The role that a request needs; for ``kill`` an admin's, or the key that submitted the job."""

HTML, JSON, TEXT, ZIP = "text/html", "application/json", "text/plain", "application/zip"


class Parameter(NamedTuple):
    """Something in the address or in the head of a request."""

    name: str
    place: Literal["path", "query", "header"]
    text: str
    schema: Schema
    required: bool = False
    example: object = None


class Body(NamedTuple):
    """What a request may carry, by media type."""

    text: str
    contents: Mapping[str, Schema]
    required: bool = True


class Answer(NamedTuple):
    """One status: what comes with it, by media type, and the headers that always come."""

    text: str
    contents: Mapping[str, object]  # a type of web.shapes, or a schema
    headers: tuple[str, ...] = ()
    may: tuple[str, ...] = ()  # headers that may come


class Operation(NamedTuple):
    """One method on one path. ``problems`` are those beside the ones that any route may have."""

    tag: str
    summary: str
    answers: Mapping[int, Answer]
    problems: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    needs: Need = "read"


# --- parameters: those of a query may all be left out


def query(name: str, text: str, example: str, **schema: object) -> Parameter:
    return Parameter(name, "query", text, {"type": "string", **schema}, example=example)


def number(name: str, text: str, example: int, least: int = 0) -> Parameter:
    schema: Schema = {"type": "integer", "minimum": least}
    return Parameter(name, "query", text, schema, example=example)


def in_path(name: str, text: str, **schema: object) -> Parameter:
    return Parameter(name, "path", text, {"type": "string", "minLength": 1, **schema}, True)


# --- answers

BYTES: Schema = {"type": "string", "format": "binary"}
PAGE: Schema = {"type": "string"}
WORD: Schema = {"type": "string", "minLength": 1}

_UNCHANGED = Answer("As it was: nothing is sent.", {}, headers=("ETag",))
PAGE_200 = {200: Answer("The page.", {HTML: PAGE})}


def json(
    shape: object, text: str, *, page: bool = False, may: tuple[str, ...] = ()
) -> dict[int, Answer]:
    """JSON with an ETag; with ``page`` a page instead, where the request names HTML."""
    given = Answer(text, {JSON: shape}, headers=("ETag",), may=may)
    if page:
        given = Answer(text, {JSON: shape, HTML: PAGE}, may=("ETag", *may))
    return {200: given, 304: _UNCHANGED}


def lead(text: str) -> Answer:
    """See other."""
    return Answer(text, {}, headers=("Location",))


def done(shape: object, text: str) -> dict[int, Answer]:
    """JSON; a browser is led on."""
    return {200: Answer(text, {JSON: shape}), 303: lead("A browser is led to the job's page.")}


def file(kinds: tuple[str, ...], text: str) -> dict[int, Answer]:
    """A file, or a range of it."""
    contents = dict.fromkeys(kinds, BYTES)
    return {
        200: Answer(text, contents, headers=("Content-Disposition",), may=("ETag",)),
        206: Answer("The range of it.", contents, headers=("Content-Range",), may=("ETag",)),
        304: _UNCHANGED,
    }
