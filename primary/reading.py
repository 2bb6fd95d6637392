"""A job's files as users download them; the log of one that has not ended, as it grows."""

from __future__ import annotations

from pathlib import Path

from ledger.jobs import Job
from primary.errors import NoSuchFile
from primary.files import FileName, Files, JobFile
from spool import dispatch as places
from spool.believe import open_believed
from spool.errors import SpoolError
from spool.names import key


def open_file(files: Files, spool: Path, job: Job, name: FileName) -> JobFile:
    """Raises NoSuchFile with the reason."""
    if job.purged:
        raise NoSuchFile(f"the files of job {job.id} were removed")
    if name == "input.zip" or job.final:
        # Only what the ledger knows: an attempt that was given up may have left files.
        known = {"input.zip": job.input, "job_log.txt": job.log, "output.zip": job.output}
        if known[name] is None:
            raise NoSuchFile(_why_not(job, name))
        try:
            return files.open(job.id, name)
        except NoSuchFile:
            raise NoSuchFile(
                f"the {name} of job {job.id} is missing from the primary's disk, "
                "though the ledger has it; ask the server's keeper"
            ) from None
    if name != "job_log.txt" or job.worker is None:
        raise NoSuchFile(_why_not(job, name))
    return _live_log(spool, job, job.worker)


def _live_log(spool: Path, job: Job, worker: str) -> JobFile:
    """What has come of the log so far, in its worker's folder."""
    folder = places.log_folder(spool, worker)
    try:
        file = open_believed(folder, f"{key(job.id, job.attempt)}.log", None)
    except SpoolError:
        raise NoSuchFile(_why_not(job, "job_log.txt")) from None
    file.seek(0, 2)
    size = file.tell()
    file.seek(0)
    return JobFile(file, size, live=True)


def _why_not(job: Job, name: FileName) -> str:
    if name == "input.zip":
        if job.final:
            return f"job {job.id} ended {job.state} before its input was here"
        return f"the input of job {job.id} is still being fetched"
    what = "log" if name == "job_log.txt" else "output"
    if job.final:
        return f"job {job.id} ended {job.state} and left no {what}"
    return f"job {job.id} is {job.state}: it has no {what} yet"
