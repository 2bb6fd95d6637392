"""The routes about models: what there is, its example, and whether an input would do."""

from __future__ import annotations

import os

import bottle

from primary.errors import PrimaryError, UnknownModel
from web import files, modelspage, present, problems, shapes, uploads, words
from web.problems import Problem
from web.site import Site


class Models:
    def __init__(self, site: Site) -> None:
        self._site, self._primary = site, site.primary

    def listing(self) -> bottle.HTTPResponse:
        """GET /models"""
        if self._site.wants_page():
            return self._page()
        workers = self._primary.nodes()[1:]
        offers = (
            modelspage.offer(self._primary, model, workers)
            for _, model in sorted(self._primary.models().items())
        )
        data = [
            present.model(
                offer.model,
                has_example=offer.has_example,
                ready=f"{words.sentence(offer.word)} {offer.why}".strip(),
            )
            for offer in offers
        ]
        return self._site.reply(shapes.ModelList(data, self._primary.model_errors()))

    def _page(self, *, checked: str = "", problem: Problem | None = None) -> bottle.HTTPResponse:
        status = problem.status if problem else 200
        values = modelspage.context(self._primary, checked=checked, problem=problem)
        return self._site.page("models", values, status=status)

    def example(self, model: str) -> bottle.HTTPResponse:
        """GET /models/<model>/example.zip"""
        file = self._primary.example(model)
        info = os.fstat(file.file.fileno())
        return files.answer(
            file,
            self._site.headers(),
            content_type="application/zip",
            etag=f"{info.st_mtime_ns:x}-{info.st_size:x}",
            download_as=f"{model}.example.zip",
        )

    def validate(self, model: str) -> bottle.HTTPResponse:
        """POST /models/<model>/validate: the zip as a form's zip_file, or as the body itself"""
        try:
            self._validate(model)
        except UnknownModel:
            raise
        except (Problem, PrimaryError) as e:
            field = uploads.FILE_FIELD
            problem = e if isinstance(e, Problem) else problems.of_submission(e, field)
            if self._site.wants_page():
                return self._page(checked=model, problem=problem)
            raise problem from None
        if self._site.wants_page():
            return self._page(checked=model)
        return self._site.reply(shapes.Message(f"OK:  The input is good for model {model}"))

    def _validate(self, model: str) -> None:
        environ, receive = bottle.request.environ, self._primary.receive
        if uploads.is_raw(environ):
            with uploads.raw(environ, receive) as upload:
                self._primary.validate(model, upload)
            return
        with uploads.received(environ, receive) as form:
            if form.upload is None:
                raise Problem(400, "zip_file is missing: the input to check", field="zip_file")
            self._primary.validate(model, form.upload)
