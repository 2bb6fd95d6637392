"""One step on one host: its file, its commands, and the way back where one of them fails."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from deploy import placing
from deploy.interpreter import python
from deploy.remote import Ended, Lost, Overdue, Remote, shown
from deploy.steps import Command, Input, Put, Step
from spool.errors import Refused, SpoolError
from spool.line import clean

LINES = 20  # of a failed command's output
PLACE = 60.0  # seconds for a file to be put in its place

Given = bytes | Iterable[bytes]
Give = Callable[[Input], Given]


class Stuck(Exception):
    """A step that failed. ``code`` is None where no command ended: ``what`` says what happened.

    ``undone``: the host is as it was before the step; ``left`` says how it is.
    """

    def __init__(
        self,
        what: str,
        command: str,
        *,
        code: int | None = None,
        printed: bytes = b"",
        hint: str = "",
    ) -> None:
        super().__init__(what)
        self.what, self.command, self.code, self.hint = what, command, code, hint
        lines = printed.decode(errors="replace").splitlines()
        self.output = tuple(text for text in map(clean, lines) if text)[-LINES:]
        self.undone = False
        self.left = ""


def do(step: Step, remote: Remote, give: Give) -> None:
    """Carry ``step`` out; ``give`` has its input. Raises Stuck."""
    doing = _Doing(step, remote)
    try:
        doing.forth(give)
    except Stuck as e:
        e.hint = e.hint or step.hint
        e.undone, e.left = doing.back()
        raise


class _Doing:
    """How far a step has come."""

    def __init__(self, step: Step, remote: Remote) -> None:
        self._step = step
        self._remote = remote
        self._touched = False  # something of it was done, or may have been
        self._unclear = False  # something of it may still be going on
        self._broken_off = False  # a command was ended in the middle
        self._before: list[dict[str, Any] | None] = []  # what lay there, if a file was put

    def forth(self, give: Give) -> None:
        """Raises Stuck."""
        step = self._step
        if step.put is not None:
            tell = bool(step.commands)
            ended = self._place(*_order(step.put, tell=tell), f"write {step.put.path}")
            self._touched = True
            if tell:
                self._before.append(json.loads(ended.out.splitlines()[-1]))
        for n, command in enumerate(step.commands):
            given: Given = b""
            if n == 0 and step.input is not None:
                try:
                    given = self._noticed(give(step.input))
                except (SpoolError, OSError) as e:
                    raise _stuck(e, shown(command)) from None
            self._run(command, given, step.seconds)

    def back(self) -> tuple[bool, str]:
        """After Stuck: whether the host is now as it was before, and in words how it is."""
        if self._unclear:
            return False, "what was begun there may still go on"
        if not self._touched:
            return True, "nothing was changed"
        if self._step.atomic and not self._broken_off:
            return True, "it takes back by itself what it changed, as said above"
        wrong = list(self._undo())
        if wrong:
            return False, f"undoing it failed, too: {'; '.join(wrong)}"
        if self._before or self._step.undo:
            return True, "it was undone: the host is as it was before this step"
        return False, "what it did until then stays"

    # --- inside --------------------------------------------------------------------

    def _undo(self) -> Iterator[str]:
        """What does not work of it."""
        put = self._step.put
        try:
            for before in self._before:
                assert put is not None
                if before is not None and before["kind"] != "file":
                    yield f"{put.path} was no file that could be put back"
                    continue
                self._place(*_order_back(put.path, before), f"put {put.path} back")
        except Stuck as e:
            yield f"{e.command}: {e.what} {' '.join(e.output)}".strip()
        for command in self._step.undo:
            try:
                self._run(command, b"", self._step.seconds)
            except Stuck as e:
                yield f"{e.command}: {e.what} {' '.join(e.output[-3:])}".strip()

    def _place(self, order: dict[str, Any], text: bytes, what: str) -> Ended:
        command = python("-c", Path(placing.__file__).read_text(encoding="utf-8"))
        given = json.dumps(order).encode() + b"\n" + text
        try:
            ended = self._remote.run(command, input=given, root=self._remote.rooted, seconds=PLACE)
        except SpoolError as e:
            self._unclear |= isinstance(e, Lost)
            raise _stuck(e, what, tell=False) from None
        if ended.code:
            # Only what went wrong: its output is what lay there before, a secret perhaps.
            raise Stuck(f"exit code {ended.code}", what, code=ended.code, printed=ended.err)
        return ended

    def _run(self, command: Command, given: Given, seconds: float) -> None:
        remote = self._remote
        try:
            ended = remote.run(command, input=given, root=remote.rooted, seconds=seconds)
        except (SpoolError, OSError) as e:
            self._unclear |= isinstance(e, Lost)
            self._broken_off |= isinstance(e, Overdue)
            self._touched |= self._broken_off
            raise _stuck(e, shown(command)) from None
        self._touched = True
        if ended.code:
            printed = ended.out + b"\n" + ended.err
            what = f"exit code {ended.code}"
            raise Stuck(what, shown(command), code=ended.code, printed=printed)

    def _noticed(self, given: Given) -> Given:
        return given if isinstance(given, bytes) else self._pieces(given)

    def _pieces(self, given: Iterable[bytes]) -> Iterator[bytes]:
        """From the first piece that is asked for, the command runs, whatever comes then."""
        self._touched = True
        yield from given


def _order(put: Put, *, tell: bool) -> tuple[dict[str, Any], bytes]:
    text = put.text.encode()
    digest = hashlib.sha256(text).hexdigest()
    order = {"path": put.path, "owner": put.owner, "mode": put.mode}
    return {**order, "sha256": digest, "tell": tell}, text


def _order_back(path: str, before: dict[str, Any] | None) -> tuple[dict[str, Any], bytes]:
    if before is None:
        return {"path": path, "remove": True}, b""
    text = base64.b64decode(before["text"])
    order = {"path": path, "owner": before["owner"], "mode": before["mode"]}
    return {**order, "sha256": hashlib.sha256(text).hexdigest(), "tell": False}, text


def _stuck(e: Exception, command: str, *, tell: bool = True) -> Stuck:
    hint = e.hint if isinstance(e, Refused) else ""
    if isinstance(e, Lost):
        hint = "the same command again finds out, and goes on from there"
    printed = e.printed if tell and isinstance(e, Lost | Overdue) else b""
    return Stuck(str(e).removesuffix(f" ({hint})"), command, printed=printed, hint=hint)
