"""The routes that enter a job: by upload, by address, by example, once more."""

from __future__ import annotations

import unicodedata

import bottle

from ledger.jobs import Job
from primary.errors import PrimaryError
from primary.server import NewJob
from web import problems, shapes, submitpage, uploads
from web.problems import Problem
from web.site import Site

MAX_NAME = 200  # characters

# Change the direction of what follows: a name could make its row read as another's.
_BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


class Submissions:
    def __init__(self, site: Site) -> None:
        self._site, self._primary = site, site.primary

    def form(self) -> bottle.HTTPResponse:
        """GET /jobs/submit"""
        asked = self._site.asked()
        return self._form(
            {"model": asked.text("model") or "", "job_name": asked.text("name") or ""}
        )

    def _form(self, fields: dict[str, str], problem: Problem | None = None) -> bottle.HTTPResponse:
        status = problem.status if problem else 200
        values = submitpage.context(self._primary, fields, problem)
        return self._site.page("submit", values, status=status)

    def submit(self) -> bottle.HTTPResponse:
        """POST /jobs: a form, or the zip itself as for PUT"""
        if uploads.is_raw(bottle.request.environ):
            return self.put()
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
        asked = self._site.asked()
        new = self._new((asked.text("job_name") or "").strip(), asked.text("model") or "")
        try:
            with uploads.raw(bottle.request.environ, self._primary.receive) as upload:
                job = self._primary.submit(new, upload)
        except PrimaryError as e:
            raise problems.of_submission(e, uploads.FILE_FIELD) from None
        return self._submitted(job)

    def rerun(self, id: str) -> bottle.HTTPResponse:
        """POST /jobs/<id>/rerun: a new job on the same input"""
        old = self._site.job(id)
        name = uploads.fields(bottle.request.environ).get("job_name", "").strip()
        if name:
            check_name(name)
        key, by = self._site.key(), self._site.by()
        return self._submitted(self._primary.rerun(old.id, by, name=name or None, key=key))

    def run_example(self, model: str) -> bottle.HTTPResponse:
        """POST /models/<model>/example: a job on the model's own example"""
        key, by = self._site.key(), self._site.by()
        return self._submitted(self._primary.run_example(model, by, key=key))

    def _submitted(self, job: Job) -> bottle.HTTPResponse:
        if self._site.wants_page():
            return self._site.lead(f"/jobs/{job.id}")
        return self._site.reply(shapes.Submission(job.id, f"OK:  Submitted job id {job.id}"))

    def _new(self, name: str, model: str) -> NewJob:
        check_name(name)
        if not model:
            raise Problem(400, "model is missing: which model to run", field="model")
        return NewJob(name=name, model=model, by=self._site.by(), key=self._site.key())

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
