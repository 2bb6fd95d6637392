"""The unpacker as its init sees it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from engine.rundir import RunDir
from engine.unpacker import Unpacker
from engine.unpacking import unpack_zip


def test_one_that_died_while_it_waited_takes_an_order_in_silence(tmp_path: Path) -> None:
    """Its death is heard before it can be waited for; an order may come in between."""
    unpacker = Unpacker(unpack_zip)
    os.kill(unpacker.pid, signal.SIGKILL)
    assert unpacker.answer() is None
    unpacker.order(RunDir(tmp_path), ())  # nobody reads it
    unpacker.close()
    unpacker.order(RunDir(tmp_path), ())
    _, status = os.waitpid(unpacker.pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
