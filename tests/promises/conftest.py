"""The figures of the promises' tests, printed together at the end, also of those that failed."""

from __future__ import annotations

import pytest

from tests.promises.figures import Figure

_FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FIGURES] = []


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Figure:
    name = request.node.name.removeprefix("test_").replace("_", " ")
    lines = request.config.stash[_FIGURES]

    def note(what: str, value: object) -> None:
        said = f"{value:,}" if isinstance(value, int) else str(value)
        lines.append(f"{name}: {what}: {said}")

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if config.stash[_FIGURES]:
        terminalreporter.section("figures")
        for line in config.stash[_FIGURES]:
            terminalreporter.line(line)
