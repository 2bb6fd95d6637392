"""Services without systemd, as a user without root: the verbs.

    python -m deploy.supervise start|stop|restart|enable|disable [NAME ...]
    python -m deploy.supervise status [--json] | logs [--lines N] [--follow] [NAME ...]

with ``--etc DIR`` and ``--logs DIR`` where they are not below ~/.local. No NAME means all. Each
service has a keeper of its own (``deploy.keeper``), in the background and in a session of its
own: it outlives the login, and what is done to one service touches no other. After a reboot the
line in the crontab starts them all.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from deploy import crontab
from deploy.keeper import READY, Keeper
from deploy.kept import Kept, known
from deploy.paths import paths
from spool.errors import Refused

_MODULE = ("-I", "-m", "deploy.supervise")  # of Python; nothing of the login's is imported
_TAIL = 20  # last lines that are shown of a service that does not start
_PATIENCE = 30.0  # seconds for a service of which nothing is known to end
_LINGER = 10.0  # seconds for a keeper to end once its service has
_LOOK = 0.5  # seconds between two looks at a log that is followed


def main(arguments: list[str]) -> int:
    """Returns the exit code: 0, 1 if something could not be done, 2 for wrong arguments."""
    options = _parser().parse_intermixed_args(arguments)
    names = options.names or known(options.etc)
    services = [Kept(name, options.etc, options.logs) for name in names]
    if options.verb in ("stop", "restart"):
        services.reverse()  # an agent ends before its runner
    try:
        return int(_VERBS[options.verb](services, options))
    except Refused as e:
        print(e, file=sys.stderr)
    except (KeyboardInterrupt, BrokenPipeError):  # whoever followed a log has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to flush
    except OSError as e:
        print(f"{e.filename or 'system'}: {e.strerror}", file=sys.stderr)
    return 1


# --- verbs: 0 if all is well -------------------------------------------------------


def _start(services: Sequence[Kept], options: argparse.Namespace) -> int:
    wrong = [why for kept in services if (why := _started(kept, options))]
    for why in wrong:
        print(why, file=sys.stderr)
    return int(bool(wrong))


def _stop(services: Sequence[Kept], options: argparse.Namespace) -> int:
    del options
    for kept in services:
        _end(kept)
    return 0


def _restart(services: Sequence[Kept], options: argparse.Namespace) -> int:
    _stop(services, options)
    return _start(services[::-1], options)


def _enable(services: Sequence[Kept], options: argparse.Namespace) -> int:
    """One line for all services. Where there is no crontab, that is said, and no failure."""
    del services
    table = crontab.read()
    if table is None:
        print("note: no crontab here for this user: after a reboot, start the services by hand")
        return 0
    # Called through ``current``, which leads to whatever version there will be then.
    ours = crontab.line([sys.executable, *_MODULE, "start", *_folders(options)])
    if crontab.with_line(table, ours) != table:
        crontab.write(crontab.with_line(table, ours))
    return 0


def _disable(services: Sequence[Kept], options: argparse.Namespace) -> int:
    del services, options
    table = crontab.read()
    if table is not None and crontab.has_line(table):
        crontab.write(crontab.without_line(table))
    return 0


def _status(services: Sequence[Kept], options: argparse.Namespace) -> int:
    table = crontab.read()
    # Where there is no crontab, they are enabled as well as they can be.
    enabled = table is None or crontab.has_line(table)
    found = {}
    for kept in services:
        condition = kept.condition()
        active, said = str(condition.active), condition.said
        if kept.keeper() is None:
            alive = kept.child() is not None
            active, said = ("failed", "runs, but nobody keeps it") if alive else ("inactive", "")
        found[kept.name] = {
            "active": active,
            "enabled": enabled,
            "since": condition.since,
            "pid": condition.child if kept.child() is not None else 0,
            "said": said,
        }
    if options.json:
        print(json.dumps(found))
        return 0
    for name, row in found.items():
        pid = f", process {row['pid']}" if row["pid"] else ""
        print(f"{name}: {row['active']} since {row['since'] or '?'}{pid}  {row['said']}".rstrip())
    return 0


def _logs(services: Sequence[Kept], options: argparse.Namespace) -> int:
    """With the service's name before each line, if there are several."""
    marks = {k.log: f"{k.name.removeprefix('modelrunner-')}: " for k in services}
    if len(services) == 1:
        marks = dict.fromkeys(marks, "")
    at = {path: _size(path) for path in marks}  # first: rather twice than not at all
    for kept in services:
        for line in kept.last_lines(options.lines):
            print(f"{marks[kept.log]}{line}", flush=True)
    if options.follow:
        for path, line in _grown(at):
            print(f"{marks[path]}{line}", flush=True)
    return 0


def _keep(services: Sequence[Kept], options: argparse.Namespace) -> int:
    """Be the keeper of one service. Its own errors go to the service's log."""
    (kept,) = services
    lock = options.lock if options.lock is not None else kept.take()
    if lock is None:
        print(f"{kept.name} has a keeper already", file=sys.stderr)
        return 1
    os.set_inheritable(lock, False)
    if options.tell is not None:
        os.set_inheritable(options.tell, False)
    again = (*_MODULE, "keep", *_folders(options), kept.name)
    Keeper(kept, lock, options.tell, again).keep()
    return 0


_VERBS: dict[str, Callable[[Sequence[Kept], argparse.Namespace], int]] = {
    "start": _start,
    "stop": _stop,
    "restart": _restart,
    "enable": _enable,
    "disable": _disable,
    "status": _status,
    "logs": _logs,
    "keep": _keep,
}


# --- parts -------------------------------------------------------------------------


def _started(kept: Kept, options: argparse.Namespace) -> str:
    """Start it and wait until it is ready; what is wrong, or ""."""
    kept.config()  # there is one, and it can be read
    if kept.keeper() is not None:
        return "" if kept.condition().active != "failed" else _told(kept, kept.condition().said)
    hear, say = os.pipe2(os.O_CLOEXEC)
    kept.log.parent.mkdir(parents=True, exist_ok=True)
    command = [*_true_self(), "keep", *_folders(options), "--tell", str(say), kept.name]
    with kept.log.open("ab") as log:
        keeper = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            pass_fds=(say,),
            start_new_session=True,
        )
    keeper.returncode = 0  # it outlives us: nobody here waits for its end
    os.close(say)
    with open(hear, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    return "" if said == READY else _told(kept, said or "its keeper died")


def _told(kept: Kept, why: str) -> str:
    lines = "\n".join(f"    {line}" for line in kept.last_lines(_TAIL))
    return f"{kept.name} {why}; it is tried again and again. Its last messages:\n{lines}"


def _end(kept: Kept) -> None:
    """Its keeper ends it, and then itself; one that nobody keeps we end ourselves."""
    try:
        patience = kept.config().stop_seconds
    except Refused:  # its file is gone; it may live
        patience = _PATIENCE
    if (keeper := kept.keeper()) is not None:
        os.kill(keeper, signal.SIGTERM)
        if _gone(lambda: kept.keeper() is None, patience + _LINGER):
            return
        os.kill(keeper, signal.SIGKILL)
    for number in (signal.SIGTERM, signal.SIGKILL):
        child = kept.child()
        if child is None:
            return
        child.send_signal(number)
        if _gone(lambda: kept.child() is None, patience):
            return


def _gone(condition: Callable[[], bool], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _grown(at: dict[Path, int]) -> Iterator[tuple[Path, str]]:
    """Whole lines behind those offsets, as they come, until nobody reads what we print."""
    reader = select.poll()
    reader.register(sys.stdout, 0)  # tells of its end alone: a quiet log meets no broken pipe
    while not reader.poll(_LOOK * 1000):
        for path in at:
            size = _size(path)
            at[path] = at[path] if at[path] <= size else 0  # it was moved aside
            if size == at[path]:
                continue
            with path.open("rb") as file:
                file.seek(at[path])
                data = file.read(1 << 20)
            whole = data[: data.rfind(b"\n") + 1]
            at[path] += len(whole)
            for line in whole.decode("utf-8", "replace").splitlines():
                yield path, line


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _true_self() -> list[str]:
    """This program by the true name of its version, which ``current`` only leads to."""
    folder, name = os.path.split(sys.executable)
    return [os.path.join(os.path.realpath(folder), name), *_MODULE]


def _folders(options: argparse.Namespace) -> tuple[str, ...]:
    return ("--etc", str(options.etc), "--logs", str(options.logs))


def _parser() -> argparse.ArgumentParser:
    where = paths("user", str(Path.home()), "")
    parser = argparse.ArgumentParser(prog="deploy.supervise")
    parser.add_argument("verb", choices=_VERBS)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--etc", type=Path, default=Path(where.etc))
    parser.add_argument("--logs", type=Path, default=Path(where.logs))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--lines", type=int, default=50)
    parser.add_argument("--follow", action="store_true")
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)  # of a keeper that made way
    parser.add_argument("--tell", type=int, help=argparse.SUPPRESS)  # who waits for the start
    return parser


if __name__ == "__main__":
    os.umask(0o077)  # logs and sockets are the account's alone
    sys.exit(main(sys.argv[1:]))
