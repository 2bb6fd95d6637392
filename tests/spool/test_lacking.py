"""A required file that is not there: what its sender is told."""

from __future__ import annotations

import pytest

from spool import lacking
from spool.errors import MOST
from spool.lacking import missing

A = ["sleep_count"]
TOP = "a file of this name at the top of the zip"

# required, the names in the zip: what is found, and the advice at the reason's end.
HINTS: dict[str, tuple[list[str], list[str], str, str]] = {
    "nothing": (A, ["x"], "nothing like it among: x", "Put it at the top level of the zip"),
    "in a folder": (
        A, ["in/sleep_count"], "in the folder 'in': zip what is in the folder, not the folder",
        "the folder 'in' was zipped: zip what is in the folder, not the folder itself",
    ),
    "in a folder, with macOS' copy": (
        A, ["__MACOSX/in/._sleep_count", ".DS_Store", "in/sleep_count"], "in the folder 'in'", "",
    ),
    "only what macOS adds": (A, ["__MACOSX/._sleep_count", "x/.DS_Store"], "only folders", ""),
    "case": (
        A, ["Sleep_Count"], "'Sleep_Count', which differs in upper and lower case",
        "'Sleep_Count' is not the same name: capital letters count",
    ),
    "accents": (
        ["\u00fc"], ["u\u0308"], "which differs in how its accents are written",
        "copy the name from the model's page",
    ),
    "an ending too much": (
        A, ["sleep_count.txt"], "'sleep_count.txt', with an ending too much: rename it",
        "Rename 'sleep_count.txt' to 'sleep_count': it must have exactly this name",
    ),
    "twice the ending": (["c.csv"], ["c.csv.CSV"], "with an ending too much", ""),
    "in a folder, in other letters": (
        A, ["in/SLEEP_COUNT"], "'in/SLEEP_COUNT': it must be 'sleep_count'",
        "Call it 'sleep_count' in the zip, not 'in/SLEEP_COUNT'",
    ),
    "not in its folder": (["d/a.csv"], ["a.csv"], "'a.csv': it must be 'd/a.csv'", ""),
    "a folder": (
        A, ["sleep_count/", "sleep_count/x"], "a folder of this name, and no file",
        "'sleep_count' must be a file",
    ),
    "a zip": (
        A, ["stuff.zip"], "only another zip in this one, 'stuff.zip': send that one",
        "It seems that a zip was zipped: send 'stuff.zip' itself",
    ),
    "a zip that is wanted": (["a.zip"], ["b.zip"], "nothing like it among: b.zip", ""),
    "similar": (
        A, ["x", "Sleep-count"], "'Sleep-count', a similar name: rename it",
        "Rename 'Sleep-count' to 'sleep_count': it must have exactly this name",
    ),
    "a typo": (["climate.csv"], ["climat.csv"], "'climat.csv', a similar name", ""),
    "another ending": (
        ["climate.csv"], ["climate.xlsx"],
        "'climate.xlsx', which has another ending: save it as 'climate.csv'",
        "If 'climate.xlsx' is meant, save it as 'climate.csv'",
    ),
    "add it": (["d/sleep_count"], ["x"], "nothing like it", "Add it to the zip"),
    "many": (A, [f"f{n}" for n in range(9)], "among: f0, f1, f2, f3 and 5 more", ""),
}  # fmt: skip


@pytest.mark.parametrize("case", HINTS)
def test_hints(case: str) -> None:
    required, names, found, advice = HINTS[case]
    refused = missing(required, names)
    assert refused is not None
    (finding,) = refused.findings
    assert finding.file == required[0]
    assert found in finding.found
    assert refused.reason.startswith(f"the zip has no file {required[0]!r}; it holds: ")
    assert refused.reason.endswith(advice)


def test_nothing_is_missing() -> None:
    assert missing([], []) is None
    assert missing(["a", "b/c"], ["b/", "b/c", "a", "more"]) is None


def test_each_missing_file_has_a_finding_with_what_it_should_hold() -> None:
    refused = missing(["a", "d/b", "c"], ["c"], {"a": "a whole number"})
    assert refused is not None
    assert [f.file for f in refused.findings] == ["a", "d/b"]
    assert refused.findings[0].expected == f"{TOP}: a whole number"
    assert refused.findings[1].expected == "a file of this name in the folder 'd' of the zip"
    assert "no files 'a', 'd/b'; it holds: c. " in refused.reason


def test_a_file_that_means_something_else_is_no_typo() -> None:
    refused = missing(["data1.csv", "data2.csv"], ["data2.csv"])
    assert refused is not None
    assert refused.findings[0].found == "nothing like it among: data2.csv"


def test_the_folder_was_zipped_only_if_all_that_is_missing_lies_there() -> None:
    refused = missing(["a", "b"], ["in/a", "x"])
    assert refused is not None
    assert refused.findings[0].found == "'in/a': it must be 'a'"


def test_what_cannot_be_printed_is_not() -> None:
    refused = missing(["a"], ["x\u202d\u00ad.txt", "\ud7ff"])
    assert refused is not None
    assert str(refused).isprintable()
    assert refused.findings[0].found.isprintable()


def test_many_names_and_many_files_cost_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name is looked at closely once, and not once for each file that is missing."""
    folded: list[str] = []
    fold = lacking._folded

    def counting(name: str) -> str:
        folded.append(name)
        return fold(name)

    monkeypatch.setattr(lacking, "_folded", counting)
    names = [f"d{n}/file{m}" for n in range(500) for m in range(100)]
    refused = missing([f"file{n}x" for n in range(30)], names)
    assert refused is not None and len(refused.findings) == MOST
    assert len(folded) < 2 * len(names)
