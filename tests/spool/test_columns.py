"""The first line of a CSV file against the columns that a model reads."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spool.columns import SHOWN, quoted, wrong_columns

WANTED = ["date", "precipitation", "temperature"]

GOOD = {
    "commas": "date,precipitation,temperature",
    "semicolons": "date;precipitation;temperature",
    "tabs": "date\tprecipitation\ttemperature",
    "any order, and more": "note,temperature,date,precipitation,",
    "quoted": '"date","precipitation","temperature"',
    "a separator in quotes": '"a;b;c;d",date,precipitation,temperature',
    "many of another separator": "date;precipitation;temperature;a,b,c,d,e,f",
}


@pytest.mark.parametrize("case", GOOD)
def test_good_lines(case: str) -> None:
    assert wrong_columns("c.csv", WANTED, GOOD[case]) == []


# The line: for each finding, what was expected (of three: all of them) and what was found.
WRONG = {
    "date,precipitation": [("the column 'temperature' in", "'date,precipitation' (parted by comm")],
    "Date;precipitation ;temp": [
        ("'date'", "'Date', which differs in upper and lower case"),
        ("'precipitation'", "'precipitation ', which differs in blanks"),
        ("'temperature'", "'temp', a similar name"),
    ],
    "date, precipitation,temperatuer": [
        ("'precipitation'", "' precipitation', which differs in blanks"),
        ("'temperature'", "'temperatuer', a similar name"),
    ],
    "date,date,precipitation,temperature": [("'date'", "it 2 times")],
    "2021-01-01,0.3,5": [
        ("the columns 'date', 'precipitation', 'temperature' in its first line",
         "'2021-01-01,0.3,5' (parted by commas): no names, it seems, but values"),
    ],
    "2021-01-01;0,3;5": [("the columns", "(parted by semicolons): no names")],
    "x|y|z": [("the columns", "'x|y|z' (not parted by commas, semicolons or tabs)")],
    "x\ty": [("the columns", "'x\\ty' (parted by tabs)")],
    "# made by hand": [("the columns", "'# made by hand'")],
    "date,precipitation,\u202e\x1b[m": [("'temperature'", "'date,precipitation,\\u202e\\x1b")],
}  # fmt: skip


@pytest.mark.parametrize("line", WRONG)
def test_wrong_lines(line: str) -> None:
    findings = wrong_columns("c.csv", WANTED, line)
    assert len(findings) == len(WRONG[line])
    for finding, (expected, found) in zip(findings, WRONG[line], strict=True):
        assert finding.file == "c.csv"
        assert expected in finding.expected
        assert found in finding.found


def test_one_column_that_is_not_there() -> None:
    (finding,) = wrong_columns("c.csv", ["date"], "1,2")
    assert finding.expected == "the column 'date' in its first line"
    assert finding.found == "no such column in '1,2' (parted by commas)"


NAMES = st.text(st.characters(blacklist_characters="\r\n\0"), min_size=1, max_size=12)


@given(st.lists(NAMES, min_size=2, max_size=6, unique=True), st.sampled_from(",;\t"))
def test_what_a_writer_writes_is_found(names: list[str], separator: str) -> None:
    line = io.StringIO()
    csv.writer(line, delimiter=separator, quoting=csv.QUOTE_ALL).writerow(names)
    assert wrong_columns("c.csv", names, line.getvalue().rstrip("\r\n")) == []


@given(st.lists(NAMES, min_size=1, max_size=4, unique=True), st.text(max_size=200))
def test_any_line_is_good_or_has_findings_that_can_be_shown(names: list[str], line: str) -> None:
    for finding in wrong_columns("c.csv", names, line):
        assert finding.found.isprintable()
        assert len(finding.found) < 2 * SHOWN + 60


@given(st.text(max_size=300))
def test_quoted_is_short_and_can_be_printed(text: str) -> None:
    assert quoted(text).isprintable()
    assert len(quoted(text)) <= SHOWN + 4
    if len(repr(text)) <= SHOWN:
        assert quoted(text) == repr(text)
