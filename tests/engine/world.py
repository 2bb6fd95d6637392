"""A state directory, models made of small scripts, and an engine on them: all real."""

from __future__ import annotations

import os
import signal
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from engine import procs
from engine.contract import Containment, Exit, Order
from engine.runs import Engine

PATIENCE = 60.0  # seconds; a slow machine may take its time, a hanging test may not


def until(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    deadline = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < deadline, f"not within {patience} s: {what}"
        time.sleep(0.005)


class World:
    """One worker's state directory with its models; closes and ends all that it started."""

    def __init__(self, root: Path, containment: Containment | None) -> None:
        self.root, self.containment = root, containment
        self.state = root / "state"
        self.state.mkdir()
        self._engines: list[Engine] = []

    def engine(self) -> Engine:
        engine = Engine(self.state, containment=self.containment)
        self._engines.append(engine)
        engine.connect()
        return engine

    def run_dir(self, key: str) -> Path:
        return self.state / "runs" / key

    def prepare(
        self,
        script: str,
        *,
        key: str = "job.1",
        shebang: str = "#!/bin/bash",
        argv: tuple[str, ...] = ("./run",),
        env: dict[str, str] | None = None,
        timeout: float | None = None,
        grace: float = 30.0,
        required: tuple[str, ...] = (),
        files: dict[str, str] | None = None,
    ) -> str:
        """A model whose command is ``script``, ordered with an input of ``files``."""
        model = self.root / "models" / key
        model.mkdir(parents=True)
        if script:
            (model / "run").write_text(f"{shebang}\n{script}\n")
            (model / "run").chmod(0o755)
        run = self.run_dir(key)
        run.mkdir(parents=True)
        with zipfile.ZipFile(run / "input.zip", "w", zipfile.ZIP_DEFLATED) as zip_:
            for name, text in (files or {"in.txt": "input"}).items():
                zip_.writestr(name, text)
        order = Order(
            key=key,
            job="job",
            attempt=1,
            model="model",
            argv=argv,
            cwd=str(model),
            env=env or {},
            timeout=timeout,
            grace=grace,
            required=required,
        )
        (run / "order.json").write_bytes(msgspec.json.encode(order))
        return key

    def run(self, script: str, **options: object) -> Exit:
        """Order, begin, wait, and how it ended."""
        engine = self._engines[-1] if self._engines else self.engine()
        key = self.prepare(script, **options)  # type: ignore[arg-type]
        engine.begin(key)
        return self.ended(engine, key)

    def ended(self, engine: Engine, key: str = "job.1") -> Exit:
        assert engine.wait(key, PATIENCE), f"{key} is still {engine.stage(key)}"
        exit_ = engine.exit(key)
        assert exit_ is not None, f"{key} is {engine.stage(key)} without an exit"
        return exit_

    def log(self, key: str = "job.1") -> str:
        path = self.run_dir(key) / "log"
        return path.read_text() if path.exists() else ""

    def says(self, text: str, key: str = "job.1") -> None:
        """Wait until the model has written ``text`` into its log."""
        until(lambda: text in self.log(key), f"{text!r} in the log")

    def alive(self, key: str = "job.1") -> list[str]:
        """The run's processes, by the environment that they were started with."""
        return [str(process) for process in self._marked(key)]

    def _marked(self, key: str) -> list[procs.Process]:
        return procs.carrying(f"MODELRUNNER_OUTPUT_DIR={self.run_dir(key)}/output")

    def runner_pid(self) -> int:
        return int((self.state / "runner.lock").read_text())

    def kill_runner(self) -> None:
        pid = self.runner_pid()
        os.kill(pid, signal.SIGKILL)
        until(lambda: procs.look(pid) is None, "the runner is gone")

    def close(self) -> None:
        for engine in self._engines:
            engine.close(stop_runner_if_idle=False)
        if (self.state / "runner.lock").exists():
            pid = self.runner_pid()
            if (runner := procs.look(pid)) is not None and runner.name == "mr-runner":
                procs.send(runner, signal.SIGKILL)
        for key in self._keys():
            try:
                until(lambda: not self.alive(key), f"nothing of {key} is left")  # noqa: B023
            finally:  # a test that fails leaves nothing on this machine
                for process in self._marked(key):
                    procs.send(process, signal.SIGKILL)

    def _keys(self) -> list[str]:
        return [path.name for path in (self.state / "runs").glob("*")]
