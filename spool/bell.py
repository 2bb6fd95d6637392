"""Wake-ups over SFTP: the size of one file, asked for again and again.

The primary makes ``bell`` grow by a byte whenever workers should look. So an
idle worker costs one small request a second, however many models it has. Like
``spool.watch`` this is a hint: the truth is the agent's rescan.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from spool import names
from spool.errors import Gone, SpoolError
from spool.transport import Transport

IDLE, BUSY = 1.0, 0.25  # seconds between looks: with nothing to do here, and with runs going on

log = logging.getLogger(__name__)


class BellWatch:
    """Calls ``wake`` when the bell has changed, and when it can be seen again after a failure.

    ``busy`` says whether to look more often; ``told`` hears how each look went: the
    error, or None.
    """

    def __init__(
        self,
        transport: Transport,
        wake: Callable[[], None],
        *,
        busy: Callable[[], bool] = lambda: False,
        told: Callable[[SpoolError | None], None] = lambda _: None,
        idle: float = IDLE,
    ) -> None:
        self._transport = transport
        self._wake = wake
        self._busy = busy
        self._told = told
        self._idle = idle
        self._stopping = threading.Event()
        self._size: int | None = None  # None: it could not be seen
        self._thread = threading.Thread(target=self._go_on, name="bell", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience: float = 1.0) -> None:
        """End it; a look that hangs is left behind after ``patience`` seconds."""
        self._stopping.set()
        self._thread.join(patience)

    def look(self) -> None:
        """One look at the bell."""
        try:
            size = self._transport.check(names.BELL)
            if size is None:
                raise Gone(f"{names.BELL}: not there; is this still a spool?")
        except SpoolError as e:
            self._size = None
            self._told(e)
            return
        self._told(None)
        if size != self._size:
            self._size = size
            self._wake()

    def _go_on(self) -> None:
        while not self._stopping.is_set():
            try:
                self.look()
            except Exception:  # without looks, every kill would wait for the rescan
                log.exception("no look at the bell")
            self._stopping.wait(BUSY if self._busy() else self._idle)
