"""A real primary behind a real HTTP server, with a hand in the place of a worker."""

from __future__ import annotations

import io
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
import waitress

from ledger.events import AnyEvent, Completed, Digest, Failed, Requeued, RunFacts, Started
from ledger.log import Ledger
from primary.server import Primary
from tests.client.process import run
from web.access import Access
from web.routes import application

KEY = "kéy"


class Hand:
    """Does to the ledger and the files what a worker and the primary's loop would do."""

    def __init__(self, data: Path, primary: Primary, url: str) -> None:
        self.data, self.primary, self.url, self.key = data, primary, url, KEY
        self._ledger: Ledger = primary._ledger

    def _enter(self, event: AnyEvent) -> None:
        self._ledger.append(lambda _: (event,))

    def start(self, job: str, attempt: int = 1) -> Path:
        """Its log, which may be written now."""
        folder = self.data / "spool" / "workers" / "w" / "log"
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"{job}.{attempt}.log"
        log.touch()
        self._enter(Started(job=job, attempt=attempt, worker="w", instance="0" * 16))
        return log

    def requeue(self, job: str) -> None:
        self._enter(Requeued(job=job, attempt=1, reason="lost"))

    def end(
        self,
        job: str,
        log: bytes,
        *,
        attempt: int = 1,
        well: bool = True,
        output: dict[str, str] | None = None,
    ) -> None:
        folder = self.data / "jobs" / job
        (folder / "job_log.txt").write_bytes(log)
        packed = zipped(**(output or {"result": "42"}))
        (folder / "output.zip").write_bytes(packed)
        run = RunFacts(exit_code=0 if well else 3)
        done = Completed(
            job=job, attempt=attempt, run=run, log=_digest(log), output=_digest(packed)
        )
        failed = Failed(
            job=job,
            attempt=attempt,
            failure="model",
            reason="exit code 3",
            run=run,
            log=done.log,
            output=done.output,
        )
        self._enter(done if well else failed)


def _digest(data: bytes) -> Digest:
    return Digest(len(data), sha256(data).hexdigest())


def zipped(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    (folder / "echo").mkdir(parents=True)
    text = 'title = "Echo"\ncommand = ["/bin/true"]\n[input]\nrequired = ["a"]\n'
    (folder / "echo" / "model.toml").write_text(text)
    return folder


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.zip"
    path.write_bytes(zipped(a="1"))
    return path


@pytest.fixture(params=["admin"])
def hand(tmp_path: Path, models: Path, request: pytest.FixtureRequest) -> Iterator[Hand]:
    data = tmp_path / "data"
    primary = Primary.open(data, models, ())
    app = application(primary, Access(anonymous=request.param, admin_key=KEY))
    channels: dict[int, object] = {}
    server = waitress.create_server(app, map=channels, host="127.0.0.1", port=0, threads=8)
    stop = threading.Event()

    def serve() -> None:
        while not stop.is_set():
            waitress.wasyncore.loop(timeout=0.05, map=channels, count=1)

    thread = threading.Thread(target=serve)
    thread.start()
    yield Hand(data, primary, f"http://127.0.0.1:{server.effective_port}")
    app.close()
    stop.set()
    thread.join()
    server.task_dispatcher.shutdown()
    waitress.wasyncore.close_all(channels, ignore_all=True)
    primary.close()


@pytest.fixture
def cli(hand: Hand) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A command about the primary, in a process of its own."""
    return lambda *arguments: run(*arguments, MODELRUNNER_SERVER=hand.url)
