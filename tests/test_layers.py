"""Imports point down only (DESIGN 3), held against the code by walking its syntax trees.

A module's layer is that of its longest prefix in ``LAYERS``; it may import
modules of its own layer and below. Tests, benches, examples and models are no layer.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

# From the bottom to the top. Whoever adds a package, or a module of ledger or spool, adds
# it here: one that has no layer fails.
_HOUSE = """
pure:             ledger ledger.errors ledger.events ledger.jobs ledger.codec ledger.schema
pure:             ledger.times
pure:             spool spool.errors spool.names spool.reports spool.manifest spool.transport
pure:             spool.entrynames spool.address spool.inputfiles spool.modelkeys spool.lacking
pure:             spool.columns spool.tomlplaces
disk and network: ledger.disk ledger.segments ledger.reading ledger.recovery ledger.board
disk and network: ledger.queries
disk and network: ledger.rebuild spool.local spool.believe spool.drops spool.watch spool.progress
disk and network: spool.zipindex spool.archive spool.packing spool.dial spool.wire spool.links
disk and network: spool.sftp spool.bell spool.route spool.hosts spool.keys spool.line
disk and network: spool.folders spool.genuine spool.expectations spool.patterns spool.extract
disk and network: spool.notify
facades:          ledger.log ledger.commands spool.dispatch spool.claims engine
primary:          primary
outside:          web deploy client
entry points:     modelrunner worker_agent setup
"""


def _layers() -> tuple[tuple[str, frozenset[str]], ...]:
    layers: dict[str, frozenset[str]] = {}
    for line in _HOUSE.strip().splitlines():
        name, _, members = line.partition(":")
        layers[name] = layers.get(name, frozenset()) | set(members.split())
    return tuple(layers.items())


LAYERS = _layers()

# What one part may not import although it lies no higher: (from, to).
APART = {
    ("ledger", "spool"),
    ("spool", "ledger"),
    ("spool", "engine"),
    ("ledger", "engine"),
    ("engine", "ledger"),
    ("web", "client"),
    ("web", "deploy"),
    ("deploy", "web"),
    ("deploy", "client"),
    *(("client", other) for other in ("ledger", "spool", "engine", "primary", "web", "deploy")),
    ("modelrunner", "worker_agent"),
    ("worker_agent", "modelrunner"),
    *(("worker_agent", other) for other in ("ledger", "primary", "web", "client", "deploy")),
}

# primary is one layer; within it the rules are pure and see of ledger and spool what is pure.
PURE_IN_PRIMARY = {"primary.rules", "primary.rows", "primary.errors"}

LAZY = {"modelrunner"}  # imports inside functions: each command loads what it needs

# Documented exceptions: imports inside functions.
ALLOWED_INSIDE = {
    ("client.show", "client.terminal"): "rich costs 0.1 s, and only a terminal is drawn on",
}

VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "base"}
NO_CODE_OF_OURS = {"tests", "bench", "examples", "models"}


class Import(NamedTuple):
    line: int
    target: str  # a module of ours, or the first part of another one's
    inside: bool  # of a function


def modules(root: Path) -> dict[str, Path]:
    """Every module of the repository by its dotted name, but for tests and the like."""
    found = {}
    for top, below, files in os.walk(root):
        folder = Path(top)
        here = folder.relative_to(root).parts
        skipped = {"build", *(NO_CODE_OF_OURS if not here else ())}
        # not even looked into: the tests' machines may lie there, with a /proc
        below[:] = [name for name in below if not name.startswith(".") and name not in skipped]
        for name in files:
            if name.endswith(".py"):
                parts = (*here, name.removesuffix(".py"))
                found[".".join(parts).removesuffix(".__init__")] = folder / name
    return dict(sorted(found.items()))


def imports(name: str, path: Path, ours: set[str]) -> Iterator[Import]:
    tree = ast.parse(path.read_text(), str(path))
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            inside |= {id(n) for n in ast.walk(node)}
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = name.split(".")
                if path.name != "__init__.py":
                    package = package[:-1]
                package = package[: len(package) - node.level + 1]
                base = ".".join([*package, base]).strip(".")
            for alias in node.names:
                deeper = f"{base}.{alias.name}"
                targets.append(deeper if deeper in ours else base)
        for target in targets:
            while target not in ours and "." in target:
                target = target.rpartition(".")[0]
            yield Import(getattr(node, "lineno", 0), target, id(node) in inside)


def layer_of(name: str) -> int | None:
    """The layer of a module; a package's own row stands for those of its modules without one.

    ``ledger`` and ``spool`` have no such row for their modules: each must say.
    """
    for depth, (_, members) in enumerate(LAYERS):
        if name in members:
            return depth
    top = name.partition(".")[0]
    if top in ("ledger", "spool"):
        return None
    return next((depth for depth, (_, members) in enumerate(LAYERS) if top in members), None)


def violations(root: Path) -> list[str]:
    """Everything that breaks a layer below ``root``, a sentence each."""
    all_ = modules(root)
    graph = {name: list(imports(name, path, set(all_))) for name, path in all_.items()}
    found: list[str] = []
    for name, path in all_.items():
        found += [f"{path.relative_to(root)}: {what}" for what in _about(name, path, graph)]
    return found + [f"a cycle: {' -> '.join(cycle)}" for cycle in cycles(graph)]


def _about(name: str, path: Path, graph: dict[str, list[Import]]) -> Iterator[str]:
    top = name.partition(".")[0]
    mine = layer_of(name)
    if name.rpartition(".")[2] in VAGUE:
        yield f"a module called {name.rpartition('.')[2]} says nothing about its job"
    if mine is None:
        yield "has no layer; add it to LAYERS in tests/test_layers.py"
        return
    if _type_checking(path):
        yield "imports under TYPE_CHECKING"
    for line, target, inside in graph[name]:
        at = f"line {line}: imports {target}"
        lazy = name in LAZY or (name, target) in ALLOWED_INSIDE
        if inside and not lazy:
            yield f"{at} inside a function"
        if target not in graph:
            continue
        theirs = layer_of(target)
        if theirs is not None and theirs > mine:
            yield f"{at}, which lies above: {LAYERS[theirs][0]} over {LAYERS[mine][0]}"
        if (top, target.partition(".")[0]) in APART:
            yield f"{at}: {top} and {target.partition('.')[0]} are kept apart"
        if name in PURE_IN_PRIMARY and theirs != 0 and target not in PURE_IN_PRIMARY:
            yield f"{at}, which is not pure"


def _type_checking(path: Path) -> bool:
    names = (n for n in ast.walk(ast.parse(path.read_text())))
    return any(
        (isinstance(n, ast.Name) and n.id == "TYPE_CHECKING")
        or (isinstance(n, ast.Attribute) and n.attr == "TYPE_CHECKING")
        or (isinstance(n, ast.alias) and n.name == "TYPE_CHECKING")
        for n in names
    )


def cycles(graph: dict[str, list[Import]]) -> list[list[str]]:
    """The cycles of imports that are met when modules load, each once."""
    done: set[str] = set()
    found: list[list[str]] = []

    def visit(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for target in {i.target for i in graph[name] if i.target in graph and not i.inside}:
                if target != name:
                    visit(target, [*way, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


def reached(name: str, graph: dict[str, list[Import]]) -> set[str]:
    """All modules of ours that loading ``name`` loads, packages of them included."""
    found: set[str] = set()
    todo = [name]
    while todo:
        for imported in graph.get(todo.pop(), []):
            parts = imported.target.split(".")
            for n in range(1, len(parts) + 1):
                target = ".".join(parts[:n])
                if target in graph and target not in found and not imported.inside:
                    found.add(target)
                    todo.append(target)
    return found


# --- the house ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def graph() -> dict[str, list[Import]]:
    all_ = modules(ROOT)
    return {name: list(imports(name, path, set(all_))) for name, path in all_.items()}


def test_imports_point_down_only() -> None:
    assert violations(ROOT) == []


def test_the_worker_needs_spool_and_engine_only(graph: dict[str, list[Import]]) -> None:
    tops = {name.partition(".")[0] for name in reached("worker_agent", graph)}
    assert tops == {"spool", "engine"}


def test_the_client_needs_nothing_of_ours(graph: dict[str, list[Import]]) -> None:
    for name in graph:
        if name.startswith("client"):
            tops = {found.partition(".")[0] for found in reached(name, graph)}
            assert tops <= {"client"}, name


def test_the_command_line_loads_nothing_until_it_is_told_to(
    graph: dict[str, list[Import]],
) -> None:
    assert reached("modelrunner", graph) == set()
    loaded = {i.target.partition(".")[0] for i in graph["modelrunner"] if not i.inside}
    assert loaded - sys.stdlib_module_names == {"click"}


def test_every_layer_names_modules_that_exist(graph: dict[str, list[Import]]) -> None:
    named = frozenset().union(*(members for _, members in LAYERS))
    assert named <= graph.keys()
    assert sum(len(members) for _, members in LAYERS) == len(named), "one layer each"
    exceptions = {(name, i.target) for name in graph for i in graph[name] if i.inside}
    assert ALLOWED_INSIDE.keys() <= exceptions, "an exception that nobody needs any more"


# --- the check itself --------------------------------------------------------------------


PLANTED: dict[str, tuple[dict[str, str], str]] = {
    "upwards": ({"ledger/events.py": "from ledger.log import Ledger"}, "which lies above"),
    "by the package": ({"ledger/events.py": "from ledger import log"}, "which lies above"),
    "by a relative name": ({"ledger/events.py": "from .log import Ledger"}, "which lies above"),
    "ledger to spool": ({"ledger/log.py": "import spool.names"}, "are kept apart"),
    "spool to ledger": ({"spool/claims.py": "from ledger import jobs"}, "are kept apart"),
    "engine to ledger": ({"engine/runs.py": "import ledger.events"}, "are kept apart"),
    "engine to primary": ({"engine/runs.py": "import primary.rules"}, "which lies above"),
    "client to ledger": ({"client/api.py": "import ledger.jobs"}, "are kept apart"),
    "worker to primary": ({"worker_agent.py": "import primary.rules"}, "are kept apart"),
    "primary to web": ({"primary/server.py": "import web.jobs"}, "which lies above"),
    "web to an entry point": ({"web/jobs.py": "import modelrunner"}, "which lies above"),
    "rules to a disk": ({"primary/rules.py": "import spool.local"}, "not pure"),
    "rules to the server": ({"primary/rules.py": "import primary.server"}, "not pure"),
    "inside a function": (
        {"web/jobs.py": "def f():\n    import spool.names"},
        "inside a function",
    ),
    "another's inside a method": (
        {"web/jobs.py": "class C:\n    async def f(self):\n        import json"},
        "inside a function",
    ),
    "for types only": (
        {"web/jobs.py": "import typing\nif typing.TYPE_CHECKING:\n    import spool.names"},
        "TYPE_CHECKING",
    ),
    "a vague name": ({"web/utils.py": ""}, "says nothing about its job"),
    "a new package": ({"stuff/__init__.py": ""}, "has no layer"),
    "a new module of the spool": ({"spool/more.py": ""}, "has no layer"),
    "a cycle": (
        {"web/jobs.py": "import web.pages", "web/pages.py": "from web.jobs import x"},
        "a cycle: web.jobs -> web.pages -> web.jobs",
    ),
    "a longer cycle": (
        {"web/a.py": "import web.b", "web/b.py": "import web.c", "web/c.py": "import web.a"},
        "a cycle: web.a -> web.b -> web.c -> web.a",
    ),
}
HOUSE = (
    *("ledger/__init__.py", "ledger/events.py", "ledger/jobs.py", "ledger/log.py"),
    *("spool/__init__.py", "spool/names.py", "spool/local.py", "spool/claims.py"),
    *("engine/__init__.py", "engine/runs.py", "primary/__init__.py", "primary/rules.py"),
    *("primary/server.py", "web/__init__.py", "web/jobs.py", "web/pages.py"),
    *("client/__init__.py", "client/api.py", "modelrunner.py", "worker_agent.py"),
)


def build(root: Path, files: dict[str, str]) -> None:
    for name in (*HOUSE, *files):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(files.get(name, ""))


def test_a_house_in_order_is_let_be(tmp_path: Path) -> None:
    build(
        tmp_path,
        {
            "ledger/log.py": "from ledger import events\nfrom . import jobs",
            "primary/rules.py": "from ledger.jobs import Job\nfrom spool.names import Claim",
            "web/jobs.py": "import json\nfrom primary.server import Primary",
            "modelrunner.py": "def serve():\n    from web import jobs",
            "tests/utils.py": "import ledger.log",
        },
    )
    assert violations(tmp_path) == []


@pytest.mark.parametrize(("files", "said"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_violation_is_found(tmp_path: Path, files: dict[str, str], said: str) -> None:
    build(tmp_path, files)
    found = violations(tmp_path)
    assert any(said in sentence for sentence in found), found
    first = next(iter(files))
    assert any(first in s or first[:-3].replace("/", ".") in s for s in found)
