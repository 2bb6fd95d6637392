"""Where the spool can be a chroot, and the step that moves it there. Pure.

sshd refuses a chroot if any folder above it is not root's, or can be written by
others. The data directory usually belongs to the account of the primary, and so
does its spool: then the spool moves to a place beside, and a link stays.
"""

from __future__ import annotations

import shlex

from deploy.grants.facts import Place, Spool
from deploy.grants.steps import Step, unless
from spool.errors import Refused


def choose(spool: Spool, wanted: str | None) -> str:
    """Where the spool is to lie; ``wanted``: where the operator wants it, if it has to move.

    Raises Refused if there is no such place.
    """
    if all(place.safe for place in spool.above):
        return spool.path
    if wanted is not None and spool.wanted is not None:
        path = _at(spool.wanted, wanted)
        if (why := _why_not(spool, spool.wanted, path)) is not None:
            raise Refused(f"the spool cannot move to {path}: {why}", _WANTED)
        return path
    for place in spool.homes:
        path = spool.home_in(place)
        if _why_not(spool, place, path) is None:
            return path
    tried = "; ".join(
        f"{spool.home_in(place)}: {_why_not(spool, place, spool.home_in(place))}"
        for place in spool.homes
    )
    unsafe = next(place.path for place in spool.above if not place.safe)
    raise Refused(
        f"sshd shuts nobody into {spool.path}, since {unsafe} is not root's alone, "
        f"and the spool can move nowhere: {tried}",
        _WANTED,
    )


def candidates(spool: Spool, wanted: str | None) -> set[str]:
    """Where the spool lies, and the free places where it could lie after this."""
    could = {spool.home_in(place) for place in spool.homes}
    if wanted is not None and spool.wanted is not None:
        could.add(_at(spool.wanted, wanted))
    return {spool.path, *(could - spool.taken)}


def move(spool: Spool, chroot: str) -> Step | None:
    """The step that moves the spool to ``chroot``, and leaves a link; None if it lies there."""
    if spool.path == chroot:
        return None
    done = f"test {shlex.quote(spool.link)} -ef {shlex.quote(chroot)}"
    # A rename: a primary that runs loses nothing, and looks again for what is missing
    # in the moment between the two.
    return Step(
        f"spool moved from {spool.path} to {chroot}, and a link to it left at {spool.link}",
        (
            unless(done, ("mv", "-T", "-n", spool.path, chroot)),
            ("ln", "-s", "-f", "-T", chroot, spool.link),
            ("test", "!", "-L", chroot),
        ),
    )


_WANTED = (
    "make a folder that is root's with all those above it, on the same mount as the data "
    "directory, and name a place in it: --spool-home FOLDER/spool"
)


def _at(place: Place, wanted: str) -> str:
    return f"{place.path.rstrip('/')}/{wanted.rpartition('/')[2]}"


def _why_not(spool: Spool, place: Place, path: str) -> str | None:
    if not place.safe:
        return f"{place.path} or a folder above it is not root's alone"
    if place.mount != spool.mount:
        return "that is another file system or mount"
    if path in spool.taken:
        return "something lies there already"
    return None
