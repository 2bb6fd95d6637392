"""What we answer when something is wrong: problem documents (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from primary.errors import (
    BadInput,
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

CONTENT_TYPE = "application/problem+json"

_STATUS: tuple[tuple[type[PrimaryError], int], ...] = (
    (UnknownJob, 404),
    (UnknownModel, 404),
    (NoSuchFile, 404),
    (BadInput, 400),
    (TooLate, 409),
    (NotAllowed, 403),
    (TooLarge, 413),
    (NoRoom, 507),
    (Stopping, 503),
)


class Problem(Exception):
    """A request that we refuse. ``field`` names the form field that is wrong."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        field: str | None = None,
        entry: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status, self.detail = status, detail
        self.field, self.entry = field, entry
        self.headers = headers or {}
        super().__init__(detail)

    @property
    def title(self) -> str:
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return "Error"

    def document(self) -> bytes:
        members: dict[str, object] = {
            "type": "about:blank",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "message": f"Error:  {self.detail}",
        }
        if self.field is not None:
            members["field"] = self.field
        if self.entry is not None:
            members["entry"] = self.entry
        return msgspec.json.format(msgspec.json.encode(members), indent=0)


def of(error: PrimaryError) -> Problem:
    """The problem that answers a primary's error about something that the address names."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": "5"} if status == 503 else None
    return Problem(status, str(error), entry=getattr(error, "entry", None), headers=headers)


def of_submission(error: PrimaryError, input_field: str) -> Problem:
    """The same for a submission: the problem names the field, and an unknown model is a 400."""
    if isinstance(error, UnknownModel):
        return Problem(400, str(error), field="model")
    problem = of(error)
    if isinstance(error, BadInput | TooLarge | NotAllowed):
        problem.field = input_field
    return problem
