"""The routes that sign a browser in with a key, and out."""

from __future__ import annotations

import bottle

from web import leadback, shapes, uploads
from web.gate import COOKIE
from web.problems import Problem
from web.site import Site


class Signing:
    def __init__(self, site: Site) -> None:
        self._site, self._gate = site, site.gate

    def form(self) -> bottle.HTTPResponse:
        """GET /signin"""
        if self._site.wants_page():
            return self._site.sign_in_form(leadback.came_from(self._site.headers()))
        who = self._site.who()
        return self._site.reply(
            shapes.Identity(
                admin=who.may("admin"), signed_in=who.signed_in, name=who.name, role=who.role
            )
        )

    def sign_in(self) -> bottle.HTTPResponse:
        """POST /signin: a key as the field ``key``"""
        fields = uploads.fields(bottle.request.environ)
        return self._sign_in(fields.get("key", "").strip(), leadback.ours(fields.get("next", "")))

    def sign_in_by_address(self, key: str) -> bottle.HTTPResponse:
        """GET /admin/<admin_key>"""
        return self._sign_in(key, leadback.ELSE)

    def sign_out(self) -> bottle.HTTPResponse:
        """POST /signout"""
        response = self._site.lead(leadback.came_from(self._site.headers()))
        response.delete_cookie(COOKIE, path="/")
        return response

    def _sign_in(self, key: str, then: str) -> bottle.HTTPResponse:
        try:
            cookie = self._gate.sign_in(key, self._site.address())
            if cookie is None:
                raise self._wrong()
        except Problem as problem:
            if not self._site.wants_page():
                raise
            form = self._site.sign_in_form(then, problem)
            for name, value in problem.headers.items():
                form.set_header(name, value)
            return form
        response = self._site.lead(then)
        response.set_cookie(
            COOKIE,
            cookie,
            path="/",
            httponly=True,
            samesite="strict",
            secure=bottle.request.environ["wsgi.url_scheme"] == "https",
        )
        return response

    def _wrong(self) -> Problem:
        if not self._gate.keyed():
            return Problem(
                403,
                "this server has no admin key, nor any other, so nobody can sign in; its keeper "
                "can make one with 'modelrunner key add'",
                field="key",
            )
        return Problem(
            403,
            "this is not the admin key, nor any other of this server; ask its keeper",
            field="key",
        )
