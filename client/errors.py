"""What can go wrong when a primary is asked. Each message is a sentence for people."""

from __future__ import annotations

from collections.abc import Sequence

from client.shapes import Finding


class ClientError(Exception):
    """The server refused. ``status`` is HTTP's; ``field`` names the form field that is wrong.

    ``findings`` are all things that are wrong with an input; ``str`` shows below the
    message, a line each, those that it does not say itself. ``retry_after``: seconds
    until the server wants to be asked again.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        field: str | None = None,
        findings: Sequence[Finding] = (),
        retry_after: float | None = None,
    ) -> None:
        self.message, self.status, self.field = message, status, field
        self.findings = list(findings)
        self.retry_after = retry_after
        super().__init__(message)

    def __str__(self) -> str:
        below = (
            f"  {f['file']}: expected {f['expected']}; found {f['found']}"
            for f in self.findings
            if f["found"] != self.message
        )
        return "\n".join([self.message, *below])


class BadInput(ClientError):
    """The input is not as its model wants it; ``findings`` say where. Nothing was queued."""


class Unreachable(ClientError):
    """No answer from the server. What was asked may have been done all the same."""


class TimedOut(ClientError):
    """The job had not ended when the time was over. It goes on."""
