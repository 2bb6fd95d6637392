"""What the primary refuses, and why. Each message is a sentence for people."""

from __future__ import annotations

from spool.errors import Finding


class PrimaryError(Exception):
    """The root of the primary's errors."""


class UnknownJob(PrimaryError):
    """No job has this id."""

    def __init__(self, job: str) -> None:
        super().__init__(f"there is no job {job!r}; the list of jobs shows those that exist")


class UnknownModel(PrimaryError):
    """No model has this name, or it cannot be used: ``why``."""

    def __init__(self, model: str, known: list[str], why: str | None = None) -> None:
        if why is not None:
            super().__init__(f"the model {model!r} cannot be used now: {why}")
            return
        have = ", ".join(sorted(known)) or "none yet"
        super().__init__(f"there is no model {model!r}; this server has: {have}")


class NoSuchFile(PrimaryError):
    """The job has no such file (yet, or any more)."""


class BadInput(PrimaryError):
    """The submitter acts: ``entry`` of the zip (if it is about one) and the reason.

    ``findings`` are all files that are not as the model wants them, where it is about that.
    """

    def __init__(
        self, reason: str, entry: str | None = None, findings: tuple[Finding, ...] = ()
    ) -> None:
        self.entry = entry
        self.findings = findings
        super().__init__(reason)


class KeyReused(PrimaryError):
    """The submitter's key names another submission: job ``job``, whose ``other`` is another."""

    def __init__(self, job: str, other: str) -> None:
        self.job, self.other = job, other
        super().__init__(
            f"this Idempotency-Key was used before, for job {job}, which has another {other}; "
            "take a new key for a new job"
        )


class KeyBusy(PrimaryError):
    """The first submission with this key is still under way."""

    def __init__(self) -> None:
        super().__init__(
            "a submission with this Idempotency-Key is still under way; "
            "send it again in a moment to learn what became of it"
        )


class Busy(PrimaryError):
    """Too much of this kind is under way; nothing was done. The submitter tries again."""


class TooLate(PrimaryError):
    """The job has ended already."""


class NotAllowed(PrimaryError):
    """The configuration does not allow it."""


class TooLarge(PrimaryError):
    """More bytes than the configuration allows."""


class NoRoom(PrimaryError):
    """The primary's disk is full; nothing was lost."""


class Stopping(PrimaryError):
    """The primary is stopping and takes nothing new."""


class DataFolderError(PrimaryError):
    """The data directory cannot be used. The operator acts."""
