"""What an SSH connection holds of the system, and waits on it that always end.

paramiko's own time-outs leave gaps, so none is relied on: a watch outside shuts the
real socket down when time is up, and whatever waits on the connection fails at once.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import paramiko

from spool.errors import Refused, Unreachable

T = TypeVar("T")

WINDOW = 64 << 20  # bytes that a server may send ahead in a channel
PACKET = 128 << 10  # bytes in a packet from the server; the fastest of 32 to 255 KiB here
REDO = 0.2  # seconds between two cuts of one connection
JOIN = 5.0  # seconds; threads of a cut connection are gone after moments

# Else Python would print what paramiko logs as errors where nobody configured logging.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class _Packetizer(paramiko.packet.Packetizer):
    def start_handshake(self, timeout: float) -> None:
        """No timer thread of paramiko's: it would outlive a failed dial. Ours bounds it all."""


class Transport(paramiko.Transport):
    """A transport that logs quietly and keeps the server's last words."""

    def __init__(self, sock: Any) -> None:
        self.said = ""  # what the server said before SSH began, or why it ended the connection
        super().__init__(sock, WINDOW, PACKET, packetizer_class=_Packetizer)

    def _log(self, _level: int, msg: str | list[str], *args: object) -> None:
        """All at DEBUG: what went wrong is in our exceptions, and paramiko logs tracebacks."""
        for text in msg if isinstance(msg, list) else [msg]:
            for prefix in ("Banner: ", "Disconnect (code "):
                if text.startswith(prefix):
                    self.said = clean(text.removeprefix("Banner: "))
            self.logger.debug(text, *args)


class Line:
    """What one connection holds of the system, and how to let go of it from any thread."""

    def __init__(self) -> None:
        self.transports: list[Transport] = []
        self.socket: socket.socket | None = None
        self.process: subprocess.Popen[bytes] | None = None  # a ProxyCommand
        self.opening: list[paramiko.Channel] = []  # whose subsystem is not answered yet
        self.used = False  # a channel was opened
        self.over = False
        self._ending = threading.Lock()

    def cut(self) -> None:
        """Shut the real socket down: all transports end, and all that waits on them fails."""
        self.over = True
        if self.socket is not None:
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_RDWR)
        for channel in list(self.opening):
            channel.event.set()  # a transport that ends at this very moment may miss it

    def end(self) -> None:
        """Cut, wait until the threads are gone (moments), and close."""
        self.cut()
        with self._ending:  # the number of a process that was waited for may be another's
            if self.process is not None and self.process.returncode is None:
                # Not ours to kill if it changed its user (sudo): the shut socket ends it.
                with contextlib.suppress(OSError, subprocess.TimeoutExpired):
                    os.killpg(self.process.pid, signal.SIGKILL)
                    self.process.wait(JOIN)
        for transport in self.transports:
            if transport.is_alive() and transport is not threading.current_thread():
                transport.join(JOIN)
        # Not before: a thread that still polls a closed socket may meet its number again.
        if self.socket is not None:
            self.socket.close()


@contextlib.contextmanager
def within(line: Line, seconds: float, shown: str) -> Iterator[None]:
    """Cut the line after ``seconds``; what paramiko then raises becomes Unreachable."""
    done = threading.Event()
    late = threading.Event()

    def watch() -> None:
        wait = max(0.0, seconds)
        while not done.wait(wait):
            late.set()
            line.cut()
            wait = REDO  # something may have begun to wait just then

    thread = threading.Thread(target=watch, name="dial watch", daemon=True)
    start(thread)
    try:
        yield
    except Exception as e:  # noqa: BLE001  # paramiko lets through whatever it met
        failed: Exception | None = e
    else:
        failed = None
    finally:
        done.set()
        thread.join()
    if late.is_set():
        raise Unreachable(f"{shown}: no answer within {seconds:.0f} s")
    if failed is not None:
        raise _meaning(line, shown, failed) from None


def _meaning(line: Line, shown: str, e: Exception) -> Exception:
    """Who must act on an error of paramiko's, in the server's own words where it said any."""
    if isinstance(e, Refused | Unreachable):
        return e
    if isinstance(e, paramiko.ssh_exception.IncompatiblePeer):
        return Refused(f"{shown}: no common algorithms: {clean(e)}", "update the SSH server")
    transport = line.transports[-1] if line.transports else None
    if transport is not None and not transport.remote_version:
        heard = f"it said: {transport.said}" if transport.said else "it closed the connection"
        return Unreachable(f"{shown}: no SSH server there, or one that is full: {heard}")
    said = next((t.said for t in reversed(line.transports) if t.said), "")
    if said:
        return Unreachable(f"{shown}: ended the connection: {said}")
    if isinstance(e, OSError) and e.strerror:
        return Unreachable(f"{shown}: {e.strerror}")
    if isinstance(e, EOFError) or str(e) in _ENDED:
        return Unreachable(f"{shown}: closed the connection")
    return Unreachable(f"{shown}: {clean(e) or type(e).__name__}")


# How paramiko says that the connection has ended.
_ENDED = {
    "",
    "Channel closed.",
    "Negotiation failed.",
    "No existing session",
    "SSH session not active",
    "Unable to open channel.",
}


def clean(text: object) -> str:
    """A peer's words, fit for a log line."""
    return "".join(c if c.isprintable() else " " for c in str(text)).strip()[:300]


def start(thread: threading.Thread) -> None:
    """Raises Unreachable where this machine has no thread left: it may have one again."""
    try:
        thread.start()
    except RuntimeError as e:
        raise Unreachable(f"this machine cannot start a thread: {e}") from e


def bounded(work: Callable[[], T], until: float, what: str) -> T:
    """The result of ``work``, which nothing can interrupt: it is left to itself when time is up."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(work())
        except BaseException as e:  # noqa: BLE001  # raised again by the caller
            errors.append(e)

    thread = threading.Thread(target=run, name="dial look-up", daemon=True)
    start(thread)
    thread.join(max(0.0, until - time.monotonic()))
    if errors:
        raise errors[0]
    if not results:
        raise Unreachable(f"{what}: the name service does not answer")
    return results[0]
