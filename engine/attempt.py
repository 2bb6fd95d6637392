"""One claimed attempt, carried from its claim to its final report.

Every step is written down in the run directory before the next one begins, so
that an agent that is restarted goes on where the last one stood. What an
attempt *is* at any moment follows from files alone:

* order.json is missing: nothing was begun; as the agent ends, or by the next, it is given back;
* no exit.json: it runs, or waits to (the runner knows);
* no final.json: it has ended and is to be packed;
* its claim lies in ``cur/`` but its final report not in ``reports/``: deliver;
* its claim is gone: the primary has retired it; stop what runs, and forget.

It is reported as started only when its input was checked and its order stands:
so an attempt that is given back before has cost the job nothing.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal, Protocol, TypedDict

from engine.backoff import Backoff
from engine.complaints import Voice
from engine.contract import Exit, Order
from engine.errors import EngineError, NoRunner
from engine.fetching import fetch
from engine.notes import Notes
from engine.outcome import run_report
from engine.results import pack_results
from engine.rundir import RunDir
from engine.runs import Engine
from engine.shipping import Shipping
from engine.state import State
from spool.claims import Claims
from spool.errors import Gone, SpoolError, Unreachable
from spool.manifest import Model
from spool.names import Claim
from spool.reports import (
    AnyReport,
    FinalReport,
    ProcessedReport,
    RunReport,
    StartedReport,
)

LOG_EVERY = 0.25  # seconds between looks at a running model's log
RETRY = (0.5, 30.0)  # seconds: first and longest pause between tries
LARGE = 8 * 1024 * 1024  # bytes of output that are announced by a processed report
SAY_AGAIN = 5.0  # seconds until a report that could not be sent is tried again
NO_RUNNER = 0.25  # seconds between looks for a runner that somebody else is to start
FETCHES = 2  # of an input that is not what its ticket says, before the attempt is given back

log = logging.getLogger(__name__)


class Owner(Protocol):
    """The agent, as its attempts see it."""

    claims: Claims
    engine: Engine
    state: State
    host: str
    node_url: str
    log_pace: float
    voice: Voice
    stopping: threading.Event

    def wake(self) -> None:
        """Something ended: there is room."""

    def ring(self) -> None:
        """Have a look at what is held."""

    def news(self) -> None:
        """There is progress to tell."""

    def current(self, model: Model) -> Model:
        """The model as it is now, for a run that begins."""

    def trouble(self, model: str, text: str) -> None:
        """The attempt could not be carried on, and will be tried again."""

    def bad_input(self, model: str, text: str) -> None:
        """The attempt's input was not to be had, and it is given back."""

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
        self._notes = Notes(self._dir)
        self._log = Shipping(
            self._claims, self.key, self._dir / "log", agent.log_pace, self._progressed
        )
        self._resend = resend
        self._output: Literal["here", "tried", "there"] = "here"
        # An agent before this one may have sent a part of it: the very bytes, since they are
        # packed before the final report is written, and never after.
        self._begun = self._notes.is_final() and not resend
        self._unsaid: AnyReport | None = None  # could not be told yet
        self._say_at = 0.0  # monotonic
        self._called = threading.Event()  # to end a pause: retired, or the agent ends
        self.retry_at = 0.0
        self.running = not self._notes.is_final()

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
            if not self.delivered:  # else the primary rings when it has taken the results
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
            self._agent.voice.complain(f"{self.key}: {e} (tried again)")
        self._engine.wake(self.key)

    def model_name(self) -> str:
        """Whose room it takes; from its order where an earlier agent claimed it."""
        if self.model is not None:
            return self.model.name
        order = self._notes.order()
        return order.model if order is not None else ""

    def retire(self) -> None:
        """The claim is gone: nothing of the attempt is wanted any more."""
        if not self.retired.is_set():
            self.retired.set()
            self.leave()

    def leave(self) -> None:
        """Retired, or the agent ends: wait for nothing any more."""
        self._called.set()
        self._engine.wake(self.key)

    # --- the steps -----------------------------------------------------------------

    def _carry(self) -> None:
        final = self._notes.final()
        if final is None:
            self._begun = False  # what was written there was torn: it is packed again
            final = self._run_to_end()
        if final is not None and not self.retired.is_set():
            self.running = False
            self._agent.wake()
            self._deliver(final)

    def _run_to_end(self) -> FinalReport | None:
        """Fetch, run, follow, pack. None if the agent stops or the claim is gone."""
        stage = self._engine.stage(self.key)
        resumed = stage not in (None, "ready") or self._notes.order() is not None
        if not resumed:
            if self.model is None:
                return self._given_back("its worker was restarted before the run began")
            refused = self._prepare(self.model)
            if refused is not None:
                return refused
        if self._is_over():
            return None
        if stage not in ("ended", "lost"):
            # Before the run, not after: one that takes this machine with it must count.
            self._say(StartedReport(**self._facts()))
        if not self._begun_by_runner():
            return None
        self._log.begin(resumed=resumed)
        while not self._engine.wait(self.key, LOG_EVERY):
            if self.retired.is_set():
                self._engine.stop(self.key, "the primary gave the attempt up")
            elif self._agent.stopping.is_set():
                return None  # the runner goes on with it; the next agent finds it
            self._say_again()
            self._log.look(time.monotonic())
        end = self._engine.exit(self.key)
        if end is None:
            return self._given_back("its run was lost", RunReport())
        self._agent.note_ending(self.model_name(), end)
        return self._pack(end)

    def _begun_by_runner(self) -> bool:
        """Wait for a runner, and have it begin; False if that is not wanted any more."""
        while not self._is_over():
            try:
                self._engine.begin(self.key)
                return True
            except NoRunner:  # the agent tells of it
                self._called.wait(NO_RUNNER)
        return False

    def _prepare(self, model: Model) -> FinalReport | None:
        """Input and order into the run directory; a report if the input is not to be had."""
        self._dir.mkdir(parents=True, exist_ok=True)
        wrong = self._fetch_input()
        if wrong:
            self._agent.bad_input(model.name, f"{self.key}: {wrong}")
            return self._given_back(wrong)
        if self.retired.is_set():
            return None
        if self._agent.stopping.is_set():  # the next agent could do no more
            return self._given_back("its worker was ended before the run began")
        model = self._agent.current(model)  # a long input may have taken hours
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
        self._notes.write_order(order)
        return None

    def _fetch_input(self) -> str:
        """The checked input into the run directory; else what is wrong with it.

        What cannot be had must not keep a slot. Also "" where it is not wanted any
        more: the agent ends, or the claim is gone, or a stop keeps it from starting.
        """
        backoff = Backoff(*RETRY, self.key)
        wrongs = 0
        while not self._unwanted():
            wrong = ""
            try:
                target, state = self._dir / "input.zip", self._agent.state
                wrong = fetch(self._claims, self.claim, target, state, self._unwanted)
                if not wrong:
                    return ""
            except Gone:
                self._agent.ring()  # our claim is gone: the loop sees that, and retires us
            except Unreachable as e:
                self._tell(e)
            except SpoolError as e:
                wrong = str(e)
            if wrong and self._agent.voice.reachable:
                wrongs += 1
                if wrongs >= FETCHES:
                    return wrong
            self._called.wait(backoff.next())
        return ""

    def _unwanted(self) -> bool:
        return self._is_over() or RunDir(self._dir).stop_reason() is not None

    def _pack(self, end: Exit) -> FinalReport:
        """The final report, written down before anything is sent."""
        packed = pack_results(self._dir, end)
        final = FinalReport(
            **self._facts(),
            end=packed.end,
            failure=packed.failure,
            reason=packed.reason,
            run=run_report(end),
            log=packed.log,
            output=packed.output,
        )
        self._notes.write_final(final)
        return final

    def _deliver(self, final: FinalReport) -> None:
        """Log and output first, then the report that names them; again until it worked.

        Once even if the agent ends: a run that was lost with its machine is run elsewhere
        now, and not when its lease is over.
        """
        backoff = Backoff(*RETRY, self.key)
        failed = False
        while not (self._is_over() if failed else self.retired.is_set()):
            try:
                if failed and self._claims.input_size(self.claim) is None:
                    # The answer was lost, and the primary was quick: nothing is to be
                    # put there anew. The loop sees it too, and retires us.
                    self._agent.ring()
                else:
                    self._send(final)
                    self.delivered = True
                    return
            except Gone:
                self._agent.ring()  # our folder or claim is gone: the loop sees that
            except SpoolError as e:
                self._tell(e)
            failed = True
            self._called.wait(backoff.next())
        if self.retired.is_set() and (self._begun or self._output == "tried"):
            self._claims.abandon_output(self.key)

    def _send(self, final: FinalReport) -> None:
        """Everything that is not there yet. Raises SpoolError."""
        large = final.output is not None and final.output.size > LARGE
        if final.end == "ok" and final.run is not None and large and self._output == "here":
            self._claims.report(self.key, ProcessedReport(**self._facts(), run=final.run))
        if final.log is not None:
            self._log.finish(final.log.size, anew=self._resend)
            self._resend = False
        if final.output is not None and self._output != "there":
            again, self._output = self._begun or self._output == "tried", "tried"
            self._claims.send_output(self.key, self._dir / "output.zip", again=again)
            self._output = "there"
        self._claims.report(self.key, final)

    # --- inside --------------------------------------------------------------------

    def _is_over(self) -> bool:
        return self.retired.is_set() or self._agent.stopping.is_set()

    def _tell(self, error: SpoolError) -> None:
        if self._agent.voice.reachable:  # else that is known, and said once for all
            self._agent.voice.complain(f"{self.key}: {error}")

    def _say(self, report: AnyReport) -> None:
        """A report that the final one repeats: nothing waits for it."""
        self._unsaid = report
        try:
            self._claims.report(self.key, report)
            self._unsaid = None
        except SpoolError as e:
            self._tell(e)
            self._say_at = time.monotonic() + SAY_AGAIN

    def _say_again(self) -> None:
        """Else a job that runs for hours would be shown as waiting."""
        if self._unsaid is not None and time.monotonic() >= self._say_at:
            self._say(self._unsaid)

    def _progressed(self, percent: int) -> None:
        if percent != self.progress:
            self.progress = percent
            self._agent.news()

    def _given_back(self, reason: str, run: RunReport | None = None) -> FinalReport:
        """A final report without results; ``run`` is None where nothing ever ran."""
        final = FinalReport(**self._facts(), end="lost", reason=reason, run=run)
        self._dir.mkdir(parents=True, exist_ok=True)
        (self._dir / "input.zip").unlink(missing_ok=True)  # whatever it was: it may be large
        self._notes.write_final(final)
        return final

    def _facts(self) -> _Facts:
        return {
            "claim": str(self.claim),
            "instance": self.claim.instance,
            "host": self._agent.host,
            "node_url": self._agent.node_url,
            "run_dir": str(self._dir),
        }
