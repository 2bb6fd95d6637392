"""One claimed attempt, carried from its claim to its final report.

Every step is written down in the run directory before the next one begins, so
that an agent that is restarted goes on where the last one stood. What an
attempt *is* at any moment follows from files alone:

* order.json is missing: nothing was begun; after a restart it is given back;
* no exit.json: it runs, or waits to (the runner knows);
* no final.json: it has ended and is to be packed;
* its claim lies in ``cur/`` but its final report not in ``reports/``: deliver;
* its claim is gone: the primary has retired it; stop what runs, and forget.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, TypedDict

import msgspec

from engine.contract import Exit, Order
from engine.errors import EngineError
from engine.runs import Engine
from engine.state import State
from spool.claims import LOG_CHUNK, Claims
from spool.errors import Gone, SpoolError
from spool.manifest import Model
from spool.names import Claim
from spool.packing import pack
from spool.progress import last_line, last_progress
from spool.reports import (
    AnyReport,
    End,
    FailureClass,
    FileFact,
    FinalReport,
    ProcessedReport,
    RunReport,
    StartedReport,
)

LOG_EVERY = 0.25  # seconds between looks at a running model's log
RETRY = (0.5, 30.0)  # seconds: first and longest pause between tries to deliver
LARGE = 8 * 1024 * 1024  # bytes of output that are announced by a processed report

log = logging.getLogger(__name__)


class Owner(Protocol):
    """The agent, as its attempts see it."""

    claims: Claims
    engine: Engine
    state: State
    host: str
    node_url: str
    stopping: threading.Event

    def wake(self) -> None:
        """Something ended: have a look."""

    def news(self) -> None:
        """There is progress to tell."""

    def complain(self, text: str) -> None:
        """Show this error on the nodes page."""

    def trouble(self, model: str, text: str) -> None:
        """The attempt could not be carried on, and will be tried again."""

    def note_ending(self, model: str, end: Exit) -> None:
        """A run has ended."""


class _Facts(TypedDict):
    claim: str
    instance: str
    host: str
    node_url: str
    run_dir: str


class Attempt(threading.Thread):
    """One claimed attempt, carried to its final report."""

    def __init__(
        self, agent: Owner, claim: Claim, model: Model | None, *, resend: bool = False
    ) -> None:
        super().__init__(name=claim.key[:8], daemon=True)
        self.claim = claim
        self.key = claim.key
        self.model = model
        self.progress: int | None = None
        self.retired = threading.Event()
        self.delivered = False
        self._agent = agent
        self._claims = agent.claims
        self._engine = agent.engine
        self._dir = agent.state.run_folder(claim.key)
        self._shipped = 0
        self._resend = resend
        self.retry_at = 0.0
        self.running = not (self._dir / "final.json").exists()

    def run(self) -> None:
        try:
            self._carry()
        except Exception as e:
            # It keeps its slot, and is carried on after a pause.
            self.retry_at = time.monotonic() + RETRY[1]
            if not isinstance(e, EngineError | SpoolError | OSError):
                log.exception("%s", self.key)
            self._agent.trouble(self.model_name(), f"{self.key}: {e}")
        finally:
            self._agent.wake()

    def stop(self, reason: str) -> None:
        """The primary wants it stopped."""
        if not self.running:
            return
        # Nothing may be there yet: the marker then keeps the run from starting.
        self._dir.mkdir(parents=True, exist_ok=True)
        try:
            self._engine.stop(self.key, reason)
        except EngineError as e:
            self._agent.complain(f"{self.key}: {e} (tried again)")
        self._engine.wake(self.key)

    def model_name(self) -> str:
        """Whose room it takes; from its order where an earlier agent claimed it."""
        if self.model is not None:
            return self.model.name
        order = self._order()
        return order.model if order is not None else ""

    def retire(self) -> None:
        """The claim is gone: nothing of the attempt is wanted any more."""
        if not self.retired.is_set():
            self.retired.set()
            self._engine.wake(self.key)

    # --- the steps -----------------------------------------------------------------

    def _carry(self) -> None:
        final = self._read_final()
        if final is None:
            final = self._run_to_end()
        if final is not None and not self.retired.is_set():
            self.running = False
            self._agent.wake()
            self._deliver(final)

    def _run_to_end(self) -> FinalReport | None:
        """Fetch, run, follow, pack. None if the agent stops or the claim is gone."""
        if self._order() is None and self._engine.stage(self.key) in (None, "ready"):
            if self.model is None:
                return self._given_back("its worker was restarted before the run began")
            self._say(StartedReport(**self._facts()))
            refused = self._prepare(self.model)
            if refused is not None:
                return refused
        if self.retired.is_set() or self._agent.stopping.is_set():
            return None
        self._engine.begin(self.key)
        self._shipped = self._resumed()
        while not self._engine.wait(self.key, LOG_EVERY):
            if self.retired.is_set():
                self._engine.stop(self.key, "the primary gave the attempt up")
            elif self._agent.stopping.is_set():
                return None  # the runner goes on with it; the next agent finds it
            self._ship()
        end = self._engine.exit(self.key)
        if end is None:
            return self._given_back("its run was lost", RunReport())
        self._agent.note_ending(self.model_name(), end)
        return self._pack(end)

    def _prepare(self, model: Model) -> FinalReport | None:
        """Input and order into the run directory; a report if the input is not what it says."""
        self._dir.mkdir(parents=True, exist_ok=True)
        zip_file = self._dir / "input.zip"
        if not self._insist(lambda: self._claims.fetch_input(self.claim, zip_file)):
            return None
        found = _digest(zip_file).sha256
        if found != self.claim.ticket.sha256:
            reason = f"the input's hash is {found}, not the one in the ticket's name"
            return self._given_back(reason)
        order = Order(
            key=self.key,
            job=self.claim.ticket.job,
            attempt=self.claim.ticket.attempt,
            model=model.name,
            argv=model.command,
            cwd=str(model.folder),
            env=model.env,
            timeout=model.timeout,
            grace=model.grace,
            required=model.required,
        )
        _write(self._dir / "order.json", msgspec.json.encode(order))
        return None

    def _pack(self, end: Exit) -> FinalReport:
        """The final report, written down before anything is sent."""
        log_file = self._dir / "log"
        log_file.touch()
        kind, failure, reason = describe(end, last_line(log_file))
        output: FileFact | None = None
        try:
            if (self._dir / "output").is_dir():
                remarks = pack(self._dir / "output", self._dir / "output.zip")
                output = _digest(self._dir / "output.zip")
                _remark(log_file, remarks)
        except OSError as e:
            if e.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Kept, it would fill the disk for ever, and nobody would hear of the end.
            shutil.rmtree(self._dir / "output", ignore_errors=True)
            (self._dir / "output.zip").unlink(missing_ok=True)
            kind, failure = "failed", "limit"
            reason = "its output does not fit on the worker's disk, and was given up"
        if kind == "ok" and output is None:
            # The primary believes no good end without an output, so it would never end.
            kind, failure = "failed", "model"
            reason = "the model removed its output directory, and the results with it"
        final = FinalReport(
            **self._facts(),
            end=kind,
            failure=failure,
            reason=reason,
            run=_run_report(end),
            log=_digest(log_file),
            output=output,
        )
        if kind == "ok" and output is not None and output.size > LARGE:
            self._say(ProcessedReport(**self._facts(), run=_run_report(end)))
        self._write_final(final)
        return final

    def _deliver(self, final: FinalReport) -> None:
        """Log and output first, then the report that names them; again until it worked."""

        def send() -> None:
            if final.log is not None:
                self._shipped = self._resumed()
                if self._resend or self._shipped > final.log.size:
                    self._claims.drop_log(self.key)  # what lies there was not believed
                    self._shipped = 0
                self._ship_all()
            if final.output is not None:
                self._claims.send_output(self.key, self._dir / "output.zip")
            self._claims.report(self.key, final)

        self.delivered = self._insist(send)

    # --- inside --------------------------------------------------------------------

    def _insist(self, step: Callable[[], None]) -> bool:
        """Do ``step`` until it succeeds; False if the agent stops or the claim is gone."""
        pause = RETRY[0]
        while not (self.retired.is_set() or self._agent.stopping.is_set()):
            try:
                step()
                return True
            except Gone:
                # Our folder or claim is gone: the loop sees that, and retires us.
                self.retired.wait(pause)
            except SpoolError as e:
                self._agent.complain(f"{self.key}: {e}")
                self.retired.wait(pause)
            pause = min(2 * pause, RETRY[1])
        return False

    def _say(self, report: AnyReport) -> None:
        """A report that the final one repeats: if it does not arrive, nothing is lost."""
        try:
            self._claims.report(self.key, report)
        except SpoolError as e:
            self._agent.complain(f"{self.key}: {e}")

    def _resumed(self) -> int:
        """From where the log goes on; another agent may have sent a part of it."""
        try:
            return self._claims.log_size(self.key)
        except SpoolError:
            return 0  # sending a byte again changes nothing

    def _ship(self) -> None:
        """What the log grew by, and the progress it tells of."""
        try:
            self._ship_all()
        except (SpoolError, FileNotFoundError):
            return  # tried again at the next look, from the same offset

    def _ship_all(self) -> None:
        with (self._dir / "log").open("rb") as file:
            file.seek(self._shipped)
            while data := file.read(LOG_CHUNK):
                self._claims.send_log(self.key, self._shipped, data)
                self._shipped += len(data)
                percent = last_progress(data)
                if percent is not None and percent != self.progress:
                    self.progress = percent
                    self._agent.news()
        if self._shipped == 0:
            self._claims.send_log(self.key, 0, b"")

    def _given_back(self, reason: str, run: RunReport | None = None) -> FinalReport:
        """A final report without results; ``run`` is None where nothing ever ran."""
        final = FinalReport(**self._facts(), end="lost", reason=reason, run=run)
        self._dir.mkdir(parents=True, exist_ok=True)
        self._write_final(final)
        return final

    def _facts(self) -> _Facts:
        return {
            "claim": str(self.claim),
            "instance": self.claim.instance,
            "host": self._agent.host,
            "node_url": self._agent.node_url,
            "run_dir": str(self._dir),
        }

    def _order(self) -> Order | None:
        """None if there is none, or a power cut tore it: then nothing was begun."""
        try:
            return msgspec.json.decode((self._dir / "order.json").read_bytes(), type=Order)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return None

    def _read_final(self) -> FinalReport | None:
        try:
            return msgspec.json.decode((self._dir / "final.json").read_bytes(), type=FinalReport)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            return None  # torn by a power cut: made again from exit.json

    def _write_final(self, final: FinalReport) -> None:
        _write(self._dir / "final.json", msgspec.json.encode(final))


def describe(end: Exit, last: str) -> tuple[End, FailureClass | None, str]:
    """What an exit means: (end, failure class, reason). ``last`` is the log's last line."""
    said = f"; its last line: {last}" if last else ""
    match end.ending:
        case "exited" if end.exit_code == 0:
            return "ok", None, ""
        case "exited":
            return "failed", "model", f"the model ended with exit code {end.exit_code}{said}"
        case "signaled":
            memory = "memory" in end.reason.lower() and end.signal == signal.SIGKILL
            return "failed", "limit" if memory else "model", end.reason + said
        case "stopped":
            return "killed", None, end.reason
        case "timeout":
            return "failed", "limit", end.reason
        case "bad-input":
            return "failed", "input", end.reason
        case "not-started":
            return "failed", "system", end.reason
        case _:
            return "lost", None, end.reason


def _digest(path: Path) -> FileFact:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileFact(file.tell(), sha256)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all, for this agent's successor."""
    half = path.with_name(path.name + ".half")
    half.write_bytes(data)
    half.rename(path)


def _remark(log_file: Path, remarks: list[str]) -> None:
    """What was left out of the output, where the modeller looks first."""
    if remarks:
        with log_file.open("a") as file:
            file.writelines(f"[model runner] {remark}\n" for remark in remarks)


def _run_report(end: Exit) -> RunReport:
    return RunReport(
        exit_code=end.exit_code,
        signal=end.signal,
        wall_seconds=end.wall_seconds,
        cpu_seconds=end.cpu_seconds,
        peak_memory=end.peak_memory,
        containment=end.containment,
        ended=tuple(name[:255] for name in end.ended[:100]),
    )
