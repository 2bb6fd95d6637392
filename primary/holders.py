"""Who has a job now, since when that worker is silent, and what comes of it, in words.

The lease itself is run by ``primary.loop``; here it is only shown, on the same
clock and from the same signs of life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from ledger.jobs import Job, State
from primary.nodes import Node, Nodes
from primary.rules import judge, ticket_of
from spool.names import Claim

NAMED = 5  # jobs of one worker that a finding names


class Holder(NamedTuple):
    """The worker that has claimed a job. ``silence`` is in seconds, as is ``left``.

    ``left``: until the attempt is given up; None means never. ``remark`` says what an
    onlooker should know; it is empty while the worker is alive.
    """

    worker: str
    liveness: Literal["alive", "unreachable", "lost", "stopped"]
    silence: float
    left: float | None
    remark: str


class Holders:
    """``lease_of`` and ``attempts`` are what the loop itself goes by."""

    def __init__(
        self,
        nodes: Nodes,
        lease_of: Callable[[Job], float | None],
        attempts: Callable[[str], int],
    ) -> None:
        self._nodes = nodes
        self._lease_of = lease_of
        self._attempts = attempts

    def of(self, job: Job, now: float) -> Holder | None:
        """None while nobody has it."""
        if job.final:
            return None
        if job.worker is not None and job.instance is not None:
            return self._holder(job, job.worker, job.instance, now)
        for worker, claim in self._nodes.claims():
            # The id first: a list of waiting jobs asks for each of them, of hundreds of claims.
            if claim.ticket.job == job.id and _holds(job, worker, claim):
                return self._holder(job, worker, claim.instance, now)
        return None

    def findings(
        self, nodes: Iterable[Node], lookup: Callable[[str], Job | None], now: float
    ) -> list[str]:
        """A line for each worker that is silent, or that stopped and holds jobs."""
        held: dict[str, dict[str, Holder]] = {}
        for worker, claim in self._nodes.claims():
            job = lookup(claim.ticket.job)
            if job is not None and _holds(job, worker, claim):
                holder = self._holder(job, worker, claim.instance, now)
                if holder.liveness != "alive":
                    held.setdefault(worker, {})[job.id] = holder
        found = []
        for node in nodes:
            jobs = held.get(node.name, {})
            if node.liveness in ("unreachable", "lost") or jobs:
                found.append(f"worker {node.name} {_told(node, jobs)}")
        return found

    def _holder(self, job: Job, worker: str, instance: str, now: float) -> Holder:
        silence = self._nodes.silence(worker, instance, now)
        lease = self._lease_of(job)
        stopped = self._nodes.stopped(worker, instance)
        liveness = "stopped" if stopped else judge(silence, lease)
        left = None if lease is None else max(0.0, lease - silence)
        remark = ""
        if liveness != "alive":
            who = f"its worker {worker}"
            if job.state is State.QUEUED:
                who = f"worker {worker}, which has claimed it,"
            state = "is stopped" if stopped else f"has been silent for {about(silence)}"
            remark = f"{who} {state}; {self._outlook(job, left)}"
        return Holder(worker, liveness, silence, left, remark)

    def _outlook(self, job: Job, left: float | None) -> str:
        """What becomes of the job if its worker stays silent; see ``rules.give_up``."""
        if left is None:
            return "it waits for that without end, since its model's lease is never"
        if job.kill_wanted:
            end = "it is KILLED, not confirmed,"
        elif job.starts >= self._attempts(job.model):
            end = "it has no attempt left and FAILS"
        else:
            end = "it runs elsewhere"
        return f"unless that answers, {end} in {about(left)}"


def about(seconds: float) -> str:
    """A length of time in its largest unit that says enough."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.0f} days"


def _holds(job: Job, worker: str, claim: Claim) -> bool:
    if job.final or claim.ticket != ticket_of(job):
        return False
    return job.instance is None or (job.worker, job.instance) == (worker, claim.instance)


def _told(node: Node, jobs: dict[str, Holder]) -> str:
    state = f"is {node.liveness}"
    if node.liveness == "alive":  # its machine was installed anew, and the old one took these
        state = "is alive, but an instance of it before this one is silent"
    elif node.last_seen is not None:
        state += f", silent for {about(node.last_seen)}"
    if jobs:
        state += f", and holds {_jobs(jobs)}"
    if node.unbelieved:
        return f"{state}; its beat is not believed: {node.unbelieved}"
    if node.error and node.liveness != "alive":
        return f"{state}; the last error it told of, before that: {node.error}"
    return state


def _jobs(jobs: dict[str, Holder]) -> str:
    ids = sorted(jobs)
    more = [f"and {len(ids) - NAMED} more"] if len(ids) > NAMED else []
    text = f"{len(ids)} job{'' if len(ids) == 1 else 's'}: {', '.join([*ids[:NAMED], *more])}; "
    they = "it is" if len(ids) == 1 else "they are"
    lefts = [holder.left for holder in jobs.values() if holder.left is not None]
    if not lefts:
        return f"{text}{they} never given up"
    ends = {about(left) for left in lefts}
    if len(lefts) == len(ids) and len(ends) == 1:
        return f"{text}{they} given up in {ends.pop()}"
    return f"{text}the first is given up in {about(min(lefts))}"
