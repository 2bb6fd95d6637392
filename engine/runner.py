"""The runner: the process beside an agent that owns its runs and outlives it.

    python -m engine.runner --state DIR [--stay] [--detach] [--containment KIND]

``--detach``: go into the background, with runner.log for messages, and return
when the agent can connect. ``--stay``: do not leave when idle (for a unit of its
own under systemd, with ``Type=notify``, ``KillMode=mixed``, ``Restart=always``: an
agent of another version has it leave once nothing runs, and the next start brings
that version). ``--containment``: ``pid-namespace`` or ``process-tree`` instead of the
best that the machine allows.

TERM ends its runs as *lost*: TERM for each, its model's grace, KILL; the agent that is
told so, or the next one, gives them back at once. After a KILL, or a power cut, the next
runner writes the same before agents can connect. Nothing but an end of the machine, or of
the service by its keeper, is a reason for either: an upgrade is none.

Who holds the lock on ``<state>/runner.lock`` is the runner of that state; nobody
else starts a run there or writes how one ended. Exit codes: 0, 1 for an error
that was told, 2 for wrong arguments, 3 if another runner has the lock, 4 if it was killed
before it could say anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn, cast, get_args

from engine import address, lost, sandbox, version
from engine.contract import Containment
from engine.loop import Runner
from engine.unpacking import unpack_zip
from spool import notify

FAILED, USAGE, OTHER_LIVES, DIED = 1, 2, 3, 4
_READY = b"ready"
_LOG_MAX = 1 << 20  # bytes; a longer runner.log is begun anew


class Options(NamedTuple):
    state: Path
    stay: bool = False
    detach: bool = False
    containment: Containment | None = None


def main(arguments: list[str]) -> int:
    """Be the runner until there is nothing to do; returns the exit code."""
    options = _options(arguments)
    notify.status("starting")  # before any fork, for none of them may speak for us
    try:
        lock = _lock(options.state)
        if lock is None:
            print(f"another runner serves {options.state}", file=sys.stderr)
            return OTHER_LIVES
        if options.detach:
            return _detached(options, lock)
        _run(options, lock, ready=None)
    except OSError as e:
        print(f"the runner of {options.state}: {e}", file=sys.stderr)
        return FAILED
    return 0


def _run(options: Options, lock: int, ready: int | None) -> None:
    """Raises OSError. ``ready``: a descriptor that is told when agents can connect."""
    sandbox.call_me("mr-runner")
    with contextlib.suppress(OSError):  # for people; a full disk keeps nobody from running
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)
    os.chdir("/")  # no file system is kept from being unmounted by us
    runs = options.state / address.RUNS
    runs.mkdir(exist_ok=True)
    asked = version.Asked()
    box = sandbox.probe(options.containment)
    lost.settle(runs)
    installed = asked.answer()
    with address.listen(options.state) as listener:
        notify.ready(f"version {installed}; runs are contained by a {box.containment}")
        if ready is not None:
            os.write(ready, _READY)
            os.close(ready)
        # What is there now is shared with every fork; the collector need not touch it.
        gc.collect()
        gc.freeze()
        Runner(options.state, listener, box, unpack_zip, _home(), options.stay, installed).loop()


def _lock(state: Path) -> int | None:
    """The state's lock, taken for the life of this process, or None. Raises OSError.

    Every fork closes it at once, so that no run outlives its runner as the lock's holder.
    """
    fd = os.open(state / address.LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _detached(options: Options, lock: int) -> int:
    """Go on in a child in its own session; the parent waits until it is ready. Raises OSError."""
    hear, say = os.pipe2(os.O_CLOEXEC)
    if os.fork() == 0:
        _background(options, lock, say)
    os.close(say)
    said = b""
    while data := os.read(hear, 4096):
        said += data
    if said == _READY:
        return 0
    if not said:
        print("the runner died at its start", file=sys.stderr)
        return DIED
    print(said.decode("utf-8", "replace"), file=sys.stderr)
    return FAILED


def _background(options: Options, lock: int, say: int) -> NoReturn:
    code = FAILED
    try:
        os.setsid()
        log = options.state / address.LOG
        mode = "wb" if log.exists() and log.stat().st_size > _LOG_MAX else "ab"
        with open(os.devnull, "r+b") as null, log.open(mode) as file:
            os.dup2(null.fileno(), 0)
            os.dup2(null.fileno(), 1)
            os.dup2(file.fileno(), 2)
        _run(options, lock, say)
        code = 0
    except OSError as e:
        text = f"the runner of {options.state}: {e}"
        print(text, file=sys.stderr, flush=True)
        with contextlib.suppress(OSError):  # it was ready before: runner.log has it
            os.write(say, text.encode())
    except BaseException:  # noqa: BLE001  the last one to tell
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(code)


def _home() -> str:
    """The account's home, for the models' HOME."""
    return os.environ.get("HOME") or os.path.expanduser("~")


def _options(arguments: list[str]) -> Options:
    """By hand: argparse alone would make each fork dearer by a tenth."""
    state: Path | None = None
    options = Options(Path())
    rest = list(arguments)
    while rest:
        match rest.pop(0):
            case "--state" if rest:
                state = Path(rest.pop(0)).absolute()
            case "--stay":
                options = options._replace(stay=True)
            case "--detach":
                options = options._replace(detach=True)
            case "--containment" if rest and rest[0] in get_args(Containment):
                options = options._replace(containment=cast(Containment, rest.pop(0)))
            case other:
                _usage(f"what is {other}?")
    if state is None:
        _usage("--state is missing")
    return options._replace(state=state)


def _usage(why: str) -> NoReturn:
    kinds = "|".join(get_args(Containment))
    print(
        f"{why}\nusage: python -m engine.runner --state DIR [--stay] [--detach]"
        f" [--containment {kinds}]",
        file=sys.stderr,
    )
    sys.exit(USAGE)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
