"""What an agent writes into a run directory for its successor: the order and the final report."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from engine.contract import Order
from spool.reports import FileFact, FinalReport


class Notes:
    """order.json and final.json of one run directory.

    What a power cut tore reads as None: the order was not given then, and the final
    report is made again from exit.json.
    """

    def __init__(self, folder: Path) -> None:
        self._order = folder / "order.json"
        self._final = folder / "final.json"

    def order(self) -> Order | None:
        try:
            return msgspec.json.decode(self._order.read_bytes(), type=Order)
        except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
            return None

    def final(self) -> FinalReport | None:
        try:
            return msgspec.json.decode(self._final.read_bytes(), type=FinalReport)
        except (FileNotFoundError, msgspec.MsgspecError):
            return None

    def is_final(self) -> bool:
        return self._final.exists()

    def write_order(self, order: Order) -> None:
        _write(self._order, msgspec.json.encode(order))

    def write_final(self, final: FinalReport) -> None:
        _write(self._final, msgspec.json.encode(final))


def fact(path: Path) -> FileFact:
    """A file's size and hash."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return FileFact(file.tell(), sha256)


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all."""
    half = path.with_name(path.name + ".half")
    half.write_bytes(data)
    half.rename(path)
