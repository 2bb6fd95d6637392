"""kill -9 of a process that appends: every record it acknowledged is there afterwards."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ledger.codec import GENESIS
from ledger.jobs import State
from ledger.log import Ledger
from ledger.recovery import check

ROUNDS = 8

# Appends for ever from four threads; says "seq hash" of a record only once it was acknowledged.
CHILD = """
import sys, threading, uuid
from pathlib import Path
from ledger.events import Completed, Digest, Queued, RunFacts, Started, Submitted
from ledger.log import Ledger

data = Path(sys.argv[1])
ledger = Ledger.open(data / "ledger", data / "board.sqlite", segment_size=30_000)
file = Digest(1, "a" * 64)

def work():
    while True:
        job = str(uuid.uuid4())
        run = dict(job=job, attempt=1)
        for events in (
            [Submitted(job=job, name="n", model="m", by="b", source="upload"),
             Queued(job=job, input=file)],
            [Started(worker="w", instance="i", **run)],
            [Completed(run=RunFacts(exit_code=0), log=file, output=file, **run)],
        ):
            records = ledger.append(lambda _: events)
            sys.stdout.write("".join(f"{r.seq} {r.hash}\\n" for r in records))
            sys.stdout.flush()

for _ in range(4):
    threading.Thread(target=work).start()
"""


def killed_after(data: Path, lines: int) -> dict[int, str]:
    """What a child acknowledged that was killed once it had acknowledged ``lines`` records."""
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", CHILD, str(data)], stdout=subprocess.PIPE, text=True, cwd=root
    ) as child:
        assert child.stdout is not None
        said = [child.stdout.readline() for _ in range(lines)]
        child.kill()
        said += child.stdout.readlines()
    assert child.returncode == -signal.SIGKILL
    pairs = (line.split() for line in said if line.endswith("\n"))
    return {int(seq): digest for seq, digest in pairs}


def test_kill_at_any_moment(tmp_path: Path, open_ledger: Callable[..., Ledger]) -> None:
    moments = random.Random(7)
    acknowledged: dict[int, str] = {}
    for round_ in range(ROUNDS):
        acknowledged |= killed_after(tmp_path, moments.randrange(1, 150))
        if round_ % 2:
            continue  # the next child recovers, catches up and goes on by itself
        ledger = open_ledger()
        found = {r.seq: r.hash for r in check(tmp_path / "ledger", 0, GENESIS)}
        assert acknowledged.items() <= found.items()
        assert list(found) == list(range(1, len(found) + 1))
        assert ledger.board.head() == (len(found), found[len(found)])
        assert sum(ledger.board.counts().values()) > 0
        ledger.close()
    (tmp_path / "board.sqlite").unlink()
    caught_up = open_ledger().board  # built anew from all that was ever written
    assert caught_up.head()[0] >= max(acknowledged)
    assert caught_up.counts()[State.COMPLETE] > 0
