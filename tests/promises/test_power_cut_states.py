"""Every state that a power cut may leave of a primary's disk keeps the promises (DESIGN 1 and 5).

Lives of primaries are recorded (``recorded``), the states made (``platter``), and the real
primary is opened on each (``aftermath``).
"""

from __future__ import annotations

import logging
import random
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import pytest

from primary.submission import Submissions
from tests.promises import aftermath, platter, recorded, traced
from tests.promises.figures import Figure, count
from tests.promises.leftout import BUGS
from tests.promises.platter import Op, State

SEED = 1
EACH = count(26, 400)  # states after one operation, at most
ENDS = 25  # of so many states one is followed until all its jobs have ended
PARTS = 2  # processes
BOARDS = 3  # of so many one has a board

_HERE = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.needs("strace")


@pytest.fixture(scope="module")
def lives() -> Iterator[Path]:
    """The folder with the recorded lives: in memory, for tens of thousands of states come."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        root = Path(folder).resolve()
        command = (sys.executable, "-m", "tests.promises.recorded", str(root), *BUGS)
        traced.run(command, root / "trace", timeout=300, cwd=_HERE)
        yield root


@pytest.fixture(autouse=True)
def quietly(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Thousands of torn ends are no news, and nothing is fetched."""
    caplog.set_level(logging.CRITICAL)
    recorded.without_network(monkeypatch)


def operations(lives: Path, life: str) -> list[Op]:
    root, calls = lives / life, traced.calls(lives / "trace")
    found = platter.Recording(root, root / "told", calls, recorded.BESIDE)
    return list(aftermath.receipts(found.ops))


def broken(lives: Path, life: str, states: Iterator[State], room: str = "room") -> Iterator[str]:
    """What is wrong with each state; nothing is "". They are laid out in the folder ``room``."""
    of = aftermath.reference(lives / life)
    for number, state in enumerate(states):
        found = aftermath.wrongs(
            state, of, lives / room, board=number % BOARDS == 0, onwards=number % ENDS == 0
        )
        why = f"; after operation {state.at}, of the unsynced {state.lost} done (seed {SEED})"
        yield "; ".join(found) + why if found else ""


def part(lives: Path, ops: list[Op], which: int) -> list[str]:
    """Every ``PARTS``th state, in a process of its own."""
    states = platter.states(ops, random.Random(SEED), each=EACH)
    return list(broken(lives, "sound", islice(states, which, None, PARTS), room=f"room{which}"))


def test_every_state_after_a_power_cut(lives: Path, figure: Figure) -> None:
    ops = operations(lives, "sound")
    with get_context("fork").Pool(PARTS) as pool:
        parts = pool.starmap(part, [(lives, ops, which) for which in range(PARTS)])
    found = [why for each in parts for why in each]
    wrongs = [why for why in found if why]
    figure("operations", len(ops))
    figure("states", len(found))
    figure("of them followed until every job had ended", len(found) // ENDS)
    figure("wrong", len(wrongs))
    assert not wrongs, "\n".join(wrongs[:10]) + f"\n({len(wrongs)} in all)"
    assert len(found) >= 10_000


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_is_found(lives: Path, bug: str, figure: Figure) -> None:
    states = platter.states(operations(lives, bug), random.Random(SEED), each=12)
    looked = 0
    for why in broken(lives, bug, states):
        looked += 1
        if why:
            figure("states until it was found", looked)
            return
    pytest.fail(f"none of {looked} states shows it")


def test_a_start_that_cleans_nothing_up_is_found(
    lives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Submissions, "recover", lambda _: None)
    states = platter.states(operations(lives, "sound"), random.Random(SEED), each=4)
    assert any(broken(lives, "sound", islice(states, 500)))


def test_nothing_escapes_the_recorder(lives: Path) -> None:
    """All done and nothing lost, the states are what really lies on the disk."""
    for life in ("sound", "input_is_not_synced"):
        ops = operations(lives, life)
        disk = platter.Disk()
        for op in ops:
            disk.do(op)
        everything = next(disk.states(len(ops), random.Random(SEED), 2))
        root = lives / life
        there = {str(path.relative_to(root)) for path in root.rglob("*")}
        assert {path for path in there if not path.startswith(recorded.BESIDE)} == {
            *everything.tree
        }
        for path, inode in everything.tree.items():
            if inode in everything.data:
                assert (root / path).read_bytes() == everything.data[inode], path
