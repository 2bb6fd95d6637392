"""What we answer when something is wrong: problem documents (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus

import msgspec

from primary.errors import (
    BadInput,
    Busy,
    KeyBusy,
    KeyReused,
    NoRoom,
    NoSuchFile,
    NotAllowed,
    PrimaryError,
    Stopping,
    TooLarge,
    TooLate,
    UnknownJob,
    UnknownModel,
)
from spool.errors import Finding
from web import shapes

CONTENT_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[PrimaryError], int], ...] = (
    (UnknownJob, 404),
    (UnknownModel, 404),
    (NoSuchFile, 404),
    (BadInput, 400),
    (TooLate, 409),
    (KeyBusy, 409),
    (KeyReused, 422),
    (NotAllowed, 403),
    (TooLarge, 413),
    (NoRoom, 507),
    (Busy, 503),
    (Stopping, 503),
)


class Problem(Exception):
    """A request that we refuse.

    ``field`` names the field or parameter that is wrong, ``entry`` the entry of the zip;
    ``findings`` is all that is wrong with an input.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        entry: str | None = None,
        findings: Sequence[Finding] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status, self.detail = status, detail
        self.field, self.entry = field, entry
        self.findings = tuple(findings)
        self.headers = headers or {}
        super().__init__(detail)

    @property
    def title(self) -> str:
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return "Error"

    def document(self) -> bytes:
        findings = [shapes.Finding(f.file, f.expected, f.found) for f in self.findings]
        members = shapes.Problem(
            title=self.title,
            status=self.status,
            detail=self.detail,
            message=f"Error:  {self.detail}",
            field=msgspec.UNSET if self.field is None else self.field,
            entry=msgspec.UNSET if self.entry is None else self.entry,
            findings=tuple(findings) if findings else msgspec.UNSET,
        )
        return msgspec.json.format(msgspec.json.encode(members), indent=0)


def of(error: PrimaryError) -> Problem:
    """The problem that answers a primary's error about something that the address names."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = None
    if isinstance(error, Busy | Stopping | KeyBusy):
        headers = {"Retry-After": "1" if isinstance(error, KeyBusy) else "5"}
    return Problem(
        status,
        str(error),
        field="Idempotency-Key" if isinstance(error, KeyReused | KeyBusy) else None,
        entry=getattr(error, "entry", None),
        findings=getattr(error, "findings", ()),
        headers=headers,
    )


def of_submission(error: PrimaryError, input_field: str) -> Problem:
    """The same for a submission: the problem names the field, and an unknown model is a 400."""
    if isinstance(error, UnknownModel):
        return Problem(400, str(error), field="model")
    problem = of(error)
    if isinstance(error, BadInput | TooLarge | NotAllowed):
        problem.field = input_field
    return problem
