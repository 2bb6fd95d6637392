"""The SFTP protocol against Debian's sftp-server, and against servers that lie."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spool.wire import (
    AHEAD,
    CREATE,
    EXCLUSIVE,
    FAILURE,
    NO_SUCH_FILE,
    READ,
    WRITE,
    Attributes,
    Broken,
    Status,
    Wire,
)

SERVER = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh") or ""


@pytest.fixture
def wire() -> Iterator[Wire]:
    with session() as made:
        yield made


@contextlib.contextmanager
def session(*options: str) -> Iterator[Wire]:
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            server = subprocess.Popen(
                [SERVER, *options], stdin=theirs.fileno(), stdout=theirs.fileno()
            )
        try:
            yield Wire(ours)
        finally:
            ours.close()
            server.wait(timeout=60)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[i : i + size] for i in range(0, len(data), size))


pytestmark = pytest.mark.needs("openssh-server")


# --- files and names -----------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 32768, 261120, 261121, AHEAD, AHEAD + 1, 3 * AHEAD + 7])
def test_what_is_written_is_read_again(wire: Wire, tmp_path: Path, size: int) -> None:
    data, path = os.urandom(size), str(tmp_path / "file")
    handle = wire.open(path, WRITE | CREATE | EXCLUSIVE)
    wire.write(handle, 0, pieces(data, wire.write_size))
    wire.close(handle)
    assert Path(path).read_bytes() == data
    for step in (wire.read_size, 32768):
        handle = wire.open(path, READ)
        assert b"".join(wire.read(handle, 0, size, step)) == data
        # from the middle, and beyond the end
        assert b"".join(wire.read(handle, size // 2, size + 100_000, step)) == data[size // 2 :]
        wire.close(handle)


def test_the_server_says_how_much_it_takes_at_once(wire: Wire) -> None:
    assert (wire.read_size, wire.write_size) == (261120, 261120)
    with session("-P", "limits") as old:
        assert (old.read_size, old.write_size) == (32768, 32768)


def test_a_file_that_shrinks_while_it_is_read_ends_early(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(3 * AHEAD))
    handle = wire.open(str(path), READ)
    parts = wire.read(handle, 0, 3 * AHEAD, wire.read_size)
    first = next(parts)
    os.truncate(path, AHEAD + 5)
    size = len(first) + sum(map(len, parts))
    assert AHEAD + 5 <= size < 3 * AHEAD
    wire.close(handle)
    assert wire.attributes(str(path)).size == AHEAD + 5  # the session goes on


def test_a_read_that_was_given_up_does_not_disturb_the_next(wire: Wire, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(2 * AHEAD))
    handle = wire.open(str(path), READ)
    parts = wire.read(handle, 0, 2 * AHEAD, 32768)
    next(parts)
    del parts
    assert wire.attributes(str(path)).size == 2 * AHEAD
    assert b"".join(wire.read(handle, 0, 10, 32768)) == path.read_bytes()[:10]


def test_names_are_bytes(wire: Wire, tmp_path: Path) -> None:
    wanted = {b"one", b"two\nlines", b"\xff\xfe", b".hidden", *(b"%d" % i for i in range(1000))}
    for name in wanted:
        with open(os.fsencode(tmp_path) + b"/" + name, "wb"):
            pass
    assert set(wire.names(str(tmp_path))) == wanted
    with pytest.raises(Status) as caught:
        list(wire.names(str(tmp_path / "nowhere")))
    assert caught.value.code == NO_SUCH_FILE


def test_rename_replaces_in_one_step(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    inode = (tmp_path / "old").stat().st_ino
    wire.rename(str(tmp_path / "old"), str(tmp_path / "new"))
    assert (tmp_path / "new").stat().st_ino == inode
    assert not (tmp_path / "old").exists()


def test_attributes_follow_no_link(wire: Wire, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("file")
    assert wire.attributes(str(tmp_path / "file")) == Attributes(5, 0o100640)
    assert wire.attributes(str(tmp_path / "link")).mode == 0o120777


def test_folders_disks_and_removal(wire: Wire, tmp_path: Path) -> None:
    wire.make_folder(str(tmp_path / "made"), 0o750)
    with pytest.raises(Status) as caught:
        wire.make_folder(str(tmp_path / "made"), 0o750)
    assert caught.value.code == FAILURE
    info = os.statvfs(tmp_path)
    assert abs(wire.free(str(tmp_path)) - info.f_bavail * info.f_frsize) < 2**30
    (tmp_path / "file").touch()
    wire.remove(str(tmp_path / "file"))
    assert not (tmp_path / "file").exists()


def test_a_write_that_fails_raises_and_leaves_the_session_usable(wire: Wire) -> None:
    """A device that is always full: every piece of a long write is refused."""
    handle = wire.open("/dev/full", WRITE)
    with pytest.raises(Status) as caught:
        wire.write(handle, 0, pieces(bytes(3 * AHEAD), wire.write_size))
    assert caught.value.code == FAILURE
    wire.close(handle)
    assert wire.attributes("/dev/full").mode is not None


# --- servers that break off or lie ---------------------------------------------------


def packet(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(body), kind) + body


def string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


HELLO = packet(2, struct.pack(">I", 3))


@contextlib.contextmanager
def liar(answer: Callable[[bytes], bytes]) -> Iterator[socket.socket]:
    """A server that answers each thing that it gets with what ``answer`` makes of it."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, contextlib.suppress(OSError):
            while data := theirs.recv(65536):
                told = answer(data)
                if not told:
                    return
                theirs.sendall(told)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join()


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"Welcome to this machine!\r\n",
        b"\x00\x00\x00\x00",
        packet(2, b"\x00"),
        packet(101, struct.pack(">II", 1, 4) + string(b"no") + string(b"")),
        packet(2, struct.pack(">I", 3) + struct.pack(">I", 10_000) + b"short"),
        struct.pack(">I", 0xFFFFFFFF),
    ],
)
def test_a_server_that_does_not_speak_sftp(first: bytes) -> None:
    with liar(lambda _: first) as stream, pytest.raises(Broken):
        Wire(stream)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([101, 102, 103, 104, 105, 201, 77]), st.binary(max_size=60))
def test_any_answer_is_understood_or_breaks_the_connection(kind: int, body: bytes) -> None:
    def answer(data: bytes) -> bytes:
        if data[4] == 1:
            return HELLO
        return packet(kind, data[5:9] + body)

    verbs: list[Callable[[Wire], object]] = [
        lambda w: w.open("x", READ),
        lambda w: list(w.names("x")),
        lambda w: w.attributes("x"),
        lambda w: w.remove("x"),
        lambda w: w.rename("x", "y"),
        lambda w: w.free("x"),
        lambda w: next(w.read(b"h", 0, 10), b""),
        lambda w: w.write(b"h", 0, iter([b"x"])),
    ]
    for verb in verbs:
        with liar(answer) as stream:
            made = Wire(stream)
            with contextlib.suppress(Broken, Status):
                verb(made)


def test_what_a_server_says_is_fit_for_a_log() -> None:
    said = b"no\x1b[2J\nroot: logged in"

    def answer(data: bytes) -> bytes:
        return HELLO if data[4] == 1 else packet(101, data[5:9] + b"\0\0\0\4" + string(said) * 2)

    with liar(answer) as stream, pytest.raises(Status) as caught:
        Wire(stream).attributes("x")
    assert str(caught.value).isprintable()


def test_answers_out_of_order_find_their_requests() -> None:
    """Two reads at a time, answered the second first."""
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs, theirs.makefile("rb") as asked:

            def request() -> bytes:
                return asked.read(struct.unpack(">I", asked.read(4))[0])

            request()
            theirs.sendall(HELLO)
            told = []
            for _ in range(2):
                one = request()
                offset = struct.unpack_from(">Q", one, len(one) - 12)[0]
                told.append(packet(103, one[1:5] + string(b"%d" % offset)))
            theirs.sendall(told[1] + told[0])

    thread = threading.Thread(target=serve)
    thread.start()
    with ours:
        assert list(Wire(ours).read(b"h", 10, 14, 2)) == [b"10", b"12"]
    thread.join()
