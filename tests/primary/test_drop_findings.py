"""A dropped zip that is refused: everything that was found lies beside it."""

from __future__ import annotations

import io
import zipfile

from tests.primary.hand import Hand

MODEL = """command = ["true"]
[input.files."a.csv"]
columns = ["x"]
[input.files.b]
description = "a whole number"
pattern = "[0-9]+"
"""


def test_each_finding_has_a_line_in_its_why(hand: Hand) -> None:
    hand.add_model("test", MODEL)
    hand.restart()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.csv", "X")
        archive.writestr("b", "hello")
    (hand.drop / "z.zip").write_bytes(out.getvalue())
    hand.settle()
    rejected = hand.drop / "z.zip.rejected"
    hand.until(rejected.exists, "its rejection")
    why = (hand.drop / "z.why.txt").read_text().splitlines()
    assert why[0] == "This zip cannot be run by the model test:"
    assert why[1].startswith("2 things are wrong: (1) a.csv: expected ")
    assert why[2:] == [
        "- a.csv: expected the column 'x' in its first line; "
        "found 'X', which differs in upper and lower case",
        "- b: expected a whole number; found 'hello'",
    ]
