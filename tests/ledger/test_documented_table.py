"""The table of states and events in ARCHITECTURE.md is the one in the code."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import msgspec
import pytest

from ledger.errors import IllegalTransition
from ledger.events import AnyEvent, Noted, Purged, Record
from ledger.jobs import FINAL, Job, State, fold

DOCUMENT = Path(__file__).parents[2] / "ARCHITECTURE.md"
HEADING = "States and events"
AFTER_THE_END = {Purged.__name__, Noted.__name__}  # said in words, not in the table


def tables(text: str) -> list[list[list[str]]]:
    """The markdown tables below the heading, each a list of rows of cells."""
    found: list[list[list[str]]] = []
    below = inside = False
    for line in text.splitlines():
        if line.startswith("#"):
            below = HEADING in line
        row = below and line.startswith("|")
        if row:
            if not inside:
                found.append([])
            cells = line.replace("`", "").replace(r"\|", "|").strip().strip("|").split("|")
            found[-1].append([cell.strip() for cell in cells])
        inside = row
    return found


def documented() -> dict[tuple[str, str], str]:
    """(state, event) → cell of the document's table; the states of one row stand apart."""
    head, rule, *rows = tables(DOCUMENT.read_text("utf-8"))[0]
    assert set("".join(rule)) <= set("-: ")
    assert all(len(row) == len(head) for row in rows)
    return {
        (state, event): cell
        for first, *cells in rows
        for state in (first.split() if first != "(none)" else [first])
        for event, cell in zip(head[1:], cells, strict=True)
    }


def cell(job: Job | None, event: AnyEvent) -> str:
    """What the code does with ``event``, in the words of the document."""
    try:
        after = fold(job, Record(9, "", event, 9, ""))
    except IllegalTransition:
        return ""
    flag = ", flag" if after.kill_wanted and not (job and job.kill_wanted) else ""
    attempt = ", attempt+1" if job and after.attempt == job.attempt + 1 else ""
    return after.state + flag + attempt


def test_the_document_has_the_table_of_the_code(sample: dict[str, AnyEvent]) -> None:
    table = documented()
    states: list[State | None] = [None, *State]
    events = [kind.__name__ for kind in get_args(AnyEvent) if kind.__name__ not in AFTER_THE_END]
    begun = fold(None, Record(1, "", sample["Submitted"], 1, ""))
    code = {
        (state or "(none)", event): cell(
            msgspec.structs.replace(begun, state=state) if state else None, sample[event]
        )
        for state in states
        for event in events
    }
    assert table == code


@pytest.mark.parametrize("kind", sorted(AFTER_THE_END))
def test_what_the_table_leaves_out_is_legal_after_the_end_only(
    sample: dict[str, AnyEvent], kind: str
) -> None:
    begun = fold(None, Record(1, "", sample["Submitted"], 1, ""))
    for state in State:
        found = cell(msgspec.structs.replace(begun, state=state), sample[kind])
        assert found == (state if state in FINAL else "")
