"""The routes that look into a job's output without downloading it all, and search its log.

A file's path is looked up in the zip's list, and never anything else: what is not in the
list is not there. What a model wrote is sent as a download that no browser runs.
"""

from __future__ import annotations

import bisect
import logging
import re
import threading
from collections.abc import Callable, Iterator
from urllib.parse import quote, urlencode

import bottle
import msgspec

from ledger.jobs import Job
from primary.errors import NoSuchFile
from primary.outputs import OutputFile, OutputStream, damaged
from primary.outputs import Outputs as Files
from spool.errors import BadZip
from web import etags, files, logsearch, preview, shapes
from web.problems import Problem
from web.site import Site

PAGE = 1000  # files on one page
MANY_PICTURES = 60  # shown on one page
PIECE = 256 * 1024  # bytes handed to the server at once

# The server keeps this much of an answer for a slow client (waitress: outbuf_high_watermark,
# 16 MiB); of a longer one the rest holds a thread until the client has taken it. So only few
# of those at once (serving.THREADS, site.MAX_POLLS): the pages must always have a thread.
LONG = 15 * 1024 * 1024  # bytes
MOST_LONG = 4

# An SVG's own colours are in style elements; scripts and addresses stay forbidden.
_SVG_POLICY = "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_UNSAFE = re.compile(r'[^ -~]|["\\%/]')

log = logging.getLogger(__name__)


class Outputs:
    def __init__(self, site: Site) -> None:
        self._site, self._primary = site, site.primary
        self._long = threading.BoundedSemaphore(MOST_LONG)

    def files(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/files: all of them; the page shows ``PAGE`` after the path ``after``."""
        job = self._site.job(id)
        entries = self._primary.outputs(job).entries
        if not self._site.wants_page():
            data = [shapes.OutputFile(path=e.path, size=e.size, kind=_kind(e)) for e in entries]
            return self._site.reply(shapes.OutputFiles(data))
        after = self._site.asked().text("after") or ""
        begin = bisect.bisect_right(entries, after, key=lambda entry: entry.path)
        shown = entries[begin : begin + PAGE]
        pictures = [e for e in shown if _kind(e) == "picture" and e.size <= preview.PICTURE_SHOWN]
        values: dict[str, object] = {
            "job": job,
            "entries": shown,
            "pictures": pictures[:MANY_PICTURES],
            "more_pictures": len(pictures) > MANY_PICTURES,
            "begin": begin,
            "total": len(entries),
            "size": sum(entry.size for entry in entries),
            "next": urlencode({"after": shown[-1].path}) if begin + PAGE < len(entries) else None,
            "preview": preview,
        }
        return self._site.page("files", values)

    def file(self, id: str, path: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/files/<path>"""
        job = self._site.job(id)
        found, entry = self._entry(job, path)
        tag = _tag(job, entry)
        headers = {"Cache-Control": "no-cache", "ETag": tag}
        if etags.named(self._site.headers().get("If-None-Match"), tag):
            return bottle.HTTPResponse(status=304, headers=headers)
        headers |= files.SAFE_HEADERS | {
            "Content-Type": preview.content_type(entry.path),
            "Content-Length": str(entry.size),
            "Content-Disposition": disposition(preview.name(entry.path)),
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        if preview.extension(entry.path) == "svg":
            headers["Content-Security-Policy"] = _SVG_POLICY
        if bottle.request.method == "HEAD" or not entry.size:
            return bottle.HTTPResponse(b"", 200, headers)
        return bottle.HTTPResponse(self._body(job, found, entry), 200, headers)

    def preview(self, id: str, path: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/preview/<path>; with part=1 what the page shows, without the page."""
        job = self._site.job(id)
        found, entry = self._entry(job, path)
        part = self._site.asked().text("part")
        if part not in (None, "1"):
            raise Problem(400, f"part: {part[:40]!r} is nothing we know; expected 1", field="part")
        shown = preview.of(entry.path, entry.size, self._head(job, found, entry))
        if not part and not self._site.wants_page():
            return self._site.reply(
                shapes.Preview(
                    kind=shown.kind,
                    text=shown.text if shown.kind == "text" else msgspec.UNSET,
                    rows=shown.table.rows if shown.table else msgspec.UNSET,
                    cut=shown.cut,
                )
            )
        values: dict[str, object] = {
            "job": job,
            "entry": entry,
            "shown": shown,
            "part": part is not None,
            "preview": preview,
        }
        return self._site.page("preview", values)

    def search(self, id: str) -> bottle.HTTPResponse:
        """GET /jobs/<id>/log/search: lines that hold ``q``, from the byte ``from`` on."""
        job, asked = self._site.job(id), self._site.asked()
        text = asked.text("q") or ""
        start = asked.number("from") or 0
        limit = asked.number("limit", least=1, most=logsearch.MOST_LINES) or logsearch.MOST_LINES
        page = self._site.wants_page()
        if len(text) > logsearch.LONGEST or not (text or page):
            raise Problem(
                400,
                f"q: expected 1 to {logsearch.LONGEST} characters to look for in the log, "
                f"got {len(text)}",
                field="q",
            )
        found = self._found(job, text, start, limit) if text else None
        if not page:
            return self._site.reply(found)
        values: dict[str, object] = {
            "job": job,
            "text": text,
            "start": start,
            "found": found,
            "following": urlencode({"q": text, "from": found.next}) if found else "",
            "longest": logsearch.LONGEST,
        }
        return self._site.page("logsearch", values)

    # --- inside

    def _found(self, job: Job, text: str, start: int, limit: int) -> shapes.LogMatches:
        """Raises NoSuchFile where there was a log."""
        try:
            file = self._primary.open_file(job, "job_log.txt")
        except NoSuchFile:
            if job.purged or job.log:
                raise
            return shapes.LogMatches(data=[], next=None, size=0)
        with file:
            lines, following = logsearch.search(file.file, file.size, text, start, limit)
        data = [shapes.LogMatch(line.offset, line.text) for line in lines]
        return shapes.LogMatches(data=data, next=following, size=file.size)

    def _entry(self, job: Job, path: str) -> tuple[Files, OutputFile]:
        """The file that the address names. Raises NoSuchFile, Problem."""
        sent: str = bottle.request.environ.get("bottle.raw_path", "")
        # bottle leaves out bytes that are no UTF-8 and a newline at the end: what remains
        # could be the name of another file.
        if not sent.encode("latin-1").endswith(b"/" + path.encode()):
            raise Problem(404, "the address names no file of the output")
        found = self._primary.outputs(job)
        return found, found.find(path)

    def _head(self, job: Job, found: Files, entry: OutputFile) -> bytes:
        """As much of a file as a preview needs. Raises NoSuchFile."""
        if not entry.size or _kind(entry) == "picture":
            return b""
        with found.open(entry.path) as stream:
            try:
                return stream.read(preview.LOOKED_AT)
            except BadZip as e:
                raise NoSuchFile(damaged(job.id, e)) from None

    def _body(self, job: Job, found: Files, entry: OutputFile) -> Iterator[bytes]:
        """The file in pieces, the first of them read. Raises NoSuchFile, Problem."""
        long = entry.size > LONG
        if long and not self._long.acquire(blocking=False):
            raise Problem(
                503,
                f"{MOST_LONG} large files are being downloaded one by one already; try again in "
                "a moment, or download output.zip as a whole",
                headers={"Retry-After": "5"},
            )
        release = self._long.release if long else _nothing
        try:
            stream = found.open(entry.path)
            try:
                return _Body(stream, stream.read(PIECE), release)
            except BadZip as e:
                stream.close()
                raise NoSuchFile(damaged(job.id, e)) from None
            except BaseException:
                stream.close()
                raise
        except BaseException:
            release()
            raise


class _Body:
    """A stream as the server wants it; it raises where the file is not what the zip says.

    Then fewer bytes were sent than announced, and the server closes the connection: the
    client sees that the file is not whole.
    """

    def __init__(self, stream: OutputStream, first: bytes, release: Callable[[], None]) -> None:
        self._stream, self._first, self._release = stream, first, release
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece, self._first = self._first, b""
        try:
            piece = piece or self._stream.read(PIECE)
        except BadZip as e:
            log.warning("a download was cut off: %s", e)
            raise
        if not piece:
            raise StopIteration
        return piece

    def close(self) -> None:
        """Idempotent."""
        if not self._closed:
            self._closed = True
            self._stream.close()
            self._release()


def _nothing() -> None:
    pass


def _kind(entry: OutputFile) -> preview.Kind:
    return preview.kind(entry.path)


def _tag(job: Job, entry: OutputFile) -> str:
    """The entity tag of a file: which output, and which file of it."""
    assert job.output is not None
    return f'"{job.output.sha256}-{entry.crc:08x}-{entry.size}"'


def disposition(name: str) -> str:
    """Content-Disposition for a download called ``name`` (RFC 6266): for old and new browsers."""
    plain = _UNSAFE.sub("_", name)
    value = f'attachment; filename="{plain}"'
    if plain != name or name != name.strip():  # some readers strip what stands in quotes
        # RFC 8187: no more than these stands for itself
        value += f"; filename*=UTF-8''{quote(name, safe='!#$&+-.^_`|~')}"
    return value
