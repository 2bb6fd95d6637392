"""The OpenAPI 3.1 document: the routes' declarations and the shapes, written out. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Protocol

import msgspec

from web import shapes
from web.declarations import HTML, Answer, Need, Operation, Parameter, Schema
from web.gate import COOKIE
from web.problems import CONTENT_TYPE as PROBLEM

_REF = "#/components/schemas/{name}"

_ABOUT = """\
The interface of Model Runner: everything that its pages do.

Answers are JSON where a request names it (`Accept: application/json`), pages where it names HTML;
where it names neither, what was there first: `GET /jobs` and `GET /status` answer with pages, all
else with JSON. Each JSON answer to a GET has a weak ETag, so polling costs little: send it back as
`If-None-Match`, and the answer is an empty 304 while nothing has changed. HEAD follows GET.

Errors are problem documents (RFC 9457) with `message`, "Error:  " and the detail; browsers get a
page. A request that is not HTTP, or whose head is too large, gets a few words as text/plain.

What may be done without a key is for the server's keeper to say. On its own machine that is
everything; elsewhere all but ending jobs, which needs an admin's key or the one that submitted
the job. A key is sent as `Authorization: Bearer <key>`, or by signing in. Parameters that are
empty count as not given.
"""

_NEEDS: dict[Need, str] = {
    "read": "Needs the role read.",
    "submit": "Needs the role submit.",
    "kill": "Needs the role admin, or the key that submitted the job.",
}
_KEYED = (401, 429)  # wherever a key is looked at

_PROBLEMS = {
    400: "Something in the request is wrong: `field` says what, `findings` what is wrong with the "
    "input.",
    401: "It needs a key, or the key that was sent is none.",
    403: "It needs another key, or a page of another site asked for it.",
    404: "There is no such job, model or file (yet, or any more).",
    405: "The method is not for this address; Allow names those that are.",
    409: "It cannot be done now: the job has ended, or the first submission with this "
    "Idempotency-Key is still under way.",
    413: "More bytes than are allowed.",
    415: "The body is of a kind that is not read here.",
    416: "The range begins behind the end.",
    421: "The Host is none of ours.",
    422: "The Idempotency-Key was used before, for another submission.",
    429: "Too many keys that were none came from this address: it has to wait.",
    500: "Something went wrong on our side; the server's log knows it by the number given.",
    503: "The primary is stopping, busy, or its ledger cannot be written.",
    507: "The primary's disk is full; nothing was lost.",
}
_ANYWHERE = (421, 500, 503)  # on every route

_HEADERS: dict[str, tuple[str, Schema]] = {
    "Allow": ("The methods that are for this address.", {"type": "string"}),
    "Content-Disposition": ("A download, and its name; or inline.", {"type": "string"}),
    "Content-Range": ("Which bytes.", {"type": "string", "pattern": "^bytes "}),
    "ETag": ("What is shown now.", {"type": "string", "pattern": '^(W/)?"[!-~]+"$'}),
    "Link": ('The following page, as rel="next".', {"type": "string"}),
    "Location": ("A path on this server.", {"type": "string", "pattern": "^/"}),
    "Retry-After": ("Seconds until it is worth another try.", {"type": "integer"}),
    "Set-Cookie": ("The cookie of the signed-in browser.", {"type": "string"}),
    "WWW-Authenticate": ("How a key is sent.", {"type": "string", "pattern": "^Bearer "}),
    "X-Log-Attempt": (
        "Another one than before: the log began anew.",
        {"type": "integer", "minimum": 1},
    ),
    "X-Log-Final": ("Whether nothing follows.", {"type": "string", "enum": ["true", "false"]}),
    "X-Log-Offset": ("Where the body begins.", {"type": "integer", "minimum": 0}),
    "X-Log-Size": ("The next offset to ask for.", {"type": "integer", "minimum": 0}),
}


class Route(Protocol):
    """What is needed of a row of ``web.routes.table``."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def operation(self) -> Operation: ...


def document(routes: Sequence[Route], version: str) -> dict[str, object]:
    """The whole document."""
    paths: dict[str, dict[str, object]] = {}
    types: list[type] = [shapes.Problem]
    links = [route.name for route in routes if re.fullmatch(r"/jobs/<id>(/\w+)?", route.path)]
    for route in routes:
        path = re.sub(r"<(\w+)(?::\w+)?>", r"{\1}", route.path)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, links)
        for answer in route.operation.answers.values():
            types += [shape for shape in answer.contents.values() if isinstance(shape, type)]
    _, schemas = msgspec.json.schema_components(dict.fromkeys(types), ref_template=_REF)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Model Runner", "version": version, "description": _ABOUT},
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "headers": {name: _header(name) for name in _HEADERS},
            "links": {
                name: {"operationId": name, "parameters": {"id": "$response.body#/id"}}
                for name in links
            },
            "responses": {f"Problem{status}": _problem(status) for status in _PROBLEMS},
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key."},
                "cookie": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": COOKIE,
                    "description": "Of a browser that has signed in.",
                },
            },
        },
    }


def _operation(route: Route, links: Sequence[str]) -> dict[str, object]:
    operation = route.operation
    written: dict[str, object] = {
        "operationId": route.name,
        "tags": [operation.tag],
        "summary": operation.summary,
    }
    if operation.parameters:
        written["parameters"] = [_parameter(parameter) for parameter in operation.parameters]
    if operation.body:
        written["requestBody"] = {
            "description": operation.body.text,
            "required": operation.body.required,
            "content": {kind: {"schema": s} for kind, s in operation.body.contents.items()},
        }
    answers: dict[str, object] = {
        str(status): _answer(answer, links) for status, answer in operation.answers.items()
    }
    keyed = _KEYED if operation.needs != "none" else ()
    for status in sorted({*operation.problems, *keyed, *_ANYWHERE}):
        answers[str(status)] = {"$ref": f"#/components/responses/Problem{status}"}
    written["responses"] = answers
    if operation.needs != "none":
        written["description"] = _NEEDS[operation.needs]
        # {}: what may be done without a key differs from server to server
        written["security"] = [{}, {"key": []}, {"cookie": []}]
    return written


def _parameter(parameter: Parameter) -> dict[str, object]:
    written: dict[str, object] = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.text,
        "required": parameter.required,
        "schema": parameter.schema,
    }
    if parameter.example is not None:
        written["example"] = parameter.example
    if parameter.place == "query" and not parameter.required:
        written["allowEmptyValue"] = True
    return written


def _answer(answer: Answer, links: Sequence[str]) -> dict[str, object]:
    written: dict[str, object] = {"description": answer.text}
    headers: dict[str, object] = {
        name: {"$ref": f"#/components/headers/{name}"} for name in answer.may
    }
    headers |= {name: _header(name) | {"required": True} for name in answer.headers}
    if headers:
        written["headers"] = headers
    if answer.contents:
        written["content"] = {
            kind: {"schema": _schema(shape)} for kind, shape in answer.contents.items()
        }
    if shapes.Submission in answer.contents.values():  # what can be done with the job
        written["links"] = {name: {"$ref": f"#/components/links/{name}"} for name in links}
    return written


def _schema(shape: object) -> object:
    return {"$ref": _REF.format(name=shape.__name__)} if isinstance(shape, type) else shape


def _header(name: str) -> dict[str, object]:
    text, schema = _HEADERS[name]
    return {"description": text, "schema": schema}


def _problem(status: int) -> dict[str, object]:
    written: dict[str, object] = {
        "description": f"{HTTPStatus(status).phrase}: {_PROBLEMS[status]}",
        "content": {
            PROBLEM: {"schema": {"$ref": _REF.format(name="Problem")}},
            HTML: {"schema": {"type": "string"}},
        },
    }
    if status == 405:
        written["headers"] = {"Allow": _header("Allow") | {"required": True}}
    elif status in (409, 503):
        written["headers"] = {"Retry-After": _header("Retry-After")}
    elif status == 429:
        written["headers"] = {"Retry-After": _header("Retry-After") | {"required": True}}
    elif status == 401:
        written["headers"] = {"WWW-Authenticate": _header("WWW-Authenticate") | {"required": True}}
    return written
