"""The Python client: a primary's HTTP interface, with the standard library alone.

    from modelrunner import Client

    client = Client("http://localhost:8080")
    job = client.submit("test", "input.zip", name="first try")
    job = client.wait(job, on_log=print_bytes)
    for file in client.outputs(job):
        print(file["path"], file["size"])
    client.download(job, "output.zip", "results.zip")

A job is a dict with the members of ``GET /jobs/<id>`` (``client.shapes`` has them all).
Wherever a job is asked for, its id will do as well. Every method raises ClientError
where the server refuses, and Unreachable, which is one, where it does not answer.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path, PurePosixPath
from typing import Literal, cast
from urllib.parse import quote

from client import downloads, lists, sources
from client.connection import SERVER_VARIABLE, TIMEOUT, TRIES, Connection, OnProgress
from client.errors import BadInput, ClientError, TimedOut, Unreachable
from client.following import Following, LogPart, OnLog, OnState, job_path
from client.multipart import Body
from client.shapes import (
    Job,
    JobDetail,
    JobState,
    LogMatch,
    Model,
    Node,
    OutputFile,
    Record,
    Timeline,
)
from client.sources import Source

__all__ = ["BadInput", "Client", "ClientError", "LogPart", "TimedOut", "Unreachable"]

DEFAULT_SERVER = "http://localhost:8080"
KEY_VARIABLE = "MODELRUNNER_KEY"

FileName = Literal["input.zip", "job_log.txt", "output.zip"]
JobOrId = str | Job


class Client:
    """A primary at ``server`` (default: $MODELRUNNER_SERVER, else http://localhost:8080).

    ``key`` is yours (default: $MODELRUNNER_KEY); where the primary listens beyond its own
    machine, killing needs one, and more where its keeper says so. ``timeout`` is in seconds
    without a byte, ``tries`` how often a request is made whose connection drops.
    """

    def __init__(
        self,
        server: str | None = None,
        key: str | None = None,
        *,
        timeout: float = TIMEOUT,
        tries: int = TRIES,
    ) -> None:
        address = server or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER
        key = key or os.environ.get(KEY_VARIABLE)
        self._http = Connection(address, key, timeout=timeout, tries=tries)

    def __repr__(self) -> str:
        return f"Client({self.server!r})"

    @property
    def server(self) -> str:
        """The address that is spoken to."""
        return self._http.server

    # --- making jobs

    def submit(
        self,
        model: str,
        source: Source,
        *,
        name: str | None = None,
        idempotency_key: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> JobDetail:
        """Submit a zip, a folder (which is zipped), or the http(s) address of a zip.

        A zip is a path, or a file that is open for reading bytes. Returns the job.
        ``on_progress`` is called with bytes sent and bytes in all. Sent again where the
        connection drops, and still one job, by an Idempotency-Key. Give one of your own
        (1 to 255 printable ASCII characters), and the same call is answered with the same
        job in another run of your program, too. Raises BadInput with all ``findings``
        where the input is not as the model wants it, OSError for a file that cannot be
        read, and ClientError (status 422) where the key stands for another job.
        """
        fields = {"job_name": name or sources.name(source), "model": model}
        key = idempotency_key
        if isinstance(source, str) and sources.is_address(source):
            return self._made("/jobs", Body(fields | {"zip_url": source}), key, on_progress)
        with sources.opened(source) as file:
            body = Body(fields, "zip_file", f"{sources.name(source)}.zip", file)
            return self._made("/jobs", body, key, on_progress)

    def rerun(
        self, job: JobOrId, *, name: str | None = None, idempotency_key: str | None = None
    ) -> JobDetail:
        """A new job on the input of an old one, which it names as ``rerun_of``."""
        body = Body({"job_name": name} if name else {})
        return self._made(job_path(_id(job), "rerun"), body, idempotency_key)

    def example(self, model: str, *, idempotency_key: str | None = None) -> JobDetail:
        """Run a model on its own example input; returns the job."""
        return self._made(f"{_model_path(model)}/example", Body({}), idempotency_key)

    def validate(
        self,
        model: str,
        source: Source,
        *,
        on_progress: OnProgress | None = None,
    ) -> None:
        """Check a zip or a folder as an input, without running it; an address cannot be checked.

        Raises BadInput with all ``findings``, and OSError for a file that cannot be read.
        """
        with sources.opened(source) as file:
            body = Body({}, "zip_file", f"{sources.name(source)}.zip", file)
            self._http.post(f"{_model_path(model)}/validate", body, on_progress=on_progress)

    def _made(
        self, path: str, body: Body, key: str | None, on_progress: OnProgress | None = None
    ) -> JobDetail:
        """Post what makes a job; one key for all its tries, so that it makes one job."""
        key = str(uuid.uuid4()) if key is None else key
        answer = self._http.post(path, body, key=key, on_progress=on_progress)
        id = str(self._http.taken(answer, "id"))
        try:
            return self.job(id)
        except Unreachable as e:
            raise Unreachable(f"job {id} was submitted, but then there was {e}") from e

    # --- reading jobs

    def job(self, job: JobOrId) -> JobDetail:
        """A job as it stands now."""
        return cast(JobDetail, self._http.get(job_path(_id(job))))

    def find(self, prefix: str) -> str:
        """The id of the one job whose id begins with ``prefix``.

        Raises ClientError where there is none, or more than one.
        """
        return lists.find(self._http, prefix)

    def jobs(
        self,
        *,
        states: str | Sequence[str] = (),
        model: str | None = None,
        text: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[Job]:
        """The newest jobs first; without ``limit`` up to 10,000 (``all_jobs`` has no end).

        ``states``: one or more, such as "FAILED" or ("FAILED", "KILLED"). ``text`` is
        looked for in names and at the beginning of ids. ``since`` and
        ``until`` are days in UTC (as dates, or 2026-11-23), both inclusive, or RFC 3339 times.
        """
        return lists.page(
            self._http, lists.query(states, model, text, since, until), before, limit
        )[0]

    def all_jobs(
        self,
        *,
        states: str | Sequence[str] = (),
        model: str | None = None,
        text: str | None = None,
        since: date | str | None = None,
        until: date | str | None = None,
    ) -> Iterator[Job]:
        """All jobs, the newest first, asked for in pages as far as you read."""
        return lists.every(self._http, lists.query(states, model, text, since, until))

    def events(self, job: JobOrId) -> list[Record]:
        """The job's records in the ledger, the oldest first."""
        return cast(list[Record], self._http.member(job_path(_id(job), "events"), "data"))

    def state(self, job: JobOrId) -> JobState:
        """What changes of a job: its state, progress, place in the queue. Cheap to ask for."""
        return Following(self._http, _id(job)).state()

    # --- following and ending them

    def wait(
        self,
        job: JobOrId,
        timeout: float | None = None,
        *,
        on_log: OnLog | None = None,
        on_state: OnState | None = None,
    ) -> JobDetail:
        """The job when it has ended, well or not; ``on_log`` gets its log meanwhile.

        ``on_state`` gets its JobState a few times a second, and None while the server does
        not answer. ``timeout`` is in seconds. Raises TimedOut. A restart of the
        server is waited out.
        """
        id = _id(job)
        Following(self._http, id).wait(timeout, on_log, on_state)
        return self.job(id)

    def log(self, job: JobOrId, offset: int = 0) -> LogPart:
        """What the log holds from ``offset`` on, up to 16 MiB; go on at its ``end``."""
        return Following(self._http, _id(job)).log(offset)

    def tail(self, job: JobOrId, size: int = 64 * 1024) -> LogPart:
        """The last ``size`` bytes of what the log holds now, up to 16 MiB."""
        return Following(self._http, _id(job)).tail(size)

    def search(self, job: JobOrId, text: str) -> Iterator[LogMatch]:
        """The lines of what the log holds now that hold ``text``, in any case."""
        return lists.matches(self._http, job_path(_id(job), "log", "search"), text)

    def follow(self, job: JobOrId, after: LogPart | None = None) -> Iterator[LogPart]:
        """The log as it grows, until the job has ended. A restart of the server is waited out.

        From its beginning, or ``after`` a part that is known. Where a job was lost with
        its worker and runs again, its log begins anew: the part has another ``attempt``.
        """
        return Following(self._http, _id(job)).parts(after)

    def kill(self, job: JobOrId, *, wait: bool = False, timeout: float | None = None) -> JobDetail:
        """Ask for the job's end; with ``wait`` until it is really over. Returns the job.

        Asking again changes nothing. Raises TimedOut after ``timeout`` seconds, and
        ClientError (status 409) if the job has ended already.
        """
        id = _id(job)
        self._http.post(job_path(id, "kill"), Body({}))
        return self.wait(id, timeout) if wait else self.job(id)

    # --- what they left

    def outputs(self, job: JobOrId) -> list[OutputFile]:
        """The files in the job's output."""
        return cast(list[OutputFile], self._http.member(job_path(_id(job), "files"), "data"))

    def output(
        self,
        job: JobOrId,
        path: str,
        target: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> Path:
        """One file of the job's output, whole or not at all; returns where it lies.

        ``target`` is a file, or a folder to put it into under its last name.
        """
        place = _place(target, PurePosixPath(path).name)
        return downloads.fetch(self._http, job_path(_id(job), "files", path), place, on_progress)

    def download(
        self,
        job: JobOrId,
        which: FileName,
        target: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> Path:
        """One of the job's files, whole or not at all; goes on where a connection dropped.

        ``target`` is a file, or a folder to put it into.
        """
        path = f"/data/{quote(_id(job), safe='')}/{which}"
        return downloads.fetch(self._http, path, _place(target, which), on_progress)

    # --- the service

    def models(self) -> list[Model]:
        """The models, with what each takes and gives."""
        return cast(list[Model], self._http.member("/models", "data"))

    def model_errors(self) -> dict[str, str]:
        """Why a model cannot be used, by its folder; empty when all can."""
        return cast(dict[str, str], self._http.member("/models", "errors"))

    def example_input(
        self,
        model: str,
        target: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> Path:
        """Download a model's example input. ``target`` is a file, or a folder to put it into."""
        place = _place(target, "example.zip")
        return downloads.fetch(self._http, f"{_model_path(model)}/example.zip", place, on_progress)

    def status(self) -> list[Node]:
        """The nodes, the primary first."""
        return cast(list[Node], self._http.member("/status", "data"))

    def timeline(self, hours: int = 24) -> Timeline:
        """Which worker ran what in the last ``hours``: 1 to 168."""
        return cast(Timeline, self._http.get(f"/status/timeline?hours={hours}"))

    def doctor(self) -> list[str]:
        """What somebody should look at; empty when all is well."""
        return cast(list[str], self._http.member("/doctor", "findings"))


def _id(job: JobOrId) -> str:
    return job if isinstance(job, str) else job["uuid"]


def _model_path(model: str) -> str:
    return f"/models/{quote(model, safe='')}"


def _place(target: str | os.PathLike[str], name: str) -> Path:
    path = Path(target)
    return path / name if path.is_dir() else path
