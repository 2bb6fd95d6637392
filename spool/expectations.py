"""What a model says of its input, held against a zip: all that is wrong, at once.

``archive.check`` reads the zip, once, and keeps the beginnings of the files that are
judged here. A worker checks required names only: what is wrong with contents is told
before a job is queued, or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from spool import patterns
from spool.archive import Head
from spool.columns import named, quoted, wrong_columns
from spool.errors import MOST, BadZip, Finding
from spool.inputfiles import InputFile
from spool.lacking import missing

HEAD = patterns.MAX_TEXT  # bytes of a file that are looked at, for its columns too
_SAID = 3  # findings that its sentence repeats

# How files begin that are no text, whatever their name says.
_NO_TEXT = (
    (b"PK\x03\x04", "an Excel workbook, or a zip"),
    (b"\xd0\xcf\x11\xe0", "an Excel or Word file"),
    (b"{\\rtf", "a rich text document (RTF)"),
    (b"%PDF", "a PDF"),
    (b"\x1f\x8b", "a gzip file"),
)
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


class _NotText(Exception):
    """What was found instead."""


class Expectations:
    """What a model's ``files`` (``Model.files``) must be; what ``archive.check`` wants."""

    def __init__(self, files: Iterable[InputFile]) -> None:
        self._files = {file.name: file for file in files}

    def reads(self, name: str) -> int:
        """The bytes from the beginning of the entry ``name`` that ``judge`` needs."""
        file = self._files.get(name)
        if file is None:
            return 0
        return HEAD if file.columns or file.pattern is not None else 1

    def judge(self, names: Sequence[str], heads: Mapping[str, Head]) -> BadZip | None:
        """What is wrong with a zip of ``names``, of which the ``heads`` were read.

        None if nothing is. OSError passes through.
        """
        required = [file.name for file in self._files.values() if not file.optional]
        described = {file.name: file.description for file in self._files.values()}
        lacking = missing(required, names, described)
        findings: list[Finding] = []
        for file in self._files.values():
            head = heads.get(file.name)
            if head is not None and len(findings) < MOST:
                findings += _judged(file, head)
        return _together(lacking, findings) if lacking or findings else None


def _together(lacking: BadZip | None, findings: list[Finding]) -> BadZip:
    """One refusal for files that are missing and files that are wrong."""
    said = [f"({number}) {finding}" for number, finding in enumerate(findings[:_SAID], 1)]
    more = f"; and {len(findings) - _SAID} more" if len(findings) > _SAID else ""
    contents = "; ".join(said) + more
    if lacking is None:
        if len(findings) == 1:
            (one,) = findings
            return BadZip(f"expected {one.expected}; found {one.found}", one.file, (one,))
        return BadZip(f"{len(findings)} things are wrong: {contents}", None, tuple(findings))
    besides = str(findings[0]) if len(findings) == 1 else contents
    reason = f"{lacking.reason}. Besides, {besides}" if findings else lacking.reason
    return BadZip(reason, None, (*lacking.findings, *findings))


def _judged(file: InputFile, head: Head) -> list[Finding]:
    """What is wrong with the contents of one file."""
    if not head.size and not file.optional and not file.columns and file.pattern is None:
        return [Finding(file.name, file.description or "a file with contents", "an empty file")]
    findings = _judged_columns(file, head) if file.columns else []
    if file.pattern is not None:
        findings += _judged_pattern(file, file.pattern, head)
    return findings


def _judged_columns(file: InputFile, head: Head) -> list[Finding]:
    try:
        if not head.size:
            raise _NotText("an empty file")
        _refuse_other_formats(head.data, "save it as CSV")
        line = head.data.splitlines()[0]
        if len(line) == HEAD < head.size:
            raise _NotText(f"a first line of {HEAD} bytes and more")
        text = _decoded(line)
        if not text.strip():
            raise _NotText("an empty first line")
    except _NotText as e:
        return [Finding(file.name, f"CSV text with {named(file.columns)}", str(e))]
    return wrong_columns(file.name, file.columns, text)


def _judged_pattern(file: InputFile, pattern: str, head: Head) -> list[Finding]:
    expected = file.description or f"text that matches {pattern!r}"
    try:
        if head.size > patterns.MAX_TEXT:
            raise _NotText(f"{head.size} bytes; at most {patterns.MAX_TEXT} are allowed")
        _refuse_other_formats(head.data, "save it as plain text")
        text = _decoded(head.data).strip()
        try:
            if patterns.matches(pattern, text):
                return []
        except patterns.TooSlow:
            said = "which takes too long to check; tell whoever keeps the model"
            raise _NotText(f"{quoted(text)}, {said}") from None
        raise _NotText(quoted(text) if text else "only blanks" if head.size else "an empty file")
    except _NotText as e:
        return [Finding(file.name, expected, str(e))]


def _refuse_other_formats(data: bytes, advice: str) -> None:
    """Raises _NotText for what is well known not to be plain text."""
    if data.startswith(_UTF16):
        raise _NotText("text in UTF-16; save it as UTF-8")
    for magic, kind in _NO_TEXT:
        if data.startswith(magic):
            raise _NotText(f"{kind}; {advice}")


def _decoded(data: bytes) -> str:
    """``data`` as UTF-8, with a mark or without, or else as Latin-1. Raises _NotText."""
    if b"\0" in data:
        raise _NotText("binary data, which is no text")
    data = data.removeprefix(_BOM)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
