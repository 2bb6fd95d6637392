"""The routes about the service itself: nodes, news, health, figures, its own description."""

from __future__ import annotations

import bottle

from primary.server import VERSION
from web import nodespage, polls, present, shapes
from web.accept import names_json
from web.metrics import CONTENT_TYPE, Metrics
from web.pages import STATIC
from web.polls import MAX_WAIT
from web.problems import Problem
from web.site import Site

MAX_RECORDS = 1000  # in one answer of /events
MAX_HOURS = 24 * 7  # of one timeline


class Service:
    """``description`` is the OpenAPI document: known once all routes are."""

    def __init__(self, site: Site, metrics: Metrics) -> None:
        self._site, self._primary = site, site.primary
        self._metrics = metrics
        self._day = nodespage.Day(site.primary)
        self.description: dict[str, object] = {}

    def home(self) -> bottle.HTTPResponse:
        """GET /"""
        return self._site.lead("/models")

    def static(self, name: str) -> bottle.HTTPResponse:
        """GET /static/<name>; bottle refuses names that lead elsewhere."""
        response = bottle.static_file(name, root=str(STATIC))
        if response.status_code in (403, 404):
            raise Problem(404, f"no such file: /static/{name[:100]}")
        response.set_header("Cache-Control", "max-age=300")
        return response

    # --- nodes

    def nodes(self) -> bottle.HTTPResponse:
        """GET /status"""
        if names_json(self._site.accepts()):
            data = [present.node(node) for node in self._primary.nodes()]
            return self._site.reply(shapes.NodeList(data))
        return self._site.page("nodes", nodespage.context(self._primary, self._day))

    def refresh(self) -> bottle.HTTPResponse:
        """GET /status/refresh: kept for old scripts; what /status says is always fresh."""
        return self._site.reply(shapes.Message("OK"))

    def timeline(self) -> bottle.HTTPResponse:
        """GET /status/timeline?hours=N: which worker ran what"""
        hours = self._site.asked().number("hours", least=1, most=MAX_HOURS)
        return self._site.reply(present.timeline(self._primary.timeline(hours or 24)))

    # --- news

    def news(self) -> bottle.HTTPResponse:
        """GET /events?after=SEQ&wait=SECONDS&limit=N: answers once the ledger is past SEQ.

        ``seq`` is the ledger's newest, ``data`` the first N records after SEQ; after
        SECONDS it answers with what there is.
        Where too many wait already it answers at once: a hint, like every wake-up.
        """
        asked = self._site.asked()
        after, seconds = asked.number("after") or 0, asked.seconds("wait", MAX_WAIT) or 0
        limit = asked.number("limit", most=MAX_RECORDS)
        limit = 100 if limit is None else limit
        # Who names a number that is still to come has another ledger in mind: no wait for that.
        polls.wait(self._site, seconds, lambda: self._primary.wait(0, 0) != after)
        newest = self._primary.wait(0, 0)
        records = self._primary.events(after, limit) if limit and newest > after else []
        whole = self._site.who().may("admin")
        data = [present.record(record, whole_urls=whole) for record in records]
        return self._site.reply(shapes.News(newest, data))

    # --- health

    def healthz(self) -> bottle.HTTPResponse:
        """GET /healthz"""
        wrong = self._primary.healthy()
        if wrong and not self._site.reader().may("read"):
            wrong = "the primary is not well; its log says why"
        if wrong:
            raise Problem(503, wrong)
        return self._site.reply(shapes.Health(VERSION))

    def doctor(self) -> bottle.HTTPResponse:
        """GET /doctor"""
        trouble = self._site.gate.trouble()
        findings = [*self._primary.findings(), *([trouble] if trouble else [])]
        if self._site.wants_page():
            return self._site.page("doctor", {"findings": findings})
        return self._site.reply(shapes.Findings(findings))

    def metrics(self) -> bottle.HTTPResponse:
        """GET /metrics"""
        headers = {"Content-Type": CONTENT_TYPE, "Cache-Control": "no-cache"}
        return bottle.HTTPResponse(self._metrics.text(), 200, headers)

    def openapi(self) -> bottle.HTTPResponse:
        """GET /openapi.json"""
        return self._site.reply(self.description)
