"""Power cuts of a running primary, on real file systems that lose what was not synced."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.promises.bent import BENDS
from tests.promises.figures import Figure, count
from tests.promises.loopdisk import kinds
from tests.promises.powercuts import PowerCuts, end_of
from tests.system import wait_for

SEED = 6005
MOST_SAID = 1_000_000  # bytes: a dead disk may not fill another one with words
BLIND = 5.0  # seconds in which a bent primary does not end; a good one takes two
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


@pytest.mark.parametrize("bug", sorted(bend for bend in BENDS if bend.startswith("unsynced")))
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


@pytest.mark.parametrize("busy", [True, False])
def test_a_primary_whose_disk_goes_away_ends(tmp_path: Path, busy: bool, figure: Figure) -> None:
    """By itself, soon, with a reason, and without having promised anything more."""
    for kind in kinds()[0]:
        with power_cuts(tmp_path, kind) as made:
            assert made.senders.wait(5)
            if not busy:
                made.settle()
            made.disk.cut()
            end = end_of(made.system)
            made.senders.hold()
            assert end.code == 1
            last = end.said.strip().rpartition("\n")[2]
            assert last.startswith("Error:  the ledger stopped: ") and str(made.disk.place) in last
            assert len(end.said) < MOST_SAID
            figure(f"{kind}, busy={busy}", f"{end.seconds:.1f} s, of CPU {end.cpu:.1f} s; {last}")
            made.go_on()
            made.end()


def test_a_primary_that_does_not_look_is_found(tmp_path: Path) -> None:
    for kind in kinds()[0][:1]:
        with power_cuts(tmp_path, kind, program=("tests.promises.bent", "blind")) as made:
            made.settle()
            made.disk.cut()
            with pytest.raises(AssertionError, match="to end by itself"):
                end_of(made.system, BLIND)
            made.system.kill_primary()


def test_a_local_worker_whose_disk_goes_away_ends(tmp_path: Path) -> None:
    for kind in kinds()[0]:
        with power_cuts(tmp_path, kind) as made:
            made.system.stop()
            made.system.start(1)
            made.senders.go(made.system.address)
            wait_for(made.system.agent, "an agent")
            wait_for(lambda: made.system.runner(), "a runner")
            made.disk.cut()
            assert end_of(made.system).code == 1
            made.senders.hold()
            wait_for(lambda: made.system.agent() is None, "the agent to end")
            runner = made.system.runner()
            if runner is not None:
                os.kill(runner, signal.SIGKILL)
            wait_for(lambda: made.system.runner() is None, "the runner to end")
            made.go_on()
            made.end()
