"""The routes that send a job's files: input, log and output, and the log as it grows."""

from __future__ import annotations

from typing import cast

import bottle

from ledger.events import Digest
from ledger.jobs import Job
from primary.errors import NoSuchFile
from primary.files import FileName
from web import etags, files, proxied
from web.problems import Problem
from web.site import Site

PIECE = 16 * 1024 * 1024  # bytes of a live log in one answer; who follows it asks again

_TEXT = "text/plain; charset=utf-8"


class Downloads:
    def __init__(self, site: Site) -> None:
        self._site, self._primary = site, site.primary

    def file(self, id: str, name: str) -> bottle.HTTPResponse:
        """GET /data/<id>/<name>"""
        job = self._site.job(id)
        kept: dict[str, Digest | None] = {
            "input.zip": job.input,
            "job_log.txt": job.log,
            "output.zip": job.output,
        }
        if name not in kept:
            raise Problem(404, f"no file {name[:100]!r}: a job has {', '.join(kept)}")
        file = self._primary.open_file(job, cast(FileName, name))
        is_log, digest = name == "job_log.txt", kept[name]
        etag = digest.sha256 if digest and not file.live else _grown(job, 0, file.size)
        return files.answer(
            file,
            self._site.headers(),
            content_type=_TEXT if is_log else "application/zip",
            etag=etag,
            download_as=None if is_log else f"{job.id}.{name}",
            handed_to=None if file.live else self._handed_to(job, cast(FileName, name)),
        )

    def _handed_to(self, job: Job, name: FileName) -> str | None:
        """Where the proxy before us finds the file, if it is to send it."""
        prefix = self._site.accel
        if prefix is None or not proxied.may_send(bottle.request.environ):
            return None
        return f"{prefix}{job.id}/{name}" if self._primary.share(job, name) else None

    def log(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/log: from ``offset``, at most its last ``tail`` bytes, to follow it.

        X-Log-Size is the offset to ask for next, X-Log-Offset where the body begins, and
        X-Log-Final says whether nothing follows. Another X-Log-Attempt than before: the log
        began anew. Of a live log ``PIECE`` bytes come at most: its worker may say that it is
        terabytes long.
        """
        job, asked = self._site.job(id), self._site.asked()
        offset, tail = asked.number("offset"), asked.number("tail")
        try:
            file = self._primary.open_file(job, "job_log.txt")
        except NoSuchFile:
            if job.purged or job.log:
                raise
            return self._no_log(job)
        offset = min(offset or 0, file.size)
        if tail is not None:
            offset = max(offset, file.size - tail)
        # The job was read before the file was opened: where it had ended, the log is whole.
        final = job.final and not file.live
        if not final:
            file.size = min(file.size, offset + PIECE)
        etag = _grown(job, offset, file.size)
        if final and job.log:
            etag = f"{job.log.sha256}-{offset}" if offset else job.log.sha256
        return files.answer(
            file,
            self._site.headers(),
            content_type=_TEXT,
            etag=etag,
            extra=_told(job, file.size, offset, final=final),
            skip=offset,
        )

    def _no_log(self, job: Job) -> bottle.HTTPResponse:
        tag = '"none"' if job.final else f'"{_grown(job, 0, 0)}"'
        headers = {"Cache-Control": "no-cache", "ETag": tag, **_told(job, 0, 0, final=job.final)}
        if etags.named(self._site.headers().get("If-None-Match"), tag):
            return bottle.HTTPResponse(status=304, headers=headers)
        return bottle.HTTPResponse(
            b"", 200, {"Content-Type": _TEXT, **files.SAFE_HEADERS, **headers}
        )


def _grown(job: Job, offset: int, size: int) -> str:
    """The entity tag of a log that may grow: within its attempt, its length says what it holds."""
    return f"{job.attempt}-{offset}-{size}"


def _told(job: Job, size: int, offset: int, *, final: bool) -> dict[str, str]:
    return {
        "X-Log-Attempt": str(job.attempt),
        "X-Log-Final": str(final).lower(),
        "X-Log-Offset": str(offset),
        "X-Log-Size": str(size),
    }
