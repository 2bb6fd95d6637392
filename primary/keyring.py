"""The access keys as a running primary knows them: what ``keys.json`` says now."""

from __future__ import annotations

import hmac
import logging
import os
import threading
from pathlib import Path

from primary import accesskeys
from primary.accesskeys import AccessKey
from spool.errors import Refused

log = logging.getLogger(__name__)

_Sign = tuple[int, int, int] | None


class Keyring:
    """The keys of the data directory ``data``. Thread-safe.

    Each question looks whether the file was replaced, so what ``modelrunner key`` did holds from
    the next request on. Raises Refused or OSError at first; later, a file that cannot be read
    leaves the keys as they were, and ``trouble`` says why.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._path = data / accesskeys.FILE
        self._lock = threading.Lock()
        self._seen = self._sign()
        self._keys = _with_digests(accesskeys.read(data))
        self._trouble = ""

    def keys(self) -> tuple[AccessKey, ...]:
        return tuple(key for _, key in self._now())

    def find(self, digest: bytes) -> AccessKey | None:
        """The key with this digest. All are compared, each in constant time."""
        found = None
        for known, key in self._now():
            if hmac.compare_digest(known, digest):
                found = key
        return found

    def named(self, name: str) -> AccessKey | None:
        return next((key for _, key in self._now() if key.name == name), None)

    def trouble(self) -> str:
        """Why the file does not count as it is now, or ""."""
        self._now()
        return self._trouble

    def _now(self) -> tuple[tuple[bytes, AccessKey], ...]:
        try:
            sign = self._sign()
        except OSError as e:
            self._trouble = f"{self._path}: {e.strerror}; the keys hold as they were"
            return self._keys
        if sign == self._seen:
            return self._keys
        with self._lock:
            if sign != self._seen:
                self._read(sign)
            return self._keys

    def _read(self, sign: _Sign) -> None:
        try:
            self._keys = _with_digests(accesskeys.read(self._data))
            self._trouble = ""
        except (Refused, OSError) as e:
            why = e.strerror if isinstance(e, OSError) else str(e)
            self._trouble = f"{self._path}: {why}; the keys hold as they were before"
            log.warning("%s", self._trouble)
        self._seen = sign

    def _sign(self) -> _Sign:
        """What changes whenever the file is replaced; None where there is none."""
        try:
            info = os.stat(self._path)
        except FileNotFoundError:
            return None
        return info.st_ino, info.st_mtime_ns, info.st_size


def _with_digests(keys: tuple[AccessKey, ...]) -> tuple[tuple[bytes, AccessKey], ...]:
    return tuple((key.digest, key) for key in keys)
