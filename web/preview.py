"""Which kind of file an output is, and the beginning of it as a text or a table. Pure."""

from __future__ import annotations

import codecs
import csv
import io
import re
from typing import Literal, NamedTuple
from urllib.parse import quote

from web import terminal

Kind = Literal["picture", "table", "text", "other"]

TEXT_SHOWN = 64 * 1024  # bytes of a text that a preview shows
TABLE_READ = 256 * 1024  # bytes of a table that are looked at
LOOKED_AT = (
    max(TEXT_SHOWN, TABLE_READ) + 1
)  # bytes of a file that a preview needs; 1: is there more?
MOST_ROWS, MOST_COLUMNS, MOST_CELL = 100, 50, 200  # the last in characters
PICTURE_SHOWN = 32 * 1024 * 1024  # bytes of a picture that a page still asks for

_TEXT = "text/plain; charset=utf-8"
_TYPES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "avif": "image/avif",
    "svg": "image/svg+xml",
    "csv": "text/csv; charset=utf-8",
    "tsv": "text/tab-separated-values; charset=utf-8",
    "json": "application/json",
    "geojson": "application/geo+json",
    "pdf": "application/pdf",
    "zip": "application/zip",
    "gz": "application/gzip",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
}
_PICTURES = frozenset({"png", "jpg", "jpeg", "gif", "webp", "avif", "svg"})
_TABLES = frozenset({"csv", "tsv"})
# What people and programs write as text. Where it is none after all, the content says so.
_WRITTEN = """
    asc bat bib c cc cfg cmd cnf conf cpp css csh cxx dat def diff eqn err f f77 f90 f95 for
    fortran gams geojson gitignore gms gpx h hpp htm html inc inf ini inp ipynb java jl js json
    jsonl kml latex license list log lp lst lua m mas markdown md mps ndjson nml opt out par
    patch pl prn properties ps1 py r rb readme rpt rst run sh sql srt sum tab tbl tex toml ts txt
    vtk vtt wkt xml yaml yml
"""
_TEXTS = frozenset(_WRITTEN.split())
# No text has these. Form feeds, backspaces and escapes do stand in logs.
_BINARY = re.compile(r"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# In this order: a comma that stands beside one of the others is a decimal comma.
_DELIMITERS = "\t;,|"
_ALIKE = 0.9  # the share of rows that must have as many columns as the first


_NUMBER = re.compile(
    r"\s*(?:[-+]?[0-9.,]{1,40}(?:[eEdD][-+]?[0-9]{1,4})?|[-+]?(?i:nan|inf))\s*%?\Z"
)

WORDS: dict[Kind, str] = {"picture": "picture", "table": "table", "text": "text", "other": "file"}


class Table(NamedTuple):
    """The first rows; the first of all is the header. ``cut``: rows, columns or cells are."""

    rows: list[list[str]]
    cut: bool

    @property
    def columns(self) -> int:
        """As many as the longest row has."""
        return max(map(len, self.rows), default=0)

    @property
    def numbers(self) -> frozenset[int]:
        """The columns that hold numbers below their header, and nothing else."""
        columns = [[self.cell(m, n) for m in range(1, len(self.rows))] for n in range(self.columns)]
        return frozenset(
            n
            for n, cells in enumerate(columns)
            if any(cells) and all(not cell or _NUMBER.match(cell) for cell in cells)
        )

    def cell(self, row: int, column: int) -> str:
        """What stands there; nothing where the row is shorter."""
        cells = self.rows[row]
        return cells[column] if column < len(cells) else ""


class Preview(NamedTuple):
    """What there is to show of a file: nothing, where it is a picture or of another kind."""

    kind: Kind
    text: str = ""
    table: Table | None = None
    cut: bool = False


def extension(path: str) -> str:
    """In lower case and without the dot; that of ``README`` is ``readme``."""
    return path.rpartition("/")[2].rpartition(".")[2].lower()


def kind(path: str) -> Kind:
    """What a file of this name should be."""
    ending = extension(path)
    if ending in _PICTURES:
        return "picture"
    if ending in _TABLES:
        return "table"
    return "text" if ending in _TEXTS or "." not in name(path) else "other"


def content_type(path: str) -> str:
    """The type of a download. What a browser could run is called plain text."""
    ending = extension(path)
    return _TYPES.get(ending, _TEXT if ending in _TEXTS else "application/octet-stream")


def name(path: str) -> str:
    """The file's own name."""
    return path.rpartition("/")[2]


def visible(text: str) -> str:
    """``text``, with what nobody sees, or what turns the direction of reading, as ``\\x..``."""
    return "".join(c if c == " " or c.isprintable() else _escaped(c) for c in text)


def address(path: str) -> str:
    """``path`` as it stands in a URL."""
    return quote(path, safe="/")


def _escaped(character: str) -> str:
    code = ord(character)
    return (
        f"\\x{code:02x}"
        if code < 0x100
        else f"\\u{code:04x}"
        if code < 0x10000
        else f"\\U{code:08x}"
    )


def of(path: str, size: int, head: bytes) -> Preview:
    """What to show of a file of ``size`` bytes, of which ``head`` is the first ``LOOKED_AT``."""
    named = kind(path)
    if named == "picture":
        return Preview(named)
    if named == "table":
        text = decoded(head[:TABLE_READ])
        if text is not None:
            found = table(text, whole=size <= TABLE_READ)
            if found is not None:
                return Preview("table", table=found, cut=found.cut)
    shown = head[:TEXT_SHOWN]
    if size > TEXT_SHOWN:
        shown = _to_line_end(shown)
    text = decoded(shown)
    if text is None:
        return Preview("other")
    return Preview("text", text=terminal.shown(text), cut=size > TEXT_SHOWN)


def _to_line_end(data: bytes) -> bytes:
    """``data`` without its last line, which is not whole; where it has but one, all of it."""
    end = data.rfind(b"\n") + 1
    if data.startswith(codecs.BOM_UTF16_LE):
        end += end % 2
    return data[:end] if end else data


def decoded(data: bytes) -> str | None:
    """The beginning of a text, or None if it is none; its last character may be cut in two."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            text = codecs.getincrementaldecoder(encoding)(errors="replace").decode(data[len(bom) :])
            return None if _BINARY.search(text) else text
    text = codecs.getincrementaldecoder("utf-8")(errors="replace").decode(data)
    wrong = text.count("\ufffd")
    if wrong and wrong >= sum(c > "\x7f" for c in text) - wrong:
        # Spreadsheets of western Europe still write this; each byte is a character of it.
        text = data.decode("cp1252", errors="replace")
    return None if _BINARY.search(text) else text


def table(text: str, *, whole: bool) -> Table | None:
    """The first rows of a CSV or TSV text, whose end is cut off unless ``whole``."""
    try:
        rows = _rows(text, _delimiter(text), MOST_ROWS + 2)
    except csv.Error:  # a cell that never ends
        return None
    cut = not whole or len(rows) > MOST_ROWS
    if not whole and 1 < len(rows) <= MOST_ROWS:
        rows.pop()  # the last one may be a part of it
    rows = rows[:MOST_ROWS]
    if not any(any(row) for row in rows):
        return None
    cut = cut or any(
        len(row) > MOST_COLUMNS or any(len(c) > MOST_CELL for c in row) for row in rows
    )
    return Table([[_cell(cell) for cell in row[:MOST_COLUMNS]] for row in rows], cut)


def _rows(text: str, delimiter: str, most: int, strict: bool = False) -> list[list[str]]:
    """The first rows that are not empty. Raises csv.Error."""
    found: list[list[str]] = []
    lines = io.StringIO(text, newline="")
    for row in csv.reader(lines, delimiter=delimiter, strict=strict):
        if row:
            found.append(row)
            if len(found) == most:
                break
    return found


def _cell(text: str) -> str:
    text = terminal.shown(text)
    return text if len(text) <= MOST_CELL else text[: MOST_CELL - 1] + "…"


def _delimiter(text: str) -> str:
    """What parts the cells: what gives all rows as many as the first."""
    # What the quotes contradict parts nothing; but where quotes are odd, any reading will do.
    for strict in (True, False):
        shares = {d: _alike(text, d, strict) for d in _DELIMITERS}
        best = max(shares.values())
        if best:
            return next(d for d, share in shares.items() if share >= min(best, _ALIKE))
    return ","


def _alike(text: str, delimiter: str, strict: bool) -> float:
    """The share of rows that have as many cells as the first; 0 where that has but one."""
    try:
        rows = _rows(text, delimiter, 20, strict)
    except csv.Error:
        return 0.0
    if not rows or len(rows[0]) < 2:
        return 0.0
    return sum(len(row) == len(rows[0]) for row in rows) / len(rows)
