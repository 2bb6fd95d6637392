"""How long each page takes with 100,000 jobs on the board, all of them from the last day.

A real primary with a worker that has jobs to do and a queue; each page is fetched 20
times over one connection. The goal: no page slower than 100 ms (median).

    python -m bench.pages [JOBS]
"""

from __future__ import annotations

import http.client
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests import past

GOAL = 100.0  # milliseconds, median
TIMES = 20
PATIENCE = 60.0  # seconds until a job runs, or is killed
WAITING = 40  # jobs that wait for the one busy worker
SLEEP = (
    '#!/bin/bash\nfor n in $(seq 1000); do echo "::progress $((n / 10)) step $n"; sleep 1; done\n'
)
HTML = {"Accept": "text/html,*/*;q=0.8"}
JSON = {"Accept": "application/json"}


def lay_out(models: Path) -> None:
    for name in past.MODELS:
        folder = models / name
        folder.mkdir(parents=True)
        (folder / "model.toml").write_text(
            f'title = "The model {name}"\ncommand = ["./run.sh"]\nparallel = 2\n'
        )
        (folder / "run.sh").write_text(SLEEP)
        (folder / "run.sh").chmod(0o755)


def put(connection: http.client.HTTPConnection, n: int) -> str:
    """A job that runs, or waits, while pages are measured; its id."""
    model = past.MODELS[n % len(past.MODELS)]
    body = past.zipped(**{"n.txt": b"%d" % n})
    headers = JSON | {"Content-Type": "application/zip"}
    connection.request("PUT", f"/jobs?job_name=waits+{n}&model={model}", body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        raise SystemExit(f"PUT /jobs: {answer.status} {text}")
    id: str = json.loads(text)["id"]
    return id


def fetch(
    connection: http.client.HTTPConnection, path: str, headers: dict[str, str]
) -> tuple[float, bytes]:
    """Milliseconds from the request to the last byte, and the bytes."""
    began = time.perf_counter()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    took = (time.perf_counter() - began) * 1e3
    if answer.status != 200:
        raise SystemExit(f"GET {path}: {answer.status} {body[:500].decode(errors='replace')}")
    return took, body


def wait_for(connection: http.client.HTTPConnection, id: str, state: str) -> None:
    until = time.monotonic() + PATIENCE
    while json.loads(fetch(connection, f"/jobs/{id}/state", JSON)[1])["status"] != state:
        if time.monotonic() > until:
            raise SystemExit(f"job {id} is not {state}")
        time.sleep(0.1)


def pages(connection: http.client.HTTPConnection, last: str, running: str) -> list[tuple[str, str]]:
    """(what, path) of each page and of the answers that pages poll."""
    listing = json.loads(fetch(connection, "/jobs?limit=1000", JSON)[1])
    deep = listing["next"] // 2
    today = datetime.now(UTC).date()
    before = today - timedelta(days=1)
    return [
        ("models", "/models"),
        ("submit", "/jobs/submit"),
        ("jobs", "/jobs"),
        ("jobs, an old page", f"/jobs?before={deep}"),
        ("jobs, by state", "/jobs?state=FAILED&state=KILLED"),
        ("jobs, by model and state", "/jobs?model=heat&state=COMPLETE"),
        ("jobs, by name", "/jobs?q=low+case"),
        ("jobs, by a name that none has", "/jobs?q=nothing+is+called+so"),
        ("jobs, by day", f"/jobs?from={before}&to={today}"),
        ("jobs, by day, model and name", f"/jobs?from={before}&model=grid&q=high"),
        ("a job that ended", f"/jobs/{last}"),
        ("a job that runs", f"/jobs/{running}"),
        ("its files", f"/jobs/{last}/files"),
        ("one of them", f"/jobs/{last}/preview/table-007.csv"),
        ("nodes, with the last day", "/status"),
        ("findings", "/doctor"),
        ("sign in", "/signin"),
        ("poll: state", f"/jobs/{running}/state"),
        ("poll: log", f"/jobs/{running}/log?tail=65536"),
        ("poll: news", "/events?limit=0"),
    ]


def measure(address: str, last: str) -> float:
    """Prints a line a page; the slowest median in milliseconds."""
    connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"))
    ids = [put(connection, n) for n in range(WAITING)]
    wait_for(connection, ids[0], "RUNNING")
    worst = 0.0
    for what, path in pages(connection, last, ids[0]):
        headers = JSON if what.startswith("poll") else HTML
        first, _ = fetch(connection, path, headers)  # compiles the template, draws the day
        found = [fetch(connection, path, headers) for _ in range(TIMES)]
        times = [took for took, _ in found]
        median = statistics.median(times)
        worst = max(worst, median)
        size = len(found[-1][1])
        print(
            f"{what:32} {median:7.1f} ms   max {max(times):7.1f} ms   "
            f"first {first:7.1f} ms   {size / 1e3:8.1f} kB"
        )
    # A runner outlives its server for as long as it has a run; the last to come goes first,
    # so that none begins meanwhile.
    for id in reversed(ids):
        fetch(connection, f"/jobs/{id}/kill", JSON)
    wait_for(connection, ids[0], "KILLED")
    connection.close()
    return worst


def main() -> int:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory(prefix="modelrunner-bench-") as folder:
        root = Path(folder)
        lay_out(root / "models")
        last = past.write(root / "data", jobs)
        command = [sys.executable, "-m", "modelrunner", "serve", "--data", str(root / "data")]
        command += ["--listen", "127.0.0.1:0", "--models", str(root / "models"), "--slots", "4"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            ready = next(filter(None, (re.search(r"http://\S+", li) for li in server.stdout)))
            print(f"{jobs:,} jobs of one day on the board; medians of {TIMES}")
            worst = measure(ready[0], last)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    print(f"the slowest page         {worst:7.1f} ms   (goal {GOAL:.0f} ms)")
    return 0 if worst <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
