"""One machine on which two workers and a colleague were granted."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.grants.host import DATA, Host, host

OTHER = "other.model-with-a-long-name"  # its group's name is shortened


@pytest.fixture(scope="module")
def granted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """gpu1 may run count, gpu2 all models, bob has the drop folder of count; sshd runs."""
    with host(tmp_path_factory.mktemp("host")) as made:
        made.add_primary("count", OTHER)
        for name, *more in (("gpu1", "--model", "count"), ("gpu2",), ("bob", "--drop", "count")):
            key = f"{made.key(name)}.pub"
            made.modelrunner("spool", "grant", name, "--key", key, "--data", DATA, *more)
        made.start_sshd()
        yield made
