"""Jobs, nodes and models as the API shows them: from the primary's types to ``web.shapes``.

Pure.
"""

from __future__ import annotations

from typing import Any

from msgspec import convert, structs, to_builtins

from ledger.events import Digest, Record
from ledger.jobs import Job
from primary.holders import Holder
from primary.nodes import Node
from primary.timeline import Timeline
from primary.waiting import Waiting
from spool.manifest import Model
from web import shapes, words

DATA = "data"  # primary_data_dir: <primary_url>/data/<id>/... are a job's files


def naive(time: str | None) -> str | None:
    """A record's time (RFC 3339, UTC) as the API writes it: naive ISO with microseconds."""
    return time.removesuffix("Z") if time else None


def job(job: Job, primary_url: str, progress: int | None) -> shapes.Job:
    """The job as lists show it."""
    return shapes.Job(**_members(job, primary_url, progress))


def detail(
    job: Job,
    primary_url: str,
    progress: int | None,
    *,
    holder: Holder | None,
    waiting: Waiting | None,
    advice: str | None,
    last_lines: tuple[str, ...],
    may_kill: bool,
    may_rerun: bool,
) -> shapes.JobDetail:
    """The job with the worker that has it, what it waits for, and what the asker may do."""
    left = holder.left if holder else None
    return shapes.JobDetail(
        **_members(job, primary_url, progress),
        place=waiting.place if waiting else None,
        waiting=waiting.why if waiting else None,
        advice=advice,
        last_lines=last_lines,
        may_kill=may_kill,
        may_rerun=may_rerun,
        worker_liveness=holder.liveness if holder else None,
        worker_silent_seconds=round(holder.silence, 1) if holder else None,
        worker_given_up_seconds=None if left is None else round(left),
        worker_remark=(holder.remark or None) if holder else None,
    )


def state(
    job: Job,
    progress: int | None,
    *,
    holder: Holder | None,
    waiting: Waiting | None,
    log_size: int,
) -> shapes.JobState:
    """What changes of the job."""
    return shapes.JobState(
        status=job.state,
        attempt=job.attempt,
        progress=progress,
        kill_requested=job.kill_wanted,
        place=waiting.place if waiting else None,
        waiting=waiting.why if waiting else None,
        remark=(holder.remark or None) if holder else None,
        log_size=log_size,
        seq=job.records[-1],
        final=job.final,
    )


def _members(job: Job, primary_url: str, progress: int | None) -> dict[str, Any]:
    run = job.run
    return {
        "created": naive(job.created),
        "model": job.model,
        "name": job.name,
        "primary_data_dir": DATA,
        "primary_url": primary_url,
        "status": job.state,
        "uuid": job.id,
        # a worker behind SSH may have no address of its own: then its name says where
        "worker_data_dir": job.run_dir or None,
        "worker_url": (job.node_url or job.host or job.worker) or None,
        "on_primary": True,
        "attempt": job.attempt,
        "kill_requested": job.kill_wanted,
        "reason": job.reason,
        "failure": job.failure,
        "confirmed": job.confirmed,
        "exit_code": run.exit_code if run else None,
        "signal": run.signal if run else None,
        "wall_seconds": run.wall_seconds if run else None,
        "cpu_seconds": run.cpu_seconds if run else None,
        "peak_memory": run.peak_memory if run else None,
        "worker": job.worker,
        "progress": progress,
        "started": naive(job.started),
        "ended": naive(job.ended),
        "updated": naive(job.updated),
        "source": job.source,
        "rerun_of": job.rerun_of,
        "by": job.by,
        "purged": job.purged,
        "input": _digest(job.input),
        "log": _digest(job.log),
        "output": _digest(job.output),
    }


def _digest(of: Digest | None) -> shapes.Digest | None:
    return shapes.Digest(of.size, of.sha256) if of else None


def node(node: Node) -> shapes.Node:
    """``model`` and ``version`` as the fixed interface wants them."""
    return shapes.Node(**structs.asdict(node), model=", ".join(sorted(node.models)))


def model(model: Model, *, has_example: bool, ready: str) -> shapes.Model:
    """What a submitter may know of a model: not its folder, command or environment."""
    return shapes.Model(
        name=model.name,
        title=model.title,
        description=model.description,
        parallel=model.parallel,
        timeout=model.timeout,
        attempts=model.attempts,
        required=model.required,
        files=tuple(
            shapes.ModelFile(
                name=file.name,
                description=file.description,
                optional=file.optional,
                columns=tuple(file.columns),
                pattern=file.pattern or None,
            )
            for file in model.files
        ),
        input_description=model.input_description,
        output_description=model.output_description,
        contact=model.contact,
        example=f"/models/{model.name}/example.zip" if has_example else None,
        ready=ready,
        version=model.version,
    )


def record(record: Record, *, whole_urls: bool) -> shapes.Record:
    """The event with its place; members that it leaves out are left out."""
    event = {"seq": record.seq, "time": record.time} | to_builtins(record.event)
    if "url" in event and not whole_urls:
        event["url"] = words.discreet(event["url"])
    return convert(event | {"hash": record.hash}, shapes.Record)


def timeline(timeline: Timeline) -> shapes.Timeline:
    """The runs of a period."""
    runs = [shapes.Run(**structs.asdict(run)) for run in timeline.runs]
    return shapes.Timeline(since=timeline.since, until=timeline.until, cut=timeline.cut, data=runs)
