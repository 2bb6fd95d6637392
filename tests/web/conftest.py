"""A real primary without a worker, and a WSGI client under wsgiref's validator."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote, urlencode
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from ledger.events import AnyEvent, Completed, Digest, Failed, Queued, RunFacts, Started, Submitted
from ledger.log import Ledger
from primary.server import Primary
from web.access import Access
from web.routes import Application, application

OPEN = Access(anonymous="admin")


class Answer:
    def __init__(self, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status, self.body = int(status[:3]), body
        self.headers = {name.lower(): value for name, value in headers}

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        assert "json" in self.headers["content-type"], self.headers
        return json.loads(self.body)


class Browser:
    """Calls the application as a WSGI server would; ``accept`` and ``headers`` stay."""

    def __init__(self, app: Application, **headers: str) -> None:
        self._app, self._checked = app, validator(app)
        self._headers = {"Host": "localhost:8080", "Accept": "*/*"} | _named(headers)

    def call(self, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
        path, _, query = path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote(path).encode().decode("latin-1"),
            "QUERY_STRING": query,
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.input": io.BytesIO(body),
        }
        setup_testing_defaults(environ)
        del environ["HTTP_HOST"]
        for name, value in (self._headers | _named(headers)).items():
            if value:
                environ["HTTP_" + name.upper().replace("-", "_")] = value
        environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
        environ["CONTENT_LENGTH"] = environ.pop("HTTP_CONTENT_LENGTH", str(len(body)))
        got: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            assert exc_info is None
            got[:] = [status, headers]
            return lambda _data: None

        parts = self._checked(environ, start)
        try:
            data = b"".join(parts)
        finally:
            parts.close()  # type: ignore[attr-defined]
        return Answer(got[0], got[1], data)

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, b"", **headers)

    def post(self, path: str, **headers: str) -> Answer:
        return self.call("POST", path, b"", **headers)

    def form(self, path: str, fields: dict[str, str], **headers: str) -> Answer:
        kind = "application/x-www-form-urlencoded"
        body = urlencode(fields).encode()
        return self.call("POST", path, body, content_type=kind, **headers)

    def upload(
        self, path: str, fields: dict[str, str], file: bytes | None = None, **headers: str
    ) -> Answer:
        body = multipart(fields, file)
        kind = "multipart/form-data; boundary=XX"
        return self.call("POST", path, body, content_type=kind, **headers)


def _named(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-").title(): value for name, value in headers.items()}


def multipart(fields: dict[str, str], file: bytes | None) -> bytes:
    parts = [
        f'--XX\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    if file is not None:
        head = 'Content-Disposition: form-data; name="zip_file"; filename="in.zip"'
        parts.append(f"--XX\r\n{head}\r\n\r\n".encode() + file + b"\r\n")
    return b"".join(parts) + b"--XX--\r\n"


def zipped(**files: str) -> bytes:
    """The same bytes for the same files, whenever it is made."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name), text)
    return data.getvalue()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    for name, more in (("echo", ""), ("strict", '[input]\nrequired = ["wanted.txt"]\n')):
        (folder / name).mkdir(parents=True)
        text = f'title = "{name} & <co>"\ncommand = ["/bin/true"]\n{more}'
        (folder / name / "model.toml").write_text(text)
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def primary(data: Path, models: Path) -> Iterator[Primary]:
    primary = Primary.open(data, models, ())
    yield primary
    primary.close()


@pytest.fixture
def app(primary: Primary) -> Application:
    return application(primary, OPEN)


@pytest.fixture
def web(app: Application) -> Browser:
    """An API client: what curl sends."""
    return Browser(app)


@pytest.fixture
def browser(app: Application) -> Browser:
    return Browser(app, accept="text/html,application/xhtml+xml,*/*;q=0.8")


@pytest.fixture
def submitted(web: Browser) -> str:
    """The id of a job that waits for a worker."""
    answer = web.upload("/jobs", {"job_name": "one", "model": "echo"}, zipped(a="1"))
    id: str = answer.json["id"]
    return id


DONE = "00000000-0000-4000-8000-000000000001"
BROKEN = "00000000-0000-4000-8000-000000000002"
RUNNING = "00000000-0000-4000-8000-000000000003"
LOG = b"first line\n<script>alert(1)</script>\n" + b"x" * 100
HOSTILE = "<script>alert('&\"')</script>"


@pytest.fixture
def history(data: Path) -> Callable[[], None]:
    """Writes a past into the ledger before the primary opens it: one job of each kind."""

    def write() -> None:
        data.mkdir(exist_ok=True)
        ledger = Ledger.open(data / "ledger", data / "board.sqlite")
        run = RunFacts(exit_code=0, wall_seconds=1.5, cpu_seconds=0.25, peak_memory=4096)
        output = zipped(result="42")
        try:
            for id, name in ((DONE, "done"), (BROKEN, HOSTILE), (RUNNING, "running")):
                folder = data / "jobs" / id
                folder.mkdir(parents=True)
                (folder / "input.zip").write_bytes(zipped(a="1"))
                begin: list[AnyEvent] = [
                    Submitted(job=id, name=name, model="echo", by="1.2.3.4", source="upload"),
                    Queued(job=id, input=_digest(zipped(a="1"))),
                    Started(job=id, attempt=1, worker="w", instance="0" * 16,
                            host="h", node_url="ssh://h", run_dir="/runs/1"),
                ]  # fmt: skip
                if id == DONE:
                    (folder / "job_log.txt").write_bytes(LOG)
                    (folder / "output.zip").write_bytes(output)
                    begin.append(
                        Completed(
                            job=id, attempt=1, run=run, log=_digest(LOG), output=_digest(output)
                        )
                    )
                elif id == BROKEN:
                    begin.append(
                        Failed(job=id, attempt=1, failure="model", reason=f"exit 3 {HOSTILE}")
                    )
                ledger.append(_all(begin))
        finally:
            ledger.close()

    return write


def _all(events: list[AnyEvent]) -> Callable[[object], tuple[AnyEvent, ...]]:
    return lambda _: tuple(events)


def _digest(data: bytes) -> Digest:
    return Digest(len(data), sha256(data).hexdigest())


@pytest.fixture
def past(history: Callable[[], None], data: Path, models: Path) -> Iterator[Application]:
    """The application on a primary that has a past."""
    history()
    primary = Primary.open(data, models, ())
    yield application(primary, OPEN)
    primary.close()


@pytest.fixture
def kit() -> SimpleNamespace:
    """What tests need from here: pytest's importlib mode lets nobody import a conftest."""
    return SimpleNamespace(
        Browser=Browser,
        zipped=zipped,
        multipart=multipart,
        DONE=DONE,
        BROKEN=BROKEN,
        RUNNING=RUNNING,
        LOG=LOG,
        HOSTILE=HOSTILE,
    )
