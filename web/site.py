"""What all routes share: the primary, who is asking, and the forms of an answer."""

from __future__ import annotations

import logging
import re
import threading
import uuid
from urllib.parse import quote

import bottle
import msgspec

from ledger.errors import LedgerError
from ledger.jobs import Job
from primary.errors import PrimaryError
from primary.server import Primary
from web import accept, etags, identity, leadback, problems
from web.access import Access, Headers, foreign_origin
from web.declarations import Need
from web.gate import Gate
from web.identity import Who
from web.pages import Pages
from web.parameters import Parameters
from web.problems import Problem

log = logging.getLogger(__name__)

# Long polls that may wait at once. Below the number of the server's threads
# (serving.THREADS), so that waiting never keeps a submission or a kill out.
MAX_POLLS = 8

# same-origin, not no-referrer: with the latter, browsers send "Origin: null"
# with our own forms, and foreign_origin would refuse them.
PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}

# What is no page needs no word about scripts: the fewer bytes to poll for, the better.
ANSWER_HEADERS = {"X-Content-Type-Options": "nosniff"}

_NEGOTIATED = {"Cache-Control": "no-cache", "Vary": "Accept, Authorization, Cookie"}
_WHO = "modelrunner.who"  # in the environment; no header can become it

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z", re.ASCII)
_KEY = re.compile(r"[ -~]{1,255}\Z", re.ASCII)


class Site:
    """One primary as it is shown; its methods speak about the request of their thread.

    ``accel``: where a proxy before us finds the files of finished jobs; see ``web.proxied``.
    """

    def __init__(
        self, primary: Primary, access: Access, gate: Gate, accel: str | None = None
    ) -> None:
        self.primary, self.access, self.gate, self.accel = primary, access, gate, accel
        self.pages = Pages()
        self.closing = threading.Event()
        self.polls = threading.BoundedSemaphore(MAX_POLLS)

    # --- who is asking

    def headers(self) -> Headers:
        """The request's headers; bottle's own mapping fails on bytes that are not UTF-8."""
        return Headers.of(bottle.request.environ)

    def accepts(self) -> str:
        return self.headers().get("Accept")

    def wants_page(self) -> bool:
        return accept.names_html(self.accepts())

    def address(self) -> str:
        """Where the request comes from, as far as we are told."""
        found: str = bottle.request.environ.get("REMOTE_ADDR") or "unknown"
        return found

    def who(self) -> Who:
        """Who is asking. Raises Problem for a key that is none."""
        environ = bottle.request.environ
        found: Who | None = environ.get(_WHO)
        if found is None:
            found = environ[_WHO] = self.gate.who(self.headers(), self.address())
        return found

    def reader(self) -> Who:
        """Whom a page is for; also where the request was refused, and whatever key it has."""
        found: Who | None = bottle.request.environ.get(_WHO)
        return found or self.gate.by_cookie(self.headers())

    def admit(self, need: Need) -> None:
        """Raises Problem where who asks may not do that; for "kill" the job decides, later."""
        if need == "none":
            return
        who, role = self.who(), identity.role_for(need)
        if not who.may(role):
            raise identity.refusal(who, role)

    def by(self) -> str:
        """Who is asking, for the ledger."""
        return self.who().by(self.address())

    def url(self) -> str:
        """scheme://Host of the request; the Host has been checked."""
        environ = bottle.request.environ
        return f"{environ['wsgi.url_scheme']}://{environ['HTTP_HOST']}"

    # --- what is asked

    def asked(self) -> Parameters:
        """What stands behind the ? of the address. Raises Problem."""
        return Parameters(bottle.request.environ.get("QUERY_STRING", ""))

    def key(self) -> str | None:
        """The request's Idempotency-Key, if it has one. Raises Problem."""
        given: str | None = bottle.request.environ.get("HTTP_IDEMPOTENCY_KEY")
        if given is not None and not _KEY.match(given):
            raise Problem(
                400,
                "Idempotency-Key: expected 1 to 255 printable ASCII characters, such as a UUID",
                field="Idempotency-Key",
            )
        return given

    def job(self, id: str) -> Job:
        """The job that an address names. Raises Problem or UnknownJob."""
        if not _ID.match(id):
            raise Problem(404, f"no job {id[:100]!r}: an id looks like {'x' * 8}-xxxx-...")
        return self.primary.job(id)

    # --- the forms of an answer

    def reply(
        self, data: object, headers: dict[str, str] | None = None, *, tag: bool = True
    ) -> bottle.HTTPResponse:
        """``data`` as JSON; an empty 304 where the client has it already, unless ``tag`` is off."""
        # indent=0: one line with a space after each colon, as most scripts that
        # pick JSON apart with sed expect
        body = msgspec.json.format(msgspec.json.encode(data), indent=0)
        headers = {**_NEGOTIATED, **(headers or {})}
        if tag and bottle.request.method in ("GET", "HEAD"):
            headers["ETag"] = etags.weak(body)
            if etags.named(self.headers().get("If-None-Match"), headers["ETag"]):
                return bottle.HTTPResponse(status=304, headers=headers)
        return bottle.HTTPResponse(body, 200, {"Content-Type": "application/json", **headers})

    def page(
        self, name: str, values: dict[str, object], *, status: int = 200
    ) -> bottle.HTTPResponse:
        """The page ``views/<name>.html`` with ``values``."""
        told = {"who": self.reader(), "keyed": self.gate.keyed()}
        body = self.pages.render(name, told | values)
        headers = {"Content-Type": "text/html; charset=utf-8", **_NEGOTIATED}
        return bottle.HTTPResponse(body, status, headers)

    def lead(self, path: str) -> bottle.HTTPResponse:
        """See other. A path, not an address: it holds behind any proxy."""
        return bottle.HTTPResponse(status=303, headers={"Location": path, **_NEGOTIATED})

    def refuse(self, problem: Problem) -> bottle.HTTPResponse:
        """The problem as a page for browsers, as a problem document for all others."""
        if self.wants_page() and problem.status == 401:
            response = self.sign_in_form(self._here(), problem)
        elif self.wants_page():
            response = self.page("problem", {"problem": problem}, status=problem.status)
        else:
            headers = {"Content-Type": problems.CONTENT_TYPE, **_NEGOTIATED}
            response = bottle.HTTPResponse(problem.document(), problem.status, headers)
        for name, value in problem.headers.items():
            response.set_header(name, value)
        return response

    def sign_in_form(self, then: str, problem: Problem | None = None) -> bottle.HTTPResponse:
        """The form for a key; ``then`` is the path that it leads on to."""
        values: dict[str, object] = {"then": then, "problem": problem}
        return self.page("signin", values, status=problem.status if problem else 200)

    def _here(self) -> str:
        """The page that was asked for, or, where something was sent, the one that it came from."""
        request, headers = bottle.request, self.headers()
        if request.method not in ("GET", "HEAD"):
            return leadback.came_from(headers)
        query = request.environ.get("QUERY_STRING", "")
        return leadback.ours(quote(request.path) + (f"?{query}" if query else ""))

    def failed(self) -> Problem:
        """The problem that stands for the exception being handled: an id, and no trace."""
        reference = uuid.uuid4().hex[:12]
        request = bottle.request
        log.exception("error %s at %s %r", reference, request.method, request.path)
        return Problem(
            500, f"something went wrong on our side; the server's log knows it as {reference}"
        )

    def check_request(self) -> None:
        """Refuses a foreign Host, and changes that another site's page asks for."""
        headers = self.headers()
        host = headers.get("Host")
        if not self.access.knows(host):
            raise self.refuse(
                Problem(
                    421,
                    f"unknown Host {host[:100]!r}: this server answers to its own names "
                    f"and addresses; its keeper can add one with 'serve --host NAME'",
                )
            )
        origin = foreign_origin(bottle.request.method, headers)
        if origin:
            raise self.refuse(
                Problem(403, f"a page of another site ({origin[:100]!r}) may not change anything")
            )


class Guard:
    """The bottle plugin that turns every error of a route into an answer."""

    name, api = "guard", 2

    def __init__(self, site: Site) -> None:
        self._site = site

    def apply(self, callback, route):  # type: ignore[no-untyped-def]  # bottle's interface
        site = self._site
        need = route.config["need"]  # one without is never called: routes.application

        def guarded(*args: str, **named: str) -> object:
            try:
                site.admit(need)
                return callback(*args, **named)
            except bottle.HTTPResponse:
                raise
            except Problem as e:
                return site.refuse(e)
            except PrimaryError as e:
                return site.refuse(problems.of(e))
            except LedgerError as e:
                log.error("%s", e)
                return site.refuse(Problem(503, f"the ledger: {e}"))
            except Exception:  # noqa: BLE001  # logged there, with an id
                return site.refuse(site.failed())

        return guarded

    def close(self) -> None:
        """Ends the long polls."""
        self._site.closing.set()
