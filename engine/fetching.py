"""A claim's input on its way into the run directory, and whether it is what the ticket says.

A worker of the same model may have put something else under the ticket's name:
another file, one that no disk can hold, none at all. It costs time, and no more.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from engine.notes import fact
from engine.state import State
from spool.claims import Claims
from spool.errors import Gone, NoSpace, SpoolError
from spool.names import Claim

RESERVE = 128 * 1024 * 1024  # bytes kept free: below it nothing is claimed, and no input fetched
LONG = 256 * 1024  # bytes of an input from which on its transfer can be left behind
GLANCE = 0.25  # seconds between looks whether a long transfer is still wanted


def fetch(
    claims: Claims, claim: Claim, target: Path, state: State, unwanted: Callable[[], bool]
) -> str:
    """Fetch and check; what is wrong with the input, or "".

    Also "" once it is ``unwanted``: nothing interrupts a transfer, but a kill does
    not wait for one. Raises SpoolError: Gone if the claim was retired, NoSpace if
    this disk is too small.
    """
    size = claims.input_size(claim)
    if size is None:
        raise Gone(f"{claim}: retired")
    free = state.free()
    if size > free - RESERVE:
        raise NoSpace(f"its input has {size} bytes, and {free} are free at {state.path}")
    if size < LONG:
        claims.fetch_input(claim, target)
    elif not _in_time(lambda: claims.fetch_input(claim, target), unwanted):
        return ""
    if target.is_symlink() or not target.is_file():
        target.unlink()
        return "its input is not a plain file"
    found = fact(target).sha256
    if found != claim.ticket.sha256:
        return f"the input's hash is {found}, not the one in the ticket's name"
    return ""


def _in_time(transfer: Callable[[], None], unwanted: Callable[[], bool]) -> bool:
    """Whether the transfer has ended before it was unwanted. Raises what it raised."""
    ended = threading.Event()
    errors: list[Exception] = []

    def run() -> None:
        try:
            transfer()
        except (SpoolError, OSError) as e:
            errors.append(e)
        finally:
            ended.set()

    threading.Thread(target=run, name="fetch", daemon=True).start()
    while not ended.wait(GLANCE):
        if unwanted():
            return False
    if errors:
        raise errors[0]
    return True
