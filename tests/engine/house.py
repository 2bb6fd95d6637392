"""A real agent with a real runner, on a spool whose primary is played by hand."""

from __future__ import annotations

import threading
import uuid
import zipfile
from hashlib import sha256
from pathlib import Path
from typing import Any

from engine.agent import Agent
from engine.runs import Engine, Keeper
from engine.state import State
from spool.claims import Claims
from spool.dispatch import Dispatch
from spool.local import LocalTransport, make_worker_folder
from spool.names import Claim, Ticket, parse_claim
from spool.reports import Beat, FinalReport, decode_beat, decode_report
from spool.transport import Transport
from tests.lossy import LossyTransport
from tests.system import wait_for

QUICK = "#!/bin/sh\necho hello\ncp $1/in.txt $2/out.txt\n"


class House:
    """One worker, w1, whose transport can lose what the test says."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.root = root
        self.models = root / "models"
        self.models.mkdir()
        self.dispatch = Dispatch(root / "spool")
        self.home = self.dispatch.root / "workers" / "w1"
        self.options = {"slots": 1, "rescan": 30.0, **options}
        self._sequence = 0
        self._jobs = root / "jobs"
        self._jobs.mkdir()
        self.add_model("m")
        make_worker_folder(self.dispatch.root, "w1")

    # --- the primary -------------------------------------------------------------------

    def add_model(self, name: str, script: str = QUICK, more: str = "lease = 2") -> None:
        folder = self.models / name
        folder.mkdir()
        (folder / "run").write_text(script)
        (folder / "run").chmod(0o755)
        (folder / "model.toml").write_text(f'command = ["./run"]\n{more}\n')
        self.dispatch.lay_out([name])

    def publish(self, model: str = "m", *, forged: bytes = b"") -> Ticket:
        """A job's ticket in ``new/``; ``forged``: with other bytes than its name says."""
        self._sequence += 1
        job = str(uuid.UUID(int=self._sequence, version=4))
        source = self._jobs / f"{job}.zip"
        with zipfile.ZipFile(source, "w") as made:
            made.writestr("in.txt", job)
        ticket = Ticket(self._sequence, 1, job, sha256(source.read_bytes()).hexdigest())
        if forged:
            source.write_bytes(forged)
        self.dispatch.publish(source, model, ticket)
        return ticket

    def held(self) -> list[Claim]:
        found = [parse_claim(path.name) for path in (self.home / "cur").iterdir()]
        return [claim for claim in found if claim]

    def report(self, ticket: Ticket, kind: str) -> Path:
        number = {"started": 1, "processed": 2, "final": 3}[kind]
        return self.home / "reports" / f"{ticket.key}.{number}-{kind}"

    def final(self, ticket: Ticket) -> FinalReport:
        """The final report, once it is there."""
        path = self.report(ticket, "final")
        wait_for(path.exists, "the final report")
        found = decode_report(path.read_bytes())
        assert isinstance(found, FinalReport)
        return found

    def beat(self) -> Beat:
        return decode_beat((self.home / "reports" / "beat.json").read_bytes())

    def files(self) -> list[str]:
        """What lies in the worker's folder, but for its beat."""
        found = [p for p in self.home.rglob("*") if p.is_file() and p.name != "beat.json"]
        return sorted(str(p.relative_to(self.home)) for p in found)

    def retire(self, ticket: Ticket) -> None:
        self.dispatch.retire("w1", ticket.key, [c for c in self.held() if c.ticket == ticket])


class Crew:
    """An agent at work in a thread, on ``line`` or a local one; ``with`` ends it."""

    def __init__(
        self, house: House, line: Transport | None = None, *, keeper: Keeper = "own"
    ) -> None:
        self.home = State(house.root / "state")
        self.line = LossyTransport(line or LocalTransport(house.dispatch.root))
        self.engine = Engine(self.home.path, keeper=keeper)
        self.claims = Claims(self.line, "w1", self.home.instance)
        options = dict(house.options)
        self.agent = Agent(
            self.claims, self.engine, self.home, house.models, options.pop("slots"), **options
        )
        self._thread = threading.Thread(target=self.agent.run, daemon=True)

    def __enter__(self) -> Crew:
        if self.engine.keeper == "own":
            self.engine.connect()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.line.up()
        self.line.freed.set()
        self.agent.stop()
        self._thread.join(60)
        self.engine.close(stop_runner_if_idle=self.engine.keeper == "own")
        self.home.release()
        assert not self._thread.is_alive()

    def ring(self) -> None:
        """What the watch or the bell does."""
        self.agent.ring()

    def wait_ended(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive()
