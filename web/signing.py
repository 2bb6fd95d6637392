"""The routes that sign a browser in as admin, and out."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import bottle

from web import shapes, uploads
from web.access import COOKIE
from web.problems import Problem
from web.site import Site

# A path on this server, and nothing that a browser could take for another one.
_PATH = re.compile(r"/(?![/\\])[!-~]*\Z", re.ASCII)


def _ours(path: str) -> str:
    """``path`` if it leads to a page of ours where somebody was; else the jobs."""
    good = _PATH.match(path) and not path.startswith(("/signin", "/signout", "/admin/"))
    return path if good else "/jobs"


class Signing:
    def __init__(self, site: Site) -> None:
        self._site, self._access = site, site.access

    def form(self) -> bottle.HTTPResponse:
        """GET /signin"""
        if self._site.wants_page():
            return self._form(self._from())
        who = shapes.Identity(admin=self._site.is_admin(), signed_in=self._site.signed_in())
        return self._site.reply(who)

    def sign_in(self) -> bottle.HTTPResponse:
        """POST /signin: the admin key as the field ``key``"""
        fields = uploads.fields(bottle.request.environ)
        return self._sign_in(fields.get("key", "").strip(), _ours(fields.get("next", "")))

    def sign_in_by_address(self, key: str) -> bottle.HTTPResponse:
        """GET /admin/<admin_key>"""
        return self._sign_in(key, "/jobs")

    def sign_out(self) -> bottle.HTTPResponse:
        """POST /signout"""
        response = self._site.lead(self._from())
        response.delete_cookie(COOKIE, path="/")
        return response

    def _from(self) -> str:
        """The page of ours that led here."""
        headers = self._site.headers()
        try:
            parts = urlsplit(headers.get("Referer"))
        except ValueError:
            return "/jobs"
        if parts.netloc != headers.get("Host"):
            return "/jobs"
        return _ours(parts.path + (f"?{parts.query}" if parts.query else ""))

    def _sign_in(self, key: str, then: str) -> bottle.HTTPResponse:
        if not self._access.is_key(key):
            problem = self._wrong()
            if self._site.wants_page():
                return self._form(then, problem)
            raise problem
        response = self._site.lead(then)
        response.set_cookie(
            COOKIE,
            self._access.cookie(),
            path="/",
            httponly=True,
            samesite="strict",
            secure=bottle.request.environ["wsgi.url_scheme"] == "https",
        )
        return response

    def _wrong(self) -> Problem:
        if self._access.admin_key is None:
            return Problem(
                403,
                "this server has no admin key, so nobody can sign in; its keeper can start it "
                "with --admin-key",
                field="key",
            )
        return Problem(403, "this is not the admin key; ask the server's keeper", field="key")

    def _form(self, then: str, problem: Problem | None = None) -> bottle.HTTPResponse:
        values: dict[str, object] = {
            "then": then,
            "problem": problem,
            "keyed": self._access.admin_key is not None,
        }
        return self._site.page("signin", values, status=problem.status if problem else 200)
