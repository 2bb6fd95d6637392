"""Talking HTTP to one server, with the standard library alone.

Whatever is asked here may be asked twice: reads by their nature, a kill and a check
because doing them again changes nothing, and what makes a job because each call has an
Idempotency-Key, by which the server knows the job that it has made already.
"""

from __future__ import annotations

import http.client
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.message import Message
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from client.errors import BadInput, ClientError, Unreachable
from client.multipart import Body
from client.shapes import Finding

T = TypeVar("T")
Json = dict[str, Any]
OnProgress = Callable[[int, int], None]

SERVER_VARIABLE = "MODELRUNNER_SERVER"
TIMEOUT = 60.0  # seconds without a byte
CHECKING = 900.0  # seconds that the server may take to check what was sent
TRIES = 5  # of a request whose connection drops
BACK_OFF = 0.25  # seconds before the second try; doubled each time
BUSY = 60.0  # seconds that a submission waits for a server that is busy or stopping
BUSY_PAUSE = 5.0  # seconds between its questions at most
PIECE = 256 * 1024  # bytes

# These say "ask again": the same submission is under way, or the server restarts.
_PASSING = (http.HTTPStatus.CONFLICT, http.HTTPStatus.SERVICE_UNAVAILABLE)


class Answer(NamedTuple):
    """``whole``: the body was read to its end."""

    headers: Message
    body: bytes
    whole: bool


class Connection:
    """A server's address and a key. Each request has a connection of its own."""

    def __init__(
        self, server: str, key: str | None, *, timeout: float = TIMEOUT, tries: int = TRIES
    ) -> None:
        if "://" not in server:
            server = f"http://{server}"
        try:
            parts = urlsplit(server)
            host, port = parts.hostname, parts.port
        except ValueError:
            host = port = None
        if not host or parts.scheme not in ("http", "https"):
            raise ClientError(
                f"{server!r} is no server's address; expected http://HOST:PORT "
                f"(--server or {SERVER_VARIABLE})"
            )
        self.server = server.rstrip("/")
        self._https, self._host, self._port = parts.scheme == "https", host, port
        self._prefix = parts.path.rstrip("/")
        self._key = key
        self._timeout, self._tries = timeout, tries

    # --- reading

    def get(self, path: str) -> Json:
        """The JSON object at ``path``."""
        return self._json(self.read(path).body)

    def member(self, path: str, name: str) -> Any:
        """One member of the JSON object at ``path``."""
        return self.taken(self.get(path), name)

    def taken(self, answer: Json, name: str) -> Any:
        """A member that every answer of this kind has. Raises ClientError if this one has not."""
        if name not in answer:
            raise ClientError(f"{self.server} is not a Model Runner: its answer has no {name!r}")
        return answer[name]

    def read(self, path: str, most: int | None = None) -> Answer:
        """The answer, with at most ``most`` bytes of its body. Raises Unreachable."""

        def once() -> Answer:
            with self._answered(*self._ask(path, {})) as response:
                body = response.read(most)
                whole = most is None or response.isclosed()
                if not whole and len(body) < (most or 0):  # read(n) says nothing of a cut
                    raise http.client.IncompleteRead(body)
                return Answer(response.headers, body, whole)

        return self._tried(once)

    @contextmanager
    def opened(self, path: str, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
        """An answer whose body is still to be read; that may raise OSError or HTTPException."""
        asked = self._tried(lambda: self._ask(path, headers))
        with self._answered(*asked) as response:
            yield response

    def _tried(self, work: Callable[[], T]) -> T:
        tries = 1
        while True:
            try:
                return work()
            except (OSError, http.client.HTTPException) as e:
                if not self._again(e, tries):
                    raise self._unreachable(e) from e
            time.sleep(BACK_OFF * 2 ** (tries - 1))
            tries += 1

    def _again(self, error: BaseException | None, tries: int) -> bool:
        """Whether another try may help.

        A first connection that is refused is no accident: nobody listens there. A later
        one may be refused because the server restarts.
        """
        passing = isinstance(error, ConnectionError | TimeoutError | http.client.HTTPException)
        refused = isinstance(error, ConnectionRefusedError) and tries == 1
        return passing and not refused and tries < self._tries

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

    # --- writing

    def post(
        self,
        path: str,
        body: Body,
        *,
        key: str | None = None,
        on_progress: OnProgress | None = None,
    ) -> Json:
        """Post a form; again, and from its beginning, where the connection drops.

        ``key`` is the Idempotency-Key of what must not be done twice. With it a server
        that is busy with the same, or restarting, is waited for. Raises Unreachable, and
        OSError where the form's file cannot be read.
        """
        until = time.monotonic() + BUSY
        tries = 1
        while True:
            try:
                return self._post(path, body, key, on_progress)
            except Unreachable as e:
                if not self._again(e.__cause__, tries):
                    if key is None or tries == 1:
                        raise
                    raise Unreachable(
                        f"{e}. The job may have been made all the same: the list of jobs shows"
                    ) from e
                time.sleep(BACK_OFF * 2 ** (tries - 1))
                tries += 1
            except ClientError as e:
                if key is None or e.status not in _PASSING or time.monotonic() > until:
                    raise
                time.sleep(min(e.retry_after or BACK_OFF, BUSY_PAUSE))

    def _post(self, path: str, body: Body, key: str | None, on_progress: OnProgress | None) -> Json:
        headers = {"Content-Type": body.content_type, "Content-Length": str(body.size)}
        if key is not None:
            headers["Idempotency-Key"] = key
        connection = self._connection()
        try:
            with self._talking():
                connection.putrequest("POST", self._prefix + path)
                for name, value in self._headers(headers).items():
                    connection.putheader(name, value)
                connection.endheaders()
            self._send(connection, body, on_progress)
            with self._talking():
                if connection.sock is not None:
                    connection.sock.settimeout(max(CHECKING, self._timeout))
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
        return kind(self._host, self._port, timeout=self._timeout)

    def _headers(self, more: dict[str, str]) -> dict[str, bytes]:
        headers = {"Accept": "application/json", "User-Agent": "modelrunner"} | more
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return {name: value.encode() for name, value in headers.items()}

    # --- what came back

    def _json(self, data: bytes) -> Json:
        try:
            answer = json.loads(data)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ClientError(f"{self.server} is not a Model Runner: it answered no JSON object")
        return answer

    def _refusal(self, response: http.client.HTTPResponse) -> ClientError:
        status, wait = response.status, _seconds(response.getheader("Retry-After"))
        try:
            problem = json.loads(response.read(1024 * 1024))
            findings = [_finding(each) for each in problem.get("findings", ())]
            kind = BadInput if findings else ClientError
            return kind(str(problem["detail"]), status, problem.get("field"), findings, wait)
        except (ValueError, KeyError, TypeError, AttributeError):
            text = f"{self.server} answered {status} {response.reason}"
            if 300 <= status < 400 and (elsewhere := response.getheader("Location")):
                text += f", and leads to {elsewhere}; give that server's address instead (--server)"
            elif status < 500 or status == http.HTTPStatus.NOT_IMPLEMENTED:
                text += "; is it a Model Runner that answers there?"
            return ClientError(text, status, retry_after=wait)

    def _unreachable(self, error: Exception) -> Unreachable:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if getattr(error, "reason", "") == "WRONG_VERSION_NUMBER":  # of ssl.SSLError
            reason = "it does not speak HTTPS; try http://"
        return Unreachable(
            f"no answer from {self.server}: {reason}; is it running there? "
            f"Another address is set with --server or {SERVER_VARIABLE}"
        )


def _finding(members: dict[str, object]) -> Finding:
    return Finding(
        file=str(members["file"]), expected=str(members["expected"]), found=str(members["found"])
    )


def _seconds(text: str | None) -> float | None:
    """Retry-After as a number of seconds; its other form, a date, is not for us."""
    try:
        seconds = float(text or "")
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None
