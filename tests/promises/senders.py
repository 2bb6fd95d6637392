"""Colleagues who send inputs over HTTP, and note each answer that they were given."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import random
import threading
import zipfile
from urllib.parse import urlsplit

_PAUSE = 0.02  # seconds after a try that failed: the primary is down
_PATIENCE = 60.0  # seconds without a byte


def zipped(rng: random.Random) -> bytes:
    """An input of up to 200 kB that does not pack, so that a torn one cannot look whole."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("data", rng.randbytes(rng.choice((100, 5_000, 200_000))))
    return data.getvalue()


class Senders:
    """``number`` threads that submit to ``model`` as fast as they are answered.

    ``acknowledged`` has the jobs of the answers, and the hashes of their inputs.
    """

    def __init__(self, model: str, number: int, seed: int) -> None:
        self.acknowledged: dict[str, str] = {}
        self.wrong: list[str] = []  # answers that are neither a job nor a clear error
        self._model = model
        self._address = ""
        self._open = threading.Event()
        self._over = threading.Event()
        self._news = threading.Condition()
        rngs = [random.Random(seed * 100 + n) for n in range(number)]
        self._threads = [threading.Thread(target=self._send, args=(rng,)) for rng in rngs]
        for thread in self._threads:
            thread.start()

    def go(self, address: str) -> None:
        """The primary is at ``address``."""
        self._address = address
        self._open.set()

    def hold(self) -> None:
        """Nothing more is begun; what is under way ends as it may."""
        self._open.clear()

    def wait(self, more: int, patience: float = _PATIENCE) -> bool:
        """Until ``more`` jobs are acknowledged than when this began."""
        with self._news:
            wanted = len(self.acknowledged) + more
            return self._news.wait_for(lambda: len(self.acknowledged) >= wanted, patience)

    def close(self) -> None:
        self._over.set()
        self._open.set()
        for thread in self._threads:
            thread.join()

    def _send(self, rng: random.Random) -> None:
        while not self._over.is_set():
            if not self._open.wait(_PAUSE) or self._over.is_set():
                continue
            data = zipped(rng)
            try:
                status, answer = self._put(data)
            except (OSError, http.client.HTTPException):
                self._over.wait(_PAUSE)  # no answer: nothing was promised
                continue
            if status == 200:
                with self._news:
                    self.acknowledged[str(json.loads(answer)["id"])] = digest(data)
                    self._news.notify_all()
            elif status < 500:
                self.wrong.append(f"{status}: {answer[:300]!r}")
            else:
                self._over.wait(_PAUSE)

    def _put(self, data: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self._address).netloc, timeout=_PATIENCE)
        try:
            headers = {"Content-Type": "application/zip", "Accept": "application/json"}
            path = f"/jobs?job_name=load&model={self._model}"
            connection.request("PUT", path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
