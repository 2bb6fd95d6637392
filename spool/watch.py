"""Wake-ups from the file system: a hint, never the truth.

One recursive watch from the spool's root: with two, a rename from one to the
other would be held back for half a second, since watchdog waits for the other
half of every move. For the same reason nothing is renamed out of the spool.
Content changes are not watched: a model that writes its log wakes nobody.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path

from watchdog.events import (
    DirCreatedEvent,
    FileCreatedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver

log = logging.getLogger(__name__)

_EVENTS: list[type[FileSystemEvent]] = [
    FileCreatedEvent,
    FileMovedEvent,
    DirCreatedEvent,
]

# It says so whenever it is stopped while an event is on its way.
logging.getLogger("watchdog.observers.inotify").addFilter(
    lambda record: "called when the thread is inactive" not in record.getMessage()
)

# watchdog says this when a folder appears while it walks the tree: seen twice, watched once.
warnings.filterwarnings("ignore", message="Callback with id", module="watchdog")


class Watch(FileSystemEventHandler):
    """Calls ``wake`` when a name that ``wanted`` accepts appears.

    What goes is found by the next look: every event costs about 0.1 ms of CPU in
    each process that watches, and nobody waits for a file to go.

    ``wanted`` gets the path relative to ``root``. Where the system gives no
    watch (limits, network file systems), the callers' rescans go on alone.
    """

    def __init__(self, root: Path, wanted: Callable[[str], bool], wake: Callable[[], None]) -> None:
        self._root = str(root)
        self._wanted = wanted
        self._wake = wake
        self._observer: BaseObserver | None = None

    def start(self) -> None:
        """Begin to watch, or say why rescans have to do."""
        try:
            observer = Observer()
            observer.schedule(self, self._root, recursive=True, event_filter=_EVENTS)
            observer.start()
        except OSError as e:
            log.warning(
                "no file system events (%s): rescans alone find what changes; "
                "the limits are fs.inotify.max_user_instances and max_user_watches",
                e.strerror or e,
            )
            return
        self._observer = observer

    def stop(self) -> None:
        if self._observer is not None:
            self._observer.stop()
            self._observer.join()

    def dispatch(self, event: FileSystemEvent) -> None:
        path = os.fsdecode(event.dest_path or event.src_path)
        if self._wanted(path[len(self._root) + 1 :]):
            self._wake()
