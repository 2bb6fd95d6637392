"""A wire with faults: what goes through it can be delayed, lost or cut at a word."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator


class Relay:
    """Forwards TCP connections from a free port of ours to ``(host, port)``.

    ``inside`` makes its sockets those of another network namespace, in which it
    listens on ``listen``.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        listen: str = "127.0.0.1",
        inside: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    ) -> None:
        self._target = (host, port)
        self._inside = inside
        self._trap: Callable[[], bool] | None = None
        self.trapped = threading.Event()
        self._lost = 0  # the answers of this many connections, the oldest, are lost
        with inside():
            self._listener = socket.create_server((listen, 0))
        self.port = int(self._listener.getsockname()[1])
        self.accepted = 0
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._threads: list[threading.Thread] = []
        self._up, self._down = threading.Event(), threading.Event()  # set: bytes go through
        self._up.set()
        self._down.set()
        self._refusing = False
        self.passed = {"up": 0, "down": 0}  # bytes, since the beginning
        self._cut_at: tuple[str, int] | None = None
        self._spawn(self._accept)

    def mute(self) -> None:
        """From now on the server's answers are lost on their way; requests still arrive."""
        self._down.clear()

    def trap(self, condition: Callable[[], bool]) -> None:
        """Mute, and set ``trapped``, before the first answer that comes once it is true.

        What the server did is seen on its disk before its answer has passed here.
        """
        self.trapped.clear()
        self._trap = condition

    def lose(self) -> None:
        """The answers on the connections of now are lost for good; new connections work."""
        self._lost = len(self._pairs)

    def freeze(self) -> None:
        """From now on nothing passes either way, and nobody is told."""
        self._up.clear()
        self._down.clear()

    def thaw(self) -> None:
        """What was held back goes on its way."""
        self._up.set()
        self._down.set()

    def cut(self) -> None:
        """End all connections."""
        for pair in list(self._pairs):
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def cut_after(self, way: str, size: int) -> None:
        """End all connections once ``size`` more bytes have gone ``up`` or ``down``."""
        self._cut_at = (way, self.passed[way] + size)

    def refuse(self, refusing: bool = True) -> None:
        """End new connections at once."""
        self._refusing = refusing

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self.thaw()
        for thread in self._threads:
            thread.join()

    # --- inside --------------------------------------------------------------------

    def _spawn(self, run: object, *args: object) -> None:
        thread = threading.Thread(target=run, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            if self._refusing:
                client.close()
                continue
            try:
                with self._inside():
                    server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            number = len(self._pairs)
            self._pairs.append((client, server))
            gone = threading.Semaphore(0)
            self._spawn(self._forward, client, server, "up", number, self._up, gone)
            self._spawn(self._forward, server, client, "down", number, self._down, gone)
            self._spawn(self._close, client, server, gone)

    def _forward(
        self,
        source: socket.socket,
        target: socket.socket,
        way: str,
        number: int,
        open_: threading.Event,
        gone: threading.Semaphore,
    ) -> None:
        try:
            while data := source.recv(65536):
                if way == "down":
                    self._fall_into_trap()
                open_.wait()
                if way == "down" and number < self._lost:
                    continue
                if self._cut_at is not None and self._cut_at[0] == way:
                    left = self._cut_at[1] - self.passed[way]
                    if left <= len(data):
                        target.sendall(data[:left])
                        self._cut_at = None
                        self.cut()
                        return
                target.sendall(data)
                self.passed[way] += len(data)
        except OSError:
            pass
        finally:
            for end in (source, target):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
            gone.release()

    def _fall_into_trap(self) -> None:
        condition = self._trap
        if condition is not None and condition():
            self.mute()
            self._trap = None
            self.trapped.set()

    def _close(
        self, client: socket.socket, server: socket.socket, gone: threading.Semaphore
    ) -> None:
        for _ in range(2):
            gone.acquire()
        client.close()
        server.close()


@contextlib.contextmanager
def relay(host: str, port: int) -> Iterator[Relay]:
    made = Relay(host, port)
    try:
        yield made
    finally:
        made.close()
