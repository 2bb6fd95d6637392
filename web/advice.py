"""What a problem's page says beside the problem itself: a plain heading, and what to do. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    heading: str
    todo: str


_BY_STATUS = {
    400: Advice("That cannot be done as it was asked", "Correct what is named here and try again."),
    401: Advice("Sign in first", "Ask the keeper of this server for a key."),
    403: Advice(
        "That is not allowed", "If you have a key that may do it, sign in with it and try again."
    ),
    404: Advice(
        "There is nothing here", "The address may be mistyped, or what was here was removed."
    ),
    405: Advice("That cannot be done this way", "Use the buttons of the pages."),
    409: Advice("Too late for that", "Look at the job once more: it has gone on meanwhile."),
    411: Advice("The upload did not say how long it is", "Send it from another program."),
    413: Advice(
        "That is too large", "Send less at a time, or ask the server's keeper for a higher limit."
    ),
    421: Advice("This server is not known by that name", "Use the address that you were given."),
    422: Advice("That was asked before, with other values", "Send it anew, with a key of its own."),
    429: Advice("Too many keys that were wrong", "Wait as long as it says, and try again."),
    500: Advice(
        "Something went wrong on our side",
        "Try once more. If it happens again, tell the server's keeper what stands here.",
    ),
    503: Advice("Not at the moment", "Try again in a few seconds."),
    507: Advice(
        "The server has no room left",
        "Nothing was taken. Tell the server's keeper, and try again later.",
    ),
}

_OTHER = Advice("That did not work", "Go back and try again.")


def of(status: int) -> Advice:
    """What to say of an HTTP status."""
    return _BY_STATUS.get(status, _OTHER)
