"""The Python client: a primary's HTTP interface, with the standard library alone.

    from modelrunner import Client

    client = Client("http://localhost:8080")
    job = client.submit("test", "input.zip", name="first try")
    job = client.wait(job["uuid"], on_log=print_bytes)
    client.download(job["uuid"], "output.zip", "results.zip")

A job is a dict with the members of ``GET /jobs/<id>``.
"""

from __future__ import annotations

import http.client
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO, Literal, TypeVar
from urllib.parse import quote, urlencode

from client import connection
from client.connection import (
    PIECE,
    SERVER_VARIABLE,
    TRIES,
    ClientError,
    Connection,
    Json,
    OnProgress,
    Unreachable,
)
from client.multipart import Body

__all__ = ["Client", "ClientError", "LogPart", "TimedOut", "Unreachable"]

DEFAULT_SERVER = "http://localhost:8080"
KEY_VARIABLE = "MODELRUNNER_KEY"
FINAL = frozenset({"COMPLETE", "FAILED", "KILLED"})

POLL = 0.3  # seconds between looks at a log that is followed
PATIENCE = 600.0  # seconds that a server may be away while a job is waited for
AWAY = 1.0  # seconds between looks whether it is there again
LONG_POLL = 20  # seconds that the server may hold a question for news

FileName = Literal["input.zip", "job_log.txt", "output.zip"]
T = TypeVar("T")
OnLog = Callable[[bytes], None]


class TimedOut(ClientError):
    """The job had not ended when the time was over."""


class LogPart:
    """A piece of a log. Ask for the next one from ``end``; another attempt begins at 0 again."""

    def __init__(self, data: bytes, end: int, final: bool, attempt: int) -> None:
        self.data, self.end, self.final, self.attempt = data, end, final, attempt


class Client:
    """A primary at ``server`` (default: $MODELRUNNER_SERVER, else http://localhost:8080).

    ``key`` is the admin key (default: $MODELRUNNER_KEY); killing needs it
    where the primary listens beyond its own machine.
    """

    def __init__(self, server: str | None = None, key: str | None = None) -> None:
        address = server or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER
        self._http = Connection(address, key or os.environ.get(KEY_VARIABLE))

    @property
    def server(self) -> str:
        """The address that is spoken to."""
        return self._http.server

    # --- jobs

    def submit(
        self,
        model: str,
        source: str | os.PathLike[str],
        *,
        name: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Json:
        """Submit a zip file, or the http(s) address of one; returns the job.

        ``on_progress`` is called with bytes sent and bytes in all. Raises
        OSError for a file that cannot be read. Never sent twice: after
        Unreachable, look at the list before you submit again.
        """
        text = os.fspath(source)
        if text.startswith(("http://", "https://")):
            fields = {"job_name": name or text.rpartition("/")[2] or model, "model": model}
            answer = self._http.post("/jobs", Body(fields | {"zip_url": text}), on_progress)
        else:
            path = Path(text)
            with path.open("rb") as file:
                fields = {"job_name": name or path.stem, "model": model}
                body = Body(fields, "zip_file", path.name, file)
                answer = self._http.post("/jobs", body, on_progress)
        return self.job(answer["id"])

    def validate(
        self, model: str, path: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> None:
        """Check an input without running it. Raises ClientError with what is wrong."""
        with Path(path).open("rb") as file:
            body = Body({}, "zip_file", Path(path).name, file)
            self._http.post(f"/models/{quote(model, safe='')}/validate", body, on_progress)

    def job(self, id: str) -> Json:
        return self._http.get(f"/jobs/{quote(id, safe='')}")

    def jobs(
        self,
        *,
        states: tuple[str, ...] = (),
        model: str | None = None,
        text: str | None = None,
        before: int | None = None,
        limit: int | None = None,
    ) -> list[Json]:
        """The newest first; without ``limit`` up to 10,000."""
        query: list[tuple[str, str]] = [("state", state) for state in states]
        for field, value in (("model", model), ("q", text), ("before", before), ("limit", limit)):
            if value is not None:
                query.append((field, str(value)))
        data: list[Json] = self._http.get(f"/jobs?{urlencode(query)}")["data"]
        return data

    def events(self, id: str) -> list[Json]:
        """The job's records in the ledger."""
        data: list[Json] = self._http.get(f"/jobs/{quote(id, safe='')}/events")["data"]
        return data

    def kill(self, id: str) -> str:
        """Ask for the job's end; returns the server's message."""
        message: str = self._http.post(f"/jobs/{quote(id, safe='')}/kill", Body({}), None)[
            "message"
        ]
        return message

    def log(self, id: str, offset: int = 0) -> LogPart:
        """What the log holds from ``offset`` on."""
        headers, data = self._http.read(f"/jobs/{quote(id, safe='')}/log?offset={offset}")
        final, attempt = headers["X-Log-Final"] == "true", int(headers["X-Log-Attempt"] or 1)
        return LogPart(data, offset + len(data), final, attempt)

    def follow(self, id: str) -> Iterator[bytes]:
        """The log as it grows, until the job has ended. A restart of the server is waited out."""
        offset, attempt = 0, 1
        part = self.log(id, offset)
        while True:
            if part.attempt != attempt:  # lost with its worker, and begun again
                attempt, part = part.attempt, self._patiently(lambda: self.log(id, 0))
                offset = 0
            offset = part.end
            if part.data:
                yield part.data
            if part.final:
                return
            time.sleep(POLL)
            part = self._patiently(partial(self.log, id, offset))

    def wait(self, id: str, timeout: float | None = None, *, on_log: OnLog | None = None) -> Json:
        """The job when it has ended; ``on_log`` gets its log meanwhile.

        ``timeout`` is in seconds. Raises TimedOut. A restart of the server is waited out.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        offset, attempt, seq = 0, 1, 0
        job = self.job(id)
        while True:
            if on_log is not None:
                part = self._patiently(partial(self.log, id, offset), deadline)
                if part.attempt != attempt:
                    attempt = part.attempt
                    part = self._patiently(lambda: self.log(id, 0), deadline)
                offset = part.end
                if part.data:
                    on_log(part.data)
            if job["status"] in FINAL:
                return job
            left = LONG_POLL if deadline is None else deadline - time.monotonic()
            if left <= 0:
                raise TimedOut(f"job {id} is {job['status']} and has not ended in {timeout:g} s")
            began = time.monotonic()
            wait = min(left, POLL if on_log else LONG_POLL)
            seq = self._patiently(partial(self._news, seq, wait), deadline)
            # Where the server has too many long polls it answers at once.
            time.sleep(max(0.0, min(left, 0.05 - (time.monotonic() - began))))
            job = self._patiently(lambda: self.job(id), deadline)

    def _patiently(self, ask: Callable[[], T], deadline: float | None = None) -> T:
        """What ``ask`` returns, once the server is there again: jobs outlive its restarts."""
        until = time.monotonic() + PATIENCE
        if deadline is not None:
            until = min(until, deadline)
        while True:
            try:
                return ask()
            except ClientError as e:
                away = isinstance(e, Unreachable) or e.status == http.HTTPStatus.SERVICE_UNAVAILABLE
                if not away or time.monotonic() >= until:
                    raise
            time.sleep(AWAY)

    def _news(self, seq: int, wait: float) -> int:
        newest: int = self._http.get(f"/events?after={seq}&wait={wait:.3f}&limit=0")["seq"]
        return newest

    def download(
        self,
        id: str,
        which: FileName,
        target: str | os.PathLike[str],
        *,
        on_progress: OnProgress | None = None,
    ) -> Path:
        """One of the job's files, whole or not at all; goes on where a connection dropped.

        ``target`` is a file, or a folder to put it into.
        """
        path = Path(target)
        if path.is_dir():
            path = path / which
        part = path.with_name(f".{path.name}.part")
        try:
            with part.open("wb") as file:
                self._download(f"/data/{quote(id, safe='')}/{which}", file, on_progress)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return path

    def _download(self, path: str, file: BinaryIO, on_progress: OnProgress | None) -> None:
        tag: str | None = None
        idle = 0
        while True:
            at = file.tell()
            headers = {"Range": f"bytes={at}-", "If-Range": tag} if at and tag else {}
            with self._http.opened(path, headers) as response:
                if response.status != 206:
                    at = file.seek(0)
                    file.truncate()
                tag = response.getheader("ETag")
                total = at + int(response.getheader("Content-Length", "0"))
                try:
                    while piece := response.read(PIECE):
                        file.write(piece)
                        if on_progress:
                            on_progress(file.tell(), total)
                except (OSError, http.client.HTTPException) as e:
                    error = str(e) or type(e).__name__
                else:
                    error = "the connection was closed early"
            if file.tell() >= total:
                return
            idle = 0 if file.tell() > at else idle + 1
            if idle >= TRIES:
                raise Unreachable(f"{self.server}{path}: {error}")
            time.sleep(connection.BACK_OFF * 2**idle)

    # --- the service

    def models(self) -> list[Json]:
        data: list[Json] = self._http.get("/models")["data"]
        return data

    def status(self) -> list[Json]:
        """The nodes, the primary first."""
        data: list[Json] = self._http.get("/status")["data"]
        return data

    def doctor(self) -> list[str]:
        """What somebody should look at; empty when all is well."""
        findings: list[str] = self._http.get("/doctor")["findings"]
        return findings
