"""The eight verbs, the same for each transport: a local directory, and a real sshd."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from spool.address import parse_address
from spool.errors import Gone, NoSpace, Refused, SpoolError, Unbelievable, Unreachable
from spool.local import LocalTransport, make_worker_folder, translated
from spool.sftp import SftpTransport
from spool.transport import Transport
from tests.sshd import VERBS, Sshd, sshd

TRANSPORTS = ("local", pytest.param("sftp", marks=pytest.mark.needs("openssh-server")))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the sshd serves; each test has its root in it."""
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Iterator[Sshd]:
    """With the verbs of the hardened layout and no others."""
    folder = tmp_path_factory.mktemp("sshd")
    with sshd(folder, base, options=f"-u 0027 -p {VERBS}") as server:
        yield server


@pytest.fixture
def root(base: Path) -> Path:
    root = base / f"{len(os.listdir(base))}"
    for folder in ("a", "b", "tmp"):
        (root / folder).mkdir(parents=True)
    return root


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest, root: Path) -> Iterator[Transport]:
    if request.param == "local":
        yield LocalTransport(root)
        return
    server: Sshd = request.getfixturevalue("server")
    remote = SftpTransport(parse_address(f"{server.url.rstrip('/')}/{root.name}"), server.ssh)
    yield remote
    remote.close()


# --- names ---------------------------------------------------------------------------


def test_names_leave_out_hidden_and_undecodable_ones(transport: Transport, root: Path) -> None:
    for name in ("one", "two\nlines", ".hidden", "größe"):
        (root / "a" / name).touch()
    with open(os.fsencode(root) + b"/a/\xff.zip", "wb"):
        pass
    assert sorted(transport.names("a")) == sorted(["one", "two\nlines", "größe"])


def test_names_of_a_folder_that_is_not_there(transport: Transport, root: Path) -> None:
    (root / "file").touch()
    for folder in ("nowhere", "file"):
        with pytest.raises(Gone, match=folder):
            transport.names(folder)


# --- read ----------------------------------------------------------------------------


def test_read_up_to_its_limit(transport: Transport, root: Path) -> None:
    (root / "a/file").write_bytes(b"12345")
    assert transport.read("a/file", 5) == b"12345"
    with pytest.raises(Unbelievable, match="a/file: longer than 4 bytes"):
        transport.read("a/file", 4)
    with pytest.raises(Gone):
        transport.read("a/nothing", 5)


def test_read_of_what_is_no_file_neither_waits_nor_follows(
    transport: Transport, root: Path
) -> None:
    (root / "secret").write_text("secret")
    (root / "a/link").symlink_to(root / "secret")
    (root / "a/folder").mkdir()
    os.mkfifo(root / "a/fifo")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(root / "a/socket"))
        for name in ("link", "folder", "fifo", "socket"):
            with pytest.raises((Unbelievable, Unreachable), match=f"a/{name}"):
                transport.read(f"a/{name}", 100)


def test_read_does_not_load_a_hole(transport: Transport, root: Path) -> None:
    with (root / "a/hole").open("wb") as hole:
        hole.truncate(8 * 1024**4)
    with pytest.raises(Unbelievable):
        transport.read("a/hole", 1000)


# --- store, append, fetch ------------------------------------------------------------


def test_store_writes_bytes_and_files(transport: Transport, root: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(os.urandom(3 * 1024**2 + 1))
    transport.store(b"word", "tmp/bytes")
    transport.store(b"", "tmp/empty")
    transport.store(source, "tmp/file")
    assert (root / "tmp/bytes").read_bytes() == b"word"
    assert (root / "tmp/empty").read_bytes() == b""
    assert (root / "tmp/file").read_bytes() == source.read_bytes()


@pytest.mark.parametrize("kind", ["bytes", "file"])
def test_store_never_writes_through_what_lies_there(
    transport: Transport, root: Path, tmp_path: Path, kind: str
) -> None:
    """A worker owns the folder that the primary writes its stop into."""
    source: Path | bytes = b"new"
    if kind == "file":
        source = tmp_path / "source"
        source.write_bytes(b"new")
    precious = root / "precious"
    precious.write_bytes(b"precious")
    (root / "tmp/link").symlink_to(precious)
    os.link(precious, root / "tmp/hardlink")
    os.mkfifo(root / "tmp/fifo")
    (root / "tmp/longer").write_bytes(b"something longer")
    (root / "tmp/readonly").touch(mode=0o400)
    for name in ("link", "hardlink", "fifo", "longer", "readonly"):
        transport.store(source, f"tmp/{name}")
        assert (root / "tmp" / name).read_bytes() == b"new"
        assert not (root / "tmp" / name).is_symlink()
    assert precious.read_bytes() == b"precious"
    (root / "tmp/folder").mkdir()
    with pytest.raises(SpoolError):
        transport.store(source, "tmp/folder")


def test_append_at_an_offset_changes_nothing_when_repeated(
    transport: Transport, root: Path
) -> None:
    for _ in range(2):
        transport.append("a/log", 0, b"one ")
        transport.append("a/log", 4, b"two")
        assert (root / "a/log").read_bytes() == b"one two"
    transport.append("a/log", 7, b"")
    assert transport.check("a/log") == 7


def test_append_does_not_wait_for_a_fifo_or_follow_a_link(transport: Transport, root: Path) -> None:
    os.mkfifo(root / "a/fifo")
    (root / "a/link").symlink_to(root / "elsewhere")
    for name in ("fifo", "link"):
        with pytest.raises(SpoolError):
            transport.append(f"a/{name}", 0, b"x")
    assert not (root / "elsewhere").exists()


def test_fetch_replaces_the_target(transport: Transport, root: Path, tmp_path: Path) -> None:
    (root / "a/file").write_bytes(b"new")
    target = tmp_path / "target"
    target.write_bytes(b"something old")
    transport.fetch("a/file", target)
    assert target.read_bytes() == b"new"
    with pytest.raises(Gone):
        transport.fetch("a/nothing", target)


def test_fetch_of_what_is_no_file_neither_waits_nor_follows(
    transport: Transport, root: Path, tmp_path: Path
) -> None:
    """Another worker of the model may have put it in the ticket's place."""
    (root / "secret").write_text("secret")
    (root / "a/link").symlink_to(root / "secret")
    (root / "a/folder").mkdir()
    os.mkfifo(root / "a/fifo")
    for name in ("link", "folder", "fifo"):
        with pytest.raises((Unbelievable, Unreachable), match=f"a/{name}"):
            transport.fetch(f"a/{name}", tmp_path / "target")
    assert not (tmp_path / "target").exists()
    with pytest.raises(Unbelievable):
        transport.fetch("a/fifo", tmp_path / "target")


# --- move, drop, check ---------------------------------------------------------------


def test_move_is_one_rename(transport: Transport, root: Path) -> None:
    (root / "a/x").write_bytes(b"x")
    inode = (root / "a/x").stat().st_ino
    transport.move("a/x", "b/y")
    assert (root / "b/y").stat().st_ino == inode
    with pytest.raises(Gone):
        transport.move("a/x", "b/y")
    with pytest.raises(Gone):
        transport.move("b/y", "nowhere/y")
    assert (root / "b/y").exists()


def test_of_many_movers_one_wins(transport: Transport, root: Path) -> None:
    """The right to run moves with the ticket: to one worker, and all others see Gone."""
    rounds, movers = 50, 4
    for i in range(rounds):
        (root / "a" / str(i)).touch()
    won: list[tuple[int, int]] = []
    start = threading.Barrier(movers)

    def mover(me: int) -> None:
        start.wait()
        for i in range(rounds):
            try:
                transport.move(f"a/{i}", f"b/{i}~{me}")
            except Gone:
                continue
            won.append((i, me))

    threads = [threading.Thread(target=mover, args=(n,)) for n in range(movers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(i for i, _ in won) == list(range(rounds))
    assert sorted(os.listdir(root / "b")) == sorted(f"{i}~{me}" for i, me in won)


def test_drop_says_whether_it_was_there(transport: Transport, root: Path) -> None:
    (root / "a/x").touch()
    (root / "a/link").symlink_to(root / "b")
    assert transport.drop("a/x") is True
    assert transport.drop("a/x") is False
    assert transport.drop("nowhere/x") is False
    assert transport.drop("a/link") is True
    assert (root / "b").is_dir()
    with pytest.raises(SpoolError):
        transport.drop("b")


def test_check_tells_the_size_and_follows_nothing(transport: Transport, root: Path) -> None:
    (root / "a/x").write_bytes(b"12345")
    (root / "a/link").symlink_to("x")
    assert transport.check("a/x") == 5
    assert transport.check("a/nothing") is None
    assert transport.check("a/link") == 1  # the link's own


# --- errors --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (errno.ENOENT, Gone),
        (errno.ENOTDIR, Gone),
        (errno.ENOSPC, NoSpace),
        (errno.EDQUOT, NoSpace),
        (errno.EACCES, Refused),
        (errno.EPERM, Refused),
        (errno.EROFS, Refused),
        (errno.EIO, Unreachable),
        (errno.ESTALE, Unreachable),
        (errno.ELOOP, Unreachable),
    ],
)
def test_each_error_says_who_acts_and_about_what(number: int, kind: type[SpoolError]) -> None:
    error = translated(OSError(number, os.strerror(number)), "a/file")
    assert type(error) is kind
    assert str(error).startswith(f"a/file: {os.strerror(number)}")


def test_a_full_disk_is_no_space(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = LocalTransport(root)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(NoSpace):
        transport.store(b"word", "tmp/half")
    with pytest.raises(NoSpace):
        transport.append("a/log", 0, b"x")


def test_short_writes_are_continued(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transport = LocalTransport(root)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: real(fd, bytes(data[:3]), at))
    transport.store(b"0123456789", "tmp/x")
    transport.append("tmp/x", 10, b"abcdefg")
    assert (root / "tmp/x").read_bytes() == b"0123456789abcdefg"


def test_a_workers_folder_is_made_only_in_a_spool(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"not a spool.*start the primary first"):
        make_worker_folder(tmp_path, "w1")
    (tmp_path / "models").mkdir()
    (tmp_path / "bell").touch()
    for _ in range(2):  # again at each start
        make_worker_folder(tmp_path, "w1")
    assert sorted(os.listdir(tmp_path / "workers/w1")) == sorted(
        ["cur", "tmp", "log", "out", "reports", "stop"]
    )
