"""The OpenAPI document tells of each route, and its types of all that there is to tell."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import pytest

from ledger import events
from primary.nodes import Node
from primary.timeline import Run
from web import shapes
from web.routes import Handlers, Route, table


@pytest.fixture
def routes() -> list[Route]:
    # The handlers are only named here, never called: no site is needed.
    return table(Handlers(*map(object.__new__, get_type_hints(Handlers).values())))


@pytest.fixture
def document(web: Any) -> Any:
    answer = web.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json


def _written(path: str) -> str:
    return re.sub(r"<(\w+)(:path)?>", r"{\1}", path)


def _operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_each_route_is_in_it_and_nothing_else(document: Any, routes: list[Route]) -> None:
    told = {(method, path) for method, path, _ in _operations(document)}
    assert told == {(route.method, _written(route.path)) for route in routes}
    assert len(routes) == len(told)
    assert document["openapi"] == "3.1.0"


def test_each_operation_is_told_of_in_full(document: Any) -> None:
    names = set()
    for method, path, operation in _operations(document):
        names.add(operation["operationId"])
        assert operation["summary"].endswith(".") and operation["tags"], path
        parameters = operation.get("parameters", [])
        in_path = {p["name"] for p in parameters if p["in"] == "path" and p["required"]}
        assert in_path == set(re.findall(r"{(\w+)}", path))
        assert {"421", "500", "503"} <= operation["responses"].keys()
        if method != "GET":
            assert "403" in operation["responses"], path  # a page of another site
    assert len(names) == sum(1 for _ in _operations(document))


def test_every_reference_leads_somewhere_and_all_parts_are_used(document: Any) -> None:
    used = set(re.findall(r'"\$ref": "#/components/([^"]+)"', json.dumps(document)))
    parts = document["components"]
    kinds = ("schemas", "responses", "links")
    assert {name for name in used if not name.startswith("headers/")} == {
        f"{kind}/{name}" for kind in kinds for name in parts[kind]
    }
    assert {name for name in used if name.startswith("headers/")} <= {
        f"headers/{name}" for name in parts["headers"]
    }


def test_every_type_has_a_description(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema.get("description"), name
        assert "enum" in schema or set(schema["required"]) <= set(schema["properties"])


def test_a_record_shows_every_member_of_every_event() -> None:
    kinds = get_args(events.AnyEvent)
    shown = set(shapes.Record.__struct_fields__)
    for kind in kinds:
        assert set(kind.__struct_fields__) <= shown, kind
    members = {field for kind in kinds for field in kind.__struct_fields__}
    assert shown == members | {"seq", "time", "kind", "hash"}
    hints = get_type_hints(shapes.Record)
    assert set(get_args(hints["kind"])) == {kind.__name__ for kind in kinds}


@pytest.mark.parametrize(
    ("ours", "theirs", "more"),
    [
        (shapes.RunFacts, events.RunFacts, set()),
        (shapes.Digest, events.Digest, set()),
        (shapes.Node, Node, {"model"}),
        (shapes.Run, Run, set()),
    ],
)
def test_the_shapes_are_those_of_what_they_show(ours: Any, theirs: Any, more: set[str]) -> None:
    assert set(ours.__struct_fields__) == set(theirs.__struct_fields__) | more


def test_what_is_named_has_the_same_names() -> None:
    def values(of: Any) -> set[str]:
        return set(re.findall(r"'(\w+)'", str(of)))

    assert values(shapes.Failure) == values(events.Failure)
    assert values(shapes.Source) == values(events.Source)
    assert values(shapes.Liveness) == values(get_type_hints(Node)["liveness"])
    assert values(get_type_hints(shapes.Run)["end"]) == values(get_type_hints(Run)["end"])


def test_a_job_as_the_interface_has_it_comes_first() -> None:
    fields = shapes.JobDetail.__struct_fields__
    assert fields[:10] == (
        *("created", "model", "name", "primary_data_dir", "primary_url", "status", "uuid"),
        *("worker_data_dir", "worker_url", "on_primary"),
    )
