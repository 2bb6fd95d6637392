"""Walking through the code once before it counts.

A forked process shares its memory with its parent until one of them writes, and
the interpreter writes wherever it reads (it counts references). So the first
walk through any code costs a page fault, about 5 microseconds on a virtual
machine, every few objects: measured, 220 faults in an init and 200 in its
unpacker, or 2 of the 7 ms that a run of a no-op model took. Inits wait for their
run anyway, so they take that walk while they wait. It has no effect: the run
directory it uses can be made by nobody. To take it out costs time only.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import msgspec

from engine import command, limits
from engine.contract import Exit, Order, Running
from engine.endings import judge
from engine.rundir import RunDir, encode_exit
from engine.unpacking import Answer, Unpack, attempt
from spool import archive
from spool.lacking import missing

_NOWHERE = RunDir(Path("/proc/nowhere"))

_ORDER = Order(
    key="rehearsal.1",
    job="rehearsal",
    attempt=1,
    model="rehearsal",
    argv=("./rehearsal",),
    cwd="/proc/nowhere",
    env={},
    timeout=None,
    grace=0.0,
    required=("a",),
)

# A zip with one deflated file, "a".
_ZIP = bytes.fromhex(
    "504b030414000000080000002100468084bf050000000800000001000000614b4c840000504b010214031400"
    "0000080000002100468084bf050000000800000001000000000000000000000080010000000061504b050600"
    "000000010001002f000000240000000000"
)


def rehearse_run(me: Running, group_events: Path | None) -> None:
    """An init's walk."""
    order = msgspec.json.decode(msgspec.json.encode(_ORDER), type=Order)
    limits.OomKills.read(group_events)
    msgspec.json.decode(msgspec.json.encode(Answer()), type=Answer)
    verdict = judge(0, None)
    exit_ = Exit(ending=verdict.ending, reason=verdict.reason)
    encode_exit(exit_)
    for step in (
        _NOWHERE.read_order,
        _NOWHERE.output.mkdir,
        lambda: _NOWHERE.prepare_running(me),
        _NOWHERE.publish_running,
        lambda: command.start(order, _NOWHERE, "/"),
        lambda: command.environment(order, _NOWHERE, "/"),
        lambda: _NOWHERE.write_exit(exit_),
    ):
        with contextlib.suppress(OSError, command.CannotStart):
            step()


def rehearse_unpacking(unpack: Unpack) -> None:
    """An unpacker's walk."""
    archive.check(io.BytesIO(_ZIP))
    missing(_ORDER.required, ["a"])
    msgspec.json.encode(attempt(_NOWHERE, _ORDER.required, unpack))
