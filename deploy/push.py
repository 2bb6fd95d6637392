"""Carrying plans out: phase after phase, the hosts of a phase side by side.

A host whose step fails does no more. The others finish the phase, and no further phase
begins anywhere: what comes later stands on what came before, on all hosts. So a version
that does not install on one worker is nowhere switched to; the same command goes on later.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Protocol

import msgspec

from deploy.doing import Given, Stuck, do
from deploy.remote import Remote
from deploy.steps import Bundle, FileOf, HostPlan, Input, Phase, Step, Text
from spool.errors import Refused

AT_ONCE = 32  # hosts

Supply = Callable[[Bundle], Iterator[bytes]]


class StepFailed(msgspec.Struct, frozen=True, kw_only=True):
    """``sentence`` is the step's, which did not come true. ``what`` says what happened.

    ``code`` is None where no command ended: the connection broke, the time was up, there was
    no input. ``undone``: the host is as it was before the step; ``left`` says how it is.
    """

    host: str
    sentence: str
    what: str
    command: str
    code: int | None
    output: tuple[str, ...]  # the last lines that it printed
    hint: str
    undone: bool
    left: str


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """By host the sentences of the steps that are done, and of those that are not."""

    done: Mapping[str, tuple[str, ...]]
    missing: Mapping[str, tuple[str, ...]]
    failed: tuple[StepFailed, ...] = ()
    interrupted: bool = False

    @property
    def whole(self) -> bool:
        """Whether every host is as planned."""
        return not any(self.missing.values())


class News(Protocol):
    """What is told meanwhile, by one thread at a time."""

    def host_step(self, host: str, n: int, of: int, sentence: str) -> None:
        """The ``n``-th step of ``of`` begins."""

    def sent(self, host: str, size: int) -> None:
        """So many bytes of the step's input have left."""

    def done(self, host: str) -> None:
        """All its steps are done."""

    def failed(self, failed: StepFailed) -> None: ...

    def stopping(self) -> None:
        """The keeper broke off: what has begun is finished, nothing else begins."""


def carry_out(
    plans: Sequence[HostPlan], remotes: Mapping[str, Remote], supply: Supply, news: News
) -> Outcome:
    """Carry ``plans`` out; ``supply`` makes bundles, ``remotes`` are the hosts by name.

    Ctrl-C: steps that run are finished, and no other begins; at the second Ctrl-C the
    connections are closed, too. The outcome says what is done and what is not, and why.
    """
    stop = threading.Event()
    quiet = _Serial(news)
    works = [_Work(plan, remotes, supply, quiet, stop) for plan in plans if plan.steps]
    with ThreadPoolExecutor(min(AT_ONCE, len(works) or 1), "deploy") as pool:
        for phase in Phase:
            futures = [pool.submit(work.phase, phase) for work in works if work.has(phase)]
            _await(futures, stop, quiet, remotes)
            if stop.is_set() or any(work.failed for work in works):
                break
    return Outcome(
        done={work.host: work.sentences(done=True) for work in works},
        missing={work.host: work.sentences(done=False) for work in works},
        failed=tuple(work.failed for work in works if work.failed is not None),
        interrupted=stop.is_set(),
    )


def _await(
    futures: Sequence[Future[None]],
    stop: threading.Event,
    news: News,
    remotes: Mapping[str, Remote],
) -> None:
    """Until all are done. Raises what one of them raised that is no failure of a step."""
    while True:
        try:
            wait(futures)
            break
        except KeyboardInterrupt:
            if stop.is_set():
                for remote in remotes.values():
                    remote.close()
            else:
                stop.set()
                news.stopping()
    for future in futures:
        future.result()


class _Work:
    """One host's plan, and how far it is."""

    def __init__(
        self,
        plan: HostPlan,
        remotes: Mapping[str, Remote],
        supply: Supply,
        news: News,
        stop: threading.Event,
    ) -> None:
        self.host = plan.host
        self.failed: StepFailed | None = None
        self._steps = [step for phase in Phase for step in plan.steps if step.phase == phase]
        self._count = 0  # done
        self._remotes, self._supply = remotes, supply
        self._news, self._stop = news, stop

    def has(self, phase: Phase) -> bool:
        return any(step.phase == phase for step in self._steps)

    def sentences(self, *, done: bool) -> tuple[str, ...]:
        steps = self._steps[: self._count] if done else self._steps[self._count :]
        return tuple(step.sentence for step in steps)

    def phase(self, phase: Phase) -> None:
        """Its steps, in their order, as far as they go."""
        while self._count < len(self._steps) and not self._stop.is_set():
            step = self._steps[self._count]
            if step.phase != phase:
                return
            self._news.host_step(self.host, self._count + 1, len(self._steps), step.sentence)
            try:
                do(step, self._remotes[self.host], self._give)
            except Stuck as e:
                self.failed = _failed(self.host, step, e)
                self._news.failed(self.failed)
                return
            self._count += 1
        if self._count == len(self._steps):
            self._news.done(self.host)

    def _give(self, wanted: Input) -> Given:
        if isinstance(wanted, Text):
            return wanted.data
        if isinstance(wanted, FileOf):
            other = self._remotes[wanted.host]
            ended = other.run(("cat", "--", wanted.path), root=other.rooted)
            if ended.code or ended.cut:
                said = ended.err.decode(errors="replace").strip() or f"exit code {ended.code}"
                raise Refused(f"{wanted.host}: {wanted.path} cannot be read: {said}")
            return ended.out
        return self._counted(self._supply(wanted))

    def _counted(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        size = 0
        for piece in pieces:
            yield piece
            size += len(piece)
            self._news.sent(self.host, size)


def _failed(host: str, step: Step, e: Stuck) -> StepFailed:
    return StepFailed(
        host=host,
        sentence=step.sentence,
        what=e.what,
        command=e.command,
        code=e.code,
        output=e.output,
        hint=e.hint,
        undone=e.undone,
        left=e.left,
    )


class _Serial(News):
    """Passes the news of many threads on, one at a time."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._lock = threading.Lock()

    def host_step(self, host: str, n: int, of: int, sentence: str) -> None:
        with self._lock:
            self._news.host_step(host, n, of, sentence)

    def sent(self, host: str, size: int) -> None:
        with self._lock:
            self._news.sent(host, size)

    def done(self, host: str) -> None:
        with self._lock:
            self._news.done(host)

    def failed(self, failed: StepFailed) -> None:
        with self._lock:
            self._news.failed(failed)

    def stopping(self) -> None:
        with self._lock:
            self._news.stopping()
