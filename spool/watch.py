"""Wake-ups from the file system: a hint, never the truth.

One recursive watch from the spool's root: with two, a rename from one to the
other would be held back for half a second, since watchdog waits for the other
half of every move. For the same reason nothing is renamed out of the spool.
Content changes are not watched: a model that writes its log wakes nobody.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer

log = logging.getLogger(__name__)


class Watch(FileSystemEventHandler):
    """Calls ``wake`` when a name that ``wanted`` accepts appears, moves or goes.

    ``wanted`` gets the path relative to ``root``. Where the system gives no
    watch (limits, network file systems), the callers' rescans go on alone.
    """

    def __init__(self, root: Path, wanted: Callable[[str], bool], wake: Callable[[], None]) -> None:
        self._prefix = len(str(root)) + 1
        self._wanted = wanted
        self._wake = wake
        self._observer = Observer()
        self._observer.schedule(
            self,
            str(root),
            recursive=True,
            event_filter=[FileCreatedEvent, FileMovedEvent, FileDeletedEvent, DirCreatedEvent],
        )
        self._started = False

    def start(self) -> None:
        try:
            self._observer.start()
            self._started = True
        except OSError as e:
            log.warning("no file system events (%s): rescans alone find what changes", e)

    def stop(self) -> None:
        if self._started:
            self._observer.stop()
            self._observer.join()

    def dispatch(self, event: FileSystemEvent) -> None:
        path = os.fsdecode(event.dest_path or event.src_path)
        if self._wanted(path[self._prefix :]):
            self._wake()
