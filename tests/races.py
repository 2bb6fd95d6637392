"""Races for tickets: processes with a connection each that want the same one at once.

    python -m tests.races sftp://… SSH-FOLDER NUMBER

is one racer, in the worker folder racerNUMBER. It says "ready"; then it tries to claim
each ticket of the queue when a line comes, and says how that went.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import NamedTuple

from spool import names
from spool.address import parse_address
from spool.claims import Claims
from spool.names import Ticket
from spool.sftp import SftpTransport
from tests.sshd import Sshd

MODEL = "raced"
ROOT = Path(__file__).resolve().parent.parent


class Try(NamedTuple):
    """One racer's attempt at a ticket, from ``began`` to ``ended``, in nanoseconds."""

    won: bool
    began: int
    ended: int


class Races(NamedTuple):
    """What came of them. ``contested``: races whose winner had company meanwhile."""

    winners: list[list[int]]  # of each race: the racers that were told that they had won
    contested: int
    twice: set[str]  # tickets that were seen in two places
    left: list[str]  # tickets in new/ at the end
    taken: dict[str, list[int]]  # the racers in whose cur/ a ticket lies at the end
    seconds: float


def lay_out(spool: Path, racers: int, tickets: int) -> list[str]:
    """Folders for the racers, and that many tickets of one model."""
    new = spool / names.new_folder(MODEL)
    new.mkdir(parents=True)
    for n in range(racers):
        _cur(spool, n).mkdir(parents=True)
    made = [str(Ticket(n + 1, 1, str(uuid.uuid4()), f"{n:064x}")) for n in range(tickets)]
    for ticket in made:
        (new / ticket).touch()
    return made


def race(spool: Path, server: Sshd, racers: int, tickets: list[str]) -> Races:
    """One race for each ticket: all racers start at the same moment, and are waited for."""
    running = [_start(server, n) for n in range(racers)]
    winners: list[list[int]] = []
    contested = 0
    twice: set[str] = set()
    try:
        for racer in running:
            assert _heard(racer) == "ready"
        began = time.monotonic()
        for n in range(len(tickets)):
            for racer in running:
                assert racer.stdin is not None
                racer.stdin.write("go\n")
                racer.stdin.flush()
            tries: dict[int, Try] = {}
            while len(tries) < racers:
                if _is_seen_twice(spool, racers, tickets[n]):
                    twice.add(tickets[n])
                for racer_n in _answered(running, tries):
                    tries[racer_n] = _try(_heard(running[racer_n]))
            winners.append([n for n, attempt in sorted(tries.items()) if attempt.won])
            contested += _had_company(list(tries.values()))
        seconds = time.monotonic() - began
    finally:
        for racer in running:
            racer.kill()
            racer.communicate()
    taken: dict[str, list[int]] = {}
    for n in range(racers):
        for claim in os.listdir(_cur(spool, n)):
            taken.setdefault(claim.partition("~")[0], []).append(n)
    left = os.listdir(spool / names.new_folder(MODEL))
    return Races(winners, contested, twice, left, taken, seconds)


def _had_company(tries: list[Try]) -> bool:
    """Whether somebody else was trying while the winner's claim was under way."""
    won = next((t for t in tries if t.won), None)
    return won is not None and any(
        t is not won and t.began < won.ended and won.began < t.ended for t in tries
    )


def _is_seen_twice(spool: Path, racers: int, ticket: str) -> bool:
    """Looked at in this order, what moves in one step is never seen in two places."""
    claims = (_cur(spool, n) / f"{ticket}~{_instance(n)}" for n in range(racers))
    places = sum(claim.exists() for claim in claims)
    return places + (spool / names.new_folder(MODEL) / ticket).exists() > 1


def _answered(running: list[subprocess.Popen[str]], tries: dict[int, Try]) -> list[int]:
    waiting = {
        racer.stdout.fileno(): n
        for n, racer in enumerate(running)
        if n not in tries and racer.stdout is not None
    }
    return [waiting[ready] for ready in select.select(list(waiting), [], [], 0)[0]]


def _instance(racer: int) -> str:
    return f"{racer:016x}"


def _cur(spool: Path, racer: int) -> Path:
    return spool / names.worker_folder(f"racer{racer}") / names.CUR


def _start(server: Sshd, racer: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.races", server.url, str(server.ssh), str(racer)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def _heard(racer: subprocess.Popen[str]) -> str:
    assert racer.stdout is not None
    line = racer.stdout.readline()
    assert line, "a racer ended before its time"
    return line.strip()


def _try(line: str) -> Try:
    won, began, ended = map(int, line.split())
    return Try(bool(won), began, ended)


def main(url: str, ssh: str, racer: str) -> None:
    transport = SftpTransport(parse_address(url), Path(ssh))
    claims = Claims(transport, f"racer{racer}", _instance(int(racer)))
    tickets = claims.tickets([MODEL])
    print("ready", flush=True)
    for ticket, model in tickets:
        if not sys.stdin.readline():
            break
        began = time.monotonic_ns()
        won = claims.claim(ticket, model) is not None
        print(int(won), began, time.monotonic_ns(), flush=True)
    sys.stdin.readline()
    transport.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
