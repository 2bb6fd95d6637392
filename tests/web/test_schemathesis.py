"""schemathesis against a live server: nothing comes that /openapi.json does not tell of.

``SCHEMATHESIS_EXAMPLES`` sets how many requests are drawn for each route, and
``SCHEMATHESIS_SEED`` which.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import waitress
from msgspec import structs
from waitress import wasyncore

from ledger.events import (
    AnyEvent,
    Completed,
    Digest,
    Purged,
    Queued,
    RunFacts,
    Started,
    Submitted,
)
from ledger.log import Ledger
from primary import accesskeys
from primary.server import Primary
from tests.system import ROOT
from web.access import Access
from web.routes import application

KEY = "the-admin-key"
SHOWN = "00000000-0000-4000-8000-00000000000a"  # has outputs of each kind
PURGED, WAITING, FETCHED, UNKNOWN = (f"00000000-0000-4000-8000-00000000000{x}" for x in "bcde")
OUTPUTS = {
    "table.csv": "a,b\n1,2\n",
    "notes/read me.txt": "first\nsecond\n",
    "picture.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
    "raw.bin": "\x00\x01",
    "<script>.html": "<script>alert(1)</script>",
}


@pytest.fixture
def address(history: Callable[[], None], data: Path, models: Path, kit: Any) -> Iterator[str]:
    """Of a server whose jobs are in all states; it does not tick, so they stay there."""
    history()
    _shown(data, kit.zipped(**OUTPUTS), kit.zipped(a="1"))
    (models / "echo" / "example.zip").write_bytes(kit.zipped(a="1"))
    primary = Primary.open(data, models, ())
    app = application(primary, Access(anonymous="admin", admin_key=KEY))
    channels: dict[int, Any] = {}
    server = waitress.create_server(
        app, map=channels, host="127.0.0.1", port=0, ident="Model Runner", asyncore_use_poll=True
    )
    stopping = threading.Event()

    def serve() -> None:
        while not stopping.is_set():
            wasyncore.loop(timeout=0.1, use_poll=True, map=channels, count=1)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"http://127.0.0.1:{server.effective_port}"
    app.close()
    stopping.set()
    thread.join()
    server.task_dispatcher.shutdown()
    wasyncore.close_all(channels, ignore_all=True)
    primary.close()


def _shown(data: Path, output: bytes, input: bytes) -> None:
    """Jobs beside those of ``history``: one with outputs, one purged, waiting, being fetched."""
    log = b"one\ntwo\n"
    done = Completed(
        job=SHOWN, attempt=1, run=RunFacts(exit_code=0), log=_digest(log), output=_digest(output)
    )
    events: list[AnyEvent] = []
    for job in (SHOWN, PURGED, WAITING):
        folder = data / "jobs" / job
        folder.mkdir(parents=True)
        for name, content in (("output.zip", output), ("job_log.txt", log), ("input.zip", input)):
            (folder / name).write_bytes(content)
        events += [
            Submitted(job=job, name="<b>shown", model="echo", by="1.2.3.4", source="upload"),
            Queued(job=job, input=_digest(input)),
        ]
        if job != WAITING:
            events += [
                Started(job=job, attempt=1, worker="w", instance="0" * 16),
                structs.replace(done, job=job),
            ]
    url = "http://nowhere.example/x.zip"
    events += [
        Purged(job=PURGED, by="keeper", reason="for room"),
        Submitted(job=FETCHED, name="f", model="echo", by="1.2.3.4", source="url", url=url),
    ]
    ledger = Ledger.open(data / "ledger", data / "board.sqlite")
    try:
        ledger.append(lambda _: tuple(events))
    finally:
        ledger.close()


def _digest(data: bytes) -> Digest:
    return Digest(len(data), sha256(data).hexdigest())


# A page may show an empty form where an API client is told what is missing, and what says that
# it is a browser may not kill by GET: what is accepted and refused, JSON alone is asked.
_OF_PAGES = ("--exclude-checks", "negative_data_rejection,positive_data_acceptance")


@pytest.mark.parametrize(
    ("accept", "options"), [("application/json", ()), ("text/html", _OF_PAGES)]
)
def test_what_comes_is_what_is_documented(
    address: str, data: Path, kit: Any, tmp_path: Path, accept: str, options: tuple[str, ...]
) -> None:
    known = {
        "id": [kit.DONE, kit.BROKEN, kit.RUNNING, SHOWN, PURGED, WAITING, FETCHED, UNKNOWN],
        "model": ["echo", "strict", "nosuch"],
        "path": [*OUTPUTS, "nosuch"],
        # one that was made is let in however many wrong ones were shown
        "key": [KEY, accesskeys.add(data, "made", "read"), "wrong"],
        "/static/{name} name": ["style.css", "icon.svg", "nosuch"],
    }
    hooks = {
        "SCHEMATHESIS_HOOKS": "tests.web.schemathesis_hooks",
        "KNOWN_TO_SCHEMATHESIS": json.dumps(known),
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(Path(__file__).with_name("schemathesis.toml"))),
            *("run", f"{address}/openapi.json", "--no-color", "--header", f"Accept: {accept}"),
            *options,
            *("--max-examples", os.environ.get("SCHEMATHESIS_EXAMPLES", "15")),
            *("--seed", os.environ.get("SCHEMATHESIS_SEED", "1")),
        ],
        cwd=tmp_path,
        env=os.environ | hooks,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
