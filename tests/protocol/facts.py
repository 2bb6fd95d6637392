"""What must be true of every schedule when everything is at rest."""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator

from ledger.codec import GENESIS
from ledger.commands import verify
from ledger.events import Completed, Killed, Noted, Record, Requeued, Started
from ledger.jobs import Job, State, fold
from ledger.recovery import check
from spool import names
from tests.protocol.world import World

_RUNS_LOST = ("freeze", "lose")  # deeds after which a second attempt is right


def wrongs(world: World) -> list[str]:
    """Every promise that this schedule broke, a line each."""
    found = [world.baton.stuck] if world.baton.stuck else []
    for machine in world.machines:
        found += machine.wrongs
    report = verify(world.data)
    found += [f"ledger: {finding.where}: {finding.what}" for finding in report.findings]
    records = list(check(world.data / "ledger", 0, GENESIS))
    jobs = _folded(records)
    for id in world.acknowledged:
        found += _of_job(world, jobs.get(id), [r for r in records if r.event.job == id])
    found += _executions(world)
    found += _deliveries(world)
    found += _leftovers(world, jobs)
    found += world.wrongs
    return found


def _folded(records: list[Record]) -> dict[str, Job]:
    """Raises IllegalTransition or StaleAttempt, which fails the schedule, too."""
    jobs: dict[str, Job] = {}
    for record in records:
        jobs[record.event.job] = fold(jobs.get(record.event.job), record)
    return jobs


def _of_job(world: World, job: Job | None, records: list[Record]) -> Iterator[str]:
    if job is None:
        yield "an acknowledged job is not in the ledger"
        return
    if not job.final:
        yield f"job {job.id[-4:]} is still {job.state}"
        return
    kinds = Counter(type(record.event) for record in records)
    if kinds[Completed] > 1:
        yield f"job {job.id[-4:]} was completed {kinds[Completed]} times"
    if job.state is State.FAILED:
        yield f"job {job.id[-4:]} failed: {job.reason}"
    if job.state is State.KILLED and job.id not in world.kills:
        yield f"job {job.id[-4:]} is KILLED, but nobody asked"
    if job.id in world.kills and job.state is State.COMPLETE and not kinds[Noted]:
        yield f"job {job.id[-4:]}: that its kill came too late was not noted"
    yield from _result(world, job, records)
    disturbed = {choice.partition(":")[0] for choice in world.baton.taken.values()}
    if not disturbed.intersection(_RUNS_LOST) and not world.refused:
        yield from _undisturbed(world, job, records)


def _result(world: World, job: Job, records: list[Record]) -> Iterator[str]:
    """The one result is that of the attempt that the ledger names, made where it says."""
    if job.state is not State.COMPLETE:
        return
    key = names.key(job.id, job.attempt)
    folder = world.data / "jobs" / job.id
    try:
        with zipfile.ZipFile(folder / "output.zip") as output:
            if output.read("output.txt") != key.encode():
                yield f"the output of {key[-6:]} was made by another attempt"
        log = (folder / "job_log.txt").read_text()
    except (OSError, zipfile.BadZipFile) as e:
        yield f"the results of {key[-6:]}: {e}"
        return
    if log != f"begun {key}\nended {key}\n":
        yield f"the log of {key[-6:]} is not the one of its run: {log!r}"
    started = [r.event for r in records if isinstance(r.event, Started)]
    if (started[-1].worker, started[-1].instance) not in [
        (m.worker, m.instance) for m in world.machines if m.executions.get(key)
    ]:
        yield f"{key[-6:]} was completed by {started[-1].worker}, which never ran it"


def _undisturbed(world: World, job: Job, records: list[Record]) -> Iterator[str]:
    """Whoever comes back soon loses nothing: no switch, kill or crash costs a run."""
    ran = [k for m in world.machines for k in m.executions if k.startswith(job.id)]
    if len(ran) > 1:
        yield f"job {job.id[-4:]} ran {len(ran)} times, though no worker was lost"
    crashed = any(
        choice == "crash" and not world.baton.points[index].actor.startswith("primary")
        for index, choice in world.baton.taken.items()
    )
    for record in records:
        if isinstance(record.event, Requeued) and not crashed:
            yield f"requeued, though no worker was lost: {record.event.reason}"
        if isinstance(record.event, Killed) and not record.event.confirmed and not crashed:
            yield f"killed without confirmation, though no worker was lost: {record.event.reason}"


def _deliveries(world: World) -> Iterator[str]:
    """A final report is delivered once, unless a crash made the worker forget that it was."""
    if any(choice == "crash" for choice in world.baton.taken.values()):
        return
    said = Counter(
        line.split()[-1]
        for line in world.baton.history
        if line.endswith(".3-final") and " rename " in line and "workers/c/" not in line
    )
    yield from (f"{name} was delivered {n} times" for name, n in said.items() if n > 1)


def _executions(world: World) -> Iterator[str]:
    counts: Counter[str] = Counter()
    for machine in world.machines:
        counts.update(machine.executions)
        if machine.busy and machine.instance not in world.refused:
            yield f"a run of {machine.worker} goes on after the end of everything"
    yield from (f"{key[-6:]} was executed {n} times" for key, n in counts.items() if n > 1)


def _leftovers(world: World, jobs: dict[str, Job]) -> Iterator[str]:
    """The spool and incoming/ are empty, and nothing was unbelievable or strange."""
    lied = world.scenario.liar  # what it said lies in bad/, where it belongs
    for place in ("spool/models/m/new", "incoming", *(() if lied else ("bad",))):
        for path in sorted((world.data / place).iterdir()):
            yield f"left over: {place}/{path.name[-40:]}"
    for machine in world.machines:
        home = world.data / "spool" / names.worker_folder(machine.worker)
        for folder in (names.CUR, names.LOG, names.OUT, names.REPORTS, names.STOP, names.TMP):
            for path in sorted((home / folder).iterdir()):
                if path.name == names.BEAT:
                    continue
                yield f"left over: {machine.worker}/{folder}/{path.name[-40:]}"
    for path in sorted((world.data / "jobs").iterdir()):
        if path.name not in jobs:
            yield f"left over: jobs/{path.name}, of which the ledger knows nothing"
    if world.primary is not None:
        yield from (f"strange: {what}" for what in world.primary._loop.strange)
