"""Files of jobs as answers: whole, a range of them, or not modified.

What a model wrote is never trusted by the browser: no sniffing, no scripts
(``sandbox``), and a download instead of a page; only the log is shown, as
plain text.
"""

from __future__ import annotations

import re

import bottle

from primary.files import JobFile
from web import etags
from web.access import Headers
from web.problems import Problem

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
}

_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z", re.ASCII)


class Slice:
    """``length`` bytes of an open file from ``start``, itself a file to the WSGI server.

    A file rather than an iterator: waitress then reads it as fast as the
    client takes it, and keeps nothing in between.
    """

    def __init__(self, source: JobFile, start: int, length: int) -> None:
        self._source, self._start, self._length = source, start, length
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._length - self._at)
        wanted = left if size < 0 else min(size, left)
        self._source.file.seek(self._start + self._at)
        data = self._source.file.read(wanted)
        if wanted and not data:
            # A worker cut its log, or a modeller replaced the example in place. Without an error
            # the server would wait for the rest, at full speed, for as long as the client does.
            raise OSError(f"a file ended {left} bytes before what was announced of it")
        self._at += len(data)
        return data

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = (0, self._at, self._length)[whence] + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._source.close()


def wanted_range(header: str, size: int) -> tuple[int, int] | None:
    """(first, end) of the one range that is asked for, or None for the whole.

    What cannot be read, and several ranges at once, mean the whole, as RFC 9110
    allows. Raises Problem 416 where the range begins behind the end.
    """
    match = _RANGE.match(header.replace(" ", ""))
    if not match or match.group() == "bytes=-":
        return None
    first, last = match.groups()
    if first:
        start, end = int(first), min(int(last) + 1 if last else size, size)
        if last and int(last) < int(first):
            return None
    else:
        start, end = max(0, size - int(last)), size
    if start >= size or start >= end:
        raise Problem(
            416,
            f"the range begins at or after the end: the file has {size} bytes",
            headers={"Content-Range": f"bytes */{size}"},
        )
    return start, end


def answer(
    file: JobFile,
    request: Headers,
    *,
    content_type: str,
    etag: str | None,
    download_as: str | None = None,
    extra: dict[str, str] | None = None,
    skip: int = 0,
    handed_to: str | None = None,
) -> bottle.HTTPResponse:
    """The answer that sends ``file``, and closes it at the end.

    ``request`` holds the request's headers. ``etag`` names these very bytes, if
    anything does; ``download_as`` names the file for the browser's download.
    ``skip`` bytes at the beginning are left out; a range counts from there. ``handed_to`` is
    where a proxy before us finds the whole file: ranges are its business then.
    """
    try:
        headers = {"Cache-Control": "no-cache", **(extra or {})}
        tag = f'"{etag}"' if etag else None
        if tag:
            headers["ETag"] = tag
            if etags.named(request.get("If-None-Match"), tag):
                file.close()
                return bottle.HTTPResponse(status=304, headers=headers)
        headers |= {"Content-Type": content_type, **SAFE_HEADERS}
        shown = "attachment" if download_as else "inline"
        headers["Content-Disposition"] = shown + (
            f'; filename="{download_as}"' if download_as else ""
        )
        if handed_to:
            file.close()
            return bottle.HTTPResponse(b"", 200, {**headers, "X-Accel-Redirect": handed_to})
        headers["Accept-Ranges"] = "bytes"
        unchanged = request.get("If-Range") in ("", tag)
        part = wanted_range(request.get("Range"), file.size - skip) if unchanged else None
        start, end = part or (0, file.size - skip)
        headers["Content-Length"] = str(end - start)
        if part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size - skip}"
        body = Slice(file, skip + start, end - start)
        return bottle.HTTPResponse(body, 206 if part else 200, headers)
    except BaseException:
        file.close()
        raise
