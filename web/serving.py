"""One primary, its HTTP server and its local worker, from start to stop."""

from __future__ import annotations

import errno
import ipaddress
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import waitress
from rich.console import Console
from rich.progress import Progress, TaskID
from waitress import wasyncore

from ledger.errors import LedgerError
from primary.errors import PrimaryError
from primary.files import RESERVE
from primary.local_worker import LocalWorker
from primary.pace import Pace
from primary.server import Primary
from spool.errors import SpoolError
from web.access import Access
from web.routes import Application, application

THREADS = 16  # above web.site.MAX_POLLS, so that long polls leave some for everything else
CONNECTIONS = 1000
CHANNEL_TIMEOUT = 120  # seconds a connection may say nothing
RECEIVE = 128 * 1024  # bytes per read of a socket: waitress's 8 KiB make a big upload slow
LOOP = 0.5  # seconds between looks at whether we are to stop
ROOM_EVERY = 2.0  # seconds between looks at the free disk
STOP_WITHIN = 3  # seconds for answers that are under way when we stop

log = logging.getLogger(__name__)


class CannotServe(Exception):
    """The server cannot start, or go on. The operator acts: the message says how."""


def serve(
    *,
    data: Path,
    host: str,
    port: int,
    models: Path,
    slots: int,
    admin_key: str | None,
    hosts: tuple[str, ...],
    allow_urls: tuple[str, ...],
) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code; errors are one line on stderr."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(Pace())
    # waitress warns whenever a request waits for a thread: that is what queues are for
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        with ExitStack() as stack:
            # First of all, so that a port in use is known before any data is touched.
            sockets = stack.enter_context(_bound(host, port))
            access = _access(sockets, admin_key, hosts)
            with _rebuilding() as show:
                primary = Primary.open(data, models, allow_urls, rebuilding=show)
            stack.callback(primary.close)
            primary.start()
            stop = stack.enter_context(_stop_signals())
            if slots > 0:
                worker = LocalWorker(data, models, slots)
                stack.callback(_end_worker, worker)
                worker.start()
            _use_disk(data)
            _serve_http(primary, application(primary, access), sockets, data, slots, stop)
    except (CannotServe, PrimaryError, LedgerError, SpoolError) as e:
        return _say(str(e))
    except OSError as e:
        return _say(f"{e.filename}: {e.strerror}" if e.filename else str(e))
    return 0


def _end_worker(worker: LocalWorker) -> None:
    worker.stop()
    if runs := worker.runs():
        what = "1 run goes" if runs == 1 else f"{runs} runs go"
        print(f"{what} on without us; the next start finds them again.", flush=True)


def _say(error: str) -> int:
    print(f"Error:  {' '.join(error.split())}", file=sys.stderr)
    return 1


@contextmanager
def _rebuilding() -> Iterator[Callable[[int, int], None]]:
    """Shows how far the board has read the ledger, to whoever looks."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: list[TaskID] = []

        def show(done: int, total: int) -> None:
            if not tasks:
                tasks.append(progress.add_task("Reading the ledger"))
            progress.update(tasks[0], completed=done, total=total)

        yield show


def _use_disk(data: Path) -> None:
    """Receive large bodies on the data directory's disk, and allow many connections."""
    # waitress receives a body into a temporary file before we see it. /tmp is a
    # tmpfs on many machines, so an upload of 2 GB would cost memory. The files
    # have no name (O_TMPFILE): nothing is left of them, however we end.
    tempfile.tempdir = str(data / "incoming")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4 * CONNECTIONS if hard == resource.RLIM_INFINITY else min(hard, 4 * CONNECTIONS)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextmanager
def _bound(host: str, port: int) -> Iterator[list[socket.socket]]:
    """Sockets on every address of ``host``, bound; port 0 means a free one, the same on all."""
    where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as e:
        raise CannotServe(f"cannot listen on {where}: {e.strerror}; check --listen") from None
    sockets: list[socket.socket] = []
    refusal: OSError | None = None
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as e:  # a machine without IPv6
                refusal = e
                continue
            sockets.append(sock)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                sock.bind((address[0], port, *address[2:]))
                # Here and now, not at the end: two that are only bound do not notice each other.
                sock.listen(1024)
                port = sock.getsockname()[1]
            except OSError as e:
                sockets.remove(sock)
                sock.close()
                if e.errno != errno.EADDRNOTAVAIL:  # localhost's ::1 where IPv6 is off
                    raise CannotServe(_refused(where, e)) from None
                refusal = e
        if not sockets:
            assert refusal is not None
            raise CannotServe(_refused(where, refusal))
        yield sockets
    finally:
        for sock in sockets:
            sock.close()


def _refused(where: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"cannot listen on {where}: the port is in use; stop the program that uses it, "
            f"or choose another port with --listen"
        )
    if error.errno == errno.EACCES:
        return f"cannot listen on {where}: only root may use this port; choose one above 1023"
    return f"cannot listen on {where}: {error.strerror}; check --listen"


def _access(sockets: list[socket.socket], key: str | None, hosts: tuple[str, ...]) -> Access:
    """Raises CannotServe where others could reach us and there is no admin key."""
    addresses = [sock.getsockname()[0].partition("%")[0] for sock in sockets]
    local = all(ipaddress.ip_address(address).is_loopback for address in addresses)
    if not local and not key:
        raise CannotServe(
            f"listening on {addresses[0]} lets other machines in, and then killing jobs needs an "
            f"admin key: give one with --admin-key or MODELRUNNER_ADMIN_KEY, or listen on 127.0.0.1"
        )
    name = socket.gethostname()
    names = {name, name.partition(".")[0], *hosts}
    if not local:
        names.add(socket.getfqdn())  # asks the name service; a loopback listener has no need
    return Access(
        anonymous="admin" if local else "submit",
        admin_key=key or None,
        hosts=frozenset(name.lower() for name in names if name),
    )


class _Stop:
    """Whether SIGTERM or SIGINT has come."""

    wanted = False

    def __call__(self, _signal: int, _frame: FrameType | None) -> None:
        self.wanted = True


@contextmanager
def _stop_signals() -> Iterator[_Stop]:
    """From here to the end both signals only ask us to stop, also while we stop."""
    stop = _Stop()
    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _serve_http(
    primary: Primary,
    app: Application,
    sockets: list[socket.socket],
    data: Path,
    slots: int,
    stop: _Stop,
) -> None:
    channels: dict[int, Any] = {}
    server = waitress.create_server(
        app,
        map=channels,
        sockets=sockets,
        threads=THREADS,
        connection_limit=CONNECTIONS,
        channel_timeout=CHANNEL_TIMEOUT,
        recv_bytes=RECEIVE,
        # Large, so that the primary's own limit decides, with a reason. What is
        # really allowed is kept at the room on the disk, below.
        max_request_body_size=2**62,
        # Long polls can then see that their client has left.
        channel_request_lookahead=1,
        # select() ends at file descriptor 1023
        asyncore_use_poll=True,
        # The application decides by these headers whether a proxy stands before
        # it (web.access); it believes nothing else in them.
        clear_untrusted_proxy_headers=False,
        ident="Model Runner",
    )
    _say_ready(sockets, data, slots)
    checked = -ROOM_EVERY
    try:
        while not stop.wanted:
            if primary.stopped:
                raise CannotServe(f"{primary.stopped}; start it again")
            wasyncore.loop(timeout=LOOP, use_poll=True, map=channels, count=1)
            if time.monotonic() - checked >= ROOM_EVERY:
                checked = time.monotonic()
                server.adj.max_request_body_size = _room(data)
    finally:
        app.close()  # long polls end
        server.task_dispatcher.shutdown(timeout=STOP_WITHIN)
        wasyncore.close_all(channels, ignore_all=True)


def _room(data: Path) -> int:
    """The largest body to receive now, in bytes.

    waitress compares it with what *has* arrived of a body, too, which has then
    left the disk: a body gets half of the room at most, and the copy that the
    primary makes of it the other half.
    """
    try:
        info = os.statvfs(data)
    except OSError:
        return 2**62  # the primary will say what is wrong with its folder
    return max(1024 * 1024, info.f_bavail * info.f_frsize - RESERVE)


def _say_ready(sockets: list[socket.socket], data: Path, slots: int) -> None:
    # localhost has two sockets; the IPv4 address is the one that every client tries
    sock = min(sockets, key=lambda sock: sock.family != socket.AF_INET)
    address, port = sock.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    plural = "slot" if slots == 1 else "slots"
    print(
        f"Model Runner is ready at http://{shown}:{port}/ (data in {data}, {slots} {plural})",
        flush=True,
    )
