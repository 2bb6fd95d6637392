"""What is shown of an output file: its kind, the beginning of a text, the first rows of a table."""

from __future__ import annotations

import csv
import io
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from web import preview


def of(path: str, data: bytes) -> preview.Preview:
    """The preview of a file with ``data``."""
    return preview.of(path, len(data), data[: preview.LOOKED_AT])


def rows(data: bytes, path: str = "t.csv") -> list[list[str]]:
    found = of(path, data)
    assert found.kind == "table" and found.table is not None
    return found.table.rows


# --- kinds


@pytest.mark.parametrize(
    ("path", "kind", "type"),
    [
        ("a.png", "picture", "image/png"),
        ("plots/A.JPG", "picture", "image/jpeg"),
        ("a.svg", "picture", "image/svg+xml"),
        ("a.b.csv", "table", "text/csv; charset=utf-8"),
        ("a.tsv", "table", "text/tab-separated-values; charset=utf-8"),
        ("a.txt", "text", "text/plain; charset=utf-8"),
        ("a.json", "text", "application/json"),
        ("page.html", "text", "text/plain; charset=utf-8"),
        ("script.js", "text", "text/plain; charset=utf-8"),
        ("page.xhtml", "other", "application/octet-stream"),
        ("a.pdf", "other", "application/pdf"),
        ("a.exe", "other", "application/octet-stream"),
        ("README", "text", "text/plain; charset=utf-8"),
        ("folder.png/solver", "text", "application/octet-stream"),
        ("png.", "other", "application/octet-stream"),
        (".png", "picture", "image/png"),
    ],
)
def test_kind_and_type_follow_the_name(path: str, kind: str, type: str) -> None:
    assert (preview.kind(path), preview.content_type(path)) == (kind, type)


@settings(deadline=None)
@given(st.text())
@example("report.DOCX")  # openxmlformats, which no browser runs
def test_no_name_gets_a_type_that_a_browser_runs(path: str) -> None:
    running = ("html", "xml", "javascript", "wasm", "flash", "ecmascript")
    type = preview.content_type(path).partition(";")[0]
    assert type == "image/svg+xml" or not type.endswith(running)


def test_the_content_decides_whether_it_is_text() -> None:
    assert of("a.txt", b"\x00\x01\x02").kind == "other"
    assert of("solver", b"\x7fELF\x02\x01\x01\x00").kind == "other"
    assert of("a.csv", b"PK\x03\x04\x00").kind == "other"
    assert of("a.bin", b"only letters") == preview.Preview("text", text="only letters")
    assert of("a.png", b"no picture at all").kind == "picture"


# --- text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        ("ä漢😀\n".encode(), "ä漢😀\n"),
        (b"\xef\xbb\xbfwith a mark", "with a mark"),
        ("Größe".encode("utf-16"), "Größe"),
        ("Größe".encode("cp1252"), "Größe"),
        ("viel Größe ".encode() * 3 + b"\xff", "viel Größe " * 3 + "\ufffd"),
        (b"one\r\ntwo\r\n", "one\ntwo\n"),
        (b"10 %\r100 %\n\x1b[31mred\x1b[0m", "100 %\nred"),
    ],
)
def test_a_text_as_people_read_it(data: bytes, text: str) -> None:
    assert of("a.txt", data) == preview.Preview("text", text=text)


def test_a_long_text_is_cut_at_the_end_of_a_line() -> None:
    line = b"a line of text\n"
    data = line * 10_000
    found = of("a.txt", data)
    assert found.cut and found.text.endswith("text\n")
    assert preview.TEXT_SHOWN - len(line) < len(found.text) <= preview.TEXT_SHOWN
    whole = of("a.txt", data[: preview.TEXT_SHOWN])
    assert (len(whole.text), whole.cut) == (preview.TEXT_SHOWN, False)


def test_a_long_line_is_cut_where_it_must_be() -> None:
    found = of("a.txt", "ä".encode() * preview.TEXT_SHOWN)
    assert found.cut and set(found.text) == {"ä"}
    odd = of("a.txt", b"x" + "ä".encode() * preview.TEXT_SHOWN)
    assert odd.cut and odd.text.removesuffix("ä").endswith("ä"), "no half of a character is shown"


def test_a_long_text_of_two_bytes_each_is_cut_between_them() -> None:
    found = of("a.txt", ("\ufeff" + "Größe\n" * 20_000).encode("utf-16-le"))
    assert found.cut and set(found.text.split("\n")) == {"Größe", ""}


@settings(deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["a.txt", "a.csv", "a.tsv", "a", "a.log"]))
def test_any_bytes_give_a_preview_without_control_characters(data: bytes, path: str) -> None:
    found = of(path, data)
    shown = [found.text]
    if found.table is not None:
        assert 1 <= len(found.table.rows) <= preview.MOST_ROWS
        shown += [cell for row in found.table.rows for cell in row]
    for text in shown:
        assert {c for c in text if unicodedata.category(c) == "Cc"} <= {"\n", "\t"}


# --- tables


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"a,b\n1,2\n", [["a", "b"], ["1", "2"]]),
        (b"a;b\n1,5;2,5\n", [["a", "b"], ["1,5", "2,5"]]),
        (b"1,5;2,5\n3,5;4,5\n", [["1,5", "2,5"], ["3,5", "4,5"]]),
        (b"a\tb\n1, 2\t3\n", [["a", "b"], ["1, 2", "3"]]),
        (b"a|b\n1|2\n", [["a", "b"], ["1", "2"]]),
        (b"only\n1\n2\n", [["only"], ["1"], ["2"]]),
        (b'a,b\n"x, ""y""\nz",2\n', [["a", "b"], ['x, "y"\nz', "2"]]),
        (b"a,b\n\n1,2\n\n", [["a", "b"], ["1", "2"]]),
        (b"a,b,c\n1\n1,2,3,4\n", [["a", "b", "c"], ["1"], ["1", "2", "3", "4"]]),
        (b"a,b\r\n1,2\r\n", [["a", "b"], ["1", "2"]]),
        (b"\xef\xbb\xbfa,b\n1,2", [["a", "b"], ["1", "2"]]),
        ("Größe;Maß\n1;2\n".encode("cp1252"), [["Größe", "Maß"], ["1", "2"]]),
        (
            b"date,text\n1,a;b\n2,c\n3,d;e;f\n",
            [["date", "text"], ["1", "a;b"], ["2", "c"], ["3", "d;e;f"]],
        ),
    ],
)
def test_a_table_is_parted_as_its_writer_meant(data: bytes, expected: list[list[str]]) -> None:
    assert rows(data) == expected
    assert not of("t.csv", data).cut


cells = st.text('ab1.,;\t"\n é', max_size=6)


@settings(deadline=None)
@given(
    st.integers(2, 6).flatmap(
        lambda n: st.lists(st.lists(cells, min_size=n, max_size=n), min_size=1, max_size=20)
    ),
    st.sampled_from(",;\t"),
)
def test_what_csv_writes_comes_back(table: list[list[str]], delimiter: str) -> None:
    """Where every cell is quoted, there is only one way to read it."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows(table)
    found = of("t.csv", out.getvalue().encode())
    if any(any(row) for row in table):
        assert found.table is not None and found.table.rows == table


def test_a_large_table_is_cut() -> None:
    row = ",".join(["x" * 300] * 60)
    found = of("t.csv", "\n".join([row] * 150).encode())
    assert found.table is not None and found.cut
    assert found.table.rows[0] == ["x" * 199 + "…"] * preview.MOST_COLUMNS
    many = of("t.csv", b"a,b\n" * 101)
    assert many.table is not None and (len(many.table.rows), many.cut) == (100, True)
    assert not of("t.csv", b"a,b\n" * 100).cut


def test_a_row_that_is_not_whole_is_left_out() -> None:
    row = b"a," + b"b" * 9000 + b"\n"
    found = of("t.csv", row * 40)
    assert found.table is not None and found.cut
    assert len(found.table.rows) == preview.TABLE_READ // len(row)


def test_what_is_no_table_is_shown_as_text() -> None:
    for data in (b'"' + b"never ends " * 20_000, b"", b"\n\n", b",,\n,,"):
        assert of("t.csv", data).kind == "text", data[:20]


def test_rows_of_any_length_make_a_rectangle() -> None:
    table = preview.Table([["a", "b"], ["1"], ["1", "2", "3"]], cut=False)
    assert table.columns == 3
    assert [table.cell(1, n) for n in range(3)] == ["1", "", ""]


def test_columns_of_numbers() -> None:
    data = b"n,name,part,none,mixed\n-1.5e-3,x1,50 %,,1\n2,x2,,,x\nnan,x3,7%,,2\n"
    table = of("t.csv", data).table
    assert table is not None and table.numbers == {0, 2}


# --- names


def test_what_nobody_sees_in_a_name_is_spelled_out() -> None:
    assert preview.visible("a b/ä漢.png") == "a b/ä漢.png"
    assert preview.visible("a\x1b\n\u202egnp.exe\u2028\U000e0001") == (
        "a\\x1b\\x0a\\u202egnp.exe\\u2028\\U000e0001"
    )


@settings(deadline=None)
@given(st.text())
def test_a_visible_name_has_only_what_is_seen(name: str) -> None:
    assert all(c == " " or c.isprintable() for c in preview.visible(name))


@settings(deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_address_is_plain_ascii(path: str) -> None:
    address = preview.address(path)
    assert address.isascii() and not set(address) & set(" \"'<>?#&\\\r\n")
