"""What a run's exit means to the primary. Pure."""

from __future__ import annotations

import signal

from engine.contract import Exit
from spool.reports import End, FailureClass, RunReport


def describe(end: Exit, last: str) -> tuple[End, FailureClass | None, str]:
    """What an exit means: (end, failure class, reason). ``last`` is the log's last line."""
    said = f"; its last line: {last}" if last else ""
    match end.ending:
        case "exited" if end.exit_code == 0:
            return "ok", None, ""
        case "exited":
            return "failed", "model", f"the model ended with exit code {end.exit_code}{said}"
        case "signaled":
            memory = "memory" in end.reason.lower() and end.signal == signal.SIGKILL
            return "failed", "limit" if memory else "model", end.reason + said
        case "stopped":
            return "killed", None, end.reason
        case "timeout":
            return "failed", "limit", end.reason
        case "bad-input":
            return "failed", "input", end.reason
        case "not-started":
            return "failed", "system", end.reason
        case _:
            return "lost", None, end.reason


def run_report(end: Exit) -> RunReport:
    return RunReport(
        exit_code=end.exit_code,
        signal=end.signal,
        wall_seconds=end.wall_seconds,
        cpu_seconds=end.cpu_seconds,
        peak_memory=end.peak_memory,
        containment=end.containment,
        ended=tuple(name[:255] for name in end.ended[:100]),
    )
