"""What a request may carry, as ``/openapi.json`` says it. Pure."""

from __future__ import annotations

from web import uploads
from web.declarations import BYTES, WORD, Body, Parameter, Schema
from web.submissions import MAX_NAME

# One line without control characters, nor any that change the direction of what follows.
_SHOWN = r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
_NOT_BLANK = r"[^\s\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"

_ZIP: Schema = BYTES | {"description": "A zip with the model's input files."}
_NAME: Schema = {
    "type": "string",
    "minLength": 1,
    "maxLength": MAX_NAME,
    "pattern": f"^{_SHOWN}*{_NOT_BLANK}{_SHOWN}*$",
    "description": "Shown as text, in one line; not spaces alone.",
}
_MODEL: Schema = WORD | {"description": "Which model to run."}
_URL: Schema = {
    "type": "string",
    "format": "uri",
    "description": "Where the primary fetches the input, http or https.",
}

NEW = (
    Parameter("job_name", "query", "The name of the new job.", _NAME, True, "Dry year"),
    Parameter("model", "query", "Which model to run.", _MODEL, True),
)

RAW: dict[str, Schema] = dict.fromkeys(uploads.RAW, _ZIP)
_MULTIPART, _URLENCODED = "multipart/form-data", "application/x-www-form-urlencoded"


def _form(needed: dict[str, Schema]) -> Schema:
    return {"type": "object", "properties": needed, "required": list(needed)}


_NO_FORMAT: Schema = {name: value for name, value in _URL.items() if name != "format"}
_NEW: dict[str, Schema] = {"job_name": _NAME, "model": _MODEL}
SUBMITTED = Body(
    "A form with zip_file or zip_url; or the zip itself, with job_name and model in the address.",
    {
        # A browser sends the field that was left empty, too: so neither is needed here.
        _MULTIPART: {
            "type": "object",
            # as an address in any case: the format would forbid the empty one
            "properties": _NEW | {"zip_file": _ZIP, "zip_url": _NO_FORMAT},
            "required": list(_NEW),
        },
        _URLENCODED: _form(_NEW | {"zip_url": _URL}),
        **RAW,
    },
)
CHECKED = Body(
    "A form with the zip, or the zip itself.",
    {
        _MULTIPART: _form({"zip_file": _ZIP}),
        **RAW,
    },
)
_NAME_OR_NOTHING: Schema = {"type": "string", "maxLength": MAX_NAME, "pattern": f"^{_SHOWN}*$"}
RENAMED = Body(
    "The new job's name; without one it has that of the old job.",
    {
        kind: {"type": "object", "properties": {"job_name": _NAME_OR_NOTHING}}
        for kind in (_URLENCODED, _MULTIPART)
    },
    required=False,
)
_NEXT: Schema = {"type": "string", "description": "The path to go on to; /jobs without it."}
KEYED = Body(
    "The key.",
    {
        kind: {"type": "object", "properties": {"key": WORD, "next": _NEXT}, "required": ["key"]}
        for kind in (_URLENCODED, _MULTIPART)
    },
)
