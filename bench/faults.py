"""Every phase of a job on a remote worker, and every fault of its link; and 10,000 claim races.

    python -m bench.faults [PHASES [FAULTS [RACES]]]

As root, with iproute2 and openssh-server. PHASES and FAULTS are lists with commas, or
``all``; RACES is how many. Each phase is a worker in a network namespace of its own,
and goes through its faults one after the other, all phases at the same time: about
five minutes for everything. Prints a line for each, and ends with 1 if one was wrong.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

from tests.faults import (
    FAULTS,
    check_ledger,
    check_nothing_strange,
    run_sheet,
    verify_ledger,
)
from tests.races import lay_out, race
from tests.sshd import sshd
from tests.stations import PHASES, stations
from tests.system import System

RACERS = 8
RACES = 10_000


def faults(root: Path, phases: Collection[str], kinds: Collection[str]) -> bool:
    system = System(root)
    try:
        system.start()
        with stations(system, phases) as made:
            outcomes = run_sheet(made, {phase: list(kinds) for phase in phases})
        print(f"{'phase':8} {'fault':8} {'ended after':>12} {'quiet for':>12}")
        for (phase, fault), outcome in sorted(outcomes.items()):
            told = outcome.wrong or f"{outcome.seconds:10.1f} s {outcome.quiet:10.1f} s"
            print(f"{phase:8} {fault:8} {told}")
        good = not any(outcome.wrong for outcome in outcomes.values())
        if good:
            check_ledger(system, [job["uuid"] for job in system.client.jobs()])
            verify_ledger(system)
            check_nothing_strange(system)
            print("each job ended once; the ledger verifies, and the doctor finds nothing")
        return good
    finally:
        system.end()


def races(root: Path, count: int) -> bool:
    spool = root / "spool"
    spool.mkdir()
    tickets = lay_out(spool, RACERS, count)
    with sshd(root / "sshd", spool) as server:
        found = race(spool, server, RACERS, tickets)
    one = sum(len(winners) == 1 for winners in found.winners)
    whole = found.taken == dict(zip(tickets, found.winners, strict=True)) and not found.left
    print(
        f"{count} races of {RACERS}: {one} with one winner, {found.contested} contested, "
        f"{len(found.twice)} tickets seen in two places, {found.seconds:.0f} s"
    )
    return one == count and whole and not found.twice


def main(phases: str = "all", kinds: str = "all", count: str = str(RACES)) -> int:
    good = True
    with tempfile.TemporaryDirectory(prefix="modelrunner-bench-") as folder:
        root = Path(folder)
        if kinds:
            good &= faults(root, _chosen(phases, PHASES), _chosen(kinds, FAULTS))
        if int(count):
            (root / "races").mkdir()
            good &= races(root / "races", int(count))
    return 0 if good else 1


def _chosen(text: str, known: Collection[str]) -> list[str]:
    chosen = list(known) if text == "all" else text.split(",")
    if strange := set(chosen) - set(known):
        raise SystemExit(f"{', '.join(sorted(strange))}: not one of {', '.join(known)}")
    return chosen


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
