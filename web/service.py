"""The routes about the service: nodes, models, health, and signing in."""

from __future__ import annotations

import time

import bottle

from primary.errors import PrimaryError, UnknownModel
from web import modelspage, nodespage, present, problems, uploads
from web.accept import names_json
from web.access import COOKIE
from web.pages import STATIC
from web.problems import Problem
from web.site import Site

MAX_WAIT = 30.0  # seconds a long poll may last
MAX_RECORDS = 1000  # in one answer of /events
_SLICE = 0.5  # seconds after which a long poll looks whether the server stops

_RAW = ("application/zip", "application/octet-stream", "application/x-zip-compressed")


class Service:
    def __init__(self, site: Site) -> None:
        self._site, self._primary = site, site.primary

    def home(self) -> bottle.HTTPResponse:
        return self._site.lead("/jobs")

    def static(self, name: str) -> bottle.HTTPResponse:
        """GET /static/<name>; bottle refuses names that lead elsewhere."""
        response = bottle.static_file(name, root=str(STATIC))
        if response.status_code in (403, 404):
            raise Problem(404, f"no such file: /static/{name[:100]}")
        response.set_header("Cache-Control", "max-age=300")
        return response

    # --- nodes and models

    def nodes(self) -> bottle.HTTPResponse:
        """GET /status"""
        if names_json(self._site.accepts()):
            data = [present.node(node) for node in self._primary.nodes()]
            return self._site.reply({"data": data})
        return self._site.page("nodes", nodespage.context(self._primary))

    def refresh(self) -> bottle.HTTPResponse:
        """GET /status/refresh: kept for old scripts; what /status says is always fresh."""
        return self._site.reply({"message": "OK"})

    def models(self) -> bottle.HTTPResponse:
        """GET /models"""
        if not self._site.wants_page():
            data = [present.model(model) for _, model in sorted(self._primary.models().items())]
            return self._site.reply({"data": data, "errors": self._primary.model_errors()})
        return self._models_page()

    def _models_page(
        self, *, checked: str = "", problem: Problem | None = None
    ) -> bottle.HTTPResponse:
        status = problem.status if problem else 200
        values = modelspage.context(self._primary, checked=checked, problem=problem)
        return self._site.page("models", values, status=status)

    def validate(self, model: str) -> bottle.HTTPResponse:
        """POST /models/<m>/validate: the zip as a form's zip_file, or as the body itself"""
        try:
            self._validate(model)
        except UnknownModel:
            raise
        except (Problem, PrimaryError) as e:
            field = uploads.FILE_FIELD
            problem = e if isinstance(e, Problem) else problems.of_submission(e, field)
            if self._site.wants_page():
                return self._models_page(checked=model, problem=problem)
            raise problem from None
        if self._site.wants_page():
            return self._models_page(checked=model)
        return self._site.reply({"message": f"OK:  The input is good for model {model}"})

    def _validate(self, model: str) -> None:
        environ, receive = bottle.request.environ, self._primary.receive
        kind = environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower()
        if kind in _RAW:
            with uploads.raw(environ, receive) as upload:
                self._primary.validate(model, upload)
            return
        with uploads.received(environ, receive) as form:
            if form.upload is None:
                raise Problem(400, "zip_file is missing: the input to check", field="zip_file")
            self._primary.validate(model, form.upload)

    # --- health and news

    def healthz(self) -> bottle.HTTPResponse:
        """GET /healthz"""
        wrong = self._primary.healthy()
        if wrong:
            raise Problem(503, wrong)
        return self._site.reply({"status": "ok"})

    def doctor(self) -> bottle.HTTPResponse:
        """GET /doctor"""
        findings = self._primary.findings()
        if self._site.wants_page():
            return self._site.page("doctor", {"findings": findings})
        return self._site.reply({"findings": findings})

    def news(self) -> bottle.HTTPResponse:
        """GET /events?after=SEQ&wait=SECONDS&limit=N: answers once the ledger is past SEQ.

        ``seq`` is the ledger's newest, ``data`` the first N records after SEQ; after
        SECONDS it answers with what there is.
        Where too many wait already it answers at once: a hint, like every wake-up.
        """
        given = bottle.request.query
        try:
            after, wait = int(given.get("after") or 0), float(given.get("wait") or 0)
            limit = int(given.get("limit") or 100)
        except ValueError:
            raise Problem(400, "after, wait, limit: expected numbers", field="after") from None
        if not 0 <= after < 2**62 or not 0 <= wait < 1e9 or not 0 <= limit <= MAX_RECORDS:
            reason = f"after, wait, limit: expected numbers from 0, limit up to {MAX_RECORDS}"
            raise Problem(400, reason, field="after")
        newest = self._primary.wait(0, 0)
        if newest == after and wait and self._site.polls.acquire(blocking=False):
            try:
                newest = self._wait(after, min(wait, MAX_WAIT))
            finally:
                self._site.polls.release()
        records = self._primary.events(after, limit) if limit and newest > after else []
        return self._site.reply({"seq": newest, "data": [present.record(r) for r in records]})

    def _wait(self, after: int, seconds: float) -> int:
        # only waitress with channel_request_lookahead knows when a client has left
        gone = bottle.request.environ.get("waitress.client_disconnected", lambda: False)
        deadline = time.monotonic() + seconds
        while True:
            left = deadline - time.monotonic()
            newest = self._primary.wait(after, max(0.0, min(left, _SLICE)))
            if newest > after or left <= 0 or self._site.closing.is_set() or gone():
                return newest

    # --- signing in

    def sign_in(self, key: str) -> bottle.HTTPResponse:
        """GET /admin/<admin_key>"""
        access = self._site.access
        if not access.is_key(key):
            raise Problem(403, "this is not the admin key")
        response = self._site.lead("/jobs")
        response.set_cookie(
            COOKIE,
            access.cookie(),
            path="/",
            httponly=True,
            samesite="strict",
            secure=bottle.request.environ["wsgi.url_scheme"] == "https",
        )
        return response

    def sign_out(self) -> bottle.HTTPResponse:
        """POST /signout"""
        response = self._site.lead("/jobs")
        response.delete_cookie(COOKIE, path="/")
        return response
