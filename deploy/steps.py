"""Steps that change a host, and in what order over all hosts. Pure; ``push`` carries them out."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import msgspec

Command = tuple[str, ...]


class Phase(IntEnum):
    """A phase begins when the one before it is over on every host."""

    PREPARE = 1  # packages, account, folders, version, models, files; workers make their keys
    PRIMARY = 2  # the primary starts, or is switched
    GRANT = 3  # the workers' keys are let in
    WORKERS = 4  # the workers start, or are switched
    CHECK = 5  # each worker is seen by the primary


class Text(msgspec.Struct, frozen=True):
    """Input of a command, as it stands here."""

    data: bytes


class FileOf(msgspec.Struct, frozen=True):
    """Input of a command: a file of another host, read when the step is carried out."""

    host: str
    path: str


class Bundle(msgspec.Struct, frozen=True):
    """Input of a command: a tar that is made here; ``kind`` and ``name`` say of what."""

    kind: str  # "release" or "model"
    name: str


Input = Text | FileOf | Bundle


class Put(msgspec.Struct, frozen=True, kw_only=True):
    """A file that appears whole, with owner and mode. Secrets are never shown."""

    path: str
    text: str
    owner: str = ""  # USER:GROUP; without root, whoever logged in
    mode: int = 0o644
    secret: bool = False


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to do on one host: first ``put``, then ``commands``; ``input`` goes to the first.

    ``sentence`` says what will be so, for the plan, the progress and the report. ``before`` is the
    file's present text, where there is one, for the diff. ``undo`` puts right what this step did
    when a later command of it fails; ``hint`` is what to do then. ``seconds``: for each command.
    ``atomic``: where its command fails, that has left the host as it was, or has said how it is.
    ``mark`` is for the plan: + made, ~ changed, - taken away; "" is as the file says, else +.
    """

    phase: Phase
    sentence: str
    put: Put | None = None
    before: str | None = None
    commands: tuple[Command, ...] = ()
    input: Input | None = None
    undo: tuple[Command, ...] = ()
    hint: str = ""
    seconds: float = 120.0
    atomic: bool = False
    mark: Literal["", "+", "~", "-"] = ""


class HostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """The steps of one host; none if it is as it should be. ``notes``: what to know, or do.

    ``same``: what is as it should be already, a few words for each.
    """

    host: str
    steps: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
