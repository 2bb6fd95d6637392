"""The addresses: which path and method leads to what."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import bottle

from primary import private
from primary.keyring import Keyring
from primary.server import VERSION, Primary
from web import openapi
from web import operations as op
from web.access import Access
from web.declarations import Operation
from web.downloads import Downloads
from web.gate import Gate
from web.jobs import Jobs
from web.metrics import Metrics, Requests
from web.models import Models
from web.outputs import Outputs
from web.problems import Problem
from web.service import Service
from web.signing import Signing
from web.site import ANSWER_HEADERS, PAGE_HEADERS, Guard, Site
from web.submissions import Submissions

Handler = Callable[..., bottle.HTTPResponse]

SECRET = "cookies.secret"  # in the data directory: seals the cookies of browsers that signed in

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"})


class Route(NamedTuple):
    """One method on one path; HEAD follows GET."""

    method: str
    path: str
    handler: Handler
    operation: Operation

    @property
    def name(self) -> str:
        """Of the handler, such as ``jobs_listing``."""
        return str(self.handler.__qualname__).replace(".", "_").lower()


class Handlers(NamedTuple):
    """The objects whose methods answer."""

    jobs: Jobs
    submissions: Submissions
    downloads: Downloads
    outputs: Outputs
    models: Models
    signing: Signing
    service: Service


def table(to: Handlers) -> list[Route]:
    """Every route. Where two would match a path, the one without a placeholder does."""
    rows: list[tuple[str, str, Handler, Operation]] = [
        ("GET", "/", to.service.home, op.HOME),
        ("GET", "/jobs", to.jobs.listing, op.LIST),
        ("POST", "/jobs", to.submissions.submit, op.SUBMIT),
        ("PUT", "/jobs", to.submissions.put, op.PUT),
        ("GET", "/jobs/submit", to.submissions.form, op.FORM),
        ("GET", "/jobs/<id>", to.jobs.show, op.SHOW),
        ("GET", "/jobs/<id>/state", to.jobs.state, op.STATE),
        ("GET", "/jobs/<id>/kill", to.jobs.kill_by_get, op.KILL_BY_GET),
        ("POST", "/jobs/<id>/kill", to.jobs.kill, op.KILL),
        ("POST", "/jobs/<id>/rerun", to.submissions.rerun, op.RERUN),
        ("GET", "/jobs/<id>/events", to.jobs.events, op.EVENTS),
        ("GET", "/jobs/<id>/log", to.downloads.log, op.LOG),
        ("GET", "/jobs/<id>/log/search", to.outputs.search, op.SEARCH_LOG),
        ("GET", "/jobs/<id>/files", to.outputs.files, op.OUTPUTS),
        ("GET", "/jobs/<id>/files/<path:path>", to.outputs.file, op.OUTPUT),
        ("GET", "/jobs/<id>/preview/<path:path>", to.outputs.preview, op.PREVIEW),
        ("GET", "/data/<id>/<name>", to.downloads.file, op.FILE),
        ("GET", "/events", to.service.news, op.NEWS),
        ("GET", "/status", to.service.nodes, op.NODES),
        ("GET", "/status/refresh", to.service.refresh, op.REFRESH),
        ("GET", "/status/timeline", to.service.timeline, op.TIMELINE),
        ("GET", "/models", to.models.listing, op.MODELS),
        ("GET", "/models/<model>/example.zip", to.models.example, op.EXAMPLE),
        ("POST", "/models/<model>/example", to.submissions.run_example, op.RUN_EXAMPLE),
        ("POST", "/models/<model>/validate", to.models.validate, op.VALIDATE),
        ("GET", "/signin", to.signing.form, op.SIGN_IN_FORM),
        ("POST", "/signin", to.signing.sign_in, op.SIGN_IN),
        ("GET", "/admin/<key>", to.signing.sign_in_by_address, op.SIGN_IN_BY_ADDRESS),
        ("POST", "/signout", to.signing.sign_out, op.SIGN_OUT),
        ("GET", "/doctor", to.service.doctor, op.DOCTOR),
        ("GET", "/healthz", to.service.healthz, op.HEALTH),
        ("GET", "/metrics", to.service.metrics, op.FIGURES),
        ("GET", "/openapi.json", to.service.openapi, op.DESCRIPTION),
        ("GET", "/static/<name>", to.service.static, op.STATIC),
    ]
    return [Route(*row) for row in rows]


class Application(bottle.Bottle):  # type: ignore[misc]  # bottle has no types
    """A bottle application whose own errors (no such path, method) are problems too."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

    def answers_below(self, prefix: str) -> bool:
        """Whether addresses of ours begin as ``prefix`` does."""
        first = prefix.split("/")[1]
        return any(route.rule.split("/")[1] == first for route in self.routes)

    def default_error_handler(self, error: bottle.HTTPError) -> bytes:
        request = bottle.request
        if error.status_code == 404:
            problem = Problem(404, f"nothing is at {request.path[:200]!r}")
        elif error.status_code == 405:
            problem = Problem(405, f"{request.method} is not for {request.path[:200]!r}")
        else:
            problem = Problem(error.status_code, "the request could not be answered")
        answer = self.site.refuse(problem)
        for name, value in answer.headers.items():
            bottle.response.set_header(name, value)
        body: bytes = answer.body
        return body


def application(primary: Primary, access: Access, accel: str | None = None) -> Application:
    """The WSGI application on ``primary``; its ``close()`` ends what still waits.

    ``accel``: as for ``Site``. Raises Refused or OSError where the keys cannot be read.
    """
    gate = Gate(access, Keyring(primary.data), private.secret(primary.data / SECRET))
    site, requests = Site(primary, access, gate, accel), Requests()
    service = Service(site, Metrics(primary, requests))
    handlers = Handlers(
        jobs=Jobs(site),
        submissions=Submissions(site),
        downloads=Downloads(site),
        outputs=Outputs(site),
        models=Models(site),
        signing=Signing(site),
        service=service,
    )
    routes = table(handlers)
    service.description = openapi.document(routes, VERSION)
    app = Application(site)
    app.install(Guard(site))
    # Hooks, not the plugin: they also run for paths that lead nowhere.
    app.add_hook("before_request", site.check_request)
    app.add_hook("after_request", _add_headers)
    app.add_hook("after_request", lambda: _count(requests))
    for route in routes:
        app.route(route.path, route.method, route.handler, need=route.operation.needs)
    return app


def _add_headers() -> None:
    response = bottle.response
    if response.status_code == 304:
        return  # what the client has keeps its headers
    is_json = "json" in response.headers.get("Content-Type", "")
    for name, value in (ANSWER_HEADERS if is_json else PAGE_HEADERS).items():
        if name not in response.headers:
            response.set_header(name, value)


def _count(requests: Requests) -> None:
    environ = bottle.request.environ
    method = environ["REQUEST_METHOD"]
    route = environ.get("bottle.route")
    requests.count(
        method if method in _METHODS else "other",
        route.rule if route else "",
        bottle.response.status_code,
    )
