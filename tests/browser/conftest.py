"""One Chromium and one system for all tests in here; each test gets a page of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page

from tests import browsing
from tests.submitting import river_system
from tests.system import System


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/browser/" in item.path.as_posix():
            item.add_marker(pytest.mark.needs("chromium"))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browsing.chromium() as browser:
        yield browser


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A primary with a local worker of three slots, and the models of ``browsing.add_models``.

    Tests share it: they look for their own jobs, never for all. Its address, client and
    models are ``site.address``, ``site.client``, ``site.models``.
    """
    system = System(tmp_path_factory.mktemp("site"))
    browsing.add_models(system)
    try:
        system.start(3)
        yield system
    finally:
        system.end()


@pytest.fixture
def page(chromium: Browser, site: System) -> Iterator[Page]:
    """A page of 1280 x 800 with JavaScript, at the shared site; fails if a script of ours does."""
    with browsing.opened(chromium, site.address) as page:
        yield page


@pytest.fixture(scope="session")
def river(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A primary whose models say what their input must be (``tests.submitting``)."""
    with river_system(tmp_path_factory.mktemp("river")) as system:
        yield system


@pytest.fixture
def form(chromium: Browser, river: System) -> Iterator[Page]:
    """The form of a new job there; a test may have it refused, or lose its connection."""
    with browsing.opened(chromium, river.address, expected=("400", "403", "503", "ERR_")) as page:
        page.goto("/jobs/submit")
        yield page
