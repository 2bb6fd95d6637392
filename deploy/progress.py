"""The news of a deployment: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

from deploy.push import News, StepFailed

MIB = 1 << 20


@contextmanager
def shown(hosts: Iterable[str], console: Console | None = None) -> Iterator[News]:
    """The news of ``hosts``, on ``console`` (by default standard error)."""
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield Lines(console)
        return
    columns = (
        TextColumn("{task.fields[host]}", style="bold"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console) as progress:
        yield Bars(progress, hosts)


class Lines(News):
    """A line for each step, once it begins; for logs and scripts."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def host_step(self, host: str, n: int, of: int, sentence: str) -> None:
        self._say(f"{host}: {n}/{of} {sentence}")

    def sent(self, host: str, size: int) -> None:
        """Too much for a log."""

    def done(self, host: str) -> None:
        self._say(f"{host}: done")

    def failed(self, failed: StepFailed) -> None:
        self._say(f"{failed.host}: FAILED: {failed.sentence}")

    def stopping(self) -> None:
        self._say(STOPPING)

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


class Bars(News):
    """A bar for each host."""

    def __init__(self, progress: Progress, hosts: Iterable[str]) -> None:
        self._progress = progress
        self._sentences: dict[str, str] = {}
        self._tasks: dict[str, TaskID] = {
            host: progress.add_task("", total=None, start=False, host=escape(host))
            for host in hosts
        }

    def host_step(self, host: str, n: int, of: int, sentence: str) -> None:
        self._sentences[host] = escape(sentence)
        self._progress.start_task(self._tasks[host])
        self._show(host, escape(sentence), completed=n - 1, total=of)

    def sent(self, host: str, size: int) -> None:
        if size >= MIB:
            self._show(host, f"{self._sentences[host]}: {size // MIB} MiB sent")

    def done(self, host: str) -> None:
        task = self._tasks[host]
        total = next(t.total for t in self._progress.tasks if t.id == task)
        self._show(host, "[green]done[/]", completed=total)

    def failed(self, failed: StepFailed) -> None:
        self._show(failed.host, f"[red]failed:[/] {escape(failed.sentence)}")

    def stopping(self) -> None:
        self._progress.console.print(STOPPING, style="yellow")

    def _show(
        self,
        host: str,
        text: str,
        *,
        completed: float | None = None,
        total: float | None = None,
    ) -> None:
        self._progress.update(self._tasks[host], description=text, completed=completed, total=total)


STOPPING = "finishing what has begun; Ctrl-C again closes the connections"
