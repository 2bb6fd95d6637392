"""The routes about jobs: list, show, poll, kill."""

from __future__ import annotations

import bottle

from ledger.board import Query
from ledger.jobs import Job, State
from primary.copies import has_input
from primary.errors import NoSuchFile
from primary.server import Primary
from web import failure, identity, joblist, jobpage, lastlines, polls, present, shapes, tails
from web.accept import api_only, names_json
from web.parameters import Parameters
from web.polls import MAX_WAIT
from web.problems import Problem
from web.site import Site

JSON_LIMIT = 10_000  # jobs in one JSON answer, also the default
PAGE_LIMIT, PAGE_DEFAULT = 1_000, 100


class Jobs:
    def __init__(self, site: Site) -> None:
        self._site, self._primary = site, site.primary

    # --- reading

    def listing(self) -> bottle.HTTPResponse:
        """GET /jobs"""
        asked = self._site.asked()
        if not names_json(self._site.accepts()):
            query = _query(asked, PAGE_DEFAULT, PAGE_LIMIT)
            return self._site.page("jobs", joblist.context(self._primary, query))
        page = self._primary.jobs(_query(asked, JSON_LIMIT, JSON_LIMIT))
        url, progress = self._site.url(), self._primary.progress
        data = [present.job(job, url, progress(job)) for job in page.jobs]
        more = {}
        if page.next is not None:
            more["Link"] = f'</jobs?{asked.again(before=str(page.next))}>; rel="next"'
        listed = shapes.JobList(data, page.next, self._primary.counts())
        return self._site.reply(listed, more)

    def show(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>"""
        job, who = self._site.job(id), self._site.who()
        may = {
            "may_kill": who.may_kill(job) and not job.final,
            "may_rerun": who.may("submit")
            and job.model in self._primary.models()
            and has_input(job),
        }
        if self._site.wants_page():
            values = jobpage.context(self._primary, job, whole_urls=who.may("admin"))
            return self._site.page("job", may | values)
        explanation = failure.explain(job)
        return self._site.reply(
            present.detail(
                job,
                self._site.url(),
                self._primary.progress(job),
                holder=self._primary.holder(job),
                waiting=self._primary.waiting(job),
                advice=explanation.who if explanation else None,
                last_lines=_last_lines(self._primary, job),
                **may,
            )
        )

    def state(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/state"""
        job = self._site.job(id)
        return self._site.reply(
            present.state(
                job,
                self._primary.progress(job),
                holder=self._primary.holder(job),
                waiting=self._primary.waiting(job),
                log_size=_log_size(self._primary, job),
            )
        )

    def events(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/events?after=SEQ&wait=SECONDS: those after SEQ, as soon as there is one"""
        asked, id = self._site.asked(), self._site.job(id).id
        after, seconds = asked.number("after") or 0, asked.seconds("wait", MAX_WAIT) or 0
        # As for all events: who names a number that is still to come is answered at once.
        polls.wait(self._site, seconds, lambda: self._primary.job(id).records[-1] != after)
        records = (record for record in self._primary.history(id) if record.seq > after)
        whole = self._site.who().may("admin")
        data = [present.record(record, whole_urls=whole) for record in records]
        return self._site.reply(shapes.Records(data))

    # --- ending

    def kill(self, id: str) -> bottle.HTTPResponse:
        """POST /jobs/<id>/kill"""
        job, who = self._site.job(id), self._site.who()
        if not who.may_kill(job):
            raise identity.kill_refusal(who)
        job = self._primary.kill(job.id, self._site.by())
        if self._site.wants_page():
            return self._site.lead(f"/jobs/{job.id}")
        # tag: also by GET it tells what was done, not what there is
        done = shapes.Submission(job.id, f"OK:  Killed job id {job.id}")
        return self._site.reply(done, tag=False)

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


def _query(asked: Parameters, default: int, most: int) -> Query:
    """Raises Problem."""
    try:
        wanted = [s for many in asked.all("state") for s in many.upper().split(",") if s]
        states = frozenset(State(s) for s in wanted)
    except ValueError as e:
        names = " ".join(State)
        raise Problem(400, f"{e}; expected some of {names}", field="state") from None
    return Query(
        states=states,
        model=asked.text("model"),
        text=asked.text("q"),
        since=asked.beginning("from"),
        until=asked.end("to"),
        before=asked.number("before"),
        limit=asked.number("limit", least=1, most=most) or default,
    )


def _last_lines(primary: Primary, job: Job) -> tuple[str, ...]:
    """Of a failed job's log: those that say why, as the page shows them."""
    tail = tails.of(primary, job) if job.failure else None
    return tuple(line.text for line in lastlines.last_lines(tail.text)) if tail else ()


def _log_size(primary: Primary, job: Job) -> int:
    """Bytes of the log as far as it is here."""
    if job.final:
        return job.log.size if job.log and not job.purged else 0
    try:
        with primary.open_file(job, "job_log.txt") as file:
            return file.size
    except NoSuchFile:
        return 0
