"""The addresses: which path and method leads to what."""

from __future__ import annotations

from collections.abc import Callable

import bottle

from primary.server import Primary
from web.access import Access
from web.jobs import Jobs
from web.problems import Problem
from web.service import Service
from web.site import PAGE_HEADERS, Guard, Site

Handler = Callable[..., bottle.HTTPResponse]


class Application(bottle.Bottle):  # type: ignore[misc]  # bottle has no types
    """A bottle application whose own errors (no such path, method) are problems too."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.site = site

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


def table(jobs: Jobs, service: Service) -> list[tuple[str, str, Handler]]:
    """(method, path, handler) of every route; HEAD follows GET."""
    return [
        ("GET", "/", service.home),
        ("GET", "/jobs", jobs.listing),
        ("POST", "/jobs", jobs.submit),
        ("PUT", "/jobs", jobs.put),
        ("GET", "/jobs/submit", jobs.form),
        ("GET", "/jobs/<id>", jobs.show),
        ("GET", "/jobs/<id>/kill", jobs.kill_by_get),
        ("POST", "/jobs/<id>/kill", jobs.kill),
        ("GET", "/jobs/<id>/log", jobs.log),
        ("GET", "/jobs/<id>/events", jobs.events),
        ("GET", "/data/<id>/<name>", jobs.file),
        ("GET", "/events", service.news),
        ("GET", "/status", service.nodes),
        ("GET", "/status/refresh", service.refresh),
        ("GET", "/models", service.models),
        ("POST", "/models/<model>/validate", service.validate),
        ("GET", "/doctor", service.doctor),
        ("GET", "/healthz", service.healthz),
        ("GET", "/admin/<key>", service.sign_in),
        ("POST", "/signout", service.sign_out),
        ("GET", "/static/<name>", service.static),
    ]


def application(primary: Primary, access: Access) -> Application:
    """The WSGI application on ``primary``; its ``close()`` ends what still waits."""
    site = Site(primary, access)
    app = Application(site)
    app.install(Guard(site))
    # Hooks, not the plugin: they also run for paths that lead nowhere.
    app.add_hook("before_request", site.check_request)
    app.add_hook("after_request", _add_headers)
    for method, path, handler in table(Jobs(site), Service(site)):
        app.route(path, method, handler)
    return app


def _add_headers() -> None:
    for name, value in PAGE_HEADERS.items():
        if name not in bottle.response.headers:
            bottle.response.set_header(name, value)
