"""Loaded by schemathesis: makes most requests meet something that exists.

An id drawn at random names no job, and bytes drawn at random are no zip: nearly everything
would be a 404 or a 400. So what the document says of ids, models and keys is narrowed to some
that exist, and one that does not, and binary content is a zip, more often than not.
"""

from __future__ import annotations

import io
import json
import os
import zipfile
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis import HookContext

KNOWN: dict[str, list[str]] = json.loads(os.environ["KNOWN_TO_SCHEMATHESIS"])


def _zip(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return data.getvalue()


_ZIPS = [_zip(a="1"), _zip(**{"wanted.txt": "1", "b.csv": "x,y\n1,2\n"}), _zip(a="1" * 999)[:-30]]
schemathesis.openapi.format("binary", st.sampled_from(_ZIPS) | st.binary(max_size=100))


@schemathesis.hook
def before_load_schema(context: HookContext, raw_schema: dict[str, Any]) -> None:
    del context
    for path, methods in raw_schema["paths"].items():
        for operation in methods.values():
            for parameter in operation.get("parameters", ()):
                if parameter["required"]:
                    _narrow(f"{path} {parameter['name']}", parameter["schema"])
            for content in operation.get("requestBody", {}).get("content", {}).values():
                for name, schema in content["schema"].get("properties", {}).items():
                    _narrow(name, schema)


def _narrow(name: str, schema: dict[str, Any]) -> None:
    known = KNOWN.get(name) or KNOWN.get(name.rpartition(" ")[2])
    if known:
        schema["enum"] = known
