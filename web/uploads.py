"""A submission's form, with its zip written to disk as it arrives.

Nothing here keeps a file in memory: the multipart body is parsed in pieces,
and each piece of ``zip_file`` goes straight to the primary's Upload. The other
fields are few and short, or the form is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qsl

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from primary.files import Upload
from web.problems import Problem

PIECE = 256 * 1024  # bytes read at once
MAX_FIELD = 16 * 1024  # bytes of a text field
MAX_FIELDS = 32
FILE_FIELD = "zip_file"
RAW = ("application/zip", "application/octet-stream", "application/x-zip-compressed")


class Form:
    """What was sent: text fields, and the file if one came."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.upload: Upload | None = None
        # curl's -F zip_file=... without the @ sends the path as text: worth a hint
        self.file_was_text = False

    def get(self, name: str) -> str:
        return self.fields.get(name, "").strip()


@contextmanager
def received(environ: dict[str, Any], receive: Callable[[], Upload]) -> Iterator[Form]:
    """The form in the body; what was received is discarded at the end, whatever happens.

    Raises Problem; Upload.write's errors (NoRoom, TooLarge) pass through.
    """
    form = Form()
    try:
        kind, options = parse_options_header(environ.get("CONTENT_TYPE", ""))
        if kind == "multipart/form-data":
            _read_multipart(form, environ, options.get("boundary", ""), receive)
        elif kind == "application/x-www-form-urlencoded":
            _read_urlencoded(form, environ)
        else:
            raise Problem(
                415,
                "expected a form (multipart/form-data or application/x-www-form-urlencoded)"
                + ("" if receive is _no_file else " or the zip itself (application/zip)")
                + f", got {repr(kind[:100]) if kind else 'a body without a Content-Type'}",
            )
        yield form
    finally:
        if form.upload is not None:
            form.upload.discard()


@contextmanager
def raw(environ: dict[str, Any], receive: Callable[[], Upload]) -> Iterator[Upload]:
    """The whole body as one file; discarded at the end as ``received`` does."""
    upload = receive()
    try:
        for piece in body(environ):
            upload.write(piece)
        if upload.size == 0:
            raise Problem(400, "the body is empty; expected a zip", field=FILE_FIELD)
        yield upload
    finally:
        upload.discard()


def is_raw(environ: dict[str, Any]) -> bool:
    """Whether the body is the zip itself, by its Content-Type."""
    return environ.get("CONTENT_TYPE", "").partition(";")[0].strip().lower() in RAW


def fields(environ: dict[str, Any]) -> dict[str, str]:
    """The text fields of a form without a file; none where there is no body. Raises Problem."""
    if environ.get("CONTENT_LENGTH") in (None, "", "0"):
        return {}
    with received(environ, _no_file) as form:
        return form.fields


def _no_file() -> Upload:
    raise Problem(400, "no file is expected here", field=FILE_FIELD)


def body(environ: dict[str, Any]) -> Iterator[bytes]:
    """The request's body in pieces. Raises Problem where it ends early."""
    stream, length = environ["wsgi.input"], environ.get("CONTENT_LENGTH") or "0"
    if not length.isascii() or not length.isdigit():
        raise Problem(400, f"Content-Length {length!r} is not a number")
    left = int(length)
    while left:
        piece = stream.read(min(PIECE, left))
        if not piece:
            raise Problem(400, f"the upload ended early: {left} bytes did not arrive")
        left -= len(piece)
        yield piece


def _read_multipart(
    form: Form, environ: dict[str, Any], boundary: str, receive: Callable[[], Upload]
) -> None:
    if not boundary:
        raise Problem(400, "the Content-Type names no multipart boundary")
    try:
        parser = PushMultipartParser(boundary, max_segment_count=MAX_FIELDS)
        with parser:
            part: _Part | None = None
            for piece in body(environ):
                for event in parser.parse(piece):
                    if isinstance(event, MultipartSegment):
                        part = _Part(form, event, receive)
                    elif part is not None and event is None:
                        part.end()
                    elif part is not None:
                        part.data(event)
    except MultipartError as e:
        raise Problem(400, f"the form cannot be read: {e}") from None


class _Part:
    """One part of the form while it arrives."""

    def __init__(self, form: Form, head: MultipartSegment, receive: Callable[[], Upload]) -> None:
        self._form, self._name, self._text = form, head.name or "", bytearray()
        self._is_file = self._name == FILE_FIELD
        self._file_name = head.filename or ""
        if self._name in form.fields or (self._is_file and form.upload is not None):
            raise Problem(400, f"{_shown(self._name)} was sent twice", field=self._name)
        if not self._is_file and head.filename is not None:
            raise Problem(
                400,
                f"a file was sent as {_shown(self._name)}; the input belongs into {FILE_FIELD}",
                field=self._name,
            )
        if self._is_file:
            form.upload = receive()
            form.file_was_text = head.filename is None

    def data(self, piece: bytes) -> None:
        if self._is_file:
            assert self._form.upload is not None
            self._form.upload.write(piece)
            return
        self._text += piece
        if len(self._text) > MAX_FIELD:
            raise Problem(
                413, f"{_shown(self._name)} is longer than {MAX_FIELD} bytes", field=self._name
            )

    def end(self) -> None:
        if not self._is_file:
            self._form.fields[self._name] = _text(self._name, bytes(self._text))
        elif self._form.upload is not None and self._form.upload.size == 0:
            if self._file_name:
                raise Problem(
                    400, f"zip_file: the file {self._file_name[:80]!r} is empty", field=FILE_FIELD
                )
            # what a browser sends for a file field that was left empty
            self._form.upload.discard()
            self._form.upload = None


def _read_urlencoded(form: Form, environ: dict[str, Any]) -> None:
    data = bytearray()
    for piece in body(environ):
        data += piece
        if data.startswith((b"PK\3\4", b"PK\5\6")):  # what curl --data-binary alone sends
            raise Problem(
                400,
                "a zip was sent as if it were a form: with curl, write "
                "-H 'Content-Type: application/zip' beside --data-binary @FILE",
                field=FILE_FIELD,
            )
        if len(data) > 4 * MAX_FIELD:
            raise Problem(413, f"the form is longer than {4 * MAX_FIELD} bytes")
    try:
        pairs = parse_qsl(
            data.decode("ascii"),
            keep_blank_values=True,
            max_num_fields=MAX_FIELDS,
            errors="strict",
        )
    except ValueError:
        raise Problem(
            400, f"the form cannot be read: not URL-encoded UTF-8 of at most {MAX_FIELDS} fields"
        ) from None
    for name, value in pairs:
        if name in form.fields:
            raise Problem(400, f"{_shown(name)} was sent twice", field=name)
        form.fields[name] = value
    if form.fields.get(FILE_FIELD):
        raise Problem(
            400,
            f"{FILE_FIELD} is a file and needs multipart/form-data; for an address use zip_url",
            field=FILE_FIELD,
        )


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise Problem(400, f"{_shown(name)} is not UTF-8 text", field=name) from None


def _shown(name: str) -> str:
    return f"field {name[:40]!r}"
