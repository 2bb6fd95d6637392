"""What the page of one job shows."""

from __future__ import annotations

from ledger.jobs import Job
from primary.errors import NoSuchFile
from primary.server import Primary

LOG_TAIL = 64 * 1024  # bytes of the log that the page shows


def context(primary: Primary, job: Job) -> dict[str, object]:
    """The values of ``views/job.html``."""
    text, at = _log_tail(primary, job)
    holder = primary.holder(job)
    return {
        "job": job,
        "place": primary.place(job),
        "remark": holder.remark if holder else "",
        "progress": primary.progress(job),
        "records": primary.history(job.id),
        "log": text,
        "log_end": at,
        "log_cut": at is not None and at > LOG_TAIL,
    }


def _log_tail(primary: Primary, job: Job) -> tuple[str, int | None]:
    """The end of the log as text, and the size at which it was read; None: no log."""
    try:
        file = primary.open_file(job, "job_log.txt")
    except NoSuchFile:
        return "", None
    try:
        file.file.seek(max(0, file.size - LOG_TAIL))
        return file.file.read(LOG_TAIL).decode(errors="replace"), file.size
    finally:
        file.close()
