"""Required files that a zip does not hold, and why its sender may think that it does. Pure.

Most refused inputs are right but for a name: the folder was zipped and not what is
in it, ``Sleep_Count`` is called so, an editor added ``.txt``.
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from itertools import islice
from typing import NamedTuple

from spool.entrynames import shown
from spool.errors import MOST, BadZip, Finding

_COMPARED = 500  # names that are looked through for a similar one, which is slow
_UNDESCRIBED: Mapping[str, str] = {}


class _There(NamedTuple):
    """What a zip holds, and what it lacks.

    ``files`` are those that matter, each with its name folded; of ``unknown`` ones, here by
    their stems, the model says nothing.
    """

    lacking: list[str]
    files: Mapping[str, str]
    entries: Collection[str]
    unknown: Mapping[str, str]


class _Hint(NamedTuple):
    """What lies there instead of a file, as a finding says it and as advice."""

    found: str
    advice: str


def missing(
    required: Collection[str],
    names: Iterable[str],
    described: Mapping[str, str] = _UNDESCRIBED,
) -> BadZip | None:
    """What is wrong with a zip whose entries are ``names``, or None if all files are there.

    Each file that is not has a finding; ``described`` says by name what it holds.
    """
    entries = dict.fromkeys(names)
    lacking = [name for name in dict.fromkeys(required) if name not in entries]
    if not lacking:
        return None
    files = {name: _folded(name) for name in entries if not name.endswith("/") and _ours(name)}
    known = {*required, *described}
    unknown = {_stem(file): file for file in islice(files, _COMPARED) if file not in known}
    there = _There(lacking, files, entries, unknown)
    first = lacking[:MOST]  # each hint costs a look at all names in the zip
    hints = [_hint(name, there) for name in first]
    findings = [
        Finding(_printable(shown(name)), _expected(name, described.get(name, "")), hint.found)
        for name, hint in zip(first, hints, strict=True)
    ]
    what = "file" if len(lacking) == 1 else "files"
    said = f"the zip has no {what} {_some(list(map(repr, lacking)))}; it holds: {_some(files)}"
    return BadZip(f"{said}. {hints[0].advice}", findings=tuple(findings))


def _ours(name: str) -> bool:
    """Not one of those that macOS and Windows add unasked."""
    last = name.rpartition("/")[2]
    junk = last in (".DS_Store", "Thumbs.db", "desktop.ini")
    return not junk and not name.startswith("__MACOSX/")


def _expected(name: str, description: str) -> str:
    folder = name.rpartition("/")[0]
    place = f"in the folder {shown(folder)!r} of the zip" if folder else "at the top of the zip"
    return f"a file of this name {place}" + (f": {description}" if description else "")


def _some(names: Collection[str], most: int = 8) -> str:
    if not names:
        return "only folders"
    first = [_printable(shown(name)) for name in islice(names, most)]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(first) + more


def _hint(wanted: str, there: _There) -> _Hint:
    """The likeliest reason why ``wanted`` is not there."""
    for look in (_wrapped, _spelled, _lengthened, _elsewhere, _folder, _zipped_twice, _similar):
        if (hint := look(wanted, there)) is not None:
            return hint
    advice = "Add it to the zip" if "/" in wanted else "Put it at the top level of the zip"
    some = _some(there.files, 4)
    return _Hint(f"nothing like it among: {some}" if there.files else some, advice)


def _wrapped(wanted: str, there: _There) -> _Hint | None:
    """All that is lacking lies in one folder."""
    for file in there.files:
        if file.endswith("/" + wanted):
            folder = file.removesuffix(wanted)
            if all(folder + name in there.files for name in there.lacking):
                where = shown(folder.rstrip("/"))
                how = "zip what is in the folder, not the folder itself"
                return _Hint(
                    f"in the folder {where!r}: {how}",
                    f"It seems that the folder {where!r} was zipped: {how}",
                )
    return None


def _spelled(wanted: str, there: _There) -> _Hint | None:
    folded = _folded(wanted)
    for file, name in there.files.items():
        if name == folded:
            which, rule = "upper and lower case", "capital letters count"
            if file.lower() != wanted.lower():
                which, rule = "how its accents are written", "copy the name from the model's page"
            return _Hint(
                f"{shown(file)!r}, which differs in {which}",
                f"{shown(file)!r} is not the same name: {rule}",
            )
    return None


def _lengthened(wanted: str, there: _There) -> _Hint | None:
    longer = _folded(wanted) + "."
    for file, name in there.files.items():
        if name.startswith(longer):
            return _rename(file, wanted, "with an ending too much")
    return None


def _elsewhere(wanted: str, there: _There) -> _Hint | None:
    """The file is there, but in another folder, perhaps in other letters too."""
    last = _folded(wanted.rpartition("/")[2])
    for file, name in there.files.items():
        if name.rpartition("/")[2] == last:
            return _Hint(
                f"{shown(file)!r}: it must be {shown(wanted)!r}",
                f"Call it {shown(wanted)!r} in the zip, not {shown(file)!r}",
            )
    return None


def _folder(wanted: str, there: _There) -> _Hint | None:
    if any(name.startswith(wanted + "/") for name in there.entries):
        return _Hint("a folder of this name, and no file", f"{shown(wanted)!r} must be a file")
    return None


def _zipped_twice(wanted: str, there: _There) -> _Hint | None:
    only = next(iter(there.files), "")
    if len(there.files) == 1 and _ending(only) == "zip" != _ending(wanted):
        return _Hint(
            f"only another zip in this one, {shown(only)!r}: send that one",
            f"It seems that a zip was zipped: send {shown(only)!r} itself",
        )
    return None


def _similar(wanted: str, there: _There) -> _Hint | None:
    """Of the files that mean nothing, the one whose name is most like ``wanted``."""
    close = difflib.get_close_matches(_stem(wanted), there.unknown, n=1, cutoff=0.75)
    if not close:
        return None
    file = there.unknown[close[0]]
    if _ending(file) == _ending(wanted):
        return _rename(file, wanted, "a similar name")
    return _Hint(
        f"{shown(file)!r}, which has another ending: save it as {shown(wanted)!r}",
        f"If {shown(file)!r} is meant, save it as {shown(wanted)!r}",
    )


def _rename(file: str, wanted: str, what: str) -> _Hint:
    return _Hint(
        f"{shown(file)!r}, {what}: rename it",
        f"Rename {shown(file)!r} to {shown(wanted)!r}: it must have exactly this name",
    )


def _stem(name: str) -> str:
    """Without ending, folders, and what people write in one way or another."""
    stem = _folded(name.rpartition("/")[2]).partition(".")[0]
    return "".join(c for c in stem if c not in " _-")[:255]


def _ending(name: str) -> str:
    return name.rpartition("/")[2].partition(".")[2].lower()


def _printable(text: str) -> str:
    """For where it stands without quotes, which would write out what cannot be printed."""
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.lower())
