"""Beats and reports: what comes from a peer is of the right shape and size, or refused."""

from __future__ import annotations

import contextlib
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool import reports
from spool.errors import Unbelievable
from spool.reports import Beat, FileFact, FinalReport, ProcessedReport, RunReport, StartedReport

RUN = RunReport(exit_code=3, wall_seconds=1.5, cpu_seconds=0.5, peak_memory=4096, ended=("sh",))
FILE = FileFact(3, "ab" * 32)
ALL = [
    StartedReport(claim="c", instance="i", host="h", node_url="file://h", run_dir="/r"),
    ProcessedReport(claim="c", instance="i", run=RUN),
    FinalReport(claim="c", instance="i", end="ok", run=RUN, log=FILE, output=FILE),
    FinalReport(claim="c", instance="i", end="failed", failure="limit", reason="time"),
]


@pytest.mark.parametrize("report", ALL, ids=lambda r: type(r).__name__)
def test_reports_come_back_the_same(report: reports.AnyReport) -> None:
    assert reports.decode_report(reports.encode(report)) == report


def test_beats_come_back_the_same() -> None:
    beat = Beat(
        instance="i",
        counter=2**40,
        host="h",
        node_url="u",
        pid=1,
        slots=2,
        version="0",
        models={"m": "v"},
        claims=("a", "b"),
        progress={"j.1": 42},
        paused="no disk",
    )
    assert reports.decode_beat(reports.encode(beat)) == beat


def final(**fields: object) -> bytes:
    base = {"kind": "final", "claim": "c", "instance": "i", "end": "failed"}
    return msgspec.json.encode(base | fields)


def test_the_template_of_the_wrong_ones_is_right() -> None:
    assert isinstance(reports.decode_report(final()), FinalReport)


WRONG = {
    "empty": b"",
    "not an object": b"[]",
    "half": final()[:-5],
    "followed by more": final() + b"{}",
    "unknown kind": final(kind="finale"),
    "unknown field": final(extra=1),
    "unknown end": final(end="great"),
    "failure lost is the primary's word": final(failure="lost"),
    "a bool for a number": final(log={"size": True, "sha256": "ab" * 32}),
    "a negative size": final(log={"size": -1, "sha256": "ab" * 32}),
    "a size beyond all disks": final(log={"size": 2**63, "sha256": "ab" * 32}),
    "a short hash": final(log={"size": 1, "sha256": "ab" * 31}),
    "a hash in capitals": final(log={"size": 1, "sha256": "AB" * 32}),
    "a hash and a newline": final(log={"size": 1, "sha256": "ab" * 32 + "\n"}),
    "a path for a hash": final(log={"size": 1, "sha256": "../" * 21 + "x"}),
    "negative time": final(run={"wall_seconds": -0.1}),
    "endless time": final(run={"wall_seconds": 1e300}),
    "memory beyond all machines": final(run={"peak_memory": 2**63}),
    "an exit code that no board can store": final(run={"exit_code": 2**70}),
    "a very negative one": final(run={"exit_code": -(2**70)}),
    "a signal that does not exist": final(run={"signal": 2**70}),
    "signal 0": final(run={"signal": 0}),
    "a name in ended that is too long": final(run={"ended": ["x" * 256]}),
    "too many names in ended": final(run={"ended": ["x"] * 101}),
    "a long reason": final(reason="x" * 4097),
    "a long claim": final(claim="x" * 256),
    "no UTF-8": final(reason="ä").replace("ä".encode(), b"\xe4"),
    "nested without end": b'{"x":' + b"[" * 60_000,
    "brackets only": b"[" * 60_000,
    "infinite": final(run={"wall_seconds": 0}).replace(b":0", b":1e999"),
    "not a number": final(run={"wall_seconds": 0}).replace(b":0", b":NaN"),
}


@pytest.mark.parametrize("data", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_report_is_unbelievable_with_a_reason(data: bytes) -> None:
    with pytest.raises(Unbelievable, match=r"not a report: .+"):
        reports.decode_report(data)


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b'{"instance":"i"}', b'{"x":' + b"[" * 200_000, b"\xff" * 100],
    ids=["empty", "null", "half", "nested without end", "no text"],
)
def test_a_wrong_beat_is_unbelievable_with_a_reason(data: bytes) -> None:
    with pytest.raises(Unbelievable, match=r"not a beat: .+"):
        reports.decode_beat(data)


def test_a_newer_workers_beat_may_say_more() -> None:
    beat = Beat(instance="i", counter=1, host="h", node_url="u", pid=1, slots=1, version="9")
    said = msgspec.json.decode(reports.encode(beat)) | {"since": "later versions"}
    assert reports.decode_beat(msgspec.json.encode(said)) == beat


def test_progress_is_a_percentage() -> None:
    beat = Beat(instance="i", counter=1, host="h", node_url="u", pid=1, slots=1, version="0")
    said = msgspec.json.decode(reports.encode(beat))
    for wrong in (-1, 101, 10**30, "50"):
        with pytest.raises(Unbelievable, match=re.escape("progress")):
            reports.decode_beat(msgspec.json.encode(said | {"progress": {"j.1": wrong}}))


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    for decode in (reports.decode_report, reports.decode_beat):
        with contextlib.suppress(Unbelievable):
            decode(data)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
def test_whatever_is_believed_can_be_stored(value: object) -> None:
    """Numbers within 64 bits, finite: the board's encoding holds them."""
    for field in ("exit_code", "signal", "wall_seconds", "cpu_seconds", "peak_memory", "ended"):
        try:
            report = reports.decode_report(final(run={field: value}))
        except (Unbelievable, msgspec.MsgspecError):
            continue
        msgspec.msgpack.encode(report)
