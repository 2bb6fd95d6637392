"""One ledger line: sealing an event into bytes, and reading it back.

Pure. A line is one JSON object and a newline::

    {"seq":7,"time":"2024-05-01T09:30:00.000000Z","kind":"Queued","job":"...",...,"batch":6,"hash":"..."}

Its keys stand in this order: ``seq``, ``time``, ``kind``, the event's own
fields (those at their default are left out), ``batch``, ``hash``. With *body*
for the line's bytes from its first brace up to, and without, the comma before
``"hash"``::

    hash = hex(SHA-256(the previous line's hash, as its 64 ASCII digits + body))

and the line is *body* followed by ``,"hash":"`` + hash + ``"}`` + newline. So
every byte either goes into the hash or must be exactly this one, and a line
vouches for all lines before it. The first line follows ``GENESIS``.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Annotated

import msgspec

from ledger.errors import BadEvent, LedgerError
from ledger.events import AnyEvent, Record

GENESIS = "0" * 64
"""The hash that the first record follows."""

_MARK = b',"hash":"'
_END = b'"}\n'
_HASH_AT = -(64 + len(_END))
_BODY_END = _HASH_AT - len(_MARK)
_SEQ = b'{"seq":'

_Positive = Annotated[int, msgspec.Meta(ge=1)]


class BadLine(LedgerError):
    """The bytes are no sealed line, or not the one that follows; ``str`` is the reason."""


class _Envelope(msgspec.Struct):
    """What a line says besides the event."""

    seq: _Positive
    time: str
    batch: _Positive


_encode = msgspec.json.Encoder().encode
_envelope = msgspec.json.Decoder(_Envelope).decode
_event = msgspec.json.Decoder(AnyEvent).decode


def members(event: AnyEvent) -> bytes:
    """The event's kind and fields as they stand in its line.

    Raises BadEvent for one that could not be read back (a number where text
    belongs, a lone surrogate, a NaN): once sealed it would spoil the ledger.
    """
    try:
        text = _encode(event)
        _event(text)
    except (msgspec.MsgspecError, UnicodeError, TypeError, OverflowError) as e:
        raise BadEvent(
            f"{type(event).__name__} of job {event.job!r} cannot be kept in the ledger: {e}"
        ) from e
    return text[1:-1]


def seal(seq: int, time: str, event: AnyEvent, batch: int, previous_hash: str) -> bytes:
    """The line that holds ``event`` as record ``seq``; raises BadEvent as ``members`` does."""
    return seal_members(seq, time, members(event), batch, previous_hash)


def seal_members(seq: int, time: str, members: bytes, batch: int, previous_hash: str) -> bytes:
    """``seal`` for an event that ``members`` has encoded already."""
    body = b'%b%d,"time":"%b",%b,"batch":%d' % (_SEQ, seq, time.encode(), members, batch)
    digest = sha256(previous_hash.encode() + body).hexdigest()
    return b"%b%b%b%b" % (body, _MARK, digest.encode(), _END)


def hash_of(line: bytes) -> str:
    """The hash that a sealed line carries."""
    return line[_HASH_AT : -len(_END)].decode()


def unseal(line: bytes, previous_hash: str | None) -> Record:
    """The record that ``line`` (with its newline) holds.

    With ``previous_hash`` None the hash is not checked, only that there is
    one. Raises BadLine.
    """
    if line[_BODY_END:_HASH_AT] != _MARK or line[-len(_END) :] != _END:
        raise BadLine("the line does not end in a hash and a newline")
    digest = line[_HASH_AT : -len(_END)]
    if previous_hash is not None:
        found = sha256(previous_hash.encode() + line[:_BODY_END]).hexdigest()
        if found.encode() != digest:
            raise BadLine("the hash is not that of this line after the one before it")
    try:
        envelope = _envelope(line)
        event = _event(line)
        text = digest.decode("ascii")
    except (msgspec.MsgspecError, UnicodeError) as e:
        raise BadLine(f"the line cannot be read: {e}") from e
    return Record(envelope.seq, envelope.time, event, envelope.batch, text)


def seq_of(line: bytes) -> int | None:
    """The sequence number that ``line``, or only the beginning of it, starts with.

    None where it starts with none. Cheap: nothing else is looked at.
    """
    if not line.startswith(_SEQ):
        return None
    digits, comma, _ = line[len(_SEQ) : len(_SEQ) + 21].partition(b",")
    return int(digits) if comma and digits.isdigit() else None
