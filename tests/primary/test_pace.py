"""How many lines of a kind the primary logs, by a clock that is moved by hand."""

from __future__ import annotations

import logging

from primary.pace import BURST, RATE, Pace


def line(
    text: str, *args: object, place: int = 1, level: int = logging.WARNING
) -> logging.LogRecord:
    return logging.LogRecord("primary", level, "intake.py", place, text, args, None)


def test_what_a_worker_says_without_end_is_cut_and_counted() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    passed = [pace.filter(line("report %s", n)) for n in range(BURST + 50)]
    assert passed == [True] * BURST + [False] * 50
    assert pace.filter(line("another kind", place=2))
    assert pace.filter(line("report", level=logging.ERROR)), "errors are always said"
    now[0] = 1 / RATE
    told = line("report %s", "%d")
    assert pace.filter(told)
    assert told.getMessage() == "report %d (and 50 lines like it, left out)"
    assert not pace.filter(line("report %s", 1))


def test_lines_that_come_slowly_are_all_said_as_they_are() -> None:
    now = [0.0]
    pace = Pace(lambda: now[0])
    for _ in range(3 * BURST):
        said = line("job %s: %s", "a", "b")
        assert pace.filter(said)
        assert said.getMessage() == "job a: b"
        now[0] += 1 / RATE
