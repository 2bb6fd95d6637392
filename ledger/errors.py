"""What can go wrong in the ledger, and who must act."""

from __future__ import annotations


class LedgerError(Exception):
    """The root of the ledger's errors."""


class IllegalTransition(LedgerError):
    """The event is not legal in the job's state. Nobody acts: the job is unchanged."""


class StaleAttempt(LedgerError):
    """The event is about another attempt than the job's current one. Nobody acts."""


class LedgerDamaged(LedgerError):
    """The ledger cannot be trusted. The operator acts: ``hint`` says how."""

    def __init__(self, file: str, line: int, reason: str, hint: str = "") -> None:
        self.file, self.line, self.reason, self.hint = file, line, reason, hint
        where = f"{file}, line {line}" if line else file
        super().__init__(f"{where}: {reason}" + (f" ({hint})" if hint else ""))


class LedgerLocked(LedgerError):
    """Another primary holds this data directory. The operator acts."""


class LedgerFull(LedgerError):
    """A record could not be written and was taken back; intake stops until there is room."""


class LedgerStopped(LedgerError):
    """A sync failed: what is on disk is unknown, and this process must end."""


class BadEvent(LedgerError):
    """The event could not be read back once written. A bug of ours: nothing was kept."""


class NoSuchRecord(LedgerError):
    """No record has that sequence number (yet)."""
