"""A zip against what a model says of its files: everything that is wrong, at once."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spool.archive import Head, check
from spool.errors import MOST, THE_ZIP, BadZip, Finding
from spool.expectations import HEAD, Expectations
from spool.inputfiles import InputFile

COUNT = InputFile(name="count", description="a whole number from 0 to 99", pattern="[0-9]{1,2}")
TABLE = InputFile(name="t.csv", columns=("a", "b"))
PLAIN = InputFile(name="plain", description="anything")
MORE = InputFile(name="more.csv", optional=True, columns=("x",))
GOOD: dict[str, bytes] = {"count": b"8\n", "t.csv": b"a,b\n1,2\n", "plain": b"x"}


def zipped(files: Mapping[str, bytes]) -> io.BytesIO:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out


def wrong(files: Mapping[str, bytes], *wanted: InputFile) -> BadZip:
    with pytest.raises(BadZip) as refused:
        check(zipped(files), Expectations(wanted or (COUNT, TABLE, PLAIN, MORE)))
    return refused.value


def test_good_ones() -> None:
    wants = Expectations([COUNT, TABLE, PLAIN, MORE])
    check(zipped(GOOD), wants)
    check(zipped({**GOOD, "more.csv": b"x", "other": b""}), wants)


PATTERN = {
    "blanks around": b" \t8 \r\n\n",
    "a mark": b"\xef\xbb\xbf8\r\n",
}


@pytest.mark.parametrize("data", PATTERN.values(), ids=PATTERN)
def test_a_pattern_is_for_the_text_between_the_blanks(data: bytes) -> None:
    check(zipped({"count": data}), Expectations([COUNT]))


TABLES = {
    "a mark": b"\xef\xbb\xbfa;b\n",
    "windows": b"a\tb\r\n1\t2\r\n",
    "old macs": b"a,b\r1,2\r",
    "no end": b"a,b",
    "latin-1": b"a,b,gr\xfcn\n",
    "utf-8": "a,b,grün\n".encode(),
    "binary, but later": b"a,b\n\0\xff",
    "a line of the most bytes": b"a,b," + b"x" * (HEAD - 5) + b"\n1",
}


@pytest.mark.parametrize("data", TABLES.values(), ids=TABLES)
def test_the_first_line_is_read_as_people_save_it(data: bytes) -> None:
    check(zipped({"t.csv": data}), Expectations([TABLE]))


# By case: the file, what it holds, what is said to be expected, and what was found.
FOUND: dict[str, tuple[InputFile, bytes, str, str]] = {
    "another text": (COUNT, b"abc\n", "a whole number from 0 to 99", "'abc'"),
    "too many": (COUNT, b"100", "a whole number from 0 to 99", "'100'"),
    "two lines": (COUNT, b"1\n2", "a whole number", r"'1\n2'"),
    "hostile": (COUNT, "\x1b[2J\u202e<script>".encode(), "", r"'\x1b[2J\u202e<script>'"),
    "empty": (COUNT, b"", "a whole number", "an empty file"),
    "blanks": (COUNT, b" \n", "a whole number", "only blanks"),
    "a lot": (COUNT, b"7" * 60_000, "a whole number", "'" + "7" * 80 + "…'"),
    "too much": (COUNT, b"7" * (HEAD + 1), "a whole number", "65537 bytes; at most 65536 are all"),
    "utf-16": (COUNT, "8".encode("utf-16"), "a whole number", "text in UTF-16; save it as UTF-8"),
    "rtf": (COUNT, b"{\\rtf1 8}", "a whole number", "a rich text document (RTF); save it as plain"),
    "nul": (COUNT, b"8\0", "a whole number", "binary data, which is no text"),
    "no description": (InputFile(name="n", pattern="x|y"), b"z", "text that matches 'x|y'", "'z'"),
    "too slow": (
        InputFile(name="n", description="an a", pattern="(a+)+b"), b"a" * 40, "an a",
        "which takes too long to check; tell whoever keeps the model",
    ),
    "an empty table": (TABLE, b"", "CSV text with the columns 'a', 'b'", "an empty file"),
    "an empty line": (TABLE, b"\na,b\n", "CSV text", "an empty first line"),
    "a workbook": (TABLE, b"PK\x03\x04..", "CSV text", "an Excel workbook, or a zip; save it"),
    "a long line": (TABLE, b"a,b," + b"x" * HEAD, "CSV text", "a first line of 65536 bytes"),
    "one column": (MORE, b"\0", "CSV text with the column 'x' in its", "binary data"),
    "another column": (TABLE, b"a,c\n", "the column 'b' in its first", "no such column in 'a,c'"),
    "optional, but wrong": (MORE, b"y", "the column 'x'", "no such column in 'y'"),
    "optional and empty": (MORE, b"", "CSV text with the column 'x'", "an empty file"),
    "empty and plain": (PLAIN, b"", "anything", "an empty file"),
    "empty, not described": (InputFile(name="e"), b"", "a file with contents", "an empty file"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_one_file_that_is_wrong(case: str) -> None:
    file, data, expected, found = FOUND[case]
    refused = wrong({file.name: data}, file)
    (finding,) = refused.findings
    assert finding.file == refused.entry == file.name
    assert finding.expected.startswith(expected)
    assert found in finding.found
    assert refused.reason == f"expected {finding.expected}; found {finding.found}"
    assert str(refused).isprintable()


def test_an_empty_file_that_may_be() -> None:
    check(zipped({"e": b""}), Expectations([InputFile(name="e", optional=True)]))
    check(zipped({"e": b""}), Expectations([InputFile(name="e", pattern="(?s).*")]))


def test_columns_and_pattern_of_one_file() -> None:
    both = InputFile(name="t.csv", columns=("a", "b"), pattern="(?s)a.*")
    check(zipped({"t.csv": b"a,b\n"}), Expectations([both]))
    assert len(wrong({"t.csv": b"x,a\n"}, both).findings) == 2


def test_everything_is_said_at_once() -> None:
    refused = wrong({"in/count": b"8", "t.csv": b"A,b", "plain": b"", "more.csv": b"x,x"})
    assert [f.file for f in refused.findings] == ["count", "t.csv", "plain", "more.csv"]
    assert refused.entry is None
    assert refused.reason == (
        "the zip has no file 'count'; it holds: in/count, t.csv, plain, more.csv. "
        "It seems that the folder 'in' was zipped: zip what is in the folder, not the folder "
        "itself. Besides, "
        "(1) t.csv: expected the column 'a' in its first line; found 'A', which differs in upper "
        "and lower case; (2) plain: expected anything; found an empty file; "
        "(3) more.csv: expected the column 'x' in its first line; found it 2 times"
    )


def test_the_sentence_stays_short_and_the_findings_few() -> None:
    wanted = [InputFile(name=f"f{n}", columns=("a",)) for n in range(MOST + 5)]
    refused = wrong({file.name: b"x" for file in wanted}, *wanted)
    assert len(refused.findings) == MOST
    assert refused.reason.count("expected") == 3
    assert len(wrong({"x": b"x"}, *wanted).findings) == MOST


def test_damage_comes_with_the_names_that_are_missing() -> None:
    data = zipped({"t.csv": b"a,b\n" * 100}).getvalue()
    name = data.index(b"t.csv") + len(b"t.csv")
    damaged = io.BytesIO(data[: name + 2] + b"\xff\xff" + data[name + 4 :])
    with pytest.raises(BadZip) as refused:
        check(damaged, Expectations([COUNT, TABLE]))
    assert [f.file for f in refused.value.findings] == ["t.csv", "count"]
    assert refused.value.entry == "t.csv" and "zip it, or send it, again" in refused.value.reason
    with pytest.raises(BadZip) as alone:
        check(damaged, Expectations([TABLE]))
    assert len(alone.value.findings) == 1


def test_a_zip_that_holds_nothing_of_interest_is_not_read_through() -> None:
    """Its damage would have been the reason."""
    data = zipped({"in/count": b"8" * 1000}).getvalue()
    name = data.index(b"in/count") + len(b"in/count")
    damaged = io.BytesIO(data[: name + 2] + b"\xff\xff" + data[name + 4 :])
    with pytest.raises(BadZip, match="the folder 'in' was zipped") as refused:
        check(damaged, Expectations([COUNT]))
    assert [f.file for f in refused.value.findings] == ["count"]


def test_a_zip_that_cannot_be_read_is_a_finding_too() -> None:
    with pytest.raises(BadZip) as refused:
        check(io.BytesIO(b"hello"), Expectations([COUNT]))
    (finding,) = refused.value.findings
    assert finding == Finding(
        THE_ZIP, "a zip file", "this is no zip file but something else; send a .zip"
    )
    assert str(finding) == (
        "the zip: expected a zip file; found this is no zip file but something else; send a .zip"
    )
    with pytest.raises(BadZip) as hostile:
        check(zipped({"\x1b[2J": b""}))
    assert hostile.value.findings[0].file == r"\x1b[2J"


class Greedy:
    """Wants a little of one file, and all of another."""

    def __init__(self) -> None:
        self.heads: Mapping[str, Head] = {}

    def reads(self, name: str) -> int:
        return {"little": 10, "all": 10**9}.get(name, 0)

    def judge(self, names: Sequence[str], heads: Mapping[str, Head]) -> BadZip | None:
        assert sorted(names) == ["all", "little", "none"]
        self.heads = heads
        return None


def test_no_more_is_kept_than_is_wanted() -> None:
    greedy = Greedy()
    big = bytes(range(256)) * 10_000
    check(zipped({"little": big, "all": big, "none": big}), greedy)
    assert greedy.heads == {"little": Head(big[:10], len(big)), "all": Head(big, len(big))}


@settings(max_examples=300)
@given(st.binary(max_size=300), st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=3))
def test_any_bytes_are_a_table_or_refused(data: bytes, columns: list[str]) -> None:
    try:
        file = InputFile(name="t.csv", columns=tuple(columns))
        check(zipped({"t.csv": data}), Expectations([file]))
    except BadZip as refused:
        assert 1 <= len(refused.findings) <= MOST
        assert all(f.found.isprintable() for f in refused.findings)


@settings(max_examples=20, deadline=None)
@given(st.binary(max_size=100))
def test_any_bytes_match_or_are_refused(data: bytes) -> None:
    try:
        check(zipped({"count": data}), Expectations([COUNT]))
    except BadZip as refused:
        assert str(refused).isprintable()
    else:
        assert 0 <= int(data.removeprefix(b"\xef\xbb\xbf")) <= 99
