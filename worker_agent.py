"""The worker: claim, run, report.

One loop looks at the spool and claims; one thread carries each attempt from
its claim to its final report (``engine.attempt``); one thread beats. The runs
themselves belong to the runner, which outlives this process.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import click
import psutil

from engine.attempt import Attempt
from engine.contract import Exit
from engine.errors import EngineError
from engine.leftovers import Leftovers
from engine.pauses import Pauses
from engine.runs import Engine
from engine.state import State
from spool import names
from spool.claims import Claims
from spool.errors import SpoolError, Unbelievable
from spool.local import LocalTransport, make_worker_folder, require_spool
from spool.manifest import Model, load_all
from spool.names import Claim, Ticket
from spool.reports import Beat
from spool.watch import Watch

VERSION = importlib.metadata.version("modelrunner")
BEAT = 5.0  # seconds between beats; the primary calls 30 s of silence unreachable
NEWS = 1.0  # seconds at least between beats that only carry progress
NAMESAKE = 3 * BEAT  # seconds to watch another instance's beat before taking its name
RESCAN = 2.0  # seconds: the truth, whatever the watch says
RESERVE = 128 * 1024 * 1024  # bytes kept free: below it nothing is claimed

log = logging.getLogger("worker")


class Agent:
    """The worker: its loop, its beats, its attempts."""

    def __init__(
        self,
        claims: Claims,
        engine: Engine,
        state: State,
        models: Path,
        slots: int,
        node_url: str = "",
    ) -> None:
        self.claims = claims
        self.engine = engine
        self.state = state
        self.host = socket.gethostname()
        self.node_url = node_url or f"file://{self.host}"
        self.stopping = threading.Event()
        self.refused = ""  # why the agent had to end, if it had to
        self._name_lost = threading.Event()  # another agent beats in our folder
        self._models_root = models
        self._models: dict[str, Model] = {}
        self._slots = slots
        self._attempts: dict[str, Attempt] = {}
        self._trying: dict[Ticket, Model] = {}  # claims whose rename was not answered yet
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._beat_now = threading.Event()
        self._counter = 0
        self._error = ""
        self._pauses = Pauses()
        self._no_room = ""
        self._leftovers = Leftovers(engine, state, self.complain)
        self._claimed_at = 0.0

    # --- called by attempts ----------------------------------------------------------

    def wake(self) -> None:
        self._bell.set()

    def news(self) -> None:
        """There is progress to tell."""
        self._beat_now.set()

    def complain(self, text: str) -> None:
        """Keep the last error for the beat, so that the nodes page shows it."""
        # A path may hold bytes that are no UTF-8, and a beat with them cannot be written.
        text = text.encode(errors="replace").decode()[:1000]
        if text != self._error:
            log.warning("%s", text)
        self._error = text

    def trouble(self, model: str, text: str) -> None:
        """An attempt could not be carried on; counted like a run that never started."""
        self.complain(text)
        self._pauses.failed(model, text, time.monotonic())

    def note_ending(self, model: str, end: Exit) -> None:
        """Count runs that never started: such a worker would swallow the queue."""
        if end.ending == "not-started":
            self._pauses.failed(model, end.reason, time.monotonic())
        else:
            self._pauses.started(model)

    # --- the loop ----------------------------------------------------------------------

    def run(self) -> None:
        """Until ``stop``. The first beat goes out after the first look at the run directories."""
        self._reload()
        while not self._look() and not self.stopping.wait(RESCAN):
            pass
        beats = threading.Thread(target=self._beat_on, name="beats", daemon=True)
        beats.start()
        while not self.stopping.is_set():
            self._bell.wait(RESCAN)
            self._bell.clear()
            if not self.state.exists():
                self.refused = f"the state directory {self.state.path} was removed"
                break
            if self._look() and self._name_lost.is_set() and not self._attempts:
                break
        self.stopping.set()
        self._beat_now.set()
        for attempt in list(self._attempts.values()):
            self.engine.wake(attempt.key)
            attempt.join(timeout=5.0)
        beats.join(timeout=5.0)

    def stop(self) -> None:
        self.stopping.set()
        self._bell.set()

    def _look(self) -> bool:
        """One look at the spool: retire, resume, stop, claim. False if it could not be seen."""
        try:
            missing = self._undelivered()
            held = {claim.key: claim for claim in self.claims.held()}
            gone = self._attempts.keys() - held.keys()
            self._tend(held, missing)
            for key in self.claims.stops():
                if key in self._attempts:
                    self._attempts[key].stop("killed on request")
            self._claim_more()
            self._forget(gone)
        except (SpoolError, EngineError, OSError) as e:
            self.complain(str(e))
            return False
        return True

    def _undelivered(self) -> set[str]:
        """The attempts that are done here and whose final report does not lie in the spool.

        Asked *before* the claims are listed: the primary removes the claim before the
        report, so a claim that is still there afterwards means that the report was not
        believed, or never sent.
        """
        now = time.monotonic()
        done = {
            key
            for key, attempt in self._attempts.items()
            if not attempt.is_alive() and not attempt.retired.is_set() and now >= attempt.retry_at
        }
        return done - self.claims.delivered() if done else done

    def _tend(self, held: dict[str, Claim], missing: set[str]) -> None:
        """Carry on what is held and not carried; deliver again what is missing."""
        for key, claim in held.items():
            attempt = self._attempts.get(key)
            if attempt is None:
                self._carry(Attempt(self, claim, self._trying.get(claim.ticket)))
            elif key in missing:
                self._carry(Attempt(self, claim, attempt.model, resend=attempt.delivered))
        with self._lock:
            self._trying.clear()  # whatever was not answered lies in held, or is not ours

    def _forget(self, gone: set[str]) -> None:
        """The claims of these attempts are gone: the primary has retired them."""
        for key in gone:
            self._attempts[key].retire()
            if not self._attempts[key].is_alive():
                with self._lock:
                    del self._attempts[key]
                self._leftovers.add(key)
        now = time.monotonic()
        self._leftovers.look(self._attempts.keys(), now)
        self._leftovers.clear(now - self._claimed_at)

    def _carry(self, attempt: Attempt) -> None:
        with self._lock:
            self._attempts[attempt.key] = attempt
        attempt.start()

    def _claim_more(self) -> None:
        known = self._models  # the beats' thread may put others in their place meanwhile
        models = self._models_with_room()
        if not models or self._disk_is_full():
            return
        for ticket, name in self.claims.tickets(models):
            if name in models and name in known and ticket.key not in self._attempts:
                self._claim(ticket, known[name])
                models = self._models_with_room()
                if not models:
                    return

    def _claim(self, ticket: Ticket, model: Model) -> None:
        # Beats name the claims held *or being tried*: before the rename, not after.
        with self._lock:
            self._trying[ticket] = model
        claim = self.claims.claim(ticket, model.name)  # a lost answer: held() will tell
        self._claimed_at = time.monotonic()
        if claim is not None:
            self._carry(Attempt(self, claim, model))
        with self._lock:
            del self._trying[ticket]

    def _models_with_room(self) -> set[str]:
        running = [a for a in self._attempts.values() if a.running]
        ending = self.stopping.is_set() or self._name_lost.is_set()
        if len(running) >= self._slots or ending:
            return set()
        busy = Counter(a.model_name() for a in running)
        now = time.monotonic()
        return {
            name
            for name, model in self._models.items()
            if busy[name] < model.parallel and not self._pauses.paused(name, now)
        }

    def _disk_is_full(self) -> bool:
        full = self.state.free() < RESERVE
        self._no_room = (
            f"less than {RESERVE // 1024**2} MiB free at {self.state.path}" if full else ""
        )
        return full

    # --- beats -------------------------------------------------------------------------

    def _beat_on(self) -> None:
        while True:
            try:
                self._reload()
                self._beat()
            except Exception as e:  # without beats every claim here would be given up
                log.exception("no beat")
                self.complain(f"no beat: {e}")
            if self.stopping.is_set():
                return
            if self._beat_now.wait(self._pause_between_beats()):
                self._beat_now.clear()
                self.stopping.wait(NEWS)

    def _pause_between_beats(self) -> float:
        """Seconds; shorter where a model's lease would end between two ordinary beats."""
        leases = [model.lease for model in self._models.values() if model.lease is not None]
        return max(0.2, min([BEAT, *(lease / 4 for lease in leases)]))

    def _beat(self) -> None:
        if self._name_lost.is_set():
            return  # the beat in our folder is another's now
        try:
            other = self.claims.last_beat()
            if other is not None and other.instance != self.claims.instance:
                self.refused = (
                    f"another machine ({other.host}) has taken the name {self.claims.worker!r}"
                )
                # What it holds it still brings to its end: the claims carry its instance,
                # so nobody else can, and the primary would wait for the lease.
                self.complain(f"{self.refused}; what runs here is delivered, then this one ends")
                self._name_lost.set()
                self.wake()
                return
        except Unbelievable:
            pass  # half-written by a strange hand: ours replaces it
        except SpoolError as e:
            self.complain(str(e))
            return
        try:
            self.claims.beat(self._composed())
        except SpoolError as e:
            self.complain(str(e))

    def _composed(self) -> Beat:
        with self._lock:
            attempts = dict(self._attempts)
            trying = list(self._trying)
        self._counter += 1
        claims = [str(a.claim) for a in attempts.values()]
        claims += [str(Claim(ticket, self.claims.instance)) for ticket in trying]
        return Beat(
            instance=self.claims.instance,
            counter=self._counter,
            host=self.host,
            node_url=self.node_url,
            pid=os.getpid(),
            slots=self._slots,
            version=VERSION,
            models={name: model.version for name, model in self._models.items()},
            claims=tuple(claims),
            progress={a.key: a.progress for a in attempts.values() if a.progress is not None},
            free_disk=self.state.free(),
            free_memory=psutil.virtual_memory().available,
            paused=self._no_room or self._pauses.why(time.monotonic()),
            error=self._error,
            stopped=self.stopping.is_set(),
        )

    def _reload(self) -> None:
        try:
            models, errors = load_all(self._models_root)
        except (SpoolError, OSError) as e:
            self.complain(str(e))
            return
        for name, why in errors.items():
            self.complain(f"model {name}: {why}")
        if {n: m.version for n, m in models.items()} != {
            n: m.version for n, m in self._models.items()
        }:
            self._pauses.models_changed()
        self._models = models


def _namesake(claims: Claims) -> str | None:
    """The host of another living agent of this name. Watches its beat for a while."""
    try:
        first = claims.last_beat()
    except Unbelievable:
        return None  # torn by a power cut, or of another version: ours replaces it
    if first is None or first.stopped or first.instance == claims.instance:
        return None
    until = time.monotonic() + NAMESAKE
    while time.monotonic() < until:
        time.sleep(0.2)
        try:
            beat = claims.last_beat()
        except Unbelievable:
            continue
        if beat is not None and beat.instance != claims.instance and beat != first:
            return beat.host
    return None


def _default_state(primary: Path, name: str) -> Path:
    """Where a worker's state lies: its own disk, one directory for each name and primary."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    mark = hashlib.sha256(str(primary.resolve()).encode()).hexdigest()[:12]
    return Path(home) / "modelrunner" / f"{name}-{mark}"


def work(primary: Path, models: Path, name: str, slots: int, state: Path | None) -> str:
    """Run a worker until it is told to stop. Returns why it had to end, or ""."""
    names.plain(name, "the worker's name")
    root = primary.resolve()
    require_spool(root)
    load_all(models)
    home = State((state or _default_state(primary, name)).resolve())
    try:
        # Not before: of a worker that was refused the primary would await a beat for ever.
        make_worker_folder(root, name)
        claims = Claims(LocalTransport(root), name, home.instance)
        other = _namesake(claims)
        if other is not None:
            return (
                f"another machine ({other}) is working under the name {name!r}; "
                "give this worker a name of its own with --name"
            )
        claims.sweep()  # half-written files of an agent that died
        engine = Engine(home.path)
        engine.connect()
        try:
            return _agent(claims, engine, home, models, slots, root)
        finally:
            engine.close(stop_runner_if_idle=True)
    finally:
        home.release()


def _agent(
    claims: Claims, engine: Engine, home: State, models: Path, slots: int, root: Path
) -> str:
    agent = Agent(claims, engine, home, models.resolve(), slots)
    watch = Watch(root, _wakes(claims.worker), agent.wake)
    _stop_on_signals(agent)
    watch.start()
    try:
        print(
            f"worker {claims.worker} is ready: {slots} slot{'s' * (slots > 1)}, models in {models}",
            flush=True,
        )
        agent.run()
    finally:
        watch.stop()
    return agent.refused


def _stop_on_signals(agent: Agent) -> None:
    """Not from the handler: it interrupts this thread, which may hold the very lock of an Event."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(writing, False)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)

    def wait() -> None:
        os.read(reading, 1)
        agent.stop()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def _wakes(worker: str) -> Callable[[str], bool]:
    """Whether a change in the spool is news for this worker: tickets and stops."""
    home = names.worker_folder(worker)
    own = f"{home}/{names.STOP}"

    def wakes(path: str) -> bool:
        folder, _, name = path.rpartition("/")
        if name.startswith("."):
            return False
        if folder == own:
            return True
        return folder.startswith(f"{names.MODELS}/") and folder.endswith(f"/{names.NEW}")

    return wakes


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="modelrunner-worker")
@click.option(
    "--primary",
    required=True,
    type=click.Path(path_type=Path),
    help="The primary's spool: the folder 'spool' in its data directory.",
)
@click.option(
    "--models",
    required=True,
    type=click.Path(path_type=Path),
    help="The folder of the models that this worker runs.",
)
@click.option("--name", required=True, help="This worker's name, its own among all workers.")
@click.option("--slots", default=1, show_default=True, type=click.IntRange(1, 1024))
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    help="Where runs are kept; on this machine's own disk.  [default: ~/.local/state/modelrunner]",
)
def main(primary: Path, models: Path, name: str, slots: int, state: Path | None) -> None:
    """Claim jobs from a primary and run them here."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    try:
        refused = work(primary, models, name, slots, state)
    except (SpoolError, EngineError, OSError) as e:
        refused = str(e)
    if refused:
        click.echo(f"modelrunner-worker: {refused}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
