"""Jobs, nodes and models as the API shows them. Pure."""

from __future__ import annotations

from msgspec import structs, to_builtins

from ledger.events import Digest, Record
from ledger.jobs import Job
from primary.holders import Holder
from primary.nodes import Node
from spool.manifest import Model

DATA = "data"  # primary_data_dir: <primary_url>/data/<id>/... are a job's files


def naive(time: str | None) -> str | None:
    """A record's time (RFC 3339, UTC) as the API writes it: naive ISO with microseconds."""
    return time.removesuffix("Z") if time else None


def digest(of: Digest | None) -> dict[str, object] | None:
    return structs.asdict(of) if of else None


def job(job: Job, primary_url: str, progress: int | None) -> dict[str, object]:
    """The job's members; the fixed interface's nine first."""
    run = job.run
    return {
        "created": naive(job.created),
        "model": job.model,
        "name": job.name,
        "primary_data_dir": DATA,
        "primary_url": primary_url,
        "status": str(job.state),
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
        "input": digest(job.input),
        "log": digest(job.log),
        "output": digest(job.output),
    }


def holder(holder: Holder | None) -> dict[str, object]:
    """Members beside the job's: the worker that has it, and how long that has been silent."""
    return {
        "worker_liveness": holder.liveness if holder else None,
        "worker_silent_seconds": round(holder.silence, 1) if holder else None,
        "worker_given_up_seconds": _whole(holder.left) if holder else None,
        "worker_remark": (holder.remark or None) if holder else None,
    }


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds)


def node(node: Node) -> dict[str, object]:
    """A node's members; ``model`` and ``version`` as the fixed interface wants them."""
    return structs.asdict(node) | {
        "model": ", ".join(sorted(node.models)),
        "jobs": list(node.jobs),
    }


def model(model: Model) -> dict[str, object]:
    """What a submitter may know of a model: not its folder, command or environment."""
    return {
        "name": model.name,
        "title": model.title,
        "description": model.description,
        "parallel": model.parallel,
        "timeout": model.timeout,
        "attempts": model.attempts,
        "required": list(model.required),
        "input_description": model.input_description,
        "version": model.version,
    }


def record(record: Record) -> dict[str, object]:
    event = to_builtins(record.event)
    return {"seq": record.seq, "time": record.time, **event, "hash": record.hash}
