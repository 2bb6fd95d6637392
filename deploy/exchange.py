"""One command on a channel: its input is sent while its output is read, in bounded memory."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable

import msgspec
import paramiko

from spool.line import start

MOST = 16 << 20  # bytes of output that are kept, of each stream
PIECE = 32 << 10  # bytes: the largest packet that OpenSSH takes
TURN = 0.5  # seconds after which every wait looks around
LINGER = 1.0  # seconds for the last output of a command that has ended


class Heard(msgspec.Struct, frozen=True):
    """What came. ``code`` is None if no end was heard of; ``late``: the time was up."""

    code: int | None
    out: bytes
    err: bytes
    cut: bool
    late: bool


class _Stream:
    """What is kept of one stream; the rest is read and dropped, so that nobody waits."""

    def __init__(self) -> None:
        self.kept = bytearray()
        self.cut = False

    def add(self, data: bytes) -> None:
        room = MOST - len(self.kept)
        self.kept += data[:room]
        self.cut |= len(data) > room


class Exchange:
    """The exchange with one command that runs on ``channel``, until ``until`` (monotonic)."""

    def __init__(self, channel: paramiko.Channel, until: float) -> None:
        self._channel = channel
        self._until = until
        self._over = threading.Event()
        self._ended: float | None = None  # when its exit code was first seen
        self._error: BaseException | None = None  # of our own input
        channel.settimeout(TURN)

    def hold(
        self,
        given: bytes | Iterable[bytes] | None,
        each: Callable[[bytes], None] | None = None,
    ) -> Heard:
        """All of it. ``given`` None: no input, and no end of it before the channel is closed.
        ``each`` gets standard output as it comes, which is not kept then.

        Raises whatever ``given`` or ``each`` raises. The channel is not closed here.
        """
        out, err = _Stream(), _Stream()
        errors = self._thread(self._read, self._channel.recv_stderr, err.add)
        try:
            if given is not None:
                self._thread(self._send, [given] if isinstance(given, bytes) else given)
            self._read(self._channel.recv, each or out.add)
            errors.join()
            while not (self._channel.status_event.wait(TURN) or self._is_over()):
                pass
        finally:
            self._over.set()
        if self._error is not None:
            raise self._error
        code = self._channel.exit_status
        known = self._channel.status_event.is_set() and code >= 0
        return Heard(
            code if known else None,
            bytes(out.kept),
            bytes(err.kept),
            out.cut or err.cut,
            not known and time.monotonic() >= self._until,
        )

    def _thread(self, work: Callable[..., None], *arguments: object) -> threading.Thread:
        """It ends by itself, moments after we do."""
        thread = threading.Thread(target=work, args=arguments, name="exchange", daemon=True)
        start(thread)
        return thread

    def _is_over(self) -> bool:
        """Whether nothing more is waited for."""
        if self._over.is_set() or self._error is not None:
            return True
        if self._ended is None and self._channel.exit_status_ready():
            self._ended = time.monotonic()
        # A process that it left behind may keep its output open for ever.
        lingers = self._ended is not None and time.monotonic() > self._ended + LINGER
        return lingers or time.monotonic() >= self._until

    def _read(self, receive: Callable[[int], bytes], keep: Callable[[bytes], None]) -> None:
        while not self._is_over():
            with contextlib.suppress(TimeoutError):
                data = receive(PIECE)
                if not data:
                    return
                keep(data)

    def _send(self, pieces: Iterable[bytes]) -> None:
        """A command may end without having read all: that is no error."""
        try:
            for piece in pieces:
                if not self._send_piece(piece):
                    return
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                self._channel.shutdown_write()
        except BaseException as e:  # noqa: BLE001  # raised again by hold
            self._error = e

    def _send_piece(self, piece: bytes) -> bool:
        view = memoryview(piece)
        while view:
            if self._over.is_set() or time.monotonic() >= self._until:
                return False
            try:
                sent = self._channel.send(bytes(view[:PIECE]))
            except TimeoutError:
                continue
            except (OSError, EOFError, paramiko.SSHException):
                return False  # the channel is closed; the readers hear why
            if not sent:
                return False
            view = view[sent:]
        return True
