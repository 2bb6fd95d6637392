"""Workers over SSH, against a real sshd of this machine. Each part prints ratios of one run.

    python bench/remote.py transfer [MIB]          get and put of a large file, against scp
    python bench/remote.py idle [SECONDS]          requests of a worker that has nothing to do
    python bench/remote.py queue [MANY]            a claim with MANY jobs queued, against 100
    python bench/remote.py many [WORKERS] [JOBS]   every job is run exactly once

Without arguments all of them, with the issue's numbers.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # for the tests' sshd; the rest is installed

from client.api import Client  # noqa: E402
from ledger.events import AnyEvent, Digest, Queued, Submitted  # noqa: E402
from ledger.log import Ledger  # noqa: E402
from spool.address import parse_address  # noqa: E402
from spool.claims import Claims  # noqa: E402
from spool.errors import Unreachable  # noqa: E402
from spool.local import make_worker_folder  # noqa: E402
from spool.reports import Beat, FileFact, FinalReport, RunReport, StartedReport  # noqa: E402
from spool.sftp import SftpTransport  # noqa: E402
from tests.sshd import Sshd, sshd  # noqa: E402

TURNS = 7  # of each side of a comparison, one after the other
QUEUE_GOAL = 1.3  # times a claim with 100 jobs queued
IDLE_GOAL = 1.0  # requests a second for looking
PATIENCE = 1800.0  # seconds
MODEL = 'title = "b"\ndescription = "b"\ncommand = ["true"]\nlease = "never"\n'
INPUT = b"PK\x05\x06" + bytes(18)  # an empty zip


def main() -> int:
    parts = {"transfer": transfer, "idle": idle, "queue": queue, "many": many}
    wanted = [sys.argv[1]] if len(sys.argv) > 1 else list(parts)
    numbers = [int(a) for a in sys.argv[2:]]
    good = [parts[part](*numbers) for part in wanted]
    return 0 if all(good) else 1


# --- get and put -----------------------------------------------------------------------


def transfer(mib: int = 256) -> bool:
    """In turns; the medians are compared. Whichever goes first alternates."""
    with folder() as root:
        served = root / "served"
        served.mkdir(mode=0o755)
        large = served / "large"
        with large.open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(1024 * 1024))
        with sshd(root / "sshd", served) as server:
            transport = SftpTransport(parse_address(server.url), server.ssh)
            transport.connect()
            scp = ["scp", "-q", "-P", str(server.port), "-i", str(server.key)]
            scp += ["-o", f"UserKnownHostsFile={server.ssh}/known_hosts"]
            there = f"{server.user}@{server.host}:{server.path.rstrip('/')}"
            steps: dict[str, Callable[[], object]] = {
                "get, scp": lambda: subprocess.run(
                    [*scp, f"{there}/large", str(root / "got")], check=True
                ),
                "get, ours": lambda: transport.fetch("large", root / "got"),
                "put, scp": lambda: subprocess.run([*scp, str(large), f"{there}/put"], check=True),
                "put, ours": lambda: transport.store(large, "put"),
            }
            took: dict[str, list[float]] = {name: [] for name in steps}
            for turn in range(TURNS):
                for name in list(steps) if turn % 2 else reversed(list(steps)):
                    began = time.perf_counter()
                    steps[name]()
                    took[name].append(time.perf_counter() - began)
            transport.close()
            assert (served / "put").stat().st_size == mib * 1024 * 1024
    good = True
    for way in ("get", "put"):
        ours, theirs = (statistics.median(took[f"{way}, {who}"]) for who in ("ours", "scp"))
        good = good and ours <= theirs
        print(
            f"{way} {mib} MiB: scp {mib / theirs:5.0f} MiB/s, ours {mib / ours:5.0f} MiB/s: "
            f"{theirs / ours:4.2f} x scp   (goal 1.0 x)"
        )
    return good


# --- an idle worker --------------------------------------------------------------------


def idle(seconds: int = 60) -> bool:
    """What the server's own log counts, for a worker of five models and nothing to do."""
    with folder() as root:
        models = [f"m{n}" for n in range(5)]
        with primary(root, models) as client, noting(root) as server:
            worker = start_worker(root, server)
            try:
                wait_until(lambda: worker_is_shown(client), "the worker's first beat")
                time.sleep(3)  # what it does at its start is over
                before = len((root / "requests").read_text())
                time.sleep(seconds)
                said = (root / "requests").read_text()[before:]
            finally:
                worker.send_signal(signal.SIGTERM)
                worker.wait()
    # A request's number stands before each line about it; what was asked in the first one.
    asked = dict(reversed(re.findall(r"request (\d+): (\w+)", said)))
    kinds = Counter(asked.values())
    looks = kinds["lstat"] - kinds["read"]  # there is one before each small file that is read
    rest = sum(kinds.values()) - looks
    print(
        f"an idle worker of {len(models)} models, requests a second: {looks / seconds:.2f} for the "
        f"bell (goal {IDLE_GOAL:.0f}), {rest / seconds:.2f} for beats and the look every 30 s"
    )
    print(f"  {dict(kinds)} in {seconds} s")
    return looks / seconds <= 1.05 * IDLE_GOAL


# --- claims in front of a long queue ---------------------------------------------------


def queue(many_: int = 100_000) -> bool:
    """Claims, one after the other, from two primaries at the same time, in turns."""
    with folder() as root:
        took: dict[int, list[float]] = {}
        with two_queues(root, (100, many_)) as claimers:
            for _ in range(64):
                for size, claims in claimers.items():
                    began = time.perf_counter()
                    ticket, model = claims.tickets(["m0"])[0]
                    assert claims.claim(ticket, model) is not None
                    took.setdefault(size, []).append(time.perf_counter() - began)
    small, large = (statistics.median(took[size]) for size in (100, many_))
    print(
        f"a claim: {small * 1e3:.2f} ms with 100 jobs queued, {large * 1e3:.2f} ms with {many_}: "
        f"{large / small:4.2f} x   (goal {QUEUE_GOAL} x)"
    )
    return large <= QUEUE_GOAL * small


@contextmanager
def two_queues(root: Path, sizes: tuple[int, int]) -> Iterator[dict[int, Claims]]:
    found: dict[int, Claims] = {}
    with sshd(root / "sshd", root) as server:
        open_: list[subprocess.Popen[str]] = []
        transports = []
        try:
            for size in sizes:
                home = root / f"q{size}"
                home.mkdir(mode=0o755)
                preload(home / "data", size)
                process, client = serve(home, ["m0"])
                open_.append(process)
                make_worker_folder(home / "data/spool", "w")
                new = home / "data/spool/models/m0/new"
                wait_until(partial(_window_is_full, new), "a full window")
                del client
                url = f"{server.url.rstrip('/')}/{home.relative_to(root)}/data/spool"
                transport = SftpTransport(parse_address(url), server.ssh)
                transport.connect()
                transports.append(transport)
                found[size] = Claims(transport, "w", "1" * 16)
            yield found
        finally:
            for transport in transports:
                transport.close()
            for process in open_:
                process.send_signal(signal.SIGTERM)
                process.wait()


def preload(data: Path, jobs: int) -> None:
    """A data directory with so many queued jobs, as a primary would have left it."""
    (data / "jobs").mkdir(parents=True)
    digest = Digest(len(INPUT), hashlib.sha256(INPUT).hexdigest())
    ids = [str(uuid.uuid4()) for _ in range(jobs)]
    source = data / "source"
    source.write_bytes(INPUT)
    for n, id in enumerate(ids):
        folder = data / "jobs" / id
        folder.mkdir()
        if n % 30_000 == 0:  # a file has 65,000 links at most
            source.unlink()
            source.write_bytes(INPUT)
            source.chmod(0o440)
        os.link(source, folder / "input.zip")
    source.unlink()
    ledger = Ledger.open(data / "ledger", data / "board.sqlite")
    for at in range(0, jobs, 1000):
        events: list[AnyEvent] = [
            event
            for id in ids[at : at + 1000]
            for event in (
                Submitted(job=id, name="b", model="m0", by="b", source="upload"),
                Queued(job=id, input=digest),
            )
        ]
        ledger.append(lambda _, events=events: tuple(events))  # type: ignore[misc]
    ledger.close()


def _window_is_full(new: Path) -> bool:
    return len(os.listdir(new)) == 64


# --- many workers ----------------------------------------------------------------------


def many(workers: int = 100, jobs: int = 10_000) -> bool:
    """Workers without a model: what they would run, they note."""
    with folder() as root:
        preload(root / "data", jobs)
        with primary(root, ["m0"]), spool_over_ssh(root) as server:
            for n in range(workers):
                make_worker_folder(root / "data/spool", f"w{n}")
            began = time.perf_counter()
            groups = [range(g, workers, 8) for g in range(8)]
            processes = [
                multiprocessing.get_context("spawn").Process(
                    target=_some_workers, args=(list(g), server.url, str(server.ssh), str(root))
                )
                for g in groups
            ]
            for process in processes:
                process.start()
            try:
                wait_until(partial(_all_complete, root / "data", jobs), f"the end of {jobs} jobs")
            finally:
                took = time.perf_counter() - began
                (root / "stop").touch()
                for process in processes:
                    process.join()
        ran = Counter(line for file in root.glob("ran.*") for line in file.read_text().split())
        kinds = kinds_of(root / "data")
    twice = sum(1 for times in ran.values() if times > 1)
    good = len(ran) == jobs and not twice and kinds["Completed"] == kinds["Started"] == jobs
    print(
        f"{workers} workers, {jobs} jobs in {took:.0f} s ({jobs / took:.0f} a second): "
        f"{len(ran)} run, {twice} of them twice; the ledger has {kinds['Started']} Started, "
        f"{kinds['Completed']} Completed, {kinds['Requeued']} Requeued"
    )
    return good


def _some_workers(numbers: list[int], url: str, ssh: str, root: str) -> None:
    """In a process of its own: a thread, and a connection, for each worker."""
    threads = [
        threading.Thread(target=_one_worker, args=(n, url, Path(ssh), Path(root))) for n in numbers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _one_worker(number: int, url: str, ssh: Path, root: Path) -> None:
    transport = SftpTransport(parse_address(url), ssh, deadline=120.0)
    claims = Claims(transport, f"w{number}", f"{number:016x}")
    beats = 0
    with (root / f"ran.{number}").open("a") as ran:
        while not (root / "stop").exists():
            try:
                beats += 1
                claims.beat(_beat(claims.instance, beats))
                for ticket, model in claims.tickets(["m0"])[number % 16 :: 4]:
                    claim = claims.claim(ticket, model)
                    if claim is not None:
                        ran.write(f"{claim.key}\n")
                        ran.flush()
                        _deliver(claims, str(claim), claim.key)
                        break
                else:
                    time.sleep(0.2)
            except Unreachable:
                time.sleep(0.5)
    transport.close()


def _deliver(claims: Claims, claim: str, key: str) -> None:
    said = b"done\n"
    facts: Any = {"claim": claim, "instance": claims.instance, "host": "b", "run_dir": "/"}
    fact = FileFact(len(said), hashlib.sha256(said).hexdigest())
    output = FileFact(len(INPUT), hashlib.sha256(INPUT).hexdigest())
    claims.report(key, StartedReport(**facts, node_url="ssh://b"))
    claims.send_log(key, 0, said)
    source = Path(tempfile.gettempdir()) / f"modelrunner-bench-{os.getpid()}-{key}"
    source.write_bytes(INPUT)
    claims.send_output(key, source)
    source.unlink()
    claims.report(
        key,
        FinalReport(
            **facts,
            node_url="ssh://b",
            end="ok",
            run=RunReport(exit_code=0, wall_seconds=0.0),
            log=fact,
            output=output,
        ),
    )


def _all_complete(data: Path, jobs: int) -> bool:
    time.sleep(1.0)
    return kinds_of(data)["Completed"] >= jobs


def _beat(instance: str, counter: int) -> Beat:
    return Beat(
        instance=instance,
        counter=counter,
        host="b",
        node_url="ssh://b",
        pid=1,
        slots=1,
        version="0",
        claims=(),
    )


# --- what they share -------------------------------------------------------------------


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="modelrunner-bench-") as made:
        os.chmod(made, 0o755)
        yield Path(made)


@contextmanager
def spool_over_ssh(root: Path) -> Iterator[Sshd]:
    with sshd(root / "sshd", root / "data/spool") as server:
        yield server


@contextmanager
def noting(root: Path) -> Iterator[Sshd]:
    """An sshd whose SFTP server notes each request in the file ``requests``."""
    program = shutil.which("sftp-server", path="/usr/lib/openssh:/usr/libexec/openssh")
    command = f"ForceCommand {program} -e -l DEBUG3 2>> {root}/requests"
    with sshd(root / "sshd", root / "data/spool", more=command, chroot=False) as server:
        yield server


@contextmanager
def primary(root: Path, models: list[str]) -> Iterator[Client]:
    process, client = serve(root, models)
    try:
        yield client
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def serve(root: Path, models: list[str]) -> tuple[subprocess.Popen[str], Client]:
    for model in models:
        (root / "models" / model).mkdir(parents=True)
        (root / "models" / model / "model.toml").write_text(MODEL)
    command = [sys.executable, "-m", "modelrunner", "serve", f"--data={root / 'data'}"]
    command += ["--listen=127.0.0.1:0", f"--models={root / 'models'}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    ready = next(filter(None, (re.search(r"http://\S+", line) for line in process.stdout)))
    return process, Client(ready[0].rstrip("/"))


def start_worker(root: Path, server: Sshd) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "worker_agent", f"--primary={server.url}"]
    command += [f"--models={root / 'models'}", "--name=w1", f"--state={root / 'state'}"]
    return subprocess.Popen(command, env=server.environment(root / "home"), cwd=ROOT)


def worker_is_shown(client: Client) -> bool:
    return any(node["name"] == "w1" and node["models"] for node in client.status())


def kinds_of(data: Path) -> Counter[str]:
    """How many records of each kind the ledger has."""
    return Counter(
        json.loads(line)["kind"]
        for file in (data / "ledger").glob("*.jsonl")
        for line in file.read_text().splitlines()
    )


def wait_until(condition: object, what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():  # type: ignore[operator]
        if time.monotonic() > until:
            raise SystemExit(f"waited in vain for {what}")
        time.sleep(0.2)


if __name__ == "__main__":
    sys.exit(main())
