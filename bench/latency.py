"""From POST to COMPLETE of a no-op model, as a multiple of spawning its script alone.

Both are measured in turn in one run, on an idle system with one local worker:
the machines are noisy, their ratio is not. The goal of issue A is a median of
at most 10 times the bare script.

    python bench/latency.py [JOBS]
"""

from __future__ import annotations

import http.client
import io
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

GOAL = 10.0  # times the bare script, median
SUBMISSION = 2  # records of a submission, which the answer to the POST tells of already
PATIENCE = 60.0  # seconds for one job
WARM_UP = 5  # jobs that do not count
NOOP = '#!/bin/bash\necho done > "$2/result.txt"\n'
MODEL = 'title = "no-op"\ndescription = "Writes one small file."\ncommand = ["./noop.sh"]\n'
BOUNDARY = "bench-boundary"


def body() -> bytes:
    """The multipart body of one submission."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as out:
        out.writestr("input.txt", "nothing\n")
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in (("job_name", "bench"), ("model", "noop"))
    ]
    head = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        'name="zip_file"; filename="in.zip"\r\nContent-Type: application/zip\r\n\r\n'
    )
    end = f"\r\n--{BOUNDARY}--\r\n"
    return b"".join([*parts, head.encode(), file.getvalue(), end.encode()])


def ask(connection: http.client.HTTPConnection, method: str, path: str, data: bytes = b"") -> str:
    headers = {"Accept": "application/json"}
    if data:
        headers["Content-Type"] = f"multipart/form-data; boundary={BOUNDARY}"
    connection.request(method, path, data or None, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    if answer.status != 200:
        raise SystemExit(f"{method} {path}: {answer.status} {text}")
    return text


def one_job(connection: http.client.HTTPConnection, data: bytes, after: int) -> tuple[float, int]:
    """Seconds from the POST until COMPLETE is told, and the newest sequence then.

    Told by the long poll of ``/events``: polling for the state would measure the
    polls as well, since they run in the process that is measured.
    """
    began = time.perf_counter()
    job = json.loads(ask(connection, "POST", "/jobs", data))["id"]
    after += SUBMISSION
    while time.perf_counter() - began < PATIENCE:
        for record in json.loads(ask(connection, "GET", f"/events?after={after}&wait=20"))["data"]:
            after = record["seq"]
            if record["job"] == job and record["kind"] == "Completed":
                return time.perf_counter() - began, after
            if record["job"] == job and record["kind"] in ("Failed", "Killed"):
                raise SystemExit(f"job {job} ended with {record}")
    raise SystemExit(f"job {job} did not end in {PATIENCE:.0f} s")


def bare(script: Path, folder: Path) -> float:
    """Seconds to spawn the model's script and wait for it."""
    began = time.perf_counter()
    subprocess.run([str(script), str(folder), str(folder)], check=True)
    return time.perf_counter() - began


def measure(address: str, script: Path, folder: Path, jobs: int) -> tuple[list[float], list[float]]:
    host = address.removeprefix("http://").rstrip("/")
    connection = http.client.HTTPConnection(host)
    data, ran, spawned, after = body(), [], [], 0
    for n in range(jobs + WARM_UP):
        spawn = bare(script, folder)
        run, after = one_job(connection, data, after)
        if n >= WARM_UP:
            spawned.append(spawn)
            ran.append(run)
    connection.close()
    return ran, spawned


def main() -> int:
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(prefix="modelrunner-bench-") as folder:
        root = Path(folder)
        model = root / "models" / "noop"
        model.mkdir(parents=True)
        (model / "model.toml").write_text(MODEL)
        script = model / "noop.sh"
        script.write_text(NOOP)
        script.chmod(0o755)
        command = [sys.executable, "-m", "modelrunner", "serve", "--data", str(root / "data")]
        command += ["--listen", "127.0.0.1:0", "--models", str(root / "models"), "--slots", "1"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            ready = next(filter(None, (re.search(r"http://\S+", li) for li in server.stdout)))
            ran, spawned = measure(ready[0], script, root, jobs)
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
    base, median = statistics.median(spawned), statistics.median(ran)
    late = statistics.quantiles(ran, n=20)[-1]
    print(f"bare script            {base * 1e3:7.2f} ms   median of {jobs}")
    print(
        f"POST to COMPLETE       {median * 1e3:7.2f} ms   {median / base:5.1f} x   (goal {GOAL} x)"
    )
    print(f"  95th percentile      {late * 1e3:7.2f} ms   {late / base:5.1f} x")
    return 0 if median <= GOAL * base else 1


if __name__ == "__main__":
    sys.exit(main())
