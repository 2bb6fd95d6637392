"""What somebody may do with a primary, from nothing to everything. Pure."""

from __future__ import annotations

from typing import Literal

Role = Literal["none", "read", "submit", "admin"]
KeyRole = Literal["read", "submit", "admin"]  # a key that may do nothing would be none

# Each may do all that those before it may: nothing; look; submit, run again, and end what the
# same key has submitted; everything.
ROLES: tuple[Role, ...] = ("none", "read", "submit", "admin")
KEY_ROLES: tuple[KeyRole, ...] = ("read", "submit", "admin")


def reaches(role: Role, needed: Role) -> bool:
    """Whether ``role`` may do what ``needed`` may."""
    return ROLES.index(role) >= ROLES.index(needed)


def greater(one: Role, other: Role) -> Role:
    return one if reaches(one, other) else other


def lesser(one: Role, other: Role) -> Role:
    return other if reaches(one, other) else one
