"""What a worker says: beats and reports, to and from bytes. Pure.

A report is a claim about the world by a peer that may be wrong, late or
hostile; decoding checks its shape and sizes only. Whether it is believed is
decided by ``primary.rules.accept``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from spool.errors import Unbelievable

MAX_REPORT = 64 * 1024  # bytes; a longer report is not read
MAX_BEAT = 256 * 1024  # bytes; holds a few thousand claims

Text = Annotated[str, msgspec.Meta(max_length=4096)]
Short = Annotated[str, msgspec.Meta(max_length=255)]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e10)]
ExitCode = Annotated[int, msgspec.Meta(ge=-(2**31), lt=2**31)]
Signal = Annotated[int, msgspec.Meta(ge=1, le=127)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]

End = Literal["ok", "failed", "killed", "lost"]
"""ok: the model ended well. killed: we ended it because a stop was wanted. lost: the
attempt was lost with its runner or, where ``run`` is None, never ran; give it to the
next attempt."""

FailureClass = Literal["input", "model", "limit", "system"]


class FileFact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Size in bytes and SHA-256 of a file that the worker has put into its folder."""

    size: Count
    sha256: Sha256


class RunReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a run ended; units as in ``ledger.events.RunFacts``."""

    exit_code: ExitCode | None = None
    signal: Signal | None = None
    wall_seconds: Seconds = 0.0
    cpu_seconds: Seconds = 0.0
    peak_memory: Count = 0
    containment: Short = ""
    ended: Annotated[tuple[Short, ...], msgspec.Meta(max_length=100)] = ()


class Report(
    msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", forbid_unknown_fields=True
):
    """What all reports repeat, so that each can be believed alone.

    ``claim`` is the name of the claim in the worker's ``cur/``; ``host``,
    ``node_url`` and ``run_dir`` say where the attempt runs.
    """

    claim: Short
    instance: Short
    host: Short = ""
    node_url: Short = ""
    run_dir: Text = ""


class StartedReport(Report, tag="started", frozen=True, kw_only=True):
    """The claim is taken; the input will be unpacked and run."""


class ProcessedReport(Report, tag="processed", frozen=True, kw_only=True):
    """The model ended well; its results take a while to arrive."""

    run: RunReport


class FinalReport(Report, tag="final", frozen=True, kw_only=True):
    """How the attempt ended, and what was put into log/ and out/."""

    end: End
    failure: FailureClass | None = None
    reason: Text = ""
    run: RunReport | None = None
    log: FileFact | None = None
    output: FileFact | None = None


AnyReport = StartedReport | ProcessedReport | FinalReport


class Beat(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's sign of life. Only a change of content counts as a sign.

    ``claims`` are the names of the claims held *or being tried*. ``progress``
    maps ``<job>.<attempt>`` to percent. ``paused`` says why the worker claims
    nothing; ``error`` is the last error it met. Sizes are in bytes.
    """

    instance: Short
    counter: Count
    host: Short
    node_url: Short
    pid: Count
    slots: Count
    version: Short
    models: dict[Short, Short] = {}
    claims: tuple[Short, ...] = ()
    progress: dict[Short, Annotated[int, msgspec.Meta(ge=0, le=100)]] = {}
    free_disk: Count = 0
    free_memory: Count = 0
    paused: Text = ""
    error: Text = ""
    stopped: bool = False


# A number that the board cannot store would stop the primary for good, and so would
# brackets nested deeper than the decoder's own stack, if they were not caught here.
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_report_decoder: msgspec.json.Decoder[AnyReport] = msgspec.json.Decoder(AnyReport)
_beat_decoder = msgspec.json.Decoder(Beat)


def encode(word: AnyReport | Beat) -> bytes:
    return msgspec.json.encode(word)


def decode_report(data: bytes) -> AnyReport:
    """Raises Unbelievable with the reason."""
    try:
        return _report_decoder.decode(data)
    except _UNREADABLE as e:
        raise Unbelievable(f"not a report: {e}") from None


def decode_beat(data: bytes) -> Beat:
    """Raises Unbelievable with the reason."""
    try:
        return _beat_decoder.decode(data)
    except _UNREADABLE as e:
        raise Unbelievable(f"not a beat: {e}") from None
