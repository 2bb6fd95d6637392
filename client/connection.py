"""Talking HTTP to one server, with the standard library alone."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any, TypeVar
from urllib.parse import urlsplit

from client.multipart import Body

T = TypeVar("T")
Json = dict[str, Any]
OnProgress = Callable[[int, int], None]

SERVER_VARIABLE = "MODELRUNNER_SERVER"
TIMEOUT = 60.0  # seconds without a byte
TRIES = 5  # of a request that may be repeated
BACK_OFF = 0.25  # seconds before the second try; doubled each time
PIECE = 256 * 1024  # bytes


class ClientError(Exception):
    """The server refused. ``status`` is HTTP's; ``field`` names the form field that is wrong."""

    def __init__(self, message: str, status: int | None = None, field: str | None = None) -> None:
        self.status, self.field = status, field
        super().__init__(message)


class Unreachable(ClientError):
    """No answer from the server. What was asked may have been done all the same."""


class Connection:
    """A server's address and the admin key. Each request has a connection of its own."""

    def __init__(self, server: str, key: str | None) -> None:
        if "://" not in server:
            server = f"http://{server}"
        parts = urlsplit(server)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise ClientError(
                f"{server!r} is no server's address; expected http://HOST:PORT "
                f"(--server or {SERVER_VARIABLE})"
            )
        self.server = server.rstrip("/")
        self._https, self._host, self._port = parts.scheme == "https", parts.hostname, port
        self._prefix = parts.path.rstrip("/")
        self._key = key

    # --- reading: safe to repeat

    def get(self, path: str) -> Json:
        """The JSON object at ``path``."""
        return self._json(self.read(path)[1])

    def read(self, path: str) -> tuple[Message, bytes]:
        """Headers and body; tried again, with back-off, where the connection drops."""

        def once() -> tuple[Message, bytes]:
            with self._asked(path, {}) as response:
                return response.headers, response.read()

        return self.tried(once)

    @contextmanager
    def opened(self, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is still to be read; that may raise OSError or HTTPException."""
        asked = self.tried(lambda: self._ask(path, headers))
        with self._answered(*asked) as response:
            yield response

    def tried(self, work: Callable[[], T]) -> T:
        """What ``work`` returns. Raises Unreachable."""
        tries = 1
        while True:
            try:
                return work()
            except (OSError, http.client.HTTPException) as e:
                if tries >= TRIES or not _passing(e):
                    raise self._unreachable(e) from e
            time.sleep(BACK_OFF * 2 ** (tries - 1))
            tries += 1

    @contextmanager
    def _asked(self, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        with self._answered(*self._ask(path, headers)) as response:
            yield response

    def _ask(
        self, path: str, headers: dict[str, str]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = self._connection()
        try:
            connection.request("GET", self._prefix + path, headers=self._headers(headers))
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    @contextmanager
    def _answered(
        self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse
    ) -> Iterator[http.client.HTTPResponse]:
        try:
            if response.status >= 300:
                raise self._refusal(response)
            yield response
        finally:
            response.close()
            connection.close()

    # --- writing: never repeated

    def post(self, path: str, body: Body, on_progress: OnProgress | None) -> Json:
        """Never repeated: who loses the answer cannot know whether it was done."""
        connection = self._connection()
        try:
            with self._talking():
                connection.putrequest("POST", self._prefix + path)
                headers = {"Content-Type": body.content_type, "Content-Length": str(body.size)}
                for name, value in self._headers(headers).items():
                    connection.putheader(name, value)
                connection.endheaders()
            self._send(connection, body, on_progress)
            with self._talking():
                response = connection.getresponse()
                if response.status >= 300:
                    raise self._refusal(response)
                return self._json(response.read())
        finally:
            connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, body: Body, on_progress: OnProgress | None
    ) -> None:
        sent = 0
        for piece in body.pieces(PIECE):  # the file's own errors are the caller's
            try:
                with self._talking():
                    connection.send(piece)
            except Unreachable as e:
                if isinstance(e.__cause__, BrokenPipeError | ConnectionResetError):
                    return  # refused before all had arrived: the answer says why
                raise
            sent += len(piece)
            if on_progress:
                on_progress(sent, body.size)

    @contextmanager
    def _talking(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as e:
            raise self._unreachable(e) from e

    def _connection(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=TIMEOUT)

    def _headers(self, more: dict[str, str]) -> dict[str, bytes]:
        headers = {"Accept": "application/json", "User-Agent": "modelrunner"} | more
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return {name: value.encode() for name, value in headers.items()}

    def _json(self, data: bytes) -> Json:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError(f"{self.server} is not a Model Runner: it answered no JSON object")
        return answer

    def _refusal(self, response: http.client.HTTPResponse) -> ClientError:
        try:
            problem = json.loads(response.read(64 * 1024))
            return ClientError(str(problem["detail"]), response.status, problem.get("field"))
        except (ValueError, KeyError, TypeError, AttributeError):
            text = f"{self.server} answered {response.status} {response.reason}"
            return ClientError(text, response.status)

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(
            f"no answer from {self.server}: {reason}; is it running there? "
            f"Another address is set with --server or {SERVER_VARIABLE}"
        )


def _passing(error: Exception) -> bool:
    """Whether another try may help. A refused connection is no accident: nobody listens."""
    return isinstance(
        error, ConnectionError | TimeoutError | http.client.HTTPException
    ) and not isinstance(error, ConnectionRefusedError)
