"""One primary, its HTTP server and its local worker, from start to stop."""

from __future__ import annotations

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
from primary import accesskeys, config
from primary.errors import PrimaryError
from primary.files import RESERVE
from primary.local_worker import LocalWorker
from primary.pace import Pace
from primary.roles import Role
from primary.server import Primary
from spool import notify
from spool.errors import SpoolError
from web import listening, proxied
from web.listening import CannotServe, bound
from web.routes import Application, application

THREADS = 16  # above web.site.MAX_POLLS, so that long polls leave some for everything else
CONNECTIONS = 1000
CHANNEL_TIMEOUT = 120  # seconds a connection may say nothing
RECEIVE = 128 * 1024  # bytes per read of a socket: waitress's 8 KiB make a big upload slow
LOOP = 0.5  # seconds between looks at whether we are to stop
ROOM_EVERY = 2.0  # seconds between looks at the free disk
STOP_WITHIN = 3  # seconds for answers that are under way when we stop
START_WITHIN = 300.0  # seconds that systemd waits, from each sign that our start gets on
SAY_EVERY = 5.0  # seconds between such signs

log = logging.getLogger(__name__)


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
    behind_proxy: bool = False,
    accel: str | None = None,
    anonymous: Role | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code; errors are one line on stderr."""
    notify.extend(START_WITHIN)  # first of all: what systemd told us is for no child of ours
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for handler in logging.getLogger().handlers:
        handler.addFilter(Pace())
    # waitress warns whenever a request waits for a thread: that is what queues are for
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    try:
        with ExitStack() as stack:
            # First of all, so that a port in use is known before any data is touched.
            sockets = stack.enter_context(bound(host, port))
            access = listening.access(
                sockets,
                admin_key,
                hosts,
                behind_proxy=behind_proxy,
                anonymous=anonymous or config.read(data).anonymous,
                keyed=any(key.role == "admin" for key in accesskeys.read(data)),
            )
            _check_accel(accel, behind_proxy=behind_proxy)
            with _rebuilding() as show:
                shared = accel is not None
                primary = Primary.open(data, models, allow_urls, rebuilding=show, shared=shared)
            stack.callback(primary.close)
            app = application(primary, access, accel)
            if accel is not None and app.answers_below(accel):
                raise CannotServe(
                    f"--accel {accel}: addresses of ours begin so; choose another, as /finished/"
                )
            primary.start()
            stop = stack.enter_context(_stop_signals())
            if slots > 0:
                worker = LocalWorker(data, models, slots)
                stack.callback(_end_worker, worker)
                worker.start()
            _use_disk(data)
            ready = _ready(sockets, data, slots)
            _serve_http(primary, app, sockets, ready, stop, behind_proxy=behind_proxy)
    except (CannotServe, PrimaryError, LedgerError, SpoolError) as e:
        return _say(str(e))
    except OSError as e:
        return _say(f"{e.filename}: {e.strerror}" if e.filename else str(e))
    return 0


def _check_accel(prefix: str | None, *, behind_proxy: bool) -> None:
    """Raises CannotServe for what no proxy could be told."""
    if prefix is None:
        return
    if not behind_proxy:
        raise CannotServe("--accel needs --behind-proxy: a proxy sends the files, and nobody else")
    if not proxied.is_prefix(prefix):
        raise CannotServe(
            f"--accel {prefix}: expected the beginning of an address, such as /finished/: small "
            "letters, digits, - and _ between slashes"
        )


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
    """Shows how far the board has read the ledger, to whoever looks, and to systemd."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        tasks: list[TaskID] = []
        said = -SAY_EVERY

        def show(done: int, total: int) -> None:
            nonlocal said
            if time.monotonic() - said >= SAY_EVERY:
                said = time.monotonic()
                notify.extend(START_WITHIN)
                notify.status(f"Reading the ledger: record {done} of {total}")
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


class Watchdog:
    """Tells systemd that we live, as often as it wants, but only while the tick gets on."""

    def __init__(self, primary: Primary) -> None:
        self._primary = primary
        self._every = notify.interval()
        self._next = 0.0

    def feed(self, now: float) -> None:
        """``now`` is monotonic, in seconds."""
        if self._every is None or now < self._next:
            return
        if hung := self._primary.hung():
            log.error("%s; systemd is not told that all is well", hung)  # and so ends us
        else:
            notify.alive()
        self._next = now + self._every


def _serve_http(
    primary: Primary,
    app: Application,
    sockets: list[socket.socket],
    ready: str,
    stop: _Stop,
    *,
    behind_proxy: bool,
) -> None:
    channels: dict[int, Any] = {}
    server = waitress.create_server(
        proxied.Proxied(app) if behind_proxy else app,
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
        # it (web.access), and what of them it believes (web.proxied).
        clear_untrusted_proxy_headers=False,
        ident="Model Runner",
    )
    print(ready, flush=True)
    notify.ready(ready)
    watchdog = Watchdog(primary)
    checked = -ROOM_EVERY
    try:
        while not stop.wanted:
            if primary.stopped:
                raise CannotServe(f"{primary.stopped}; start it again")
            wasyncore.loop(timeout=LOOP, use_poll=True, map=channels, count=1)
            watchdog.feed(time.monotonic())
            if time.monotonic() - checked >= ROOM_EVERY:
                checked = time.monotonic()
                server.adj.max_request_body_size = _room(primary.data)
    finally:
        notify.stopping()
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


def _ready(sockets: list[socket.socket], data: Path, slots: int) -> str:
    # localhost has two sockets; the IPv4 address is the one that every client tries
    sock = min(sockets, key=lambda sock: sock.family != socket.AF_INET)
    address, port = sock.getsockname()[:2]
    shown = f"[{address}]" if ":" in address else address
    plural = "slot" if slots == 1 else "slots"
    return f"Model Runner is ready at http://{shown}:{port}/ (data in {data}, {slots} {plural})"
