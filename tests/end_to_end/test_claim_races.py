"""Claims over a real sshd: one winner each, and what is true after a lost answer."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from spool import names
from spool.address import parse_address
from spool.claims import Claims
from spool.errors import SpoolError, Unreachable
from spool.names import Ticket
from spool.sftp import SftpTransport
from tests.races import MODEL, lay_out, race
from tests.relay import Relay, relay
from tests.sshd import Sshd, sshd
from tests.system import wait_for

pytestmark = pytest.mark.needs("openssh-server")

RACERS, RACES = 8, 2_000  # bench/faults.py has 10,000 races
DEADLINE = 2.0  # seconds until a wait ends, here
BOUND = 30.0  # seconds that anything may wait for the primary


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    (tmp_path / "spool").mkdir()
    return tmp_path / "spool"


@pytest.fixture
def server(tmp_path: Path, spool: Path) -> Iterator[Sshd]:
    with sshd(tmp_path / "sshd", spool) as server:
        yield server


@pytest.fixture
def line(server: Sshd) -> Iterator[Relay]:
    with relay(server.host, server.port) as line:
        yield line


@pytest.fixture
def claims(spool: Path, server: Sshd, line: Relay) -> Iterator[Claims]:
    """A worker's, behind ``line``, connected."""
    home = spool / names.worker_folder("w1")
    for folder in names.WORKER_FOLDERS:
        (home / folder).mkdir(parents=True)
    (spool / names.new_folder(MODEL)).mkdir(parents=True)
    address = parse_address(server.trust(line.port))
    transport = SftpTransport(address, server.ssh, deadline=DEADLINE)
    claims = Claims(transport, "w1", "0123456789abcdef")
    assert claims.held() == []
    yield claims
    transport.close()


@pytest.fixture
def ticket(spool: Path) -> Ticket:
    ticket = Ticket(1, 1, str(uuid.uuid4()), "0" * 64)
    (spool / names.new_folder(MODEL)).mkdir(parents=True, exist_ok=True)
    (spool / names.new_folder(MODEL) / str(ticket)).touch()
    return ticket


def test_each_ticket_has_one_winner(spool: Path, server: Sshd) -> None:
    tickets = lay_out(spool, RACERS, RACES)
    races = race(spool, server, RACERS, tickets)
    print(f"{RACES} races in {races.seconds:.1f} s, {races.contested} contested")
    assert [len(winners) for winners in races.winners] == [1] * RACES
    assert races.taken == dict(zip(tickets, races.winners, strict=True))
    assert races.left == []
    assert races.twice == set()
    assert races.contested > RACES / 10, "they hardly met"


def test_a_claim_whose_answer_is_lost_is_found(
    spool: Path, line: Relay, claims: Claims, ticket: Ticket
) -> None:
    line.mute()
    trying = _Claiming(claims, ticket)
    cur = spool / names.worker_folder("w1") / names.CUR
    wait_for(lambda: list(cur.iterdir()), "the rename to be done")
    with pytest.raises(Unreachable):
        trying.result()
    assert trying.seconds < BOUND
    line.lose()
    line.thaw()
    assert [claim.ticket for claim in _asked(claims)] == [ticket]
    assert claims.claim(ticket, MODEL) is None, "it is claimed, if only by us"


def test_a_claim_that_was_never_carried_out_is_not_ours(
    server: Sshd, claims: Claims, ticket: Ticket
) -> None:
    frozen = _freeze(server)
    trying = _Claiming(claims, ticket)
    with pytest.raises(Unreachable):
        trying.result()
    assert trying.seconds < BOUND
    assert _asked(claims) == [], "over a new connection, beside the frozen one"
    _kill(frozen)
    assert claims.claim(ticket, MODEL) is not None


def test_a_claim_that_is_carried_out_late_is_found(
    server: Sshd, claims: Claims, ticket: Ticket
) -> None:
    frozen = _freeze(server)
    trying = _Claiming(claims, ticket)
    with pytest.raises(Unreachable):
        trying.result()
    assert _asked(claims) == []
    _thaw(frozen)
    found = wait_for(claims.held, "the claim of the thawed connection")
    assert [claim.ticket for claim in found] == [ticket]


def test_a_late_claim_takes_nothing_from_a_faster_worker(
    spool: Path, server: Sshd, claims: Claims, ticket: Ticket
) -> None:
    frozen = _freeze(server)
    with pytest.raises(Unreachable):
        _Claiming(claims, ticket).result()
    others = spool / names.worker_folder("w2") / names.CUR
    others.mkdir(parents=True)
    taken = others / f"{ticket}~fedcba9876543210"
    (spool / names.new_folder(MODEL) / str(ticket)).rename(taken)
    _thaw(frozen)
    assert _asked(claims) == []
    assert taken.exists()


class _Claiming(threading.Thread):
    """One claim in a thread of its own; ``result`` is what it returned or raised."""

    def __init__(self, claims: Claims, ticket: Ticket) -> None:
        super().__init__()
        self.seconds = 0.0
        self._claims, self._ticket = claims, ticket
        self._result: object = None
        self.start()

    def run(self) -> None:
        began = time.monotonic()
        try:
            self._result = self._claims.claim(self._ticket, MODEL)
        except SpoolError as e:
            self._result = e
        self.seconds = time.monotonic() - began

    def result(self) -> object:
        self.join()
        if isinstance(self._result, SpoolError):
            raise self._result
        return self._result


def _asked(claims: Claims) -> list[names.Claim]:
    """What is held, once the primary is reached again."""
    found: list[list[names.Claim]] = []

    def ask() -> bool:
        try:
            found.append(claims.held())
        except Unreachable:
            return False
        return True

    wait_for(ask, "an answer")
    return found[0]


def _freeze(server: Sshd) -> list[psutil.Process]:
    frozen = server.sessions()
    for process in frozen:
        process.suspend()
    return frozen


def _thaw(frozen: list[psutil.Process]) -> None:
    """Let them do what they were asked for; they end, since nobody is there any more."""
    for process in frozen:
        process.resume()
    _, living = psutil.wait_procs(frozen, timeout=60)
    assert not living, "the connection was never ended"


def _kill(frozen: list[psutil.Process]) -> None:
    for process in frozen:
        process.kill()
