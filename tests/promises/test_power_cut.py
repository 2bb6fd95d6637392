"""Power cuts of a running primary, on real file systems that lose what was not synced."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.promises.figures import Figure, count
from tests.promises.loopdisk import kinds
from tests.promises.powercuts import PowerCuts

SEED = 6005
FEW = 8  # cuts within which a seeded bug must show

pytestmark = [pytest.mark.root, pytest.mark.needs("xfsprogs"), pytest.mark.needs("e2fsprogs")]


@contextmanager
def power_cuts(
    root: Path, kind: str, seed: int = SEED, program: tuple[str, ...] = ()
) -> Iterator[PowerCuts]:
    made = PowerCuts(root / f"on-{kind}", kind, seed, program)
    try:
        made.begin()
        yield made
    finally:
        made.close()


def run(root: Path, kind: str, cuts: int) -> str:
    began = time.monotonic()
    with power_cuts(root, kind) as made:
        for _ in range(cuts):
            made.cut()
        made.end()
        jobs, records = len(made.senders.acknowledged), made.records
        twice = sum(times > 1 for times in made.worker.ran.values())
    each = (time.monotonic() - began) / cuts
    return (
        f"{cuts} cuts (seed {SEED}, {each:.1f} s each), {jobs} jobs acknowledged, none lost; "
        f"{records} records; {twice} attempts claimed again"
    )


@pytest.mark.timeout(3600)
def test_power_cuts(tmp_path: Path, figure: Figure) -> None:
    found, lacking = kinds()
    figure("file systems", ", ".join(found) + (f"; {lacking}" if lacking else ""))
    if not found:
        return  # the figure says why
    each = count(40, 200) // len(found)
    with ThreadPoolExecutor(len(found)) as pool:  # one waits for its disk, the other works
        for kind, told in zip(
            found, pool.map(lambda kind: run(tmp_path, kind, each), found), strict=True
        ):
            figure(kind, told)


@pytest.mark.parametrize("bug", ["unsynced-ledger", "unsynced-input"])
def test_a_left_out_sync_is_found(tmp_path: Path, bug: str, figure: Figure) -> None:
    found, _lacking = kinds()
    if not found:
        return
    program = ("tests.promises.bent", bug)
    with power_cuts(tmp_path, found[0], SEED, program) as made:
        with pytest.raises(AssertionError) as e:
            for _ in range(FEW):
                made.cut()
        figure(bug, f"found at cut {made.cuts}: {str(e.value)[:100]}")
        assert any(word in str(e.value) for word in ("lost", "half", "KeyError", "no folder"))
