"""What the contract does not tell: broken lines, lost answers, and how a transfer goes on."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from spool import sftp
from spool.address import parse_address
from spool.errors import Flooded, Gone, NoSpace, Refused, SpoolError, Unreachable
from spool.links import IDLE
from spool.sftp import SftpTransport
from spool.wire import Wire
from tests.relay import Relay, relay
from tests.sshd import VERBS, Sshd, sshd
from tests.system import wait_for

pytestmark = pytest.mark.needs("openssh-server")

DEADLINE = 2.0  # seconds without movement; short, so that the tests are
BOUND = 30.0  # seconds: every wait has ended by then, on any machine
LARGE = 64 * 1024 * 1024  # bytes


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    for folder in ("new", "cur", "tmp"):
        (root / folder).mkdir()
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, root: Path) -> Iterator[Sshd]:
    with sshd(tmp_path_factory.mktemp("sshd"), root) as server:
        yield server


@pytest.fixture
def line(server: Sshd) -> Iterator[Relay]:
    with relay(server.host, server.port) as made:
        yield made


@pytest.fixture
def transport(server: Sshd, line: Relay) -> Iterator[SftpTransport]:
    made = SftpTransport(parse_address(server.trust(line.port)), server.ssh, deadline=DEADLINE)
    yield made
    made.close()


def until_it_works(step: Callable[[], object]) -> None:
    """As the callers do: again, until the connection is back."""

    def worked() -> bool:
        try:
            step()
        except Unreachable:
            return False
        return True

    wait_for(worked, "the connection to be back")


class Background(threading.Thread):
    """A verb in a thread of its own; ``error`` is what it raised."""

    def __init__(self, step: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._step = step
        self.error: SpoolError | None = None
        self.start()

    def run(self) -> None:
        try:
            self._step()
        except SpoolError as e:
            self.error = e

    def ended(self) -> SpoolError | None:
        self.join(BOUND)
        assert not self.is_alive(), "a wait without an end"
        return self.error


# --- every wait has an end -----------------------------------------------------------


def steps(own: Path) -> dict[str, Callable[[SftpTransport], object]]:
    """Each verb once; files of our own disk go into ``own``."""
    (own / "source").write_bytes(bytes(1024 * 1024))
    return {
        "names": lambda t: t.names("new"),
        "read": lambda t: t.read("new/x", 10),
        "fetch": lambda t: t.fetch("new/x", own / "x"),
        "store bytes": lambda t: t.store(b"x", "tmp/bytes"),
        "store a file": lambda t: t.store(own / "source", "tmp/file"),
        "append": lambda t: t.append("tmp/log", 0, b"x"),
        "move": lambda t: t.move("new/y", "new/z"),
        "drop": lambda t: t.drop("tmp/nothing"),
        "check": lambda t: t.check("new/x"),
        "free": lambda t: t.free(),
    }


@pytest.mark.parametrize("fault", ["frozen", "muted", "cut", "session frozen", "session killed"])
def test_every_verb_ends_whatever_the_line_does_and_works_afterwards(
    server: Sshd, line: Relay, root: Path, tmp_path: Path, fault: str
) -> None:
    for name in ("x", "y"):
        (root / "new" / name).write_bytes(b"x")
    address = parse_address(server.trust(line.port))
    verbs = steps(tmp_path)
    own = {verb: SftpTransport(address, server.ssh, deadline=DEADLINE) for verb in verbs}
    for transport in own.values():
        transport.connect()
    frozen = server.sessions() if fault.startswith("session") else []
    for session in frozen:
        session.suspend() if fault == "session frozen" else session.kill()
    faults = {"frozen": line.freeze, "muted": line.mute, "cut": line.cut}
    faults.get(fault, lambda: None)()
    waits = {v: Background(lambda v=v: verbs[v](own[v])) for v in verbs}  # type: ignore[misc]
    try:
        for verb, wait in waits.items():
            error = wait.ended()
            if fault in ("cut", "session killed"):  # noticed already: dialed anew
                assert error is None or isinstance(error, Unreachable), verb
            else:
                assert isinstance(error, Unreachable), verb
                assert "no answer for 2 s" in str(error)
    finally:
        line.thaw()
        for session in frozen:
            if session.is_running():
                session.resume()
    (root / "new/y").write_bytes(b"x")
    for verb, transport in own.items():
        with contextlib.suppress(Gone):  # the first move was carried out when the line thawed
            until_it_works(partial(verbs[verb], transport))
        transport.close()
    assert (root / "tmp/file").stat().st_size == 1024 * 1024


def test_closing_ends_every_wait_and_every_thread(
    server: Sshd, line: Relay, tmp_path: Path, root: Path
) -> None:
    before = threading.active_count()
    files = len(os.listdir("/proc/self/fd"))
    own = SftpTransport(parse_address(server.trust(line.port)), server.ssh, deadline=1000.0)
    (root / "large").write_bytes(bytes(LARGE))
    with own._links.link("one"), own._links.link("two", "transfer"):
        pass
    line.freeze()
    waits = [
        Background(lambda: own.names("new")),
        Background(lambda: own.fetch("large", tmp_path / "large")),
    ]
    wait_for(lambda: len(own._links._used) == 2, "both to wait")
    own.close()
    for wait in waits:
        assert isinstance(wait.ended(), Unreachable)
    with pytest.raises(Unreachable, match="was closed"):
        own.names("new")
    line.thaw()
    wait_for(lambda: threading.active_count() <= before + 3 * line.accepted, "the threads to end")
    line.close()
    wait_for(lambda: threading.active_count() <= before, "the threads to end")
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= files, "all sockets to be closed")


# --- lost answers --------------------------------------------------------------------


def test_a_rename_whose_answer_is_lost_has_happened(
    transport: SftpTransport, line: Relay, root: Path
) -> None:
    """Unreachable, not Gone and not a success: the caller looks where the file is."""
    (root / "new/ticket").write_bytes(b"x")
    transport.connect()
    line.mute()
    with pytest.raises(Unreachable, match="no answer for"):
        transport.move("new/ticket", "cur/ticket")
    assert (root / "cur/ticket").exists()
    line.thaw()
    until_it_works(lambda: transport.names("cur"))
    assert "ticket" in transport.names("cur")
    with pytest.raises(Gone):
        transport.move("new/ticket", "cur/ticket")


def test_what_is_repeated_after_a_lost_answer_changes_nothing(
    transport: SftpTransport, line: Relay, root: Path
) -> None:
    transport.append("tmp/log2", 0, b"one ")
    line.mute()
    with pytest.raises(Unreachable):
        transport.append("tmp/log2", 4, b"two")
    with pytest.raises(Unreachable):
        transport.store(b"word", "tmp/word")
    line.thaw()
    until_it_works(lambda: transport.append("tmp/log2", 4, b"two"))
    until_it_works(lambda: transport.store(b"word", "tmp/word"))
    assert (root / "tmp/log2").read_bytes() == b"one two"
    assert (root / "tmp/word").read_bytes() == b"word"


# --- transfers go on where they stood ------------------------------------------------


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large"
    path.write_bytes(os.urandom(LARGE))
    return path


def test_a_put_that_broke_goes_on_where_it_stood(
    transport: SftpTransport, line: Relay, root: Path, large: Path
) -> None:
    transport.connect()
    line.cut_after("up", LARGE // 2)
    # Without the verb's path: the operator reads it, and it is the line's matter.
    with pytest.raises(Unreachable, match=r"^the connection to \S+ broke: "):
        transport.store(large, "tmp/put")
    arrived = (root / "tmp/put").stat()
    assert LARGE // 4 < arrived.st_size < LARGE
    sent = line.passed["up"]
    until_it_works(lambda: transport.store(large, "tmp/put"))
    assert line.passed["up"] - sent < LARGE * 3 // 4
    assert (root / "tmp/put").read_bytes() == large.read_bytes()
    assert (root / "tmp/put").stat().st_ino == arrived.st_ino


def test_what_another_process_began_is_gone_on_with_where_that_is_said(
    transport: SftpTransport, server: Sshd, line: Relay, root: Path, large: Path
) -> None:
    transport.connect()
    line.cut_after("up", LARGE // 2)
    with pytest.raises(Unreachable):
        transport.store(large, "tmp/left")
    arrived = (root / "tmp/left").stat()
    assert LARGE // 4 < arrived.st_size < LARGE
    sent = line.passed["up"]
    with contextlib.closing(
        SftpTransport(parse_address(server.trust(line.port)), server.ssh, deadline=DEADLINE)
    ) as later:
        until_it_works(lambda: later.store(large, "tmp/left", go_on=True))
        assert line.passed["up"] - sent < LARGE * 3 // 4
        assert (root / "tmp/left").read_bytes() == large.read_bytes()
        assert (root / "tmp/left").stat().st_ino == arrived.st_ino
        later.store(large, "tmp/none", go_on=True)  # nothing is there
        assert (root / "tmp/none").stat().st_size == LARGE
        (root / "tmp/left").write_bytes(b"another hand's")
        later.store(large, "tmp/left")  # nobody said so
        assert (root / "tmp/left").read_bytes() == large.read_bytes()


def test_a_fetch_that_broke_goes_on_where_it_stood(
    transport: SftpTransport, line: Relay, root: Path, large: Path, tmp_path: Path
) -> None:
    (root / "get").write_bytes(large.read_bytes())
    target = tmp_path / "got"
    target.write_bytes(b"something old")
    transport.connect()
    line.cut_after("down", LARGE // 2)
    with pytest.raises(Unreachable):
        transport.fetch("get", target)
    assert LARGE // 4 < target.stat().st_size < LARGE
    came = line.passed["down"]
    until_it_works(lambda: transport.fetch("get", target))
    assert line.passed["down"] - came < LARGE * 3 // 4
    assert target.read_bytes() == large.read_bytes()


def test_a_put_of_another_file_does_not_go_on_with_the_first(
    transport: SftpTransport, line: Relay, root: Path, large: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_bytes(os.urandom(LARGE))
    transport.connect()
    line.cut_after("up", LARGE // 2)
    with pytest.raises(Unreachable):
        transport.store(large, "tmp/changed")
    until_it_works(lambda: transport.store(other, "tmp/changed"))
    assert (root / "tmp/changed").read_bytes() == other.read_bytes()


def test_a_line_so_slow_that_no_large_request_is_answered_in_time(
    server: Sshd, line: Relay, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try breaks without one answer; the next asks for little at a time."""
    source = tmp_path / "source"
    source.write_bytes(os.urandom(600_000))
    own = SftpTransport(parse_address(server.trust(line.port)), server.ssh, deadline=DEADLINE)
    own.connect()
    (root / "slow").write_bytes(source.read_bytes())
    ask_for = Wire._ask_for
    sizes: list[int] = []

    def noting(wire: Wire, handle: bytes, offset: int, size: int) -> int:
        if not sizes:
            line.freeze()
        sizes.append(size)
        return ask_for(wire, handle, offset, size)

    monkeypatch.setattr(Wire, "_ask_for", noting)
    with pytest.raises(Unreachable):
        own.fetch("slow", tmp_path / "target")
    assert sizes[0] == 255 * 1024
    line.thaw()
    del sizes[1:]
    until_it_works(lambda: own.fetch("slow", tmp_path / "target"))
    own.close()
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert max(sizes[1:]) == 32 * 1024


# --- connections ---------------------------------------------------------------------


def test_short_requests_do_not_wait_behind_transfers(
    transport: SftpTransport, line: Relay, root: Path, large: Path, tmp_path: Path
) -> None:
    (root / "get2").write_bytes(large.read_bytes())
    transport.connect()
    moving = [
        Background(lambda i=i: transport.fetch("get2", tmp_path / f"got{i}"))  # type: ignore[misc]
        for i in range(6)
    ]
    answered = 0
    while any(m.is_alive() for m in moving):
        transport.check("get2")
        answered += 1
    assert [m.ended() for m in moving] == [None] * 6
    assert answered > 3
    assert line.accepted <= 8  # four transfers at a time, and the short requests


def test_one_connection_serves_one_thread_after_the_other(
    transport: SftpTransport, line: Relay
) -> None:
    for _ in range(20):
        transport.check("bell")
    assert line.accepted == 1


def test_idle_connections_are_closed_but_for_one(
    transport: SftpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = transport._links
    with links.link("one"), links.link("two"), links.link("three"):
        pass
    assert len(links._idle) == 3
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 2 * IDLE)
    wait_for(lambda: len(links._idle) == 1, "two of them to be closed")
    monkeypatch.undo()
    transport.check("bell")


def test_idle_connections_that_would_not_answer_either_cost_no_further_wait(
    transport: SftpTransport, line: Relay
) -> None:
    """All of them hang behind the same line: one deadline for all."""
    links = transport._links
    with links.link("1"), links.link("2"), links.link("3"), links.link("4"):
        pass
    line.freeze()
    with pytest.raises(Unreachable, match="no answer for 2 s"):
        transport.check("bell")
    assert links._idle == []
    line.thaw()
    until_it_works(lambda: transport.check("bell"))
    assert line.accepted == 5


def test_after_a_failed_dial_the_next_one_waits_longer_and_longer(
    server: Sshd, line: Relay
) -> None:
    own = SftpTransport(parse_address(server.trust(line.port)), server.ssh, deadline=DEADLINE)
    line.refuse()
    pauses = []
    for _ in range(4):
        with pytest.raises(Unreachable):
            own.connect()
        tried = line.accepted
        with pytest.raises(Unreachable):
            own.connect()  # at once: no dial, the same reason
        assert line.accepted == tried
        pauses.append(own._links._not_before - own._links._failed_at)
        own._links._not_before = 0.0  # as if it were over
    for n, pause in enumerate(pauses):
        assert 0.25 * 2**n <= pause <= 0.5 * 2**n
    line.refuse(False)
    own.connect()
    own.close()


# --- what the server refuses ---------------------------------------------------------


def test_verbs_that_the_account_does_not_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/file").write_bytes(b"x")
    with sshd(tmp_path / "s", tmp_path / "root", options=f"-p {VERBS}") as server:
        own = SftpTransport(parse_address(server.url), server.ssh)
        with pytest.raises(Refused, match="folder"):
            own.make_folder("folder")
        assert "posix-rename@openssh.com" in own.extensions()
        own.close()
    without = VERBS.replace("posix-rename,", "")
    with sshd(tmp_path / "s2", tmp_path / "root", options=f"-p {without}") as server:
        own = SftpTransport(parse_address(server.url), server.ssh)
        with pytest.raises(Refused, match=r"file to other: .* has no posix-rename@"):
            own.move("file", "other")
        assert sorted(own.names("")) == ["file"]
        own.close()


def test_a_flooded_folder_is_refused_and_its_connection_is_used_again(
    transport: SftpTransport, line: Relay, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another worker of the model may put a million names into its queue."""
    monkeypatch.setattr(sftp, "MAX_NAMES", 300)
    (root / "flooded").mkdir()
    for n in range(300):
        (root / "flooded" / str(n)).touch()
    assert len(transport.names("flooded")) == 300
    (root / "flooded/one more").touch()
    with pytest.raises(Flooded, match="flooded: more than 300 names"):
        transport.names("flooded")
    assert transport.check("flooded/1") == 0
    assert line.accepted == 1


def test_without_a_thread_left_a_verb_is_tried_again_and_every_wait_still_ends(
    transport: SftpTransport, line: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = threading.Thread.start
    for short in ("dial", "warden"):

        def refusing(thread: threading.Thread, short: str = short) -> None:
            if thread.name.startswith(short):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", refusing)
        with pytest.raises(Unreachable, match="cannot start a thread"):
            transport.check("bell")
        monkeypatch.undo()
        transport._links._not_before = 0.0  # as if the pause were over
    until_it_works(lambda: transport.check("bell"))
    line.freeze()
    assert isinstance(Background(lambda: transport.check("bell")).ended(), Unreachable)


def test_folders_are_made_once(transport: SftpTransport, root: Path) -> None:
    for _ in range(2):
        transport.make_folder("made")
    assert (root / "made").stat().st_mode & 0o777 == 0o750  # as on the machine itself
    with pytest.raises(SpoolError):
        transport.make_folder("made/deep/er")


@pytest.mark.root
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    source = tmp_path / "source"
    source.write_bytes(os.urandom(8 * 1024 * 1024))
    with sshd(tmp_path / "s", tmp_path / "root", size="4m") as server:
        own = SftpTransport(parse_address(server.url), server.ssh)
        for size in (8 * 1024 * 1024, 200 * 1024):  # before it is begun, and in the middle
            source.write_bytes(os.urandom(size))
            if size < 1024 * 1024:
                own.store(bytes(4 * 1024 * 1024 - 64 * 1024), "ballast")
            with pytest.raises(NoSpace, match="the primary's disk is full"):
                own.store(source, "half")
            assert own.check("half") is None, "what does not fit takes no room"
        with pytest.raises(NoSpace):
            own.append("log", 0, bytes(1024 * 1024))
        own.drop("log")
        own.drop("ballast")
        own.store(b"room again", "word")
        assert own.read("word", 100) == b"room again"
        assert (own.free() or 0) > 1024 * 1024
        own.close()
