"""The tour: a primary, a worker and one job, from start to end, through the HTTP API.

Everything lies in a temporary directory and on a free port; what the job gave
back is left there, all else is stopped and removed.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from modelrunner import Client

ROOT = Path(__file__).resolve().parent.parent
READY = re.compile(r"ready at (http://\S+?)/? ")
SHOWN = 150  # characters of a ledger line

console = Console(highlight=False)


def serve(data: Path) -> tuple[subprocess.Popen[str], str]:
    """Start a primary with a local worker; its process and its address."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "modelrunner", "serve", "--data", str(data)),
            *("--listen", "127.0.0.1:0", "--models", str(ROOT / "models"), "--slots", "1"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if ready := READY.search(line):
            return process, ready[1]
    raise SystemExit(f"the primary did not start (exit code {process.wait()})")


def follow(client: Client, job: str) -> dict[str, Any]:
    """Show the log live, above a progress bar; the job at its end."""
    columns = (TextColumn("{task.description:<10}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=False) as progress:
        bar = progress.add_task("QUEUED", total=100)
        done = threading.Event()

        def show() -> None:
            while not done.wait(0.3):
                now = client.job(job)
                progress.update(bar, description=now["status"], completed=now["progress"] or 0)

        shower = threading.Thread(target=show, daemon=True)
        shower.start()
        rest = [b""]

        def print_log(data: bytes) -> None:
            *lines, rest[0] = (rest[0] + data).split(b"\n")
            for line in lines:
                text = line.decode(errors="replace")
                if not text.startswith("::progress"):
                    progress.console.print(f"  | {text}", markup=False)

        end: dict[str, Any] = client.wait(job, on_log=print_log)
        done.set()
        shower.join()
        progress.update(bar, description=str(end["status"]), completed=100)
    return end


def tour(data: Path, results: Path) -> int:
    """Run one job on a primary at ``data``, and keep what it gave back at ``results``."""
    began = time.monotonic()
    console.print("Starting a primary and one local worker ...")
    process, address = serve(data)
    try:
        console.print(f"  pages and API at {address}\n")
        client = Client(address)
        sample = ROOT / "examples" / "sleep_count_8.zip"
        console.print(f"Submitting examples/{sample.name} to the model 'test':")
        job = client.submit("test", sample, name="demo")
        console.print(f"  job {job['uuid']}\n")
        end = follow(client, str(job["uuid"]))
        console.print("\nThe job in the ledger:")
        shown = subprocess.run(
            [
                *(sys.executable, "-m", "modelrunner", "ledger", "show"),
                *("--data", str(data), str(job["uuid"])),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        for line in shown.stdout.splitlines():
            cut = line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"
            console.print(f"  {cut}", markup=False, soft_wrap=True)
        for name in ("output.zip", "job_log.txt"):
            client.download(str(job["uuid"]), name, results / name)
        console.print(f"\nThe output lies in {results}:", soft_wrap=True)
        for path in sorted(results.iterdir()):
            console.print(f"  {path.name}  {path.stat().st_size} bytes")
        return 0 if end["status"] == "COMPLETE" else 1
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        console.print(f"\nAll stopped, after {time.monotonic() - began:.0f} s.")


def main() -> int:
    data = Path(tempfile.mkdtemp(prefix="modelrunner-demo-"))
    results = Path(tempfile.mkdtemp(prefix="modelrunner-demo-results-"))
    try:
        return tour(data, results)
    finally:
        shutil.rmtree(data, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
