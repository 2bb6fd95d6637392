"""What must be true of a ward when all is over: its ledger and its files against the plans."""

from __future__ import annotations

import json
import zipfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ledger.jobs import Job
from ledger.log import Ledger
from tests.promises.load import Load, Plan
from tests.promises.witness import ENDS

Record = dict[str, Any]


class Audit:
    """Of one data directory that nobody serves any more. ``wrong`` says it all, a line each."""

    def __init__(self, data: Path, starts: Iterable[str], loads: Iterable[Load]) -> None:
        self._jobs_folder = data / "jobs"
        self._starts = Counter(starts)
        self.loads = list(loads)
        self.wrong: list[str] = []
        self.histories: dict[str, list[Record]] = defaultdict(list)
        for segment in sorted((data / "ledger").glob("*.jsonl")):
            for line in segment.read_bytes().splitlines():
                record = json.loads(line)
                self.histories[record["job"]].append(record)
        board = Ledger.open(data / "ledger", data / "board.sqlite")
        try:
            self._board = {job: board.board.job(job) for job in self.histories}
        finally:
            board.close()

    def run(self) -> list[str]:
        for load in self.loads:
            self._promised(load)
        for job, history in self.histories.items():
            self._one_end(job, history)
            self._attempts(job, history)
            self._late(job)
        if twice := [key for key, times in self._starts.items() if times > 1]:
            self._say(f"started more than once: {twice}")
        return self.wrong

    @property
    def requeued(self) -> int:
        return sum(r["kind"] == "Requeued" for h in self.histories.values() for r in h)

    @property
    def fenced(self) -> int:
        """Results of attempts that were over when they came."""
        return len(list(self._jobs_folder.glob("*/late/*/output.zip")))

    def ends(self) -> Counter[str]:
        return Counter(r["kind"] for h in self.histories.values() for r in h if r["kind"] in ENDS)

    # --- what was promised ---------------------------------------------------------

    def _promised(self, load: Load) -> None:
        """Every token made one job at most; each that was acknowledged made one, and it is so."""
        jobs: dict[str, list[str]] = defaultdict(list)
        for job, history in self.histories.items():
            jobs[history[0]["name"]].append(job)
        for token, made in load.plans.items():
            found = jobs[token]
            told = load.acknowledged.get(token)
            if len(found) > 1:
                self._say(f"{token} became {len(found)} jobs: {found}")
            elif told is not None and not found:
                self._say(f"{token} was acknowledged as {told or 'a drop'}, and is lost")
            elif told and found != [told]:
                self._say(f"{token} was acknowledged as {told}, and became {found[0]}")
            elif found:
                self._as_planned(made, found[0], found[0] in load.killed)

    def _as_planned(self, made: Plan, job: str, killed: bool) -> None:
        history = self.histories[job]
        end = history_end(history)
        if end is None:
            return  # told by _one_end
        kinds = {record["kind"] for record in history}
        if killed and "KillRequested" not in kinds and end["kind"] != "Killed":
            self._say(f"{job}: its kill was acknowledged, and the ledger does not know of it")
        if end["kind"] == "Killed":
            if made.kill is None:
                self._say(f"{job} was killed, and nobody had asked for it")
            return
        if killed and "Noted" not in kinds:
            self._say(f"{job}: its kill was acknowledged; it ended otherwise, and nothing says why")
        if made.code and (end["kind"], end.get("failure")) != ("Failed", "model"):
            self._say(f"{job} exits with {made.code}, but: {end}")
        if not made.code and end["kind"] != "Completed":
            self._say(f"{job} ends well, but: {end}")
        self._results(made, job, end)

    def _results(self, made: Plan, job: str, end: Record) -> None:
        """Of its own input, of the attempt that the ledger names, and whole."""
        folder = self._jobs_folder / job
        try:
            with zipfile.ZipFile(folder / "output.zip") as output:
                result = output.read("result").decode()
            log = (folder / "job_log.txt").read_text()
        except (OSError, KeyError, zipfile.BadZipFile) as e:
            self._say(f"{job}: its results are not there: {e!r}")
            return
        wanted = f"{made.token} {job}.{end['attempt']}\n"
        if result != wanted:
            self._say(f"{job}: its output says {result!r}, not {wanted!r}")
        if log != f"begun {made.token}\ndone {made.token}\n":
            self._say(f"{job}: its log is {log!r}")

    # --- what the ledger says ------------------------------------------------------

    def _one_end(self, job: str, history: list[Record]) -> None:
        ends = [record for record in history if record["kind"] in ENDS]
        if len(ends) != 1:
            self._say(f"{job} has {len(ends)} ends: {[r['kind'] for r in history]}")
        shown = self._board[job]
        state = {"Completed": "COMPLETE", "Failed": "FAILED", "Killed": "KILLED"}
        if ends and (shown is None or shown.state.value != state[ends[0]["kind"]]):
            self._say(f"{job}: {ends[0]['kind']} in the ledger, {_state(shown)} on the board")

    def _attempts(self, job: str, history: list[Record]) -> None:
        """Each started once by the ledger, and none that did not run; the last one is the end's."""
        begun = [record["attempt"] for record in history if record["kind"] == "Started"]
        if len(begun) != len(set(begun)):
            self._say(f"{job}: attempts entered as started: {begun}")
        if never := [n for n in begun if not self._starts[f"{job}.{n}"] and not _killed(history)]:
            # A run may die between its start and its first line: then it was requeued.
            given_up = {r["attempt"] for r in history if r["kind"] == "Requeued"}
            if not set(never) <= given_up:
                self._say(f"{job}: attempts {never} are entered as started and never ran")
        end = history_end(history)
        attempts = 1 + sum(record["kind"] == "Requeued" for record in history)
        if end is not None and end["attempt"] != attempts:
            self._say(f"{job}: attempt {end['attempt']} ended it, the last was {attempts}")

    def _late(self, job: str) -> None:
        """What is kept aside is its own attempt's."""
        for path in (self._jobs_folder / job).glob("late/*/output.zip"):
            with zipfile.ZipFile(path) as output:
                names = output.namelist()
                said = output.read("result").decode().split() if "result" in names else []
            if said and said[1] != f"{job}.{path.parent.name}":
                self._say(f"{path}: the output of {said[1]}")

    def _say(self, what: str) -> None:
        self.wrong.append(what)


def history_end(history: Iterable[Mapping[str, Any]]) -> Record | None:
    return next((dict(record) for record in history if record["kind"] in ENDS), None)


def _killed(history: Iterable[Mapping[str, Any]]) -> bool:
    return any(record["kind"] == "Killed" for record in history)


def _state(job: Job | None) -> str:
    return job.state.value if job else "nothing"
