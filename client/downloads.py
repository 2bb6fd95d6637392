"""Downloads: whole or not at all, and going on where a connection dropped."""

from __future__ import annotations

import http.client
import time
from pathlib import Path
from typing import BinaryIO

from client import connection
from client.connection import PIECE, TRIES, Connection, OnProgress
from client.errors import Unreachable


def fetch(http_: Connection, path: str, target: Path, on_progress: OnProgress | None) -> Path:
    """Put what the server has at ``path`` into the file ``target``.

    ``on_progress`` gets bytes so far and in all. Raises ClientError, and OSError where
    ``target`` cannot be written; then nothing is left of it, and what was there before stays.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        with _opened(part, target) as file:
            _fetch(http_, path, file, on_progress)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


def _opened(part: Path, target: Path) -> BinaryIO:
    try:
        return part.open("wb")
    except OSError as e:
        e.filename = str(target)  # the name that was given, not ours
        raise


def _fetch(http_: Connection, path: str, file: BinaryIO, on_progress: OnProgress | None) -> None:
    tag: str | None = None
    idle = 0
    while True:
        at = file.tell()
        headers = {"Range": f"bytes={at}-", "If-Range": tag} if at and tag else {}
        total: int | None = None
        error: str | None = None
        with http_.opened(path, headers) as response:
            if response.status != 206:
                at = file.seek(0)
                file.truncate()
            tag = response.getheader("ETag")
            if length := response.getheader("Content-Length"):
                total = at + int(length)
            while True:
                try:
                    piece = response.read(PIECE)
                except (OSError, http.client.HTTPException) as e:
                    error = str(e) or type(e).__name__
                    break
                if not piece:
                    break
                file.write(piece)
                if on_progress:
                    on_progress(file.tell(), total or file.tell())
        if error is None and (total is None or file.tell() >= total):
            return
        idle = 0 if file.tell() > at else idle + 1
        if idle >= TRIES:
            reason = error or "the connection was closed early"
            raise Unreachable(f"{http_.server}{path}: {reason}; {file.tell()} bytes had come")
        time.sleep(connection.BACK_OFF * 2**idle)
