"""Bugs that the crash explorer must find: what each leaves out, or does in a wrong order.

Each puts itself into the code of this process, by a patch that whoever asked takes away again.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import primary.dropbox
import primary.files
from ledger import segments
from ledger.disk import Disk, sync_folder
from ledger.segments import Segments
from primary.files import MODE, Files, Upload
from primary.intake import Intake
from spool import names
from spool.dispatch import Dispatch
from spool.drops import DropFolder

Bug = Callable[[pytest.MonkeyPatch], None]


def _nothing(*_: object) -> None:
    """Where something should have been synced."""


def ledger_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    """A record is acknowledged as soon as it is written."""
    patch.setattr(Segments, "_sync", _nothing)


def answer_comes_before_the_sync(patch: pytest.MonkeyPatch) -> None:
    """Each record is synced together with the next one."""
    real, due = Segments._sync, list[bool]()

    def late(self: Segments, fd: int) -> None:
        if due.pop() if due else False:
            real(self, fd)
        else:
            due.append(True)

    patch.setattr(Segments, "_sync", late)


def a_segment_s_name_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(segments, "Disk", lambda: Disk(sync_folder=_nothing))


def input_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    def finish(self: Upload) -> None:
        os.fchmod(self._file.fileno(), MODE)
        self._file.close()

    patch.setattr(Upload, "finish", finish)


def a_job_s_folder_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The input's bytes last, and its name is lost."""
    patch.setattr(primary.files, "sync_folder", _nothing)


def the_folder_above_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    """The name of the job's folder is lost, and all that is in it."""

    def sync(folder: Path) -> None:
        if folder.name != "jobs":
            sync_folder(folder)

    patch.setattr(primary.files, "sync_folder", sync)


def results_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    """Renamed to where users find them before, and without, a sync."""
    patch.setattr(primary.files, "sync_file", _nothing)


def the_names_of_results_are_not_synced(patch: pytest.MonkeyPatch) -> None:
    real = Files.place

    def place(self: Files, *args: Any) -> None:
        with pytest.MonkeyPatch.context() as more:
            more.setattr(primary.files, "sync_folder", _nothing)
            real(self, *args)

    patch.setattr(Files, "place", place)


def the_claim_goes_before_the_ledger_knows(patch: pytest.MonkeyPatch) -> None:
    """The worker believes that its results are kept, and forgets them."""
    real = Intake._adopt

    def adopt(self: Intake, worker: str, name: Any, *args: Any, **more: Any) -> None:
        real(self, worker, name, *args, **more)
        for path in (self._dispatch.root / names.worker_folder(worker) / names.CUR).iterdir():
            path.unlink()

    patch.setattr(Intake, "_adopt", adopt)


def a_ticket_is_seen_before_it_is_whole(patch: pytest.MonkeyPatch) -> None:
    """A copy in new/ itself, instead of a link."""

    def publish(self: Dispatch, source: Path, model: str, ticket: Any) -> None:
        target = self.root / names.new_folder(model) / str(ticket)
        shutil.copyfile(source, target)
        self._genuine.copied(target, ticket.sha256)

    patch.setattr(Dispatch, "publish", publish)


def a_dropped_zip_goes_before_it_is_a_job(patch: pytest.MonkeyPatch) -> None:
    real = primary.dropbox.Dropbox._copy_in

    def copy_in(self: Any, folder: DropFolder, model: str, name: str, job: str) -> None:
        with folder.open(job, name) as held, pytest.MonkeyPatch.context() as more:
            folder.done(job, name)
            more.setattr(folder, "open", lambda *_: held)
            real(self, folder, model, name, job)

    patch.setattr(primary.dropbox.Dropbox, "_copy_in", copy_in)


def a_drop_s_taking_is_not_synced(patch: pytest.MonkeyPatch) -> None:
    """Its old name comes back beside the job that it became, and it is run again."""
    patch.setattr(primary.dropbox, "sync_folder", _nothing)


BUGS: dict[str, Bug] = {
    bug.__name__: bug
    for bug in (
        ledger_is_not_synced,
        answer_comes_before_the_sync,
        a_segment_s_name_is_not_synced,
        input_is_not_synced,
        a_job_s_folder_is_not_synced,
        the_folder_above_is_not_synced,
        results_are_not_synced,
        the_names_of_results_are_not_synced,
        the_claim_goes_before_the_ledger_knows,
        a_ticket_is_seen_before_it_is_whole,
        a_dropped_zip_goes_before_it_is_a_job,
        a_drop_s_taking_is_not_synced,
    )
}
