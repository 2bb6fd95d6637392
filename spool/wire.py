"""The SFTP protocol, version 3, as far as the transport needs it.

Ours, on paramiko's channels, because paramiko's own SFTP client asks for ranges
twice when its prefetch is bounded, cannot list a folder that holds a name which
is not UTF-8, and takes replies that belong to another thread. What a request
means is in draft-ietf-secsh-filexfer-02; the extensions are OpenSSH's, in its
file PROTOCOL.

A ``Wire`` is used by one thread at a time. It knows no time: whoever watches
over it is told of every step forward (``moved``), and ends a wait by shutting
the connection down.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

from spool.names import shown

READ, WRITE, CREATE, EXCLUSIVE = 0x01, 0x02, 0x08, 0x20  # how a file is opened

NO_SUCH_FILE, PERMISSION_DENIED, FAILURE = 2, 3, 4  # codes of Status that callers tell apart
OK, END, UNSUPPORTED = 0, 1, 8

SMALL = 32 * 1024  # bytes in one read or write that every server takes
LARGE = 255 * 1024  # bytes at most, where the server says that it takes so many
# Bytes asked for, or sent, before the first answer has come. More would not be faster:
# paramiko moves all that it has buffered whenever a part is taken (0.4 x scp with 16 MiB).
AHEAD = 4 * 1024 * 1024
LONGEST = 1024 * 1024  # bytes of a packet; OpenSSH sends up to 256 KiB

_INIT, _VERSION = 1, 2
_OPEN, _CLOSE, _READ, _WRITE, _LSTAT, _FSTAT = 3, 4, 5, 6, 7, 8
_OPENDIR, _READDIR, _REMOVE, _MKDIR = 11, 12, 13, 14
_STATUS, _HANDLE, _DATA, _NAME, _ATTRS, _EXTENDED, _REPLY = 101, 102, 103, 104, 105, 200, 201

_SIZE, _OWNER, _MODE, _TIMES, _MORE = 1, 2, 4, 8, 0x80000000  # which attributes follow
_NO_ATTRIBUTES = struct.pack(">I", 0)


class Broken(Exception):
    """The connection is gone, or what came over it is no SFTP. Another one is needed."""


class Status(Exception):
    """The server's answer to one request: it failed, with ``code`` and what it says."""

    def __init__(self, code: int, said: str) -> None:
        self.code, self.said = code, said
        super().__init__(f"{said} (SFTP status {code})")


class Attributes(NamedTuple):
    """Of a file: size in bytes, mode with its type bits. None where the server does not say."""

    size: int | None
    mode: int | None


class Stream(Protocol):
    """What a paramiko channel has."""

    def send(self, data: bytes, /) -> int: ...

    def recv(self, nbytes: int, /) -> bytes: ...


class Wire:
    """One SFTP session. Raises Broken from every method, Status where the server refuses."""

    def __init__(self, stream: Stream, moved: Callable[[], None] = lambda: None) -> None:
        self._stream = stream
        self._moved = moved
        self._last = 0  # number of the last request
        self.extensions = self._greet()
        self.read_size, self.write_size = self._limits()

    # --- files -------------------------------------------------------------------------

    def open(self, path: str, how: int) -> bytes:
        """A handle. ``how`` is a sum of READ, WRITE, CREATE, EXCLUSIVE."""
        return _handle(self._ask(_OPEN, _text(path), struct.pack(">I", how), _NO_ATTRIBUTES))

    def close(self, handle: bytes) -> None:
        self._done(self._ask(_CLOSE, _string(handle)))

    def read(self, handle: bytes, start: int, end: int, step: int = SMALL) -> Iterator[bytes]:
        """The bytes from ``start`` to ``end``, in order; fewer if the file ends before.

        ``step`` bytes are asked for at once, at most ``read_size``, and many requests
        are on their way at a time. One that is answered in part is asked for again
        from there, and everything behind it waits.
        """
        asked: deque[tuple[int, int, int]] = deque()  # (request, offset, bytes)
        early: dict[int, tuple[int, bytes]] = {}
        at = start
        ended = False
        while asked or (at < end and not ended):
            while not ended and at < end and at - (asked[0][1] if asked else at) < AHEAD:
                size = min(step, end - at)
                asked.append((self._ask_for(handle, at, size), at, size))
                at += size
            number, offset, size = asked.popleft()
            data = _data(*self._reply(number, early))
            if data is None:
                ended = True
                continue
            if ended:
                continue  # what was asked beyond the end
            yield data
            if len(data) < size:
                rest = (offset + len(data), size - len(data))
                asked.appendleft((self._ask_for(handle, *rest), *rest))

    def write(self, handle: bytes, start: int, data: Iterator[bytes]) -> None:
        """Write the pieces one after the other from ``start`` on, each ``write_size`` at most.

        Raises the first Status after all answers are in, so that the session goes on.
        """
        waiting: deque[tuple[int, int]] = deque()  # (request, bytes)
        early: dict[int, tuple[int, bytes]] = {}
        failed: Status | None = None
        ahead, at = 0, start
        for piece in data:
            number = self._send(_WRITE, _string(handle), struct.pack(">Q", at), _string(piece))
            waiting.append((number, len(piece)))
            at, ahead = at + len(piece), ahead + len(piece)
            while ahead >= AHEAD and failed is None:
                number, size = waiting.popleft()
                failed = _status(*self._reply(number, early))
                ahead -= size
            if failed is not None:
                break
        for number, _ in waiting:
            failed = failed or _status(*self._reply(number, early))
        if failed is not None:
            raise failed

    # --- names -------------------------------------------------------------------------

    def names(self, path: str) -> Iterator[bytes]:
        """What a folder holds, but for ``.`` and ``..``; names are bytes, not always UTF-8."""
        handle = _handle(self._ask(_OPENDIR, _text(path)))
        try:
            while True:
                kind, body = self._ask(_READDIR, _string(handle))
                if kind == _STATUS:
                    failed = _status(kind, body)
                    if failed is not None and failed.code != END:
                        raise failed
                    return
                for name in _names(kind, body):
                    if name not in (b".", b".."):
                        yield name
        finally:
            self.close(handle)

    def attributes(self, path: str) -> Attributes:
        """Of the name itself: lstat(2), no link is followed."""
        return _attributes(*self._ask(_LSTAT, _text(path)))

    def remove(self, path: str) -> None:
        self._done(self._ask(_REMOVE, _text(path)))

    def make_folder(self, path: str, mode: int) -> None:
        self._done(self._ask(_MKDIR, _text(path), struct.pack(">II", _MODE, mode)))

    def rename(self, old: str, new: str) -> None:
        """rename(2): one atomic step that replaces what lies at ``new``.

        Never SFTP's plain rename, which OpenSSH makes of link and unlink: in a race
        a ticket would be seen in two places.
        """
        self._done(self._extended("posix-rename@openssh.com", _text(old), _text(new)))

    def free(self, path: str) -> int:
        """Bytes free for the account on the disk of ``path``."""
        kind, body = self._extended("statvfs@openssh.com", _text(path))
        if kind != _REPLY or len(body) < 40:
            raise _status(kind, body) or Broken("no answer to statvfs")
        _block, fragment, _blocks, _free, available = struct.unpack_from(">5Q", body)
        return int(fragment * available)

    # --- packets -----------------------------------------------------------------------

    def _greet(self) -> dict[str, str]:
        self._put(struct.pack(">BI", _INIT, 3))
        kind, body = self._packet()
        if kind != _VERSION or len(body) < 4:
            raise Broken("the server does not speak SFTP")
        found: dict[str, str] = {}
        rest = body[4:]
        while rest:
            name, rest = _cut(rest)
            value, rest = _cut(rest)
            found[name.decode(errors="replace")] = value.decode(errors="replace")
        return found

    def _limits(self) -> tuple[int, int]:
        """Bytes in one read, and in one write, that the server takes."""
        if "limits@openssh.com" not in self.extensions:
            return SMALL, SMALL
        kind, body = self._extended("limits@openssh.com")
        if kind != _REPLY or len(body) < 24:
            return SMALL, SMALL  # not allowed to ask
        _packet, read, write = struct.unpack_from(">3Q", body)
        return min(LARGE, read or SMALL), min(LARGE, write or SMALL)

    def _ask_for(self, handle: bytes, offset: int, size: int) -> int:
        return self._send(_READ, _string(handle), struct.pack(">QI", offset, size))

    def _extended(self, name: str, *parts: bytes) -> tuple[int, bytes]:
        return self._ask(_EXTENDED, _text(name), *parts)

    def _ask(self, kind: int, *parts: bytes) -> tuple[int, bytes]:
        """Send one request and wait for its answer: (kind, body)."""
        return self._reply(self._send(kind, *parts), {})

    def _send(self, kind: int, *parts: bytes) -> int:
        self._last = (self._last + 1) & 0xFFFFFFFF
        self._put(b"".join((struct.pack(">BI", kind, self._last), *parts)))
        return self._last

    def _reply(self, number: int, early: dict[int, tuple[int, bytes]]) -> tuple[int, bytes]:
        """The answer to one request; others that come before it are kept in ``early``."""
        while number not in early:
            kind, body = self._packet()
            if len(body) < 4:
                raise Broken("a packet without a number")
            early[struct.unpack_from(">I", body)[0]] = (kind, body[4:])
        return early.pop(number)

    def _done(self, reply: tuple[int, bytes]) -> None:
        failed = _status(*reply)
        if failed is not None:
            raise failed

    def _put(self, payload: bytes) -> None:
        data = struct.pack(">I", len(payload)) + payload
        while data:
            try:
                sent = self._stream.send(data)
            except (OSError, EOFError) as e:
                raise Broken(str(e) or "the connection was closed") from e
            if sent == 0:
                raise Broken("the connection was closed")
            self._moved()
            data = data[sent:]

    def _packet(self) -> tuple[int, bytes]:
        """(kind, body) of the next packet."""
        (size,) = struct.unpack(">I", self._take(4))
        if not 1 <= size <= LONGEST:
            raise Broken(
                "the server does not speak SFTP; does the account's shell print something?"
            )
        packet = self._take(size)
        return packet[0], packet[1:]

    def _take(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size:
            try:
                part = self._stream.recv(size)
            except (OSError, EOFError) as e:
                raise Broken(str(e) or "the connection was closed") from e
            if not part:
                raise Broken("the connection was closed")
            self._moved()
            parts.append(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _text(text: str) -> bytes:
    return _string(text.encode(errors="surrogateescape"))


def _cut(body: bytes) -> tuple[bytes, bytes]:
    """The string at the front, and what follows it."""
    if len(body) < 4:
        raise Broken("a packet that ends too early")
    (size,) = struct.unpack_from(">I", body)
    if len(body) < 4 + size:
        raise Broken("a packet that ends too early")
    return body[4 : 4 + size], body[4 + size :]


def _status(kind: int, body: bytes) -> Status | None:
    """None for OK."""
    if kind != _STATUS or len(body) < 4:
        raise Broken(f"an answer of kind {kind} where a status was expected")
    (code,) = struct.unpack_from(">I", body)
    if code == OK:
        return None
    said = _cut(body[4:])[0].decode(errors="replace") if len(body) > 4 else ""
    return Status(code, shown(said) or "refused")


def _handle(reply: tuple[int, bytes]) -> bytes:
    kind, body = reply
    if kind == _HANDLE:
        return _cut(body)[0]
    raise _status(kind, body) or Broken("no handle")


def _data(kind: int, body: bytes) -> bytes | None:
    """None at the end of the file."""
    if kind == _DATA:
        data = _cut(body)[0]
        if not data:
            raise Broken("an empty answer to a read")
        return data
    failed = _status(kind, body)
    if failed is None:
        raise Broken("no data")
    if failed.code == END:
        return None
    raise failed


def _names(kind: int, body: bytes) -> Iterator[bytes]:
    if kind != _NAME or len(body) < 4:
        raise Broken(f"an answer of kind {kind} where names were expected")
    (count,) = struct.unpack_from(">I", body)
    rest = body[4:]
    for _ in range(count):
        name, rest = _cut(rest)
        _long, rest = _cut(rest)
        _found, rest = _cut_attributes(rest)
        yield name


def _attributes(kind: int, body: bytes) -> Attributes:
    if kind == _ATTRS:
        return _cut_attributes(body)[0]
    raise _status(kind, body) or Broken("no attributes")


def _cut_attributes(body: bytes) -> tuple[Attributes, bytes]:
    try:
        (flags,) = struct.unpack_from(">I", body)
        at, size, mode = 4, None, None
        if flags & _SIZE:
            (size,) = struct.unpack_from(">Q", body, at)
            at += 8
        if flags & _OWNER:
            at += 8
        if flags & _MODE:
            (mode,) = struct.unpack_from(">I", body, at)
            at += 4
        if flags & _TIMES:
            at += 8
        rest = body[at:]
        if flags & _MORE:
            (count,) = struct.unpack_from(">I", body, at)
            rest = body[at + 4 :]
            for _ in range(2 * count):
                _, rest = _cut(rest)
    except struct.error as e:
        raise Broken("attributes that end too early") from e
    return Attributes(size, mode), rest
