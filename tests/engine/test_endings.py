"""How an end is told: every wait status, with and without a wish of ours."""

from __future__ import annotations

import signal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.contract import Exit
from engine.endings import Wish, judge, signal_name, timeout_wish
from engine.limits import OomKills
from engine.rundir import RESERVED, encode_exit

WISHES = [
    Wish("stopped", "a person wanted it"),
    Wish("lost", "the runner was ended"),
    timeout_wish(90),
]


@pytest.mark.parametrize("code", range(256))
def test_exit_codes(code: int) -> None:
    verdict = judge(code << 8, None)
    assert (verdict.ending, verdict.exit_code, verdict.signal) == ("exited", code, None)
    assert (verdict.reason == "") == (code == 0)
    assert code == 0 or f"exit code {code}" in verdict.reason


@pytest.mark.parametrize("number", range(1, 65))
@pytest.mark.parametrize("core", [0, 0x80])
def test_signals(number: int, core: int) -> None:
    verdict = judge(number | core, None)
    assert (verdict.ending, verdict.exit_code, verdict.signal) == ("signaled", None, number)
    assert signal_name(number) in verdict.reason
    assert ("memory" in verdict.reason) == (number == signal.SIGKILL)


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("status", [0, 3 << 8, signal.SIGTERM, signal.SIGKILL])
def test_what_we_ended_ended_as_we_wished(wish: Wish, status: int) -> None:
    verdict = judge(status, wish, oom="memory ran out")
    assert (verdict.ending, verdict.reason) == (wish.ending, wish.reason)
    assert (verdict.exit_code is None) != (verdict.signal is None)


def test_the_kernel_is_blamed_for_what_it_did() -> None:
    before = OomKills(machine=7, group=1)
    assert before.blame(before) == ""
    machine, group = OomKills(8, 1).blame(before), OomKills(8, 2).blame(before)
    assert "this machine" in machine
    assert "control group" in group
    assert machine in judge(signal.SIGKILL, None, machine).reason
    assert machine in judge((128 + signal.SIGKILL) << 8, None, machine).reason
    assert machine not in judge(3 << 8, None, machine).reason


def test_a_shells_word_for_a_signal_is_explained() -> None:
    assert "SIGSEGV" in judge((128 + signal.SIGSEGV) << 8, None).reason


@given(st.text(max_size=6000), st.lists(st.text(max_size=80), max_size=400))
def test_an_exit_always_fits_into_what_was_reserved(reason: str, ended: list[str]) -> None:
    said = Exit(ending="stopped", reason=reason, ended=tuple(ended), exit_code=255)
    data = encode_exit(said)
    assert len(data) <= RESERVED
    read = msgspec.json.decode(data, type=Exit)
    assert reason.startswith(read.reason)
    assert read.exit_code == 255
    if read.ended != said.ended:
        assert read.ended[:-1] == said.ended[: len(read.ended) - 1]
        assert read.ended[-1] == f"and {len(ended) - len(read.ended) + 1} more"
