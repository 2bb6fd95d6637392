"""Who asks, what they may do, and what is said to them where they may not. Pure."""

from __future__ import annotations

from typing import NamedTuple

from ledger.jobs import Job
from primary.roles import Role, reaches
from web.declarations import Need
from web.problems import Problem

HOW = (
    "sign in at /signin in the browser, or send the key as 'Authorization: Bearer <key>' "
    "(MODELRUNNER_KEY for our own client)"
)
_ABILITIES: dict[Role, str] = {
    "none": "do nothing",
    "read": "look at everything",
    "submit": "look at everything, submit jobs, and kill those that it has submitted",
    "admin": "do everything",
}
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="Model Runner"'}


class Who(NamedTuple):
    """``name`` is that of the key that was shown; None where none was."""

    role: Role
    name: str | None = None

    @property
    def signed_in(self) -> bool:
        return self.name is not None

    @property
    def title(self) -> str:
        """Their key's name, and its role where the name does not say it."""
        return self.role if self.name in (None, self.role) else f"{self.name} ({self.role})"

    @property
    def abilities(self) -> str:
        """The end of a sentence: they may ..."""
        return _ABILITIES[self.role]

    def may(self, needed: Role) -> bool:
        return reaches(self.role, needed)

    def may_kill(self, job: Job) -> bool:
        """An admin may kill every job, a key of role submit those that it has submitted."""
        return self.may("admin") or (self.may("submit") and self._submitted(job))

    def _submitted(self, job: Job) -> bool:
        # "anna@192.0.2.7" is written for the key anna alone; whom we do not know has no "@", and
        # what was dropped has the same words for everybody.
        name, at, _ = job.by.rpartition("@")
        return self.name is not None and bool(at) and name == self.name

    def by(self, address: str) -> str:
        """What the ledger has of them."""
        return f"{self.name}@{address}" if self.name is not None else address


def role_for(need: Need) -> Role:
    """The role without which a request is refused before its job is looked at."""
    return "read" if need == "kill" else need


def refusal(who: Who, needed: Role) -> Problem:
    """Where ``who`` may not do what ``needed`` may."""
    what = {"read": "looking at anything here", "submit": "submitting"}.get(needed, "this")
    if who.name is not None:
        return Problem(
            403,
            f"{what} needs a key of the role {needed}, and the key {who.name!r} has the role "
            f"{who.role}; ask the server's keeper for another",
        )
    if who.role == "none":
        return Problem(401, f"{what} needs a key: {HOW}", headers=CHALLENGE)
    return Problem(403, f"{what} needs a key of the role {needed}: {HOW}")


def kill_refusal(who: Who) -> Problem:
    """Where ``who`` may not kill a job."""
    whose = "killing a job needs an admin key, or the key that submitted it"
    if who.name is not None:
        return Problem(403, f"{whose}, and the key {who.name!r} (role {who.role}) is neither")
    return Problem(
        403,
        f"{whose}: {HOW}; for scripts that kill without one, the server's keeper can write "
        'anonymous = "admin" below [access] in its config.toml',
    )
