"""The worker: claim, run, report.

This is the command and its wiring; the work is done by ``engine.agent``.
"""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

import click

from engine.agent import VERSION, Agent
from engine.backoff import Backoff
from engine.beats import namesake, who
from engine.entrance import Entrance, entrance_to
from engine.errors import EngineError
from engine.examination import examine
from engine.runs import Engine, Keeper
from engine.state import State
from engine.vigil import Vigil
from spool import names, notify
from spool.claims import Claims
from spool.errors import NoSpace, Refused, SpoolError, Unreachable
from spool.manifest import load_all

RETRY = (0.5, 30.0)  # seconds: first and longest pause until a primary is tried again at start
LEAVE = 5.0  # seconds to end on request, until connections that hang are cut
CUT = 2.0  # seconds for what they held up, until it is left behind

log = logging.getLogger("worker")


class Options(NamedTuple):
    """What it was started with. ``ssh`` None: ``~/.ssh``; ``state`` None: ``default_state``."""

    primary: str
    models: Path
    name: str
    slots: int
    state: Path | None
    ssh: Path | None
    runner: Keeper
    only: tuple[str, ...] = ()  # the models to run; empty: all in the folder


class Worker:
    """One worker, from its start to its end.

    It lives in a thread of its own: the main thread waits for it, and leaves it
    behind if it is told to end and something hangs. What runs belongs to the runner.
    """

    def __init__(self, entrance: Entrance, home: State, options: Options) -> None:
        self._entrance = entrance
        self._home = home
        self._models, self._only = options.models.resolve(), options.only
        self._name = options.name
        self._slots = options.slots
        self._engine = Engine(home.path, keeper=options.runner)
        self._vigil = Vigil(entrance.shown)
        self._claims = Claims(entrance.transport, options.name, home.instance)
        self._agent: Agent | None = None
        self._stopping = threading.Event()
        self._ended = threading.Event()
        self._refused = ""
        self._error: BaseException | None = None

    def work(self) -> str:
        """Until it is told to stop. Returns why it had to end, or ""; raises as it failed."""
        _on_signals(self._stop)
        self._vigil.begin()
        threading.Thread(target=self._live, name="worker", daemon=True).start()
        self._ended.wait()
        self._entrance.close()
        left = self._agent.left() if self._agent is not None else ""
        if left:
            print(left, flush=True)
        if self._error is not None:
            raise self._error
        return self._refused

    def _stop(self) -> None:
        notify.stopping()
        self._stopping.set()
        if self._agent is not None:
            self._agent.stop()
        if not self._ended.wait(LEAVE):
            self._entrance.close()
            self._ended.wait(CUT)
            self._ended.set()

    def _live(self) -> None:
        try:
            self._refused = self._enter() or self._serve()
        except BaseException as e:  # noqa: BLE001  the main thread tells it
            self._error = e
        finally:
            self._ended.set()

    def _enter(self) -> str:
        """Be let into the spool, however long that takes; why this worker may not work, or ""."""
        backoff = Backoff(*RETRY, self._home.instance)
        said = ""
        while not self._stopping.is_set():
            try:
                self._entrance.enter(self._name)
                other = namesake(self._claims, self._stopping, self._entrance.glance)
                if other is not None:
                    return (
                        f"{who(other)} is working under the name {self._name!r}; "
                        "give this worker a name of its own with --name"
                    )
                self._claims.sweep()  # half-written files of an agent that died
                return ""
            except (Unreachable, NoSpace) as e:
                # It may hold results that nobody else has: it stays.
                if not said:
                    log.warning("cannot reach %s: %s; trying again", self._entrance.shown, e)
                said = str(e)
                self._vigil.turned(f"cannot reach the primary: {e}")
                self._stopping.wait(backoff.next())
        return ""

    def _serve(self) -> str:
        if self._stopping.is_set():
            return ""
        engine = self._engine
        own = engine.keeper == "own"
        if own:
            engine.connect()
        try:
            self._agent = agent = Agent(
                self._claims,
                engine,
                self._home,
                self._models,
                self._slots,
                self._entrance.node_url,
                rescan=self._entrance.rescan,
                rescan_queue=self._entrance.rescan_queue,
                log_pace=self._entrance.log_pace,
                turned=self._turned,
                only=self._only,
            )
            if self._stopping.is_set():  # told so a moment ago
                agent.stop()
            watcher = self._entrance.watcher(agent)
            watcher.start()
            try:
                slots = f"{self._slots} slot{'s' * (self._slots > 1)}"
                print(
                    f"worker {self._name} is ready: {slots}, models in {self._models}", flush=True
                )
                agent.run()
            finally:
                watcher.stop()
            return agent.refused
        finally:
            engine.close(stop_runner_if_idle=own)

    def _turned(self) -> None:
        if self._agent is not None:
            self._vigil.turned(self._agent.hindrance())


def default_state(mark: str, name: str) -> Path:
    """Where a worker's state lies: its own disk, one directory for each name and primary."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    digest = hashlib.sha256(mark.encode()).hexdigest()[:12]
    return Path(home) / "modelrunner" / f"{name}-{digest}"


def work(options: Options) -> str:
    """Run a worker until it is told to stop. Returns why it had to end, or ""."""
    names.plain(options.name, "the worker's name")
    entrance = entrance_to(options.primary, options.ssh)
    load_all(options.models)
    state = options.state or default_state(entrance.mark, options.name)
    home = State(state.resolve())
    try:
        return Worker(entrance, home, options).work()
    finally:
        home.release()


def check(options: Options) -> bool:
    """Try everything that a worker needs, and print a line each. False if something failed."""
    good = True

    def state(mark: str) -> Path:
        return options.state or default_state(mark, options.name)

    for finding in examine(options.primary, options.models, options.name, state, options.ssh):
        click.echo(str(finding))
        good = good and finding.verdict != "FAILED"
    return good


def _on_signals(stop: Callable[[], None]) -> None:
    """Not from the handler: it interrupts a thread that may hold the very lock of an Event."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        os.read(reading, 1)
        stop()

    threading.Thread(target=wait, name="signals", daemon=True).start()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="modelrunner-worker")
@click.option(
    "--primary",
    required=True,
    metavar="SPOOL",
    help="The primary's spool: sftp://USER@HOST:PORT/PATH, or the folder 'spool' in its data "
    "directory, where that is on this machine.",
)
@click.option(
    "--models",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder of the models that this worker runs.",
)
@click.option(
    "--only",
    multiple=True,
    metavar="MODEL",
    help="Run this model of the folder; may be repeated.  [default: all]",
)
@click.option("--name", required=True, help="This worker's name, its own among all workers.")
@click.option("--slots", default=1, show_default=True, type=click.IntRange(1, 1024))
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Where runs are kept; on this machine's own disk.  [default: ~/.local/state/modelrunner]",
)
@click.option(
    "--ssh",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The folder of config, known_hosts and keys for sftp:// addresses.  [default: ~/.ssh]",
)
@click.option(
    "--runner",
    default="own",
    show_default=True,
    type=click.Choice(get_args(Keeper)),
    help="Who keeps the runner, the process that runs the models: the worker on its own, or a "
    "unit beside it, whose start is waited for.",
)
@click.option("--check", "only_check", is_flag=True, help="Try everything, say what is wrong, end.")
def main(
    primary: str,
    models: Path,
    only: tuple[str, ...],
    name: str,
    slots: int,
    state: Path | None,
    ssh: Path | None,
    runner: Keeper,
    only_check: bool,
) -> None:
    """Claim jobs from a primary and run them here."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    options = Options(primary, models, name, slots, state, ssh and ssh.absolute(), runner, only)
    try:
        if only_check:
            sys.exit(0 if check(options) else 1)
        refused = work(options)
    except Refused as e:
        refused = "\n".join(filter(None, (str(e).removesuffix(f" ({e.hint})"), e.hint)))
    except (SpoolError, EngineError, OSError) as e:
        refused = str(e)
    if refused:
        click.echo(f"modelrunner-worker: {refused}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
