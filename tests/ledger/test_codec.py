"""Sealing and unsealing: what goes in comes out, and no changed byte gets through."""

from __future__ import annotations

import hashlib
import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.codec import GENESIS, BadLine, hash_of, members, seal, seq_of, unseal
from ledger.errors import BadEvent
from ledger.events import AnyEvent, Noted, Processed, Record, RunFacts, Submitted

TIME = "2024-05-01T09:30:00.000000Z"


# Text as it can be kept: no lone surrogates (test_what_cannot_be_kept has those).
st.register_type_strategy(str, st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
st.register_type_strategy(int, st.integers(-(2**63), 2**63 - 1))
st.register_type_strategy(float, st.floats(allow_nan=False, allow_infinity=False))


def built(kind: type[Any]) -> st.SearchStrategy[AnyEvent]:
    fields = {f.encode_name: st.from_type(f.type) for f in msgspec.structs.fields(kind)}
    return st.builds(kind, **fields)


events = st.one_of([built(kind) for kind in get_args(AnyEvent)])


@given(events, st.integers(1, 10**19 // 2), st.integers(1, 10**6))
def test_what_is_sealed_is_unsealed(event: AnyEvent, seq: int, batch: int) -> None:
    line = seal(seq, TIME, event, batch, GENESIS)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    assert unseal(line, GENESIS) == Record(seq, TIME, event, batch, hash_of(line))
    assert seq_of(line) == seq_of(line[:40]) == seq


def test_the_line_is_as_documented(sample: dict[str, AnyEvent]) -> None:
    for event in sample.values():
        line = seal(7, TIME, event, 6, GENESIS)
        keys = list(json.loads(line))
        fields = list(msgspec.to_builtins(event))
        assert keys == ["seq", "time", *fields, "batch", "hash"]
        assert fields[0] == "kind"
        body = line[: line.rindex(b',"hash":')]
        assert json.loads(line)["hash"] == hashlib.sha256(GENESIS.encode() + body).hexdigest()


def test_every_flipped_bit_is_refused(sample: dict[str, AnyEvent]) -> None:
    for event in sample.values():
        line = seal(7, TIME, event, 7, GENESIS)
        for at in range(len(line)):
            for bit in range(8):
                wrong = bytearray(line)
                wrong[at] ^= 1 << bit
                with pytest.raises(BadLine):
                    unseal(bytes(wrong), GENESIS)


def test_every_cut_is_refused(sample: dict[str, AnyEvent]) -> None:
    line = seal(7, TIME, sample["Started"], 7, GENESIS)
    for cut in range(len(line)):
        for wrong in (line[:cut], line[cut + 1 :], line[:cut] + b"\n", line[:cut] + line):
            if wrong != line:
                with pytest.raises(BadLine):
                    unseal(wrong, GENESIS)


def test_another_chain_is_refused(sample: dict[str, AnyEvent]) -> None:
    line = seal(7, TIME, sample["Noted"], 7, "1" * 64)
    assert unseal(line, None).seq == 7
    with pytest.raises(BadLine, match="hash"):
        unseal(line, GENESIS)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"seq":0,"time":"t","kind":"Noted","job":"j","text":"t","batch":1', "seq"),
        (b'{"seq":1,"time":"t","kind":"Noted","job":"j","text":"t","batch":0', "batch"),
        (b'{"seq":1,"time":"t","kind":"Dreamt","job":"j","text":"t","batch":1', "Dreamt"),
        (b'{"seq":1,"time":"t","kind":"Noted","job":"j","batch":1', "text"),
        (b'{"seq":1,"time":"t","kind":"Noted","job":"j","text":"t"', "batch"),
        (b'["seq",1', "JSON|object"),
        (b'{"seq":1 "time"', "JSON"),
    ],
)
def test_rightly_hashed_nonsense_is_refused(body: bytes, reason: str) -> None:
    digest = hashlib.sha256(GENESIS.encode() + body).hexdigest().encode()
    with pytest.raises(BadLine, match=reason):
        unseal(body + b',"hash":"' + digest + b'"}\n', GENESIS)


@pytest.mark.parametrize(
    "event",
    [
        Noted(job="j", text="\ud800"),
        Noted(job="j", text=7),  # type: ignore[arg-type]
        Noted(job="j", text=None),  # type: ignore[arg-type]
        Processed(job="j", attempt=1, run=RunFacts(wall_seconds=float("nan"))),
        Submitted(job="j", name="n", model="m", by="b", source="fax"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_kept(event: AnyEvent) -> None:
    with pytest.raises(BadEvent, match=type(event).__name__):
        members(event)


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b'{"seq":', b'{"seq":12', b'{"seq":a,', b'{"seq":-1,', b'{"time":"t"', b"\0" * 99],
)
def test_no_sequence_number(line: bytes) -> None:
    assert seq_of(line) is None
