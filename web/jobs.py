"""The routes about jobs: list, submit, show, kill, and what lies beside them."""

from __future__ import annotations

import re
import unicodedata
from typing import cast

import bottle

from ledger.board import Query
from ledger.events import Digest
from ledger.jobs import Job, State
from primary.errors import NoSuchFile, PrimaryError
from primary.files import FileName
from primary.server import NewJob
from web import files, joblist, jobpage, present, problems, submitpage, uploads
from web.accept import api_only, names_json
from web.problems import Problem
from web.site import Site

JSON_LIMIT = 10_000  # jobs in one JSON answer, also the default
PAGE_LIMIT, PAGE_DEFAULT = 1_000, 100
PIECE = 16 * 1024 * 1024  # bytes of a live log in one answer; who follows it asks again
MAX_NAME = 200  # characters


_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)
_TEXT = "text/plain; charset=utf-8"
# Change the direction of what follows: a name could make its row read as another's.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Jobs:
    def __init__(self, site: Site) -> None:
        self._site, self._primary = site, site.primary

    # --- reading

    def listing(self) -> bottle.HTTPResponse:
        """GET /jobs"""
        if names_json(self._site.accepts()):
            page = self._primary.jobs(self._query(JSON_LIMIT, JSON_LIMIT))
            data = [self._json(job) for job in page.jobs]
            return self._site.reply({"data": data, "next": page.next})
        query = self._query(PAGE_DEFAULT, PAGE_LIMIT)
        return self._site.page("jobs", joblist.context(self._primary, query))

    def _query(self, default: int, most: int) -> Query:
        given = bottle.request.query
        try:
            wanted = [s for many in given.getall("state") for s in many.upper().split(",") if s]
            states = frozenset(State(s) for s in wanted)
        except ValueError as e:
            names = " ".join(State)
            raise Problem(400, f"{e}; expected some of {names}", field="state") from None
        before = _number("before", given.get("before"), None, 2**62)
        limit = _number("limit", given.get("limit"), default, most)
        assert limit is not None
        return Query(
            states=states,
            model=given.getunicode("model") or None,
            text=given.getunicode("q") or None,
            before=before,
            limit=limit,
        )

    def show(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>"""
        job = self._job(id)
        if not self._site.wants_page():
            more = {"place": self._primary.place(job)} | present.holder(self._primary.holder(job))
            return self._site.reply(self._json(job) | more)
        return self._site.page("job", jobpage.context(self._primary, job))

    def events(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/events"""
        job = self._job(id)
        records = self._primary.history(job.id)
        return self._site.reply({"data": [present.record(record) for record in records]})

    def file(self, id: str, name: str) -> bottle.HTTPResponse:
        """GET /data/<id>/<name>"""
        job = self._job(id)
        kept: dict[str, Digest | None] = {
            "input.zip": job.input,
            "job_log.txt": job.log,
            "output.zip": job.output,
        }
        if name not in kept:
            raise Problem(404, f"no file {name[:100]!r}: a job has {', '.join(kept)}")
        file = self._primary.open_file(job, cast(FileName, name))
        digest = kept[name]
        is_log = name == "job_log.txt"
        return files.answer(
            file,
            self._site.headers(),
            content_type=_TEXT if is_log else "application/zip",
            etag=digest.sha256 if digest and not file.live else None,
            download_as=None if is_log else f"{job.id}.{name}",
        )

    def log(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/log?offset=N: what the log holds from there, for following it.

        X-Log-Size is the offset to ask for next, X-Log-Final whether nothing
        follows. Another X-Log-Attempt than before: the log began anew. Of a live log
        ``PIECE`` bytes come at most: its worker may say that it is terabytes long.
        """
        job = self._job(id)
        offset = _number("offset", bottle.request.query.get("offset"), 0, 2**62) or 0
        extra = {"X-Log-Attempt": str(job.attempt), "Vary": "Accept"}
        try:
            file = self._primary.open_file(job, "job_log.txt")
        except NoSuchFile:
            if job.purged or job.log:
                raise
            extra |= {"X-Log-Size": "0", "X-Log-Final": str(job.final).lower()}
            headers = {"Content-Type": _TEXT, **files.SAFE_HEADERS, **extra}
            return bottle.HTTPResponse(b"", 200, headers)
        # The job was read before the file was opened: where it had ended, the log is whole.
        final = job.final and not file.live
        if not final:
            file.size = min(file.size, offset + PIECE)
        extra |= {"X-Log-Size": str(file.size), "X-Log-Final": str(final).lower()}
        return files.answer(
            file,
            self._site.headers(),
            content_type=_TEXT,
            etag=job.log.sha256 if final and job.log and not offset else None,
            extra=extra,
            skip=min(offset, file.size),
        )

    def _job(self, id: str) -> Job:
        if not _ID.match(id):
            raise Problem(404, f"no job {id[:100]!r}: an id looks like {'x' * 8}-xxxx-...")
        return self._primary.job(id)

    def _json(self, job: Job) -> dict[str, object]:
        return present.job(job, self._site.url(), self._primary.progress(job))

    # --- writing

    def form(self) -> bottle.HTTPResponse:
        """GET /jobs/submit"""
        return self._form({"model": bottle.request.query.getunicode("model") or ""})

    def _form(self, fields: dict[str, str], problem: Problem | None = None) -> bottle.HTTPResponse:
        status = problem.status if problem else 200
        values = submitpage.context(self._primary, fields, problem)
        return self._site.page("submit", values, status=status)

    def submit(self) -> bottle.HTTPResponse:
        """POST /jobs"""
        fields: dict[str, str] = {}
        try:
            with uploads.received(bottle.request.environ, self._primary.receive) as form:
                fields = form.fields
                job = self._submit(form)
        except (Problem, PrimaryError) as e:
            field = "zip_url" if fields.get("zip_url") else uploads.FILE_FIELD
            problem = e if isinstance(e, Problem) else problems.of_submission(e, field)
            if self._site.wants_page():
                return self._form(fields, problem)
            raise problem from None
        return self._submitted(job)

    def put(self) -> bottle.HTTPResponse:
        """PUT /jobs?job_name=...&model=... with the zip as the body"""
        given = bottle.request.query
        new = self._new(given.getunicode("job_name") or "", given.getunicode("model") or "")
        try:
            with uploads.raw(bottle.request.environ, self._primary.receive) as upload:
                job = self._primary.submit(new, upload)
        except PrimaryError as e:
            raise problems.of_submission(e, uploads.FILE_FIELD) from None
        return self._submitted(job)

    def _submitted(self, job: Job) -> bottle.HTTPResponse:
        if self._site.wants_page():
            return self._site.lead(f"/jobs/{job.id}")
        return self._site.reply({"id": job.id, "message": f"OK:  Submitted job id {job.id}"})

    def _new(self, name: str, model: str) -> NewJob:
        check_name(name)
        if not model:
            raise Problem(400, "model is missing: which model to run", field="model")
        return NewJob(name=name, model=model, by=self._site.by())

    def _submit(self, form: uploads.Form) -> Job:
        new = self._new(form.get("job_name"), form.get("model"))
        url = form.get("zip_url")
        if form.upload is not None and url:
            raise Problem(400, "zip_file and zip_url were both sent: send one", field="zip_url")
        if url:
            return self._primary.submit_url(new, url)
        if form.upload is None:
            raise Problem(400, "zip_file is missing: send it, or zip_url", field="zip_file")
        try:
            return self._primary.submit(new, form.upload)
        except PrimaryError as e:
            problem = problems.of_submission(e, uploads.FILE_FIELD)
            if form.file_was_text and problem.field == uploads.FILE_FIELD:
                problem.detail += " (it was sent as text: with curl, write -F zip_file=@FILE)"
            raise problem from None

    def kill(self, id: str) -> bottle.HTTPResponse:
        """POST /jobs/<id>/kill"""
        self._site.need_admin("killing a job")
        job = self._primary.kill(self._job(id).id, self._site.by())
        if self._site.wants_page():
            return self._site.lead(f"/jobs/{job.id}")
        return self._site.reply({"id": job.id, "message": f"OK:  Killed job id {job.id}"})

    def kill_by_get(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/kill: for scripts alone; a link or an image must never kill."""
        environ = bottle.request.environ
        from_browser = (
            "HTTP_ORIGIN" in environ
            or "HTTP_COOKIE" in environ
            or any(name.startswith("HTTP_SEC_FETCH_") for name in environ)
            or not api_only(self._site.accepts())
        )
        # bottle sends HEAD here too
        if from_browser or bottle.request.method != "GET":
            raise Problem(405, "a browser kills by POST alone", headers={"Allow": "POST"})
        return self.kill(id)


def check_name(name: str) -> None:
    """Raises Problem unless ``name`` may name a job: shown as text, in one line, as it reads."""
    if not name:
        raise Problem(400, "job_name is missing: 1 to 200 characters", field="job_name")
    if len(name) > MAX_NAME:
        raise Problem(
            400, f"job_name has {len(name)} characters; at most {MAX_NAME}", field="job_name"
        )
    for place, character in enumerate(name, 1):
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or character in _BIDI:
            raise Problem(
                400,
                f"job_name: character {place} is the control character "
                f"U+{ord(character):04X}, which cannot be shown",
                field="job_name",
            )


def _number(field: str, text: str | None, default: int | None, most: int) -> int | None:
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or len(text) > 19:
        raise Problem(400, f"{field}: {text[:40]!r} is not a whole number", field=field)
    value = int(text)
    if field == "limit" and value == 0:
        raise Problem(400, "limit: expected at least 1", field=field)
    return min(value, most)
