"""A run directory's files, read and written; ``contract`` says what they mean.

Crash safety needs no sync here: the run's own host decides whether a run is
alive, and after a reboot (another boot id) it is lost whatever its files say.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from engine.contract import Exit, Order, Running, Stage
from engine.procs import alive

RESERVED = 4096  # bytes; every exit.json is cut to fit into them
MAX_REASON = 1500  # characters
MAX_STOP = 2000  # bytes read of a stop marker

_exit_decoder = msgspec.json.Decoder(Exit)
_order_decoder = msgspec.json.Decoder(Order)
_running_decoder = msgspec.json.Decoder(Running)


class RunDir:
    """One run's directory, ``<state>/runs/<key>``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.order = path / "order.json"
        self.input_zip = path / "input.zip"
        self.input = path / "input"
        self.output = path / "output"
        self.tmp = path / "tmp"
        self.log = path / "log"
        self._stop = path / "stop"
        self._running = path / "run.json"
        self._reserved = path / "exit.reserved"
        self._exit = path / "exit.json"

    @property
    def key(self) -> str:
        return self.path.name

    # --- reading ------------------------------------------------------------------

    def read_order(self) -> Order:
        """Raises OSError or msgspec.MsgspecError."""
        return _order_decoder.decode(self.order.read_bytes())

    def read_exit(self) -> Exit | None:
        """Raises msgspec.MsgspecError for a damaged file."""
        try:
            return _exit_decoder.decode(self._exit.read_bytes())
        except FileNotFoundError:
            return None

    def read_running(self) -> Running | None:
        """The model's run as it was started; None when it has not been, or it cannot be read."""
        return _read_running(self._running)

    def stop_reason(self) -> str | None:
        """Why a stop is wanted, or None when none is."""
        try:
            with self._stop.open("rb") as f:
                return f.read(MAX_STOP).decode("utf-8", "replace").strip() or "a stop was wanted"
        except FileNotFoundError:
            return None

    def has_ended(self) -> bool:
        return self._exit.exists()

    def was_begun(self) -> bool:
        """True once this attempt can have started: it must never be started again."""
        return self._reserved.exists() or self._running.exists() or self._exit.exists()

    def stage(self) -> Stage | None:
        """Where the run stands; None if there is no directory."""
        if self.has_ended():
            return "ended"
        # Until run.json is there the reserved file names the runner that began the
        # run; from then on the run's own init stands for it.
        mark = _read_running(self._running) or _read_running(self._reserved)
        if mark is not None and alive(mark.pid, mark.start_time, mark.boot_id):
            return "running"
        # exit.json is written before its writer dies: look again, now that it is dead.
        if self.has_ended():
            return "ended"
        if mark is not None or self._reserved.exists() or self._running.exists():
            return "lost"
        return "ready" if self.path.is_dir() else None

    # --- writing ------------------------------------------------------------------

    def want_stop(self, reason: str) -> None:
        """Write the stop marker; the first reason stays. Raises OSError."""
        text = reason.encode("utf-8", "replace")[:MAX_STOP]
        hidden = self.path / ".stop.new"
        if not self._stop.exists():
            hidden.write_bytes(text)
            os.replace(hidden, self._stop)

    def reserve(self, by: Running) -> bool:
        """Take the disk space of exit.json; False if this attempt was begun before.

        Only the runner that holds the state's lock calls this, so looking and
        then renaming is safe. Raises OSError (a full disk) and leaves nothing.
        """
        if self.was_begun():
            return False
        hidden = self.path / ".exit.reserved.new"
        try:
            hidden.write_bytes(msgspec.json.encode(by).ljust(RESERVED))
            os.rename(hidden, self._reserved)
        except OSError:
            hidden.unlink(missing_ok=True)
            raise
        return True

    def prepare_running(self, running: Running) -> None:
        """Put run.json's bytes on the disk, still hidden. Raises OSError."""
        (self.path / ".run.json.new").write_bytes(msgspec.json.encode(running))

    def publish_running(self) -> None:
        """Show run.json: the model was started."""
        os.rename(self.path / ".run.json.new", self._running)

    def write_exit(self, exit_: Exit) -> None:
        """Write exit.json in the reserved space; it appears whole. Works on a full disk.

        (Except where the file system writes every change to a new place, as btrfs
        does: there a full disk can refuse.) Raises FileNotFoundError if nothing
        was reserved or another has written it, else OSError.
        """
        data = encode_exit(exit_)
        # No O_TRUNC: it would give the reserved block back before it is needed.
        fd = os.open(self._reserved, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(fd, data)
            os.ftruncate(fd, len(data))
        finally:
            os.close(fd)
        os.rename(self._reserved, self._exit)


def encode_exit(exit_: Exit) -> bytes:
    """``exit_`` in at most RESERVED bytes: the list of what was ended gives way first."""
    ended, more = list(exit_.ended), 0
    exit_ = msgspec.structs.replace(exit_, reason=exit_.reason[:MAX_REASON])
    while True:
        names = (*ended, f"and {more} more") if more else tuple(ended)
        data = msgspec.json.encode(msgspec.structs.replace(exit_, ended=names))
        if len(data) <= RESERVED:
            return data
        if ended:
            drop = max(1, len(ended) // 4)
            more += drop
            del ended[-drop:]
        else:  # A reason of wide characters.
            exit_ = msgspec.structs.replace(exit_, reason=exit_.reason[: len(exit_.reason) // 2])


def _read_running(path: Path) -> Running | None:
    try:
        return _running_decoder.decode(path.read_bytes())
    except (FileNotFoundError, msgspec.MsgspecError):
        return None
