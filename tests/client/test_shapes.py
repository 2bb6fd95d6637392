"""The client's types are what the server's own description says."""

from __future__ import annotations

import re
from typing import Any, get_args, get_type_hints

import pytest

import modelrunner
from client import shapes
from client.api import Client
from tests.system import ROOT

TYPES = (
    *("Digest", "Job", "JobDetail", "JobState", "RunFacts", "Record", "Node", "ModelFile"),
    *("Model", "OutputFile", "Finding", "Run", "Timeline", "LogMatch"),
)


def test_a_type_checker_sees_what_the_module_gives() -> None:
    stub = (ROOT / "client" / "stubs" / "__init__.pyi").read_text()
    assert set(re.findall(r"import (\w+) as \1", stub)) == set(modelrunner.PUBLIC)
    for name in modelrunner.PUBLIC:
        assert getattr(modelrunner, name).__name__ == name


@pytest.fixture
def schemas(hand: Any) -> dict[str, Any]:
    found: dict[str, Any] = Client(hand.url)._http.get("/openapi.json")["components"]["schemas"]
    return found


@pytest.mark.parametrize("name", TYPES)
def test_members_are_those_that_are_documented(schemas: dict[str, Any], name: str) -> None:
    ours, theirs = getattr(shapes, name), schemas[name]
    assert set(get_type_hints(ours)) == set(theirs["properties"])
    assert ours.__required_keys__ == set(theirs.get("required", ()))


@pytest.mark.parametrize("name", TYPES)
def test_members_have_the_documented_types(schemas: dict[str, Any], name: str) -> None:
    for member, type_ in get_type_hints(getattr(shapes, name)).items():
        theirs = _kinds(schemas[name]["properties"][member], schemas)
        assert _names(type_) == theirs, f"{name}.{member}"


def _kinds(schema: dict[str, Any], schemas: dict[str, Any]) -> set[str]:
    """The JSON types, or the words, that a schema allows."""
    if "$ref" in schema:
        return _kinds(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return set[str]().union(*(_kinds(each, schemas) for each in schema[several]))
    if "allOf" in schema:
        return _kinds(schema["allOf"][0], schemas)
    if "enum" in schema:
        return {"null" if word is None else str(word) for word in schema["enum"]}
    kinds = schema.get("type", "anything")
    return set(kinds) if isinstance(kinds, list) else {kinds}


_JSON = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


def _names(type_: Any) -> set[str]:
    """The same of a Python type."""
    if type_ in _JSON:
        return {_JSON[type_]}
    if isinstance(type_, type) and issubclass(type_, dict):
        return {"object"}
    origin = str(getattr(type_, "__origin__", ""))
    if "list" in origin or "dict" in origin:
        return {"array" if "list" in origin else "object"}
    arguments = get_args(type_)
    if all(isinstance(word, str) for word in arguments):
        return set(arguments)
    return set[str]().union(*(_names(each) for each in arguments))
