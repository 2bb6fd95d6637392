"""A multipart form of known length, sent in pieces: a file is never held in memory."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from typing import BinaryIO


class Body:
    """Text fields and at most one file, which is read from its present place to its end."""

    def __init__(
        self,
        fields: dict[str, str],
        file_field: str = "",
        file_name: str = "",
        file: BinaryIO | None = None,
    ) -> None:
        # 128 random bits: not in any file by chance
        boundary = f"modelrunner-{secrets.token_hex(16)}"
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head = [
            f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(name)}"\r\n\r\n'
            f"{value}\r\n"
            for name, value in fields.items()
        ]
        if file is not None:
            head.append(
                f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(file_field)}"; '
                f'filename="{_quoted(file_name)}"\r\nContent-Type: application/zip\r\n\r\n'
            )
        self._head = "".join(head).encode(errors="replace")
        self._tail = f"{'' if file is None else chr(13) + chr(10)}--{boundary}--\r\n".encode()
        self._file = file
        self._start = file.tell() if file else 0
        self._file_size = file.seek(0, os.SEEK_END) - self._start if file else 0
        self.size = len(self._head) + self._file_size + len(self._tail)

    def pieces(self, size: int) -> Iterator[bytes]:
        """The body in pieces of at most about ``size`` bytes, each time from its beginning.

        Raises OSError if the file shrank.
        """
        yield self._head
        left = self._file_size
        if self._file is not None:
            self._file.seek(self._start)
        while left and self._file is not None:
            piece = self._file.read(min(size, left))
            if not piece:
                raise OSError("the file became shorter while it was sent")
            left -= len(piece)
            yield piece
        yield self._tail


def _quoted(text: str) -> str:
    """As browsers write names into a part's header (WHATWG)."""
    return text.replace("\r", "%0D").replace("\n", "%0A").replace('"', "%22")
