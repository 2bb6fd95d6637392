"""The steps that give a spool the owners and modes of the hardened layout. Pure.

The chroot and ``workers/`` are root's, so that root's commands below them cannot
be led astray by a link that somebody puts in their way. What lies in ``models/``
is the primary's, and is changed with the primary's own rights, not with root's.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from deploy.grants import layout
from deploy.grants.facts import Machine, Spool
from deploy.grants.steps import Command, Step, unless
from spool import names
from spool.errors import Refused


class Wanted(NamedTuple):
    """Folders that are to be alike, by their paths below the spool."""

    paths: Sequence[str]
    owner: str
    group: str
    mode: int


class Folders:
    """``chroot``: where the spool will lie when the steps are done."""

    def __init__(self, machine: Machine, spool: Spool, chroot: str, granted: Sequence[str]) -> None:
        """``granted``: the groups that are there once the steps before have been done."""
        self._machine = machine
        self._spool = spool
        self._chroot = chroot
        self._groups = {*machine.groups, *granted}

    def base(self) -> Iterator[Step]:
        """The chroot, and what is in it whoever is let in."""
        p = self._spool.owner
        yield from self._roots(Wanted([""], "root", p.group, 0o751))
        yield from self._roots(Wanted([names.MODELS], p.name, p.group, 0o711))
        # Sticky: the primary may make folders for workers under its own account,
        # but cannot rename those that are root's.
        own = p.name == "root"
        mode = 0o711 if own else 0o1771
        yield from self._roots(Wanted([names.WORKERS], "root", p.group, mode))
        for model in self._spool.models:
            yield from self._model(model)
        yield from self._shared_workers()

    def worker(self, name: str, account: str, group: str) -> Iterator[Step]:
        """The folders of one worker."""
        p, home = self._spool.owner, names.worker_folder(name)
        yield from self._roots(Wanted([home], "root", p.group, 0o751))
        own = [f"{home}/{folder}" for folder in names.WORKER_FOLDERS if folder != names.STOP]
        yield from self._roots(Wanted(own, account, p.group, 0o2770))
        yield from self._roots(Wanted([f"{home}/{names.STOP}"], p.name, group, 0o2750))

    # --- inside --------------------------------------------------------------------

    def _model(self, model: str) -> Iterator[Step]:
        """One model's folders: closed to whoever is not in its group."""
        p = self._spool.owner
        yield from self._primarys(Wanted([f"{names.MODELS}/{model}"], p.name, p.group, 0o711))
        for path, group in (
            (names.new_folder(model), layout.model_group(model)),
            (names.drop_folder(model), layout.drop_group(model)),
        ):
            entry = self._spool.entries.get(path)
            if group in self._groups:
                yield from self._primarys(Wanted([path], p.name, group, 0o2770))
            elif entry is None or entry.mode & 0o007:
                yield from self._primarys(Wanted([path], p.name, p.group, 0o750))

    def _shared_workers(self) -> Iterator[Step]:
        """Workers under the primary's own account: nobody else looks into their folders."""
        comments = {account.comment for account in self._machine.accounts.values()}
        for worker in self._spool.workers:
            path = names.worker_folder(worker)
            entry = self._spool.entries[path]
            own = entry.owner == self._spool.owner.name and entry.kind == "folder"
            granted = layout.worker_comment(worker) in comments
            if own and not granted and entry.mode & 0o007:
                command = self._as_primary("chmod", "o-rwx", self._at(path))
                yield Step(f"folder {self._at(path)} closed to others", (command,))

    def _at(self, path: str) -> str:
        return f"{self._chroot}/{path}".rstrip("/")

    def _as_primary(self, *command: str, group: str | None = None) -> Command:
        p = self._spool.owner
        if p.name == "root":
            return command
        ids = ("--reuid", p.name, "--regid", group or p.group, "--clear-groups")
        return ("setpriv", *ids, *command)

    def _primarys(self, wanted: Wanted) -> Iterator[Step]:
        """Folders of the primary's own, in folders of its own."""
        missing, wrong = self._differing(wanted)
        for path in wrong:
            if self._spool.entries[path].owner != wanted.owner:
                at, owner = self._at(path), self._spool.entries[path].owner
                raise Refused(
                    f"{at} belongs to {owner} instead of {wanted.owner}, who runs the primary",
                    f"chown -h {wanted.owner} {at}",
                )
        paths = [self._at(path) for path in (*missing, *wrong)]
        commands = []
        if missing:
            made = [self._at(path) for path in missing]
            commands.append(self._as_primary("mkdir", "-p", "-m", "0700", *made))
        commands += [
            self._as_primary("chgrp", "-h", wanted.group, *paths, group=wanted.group),
            self._as_primary("chmod", f"{wanted.mode:04o}", *paths, group=wanted.group),
        ]
        if paths:
            yield Step(_sentence(paths, wanted), tuple(commands))

    def _roots(self, wanted: Wanted) -> Iterator[Step]:
        """Folders in folders of root's, or in the chroot."""
        missing, wrong = self._differing(wanted)
        paths = [self._at(path) for path in (*missing, *wrong)]
        commands = [_made(self._at(path), wanted.owner) for path in missing]
        # Looked at again: until the folder above was root's it could be exchanged.
        commands += [("test", "!", "-L", self._at(path)) for path in wrong]
        commands.append(("chown", "-h", f"{wanted.owner}:{wanted.group}", *paths))
        commands.append(("chmod", f"{wanted.mode:04o}", *paths))
        if paths:
            yield Step(_sentence(paths, wanted), tuple(commands))

    def _differing(self, wanted: Wanted) -> tuple[list[str], list[str]]:
        """(missing, of another owner, group or mode). Raises Refused for what is no folder."""
        missing, wrong = [], []
        for path in wanted.paths:
            entry = self._spool.entries.get(path)
            if entry is None:
                missing.append(path)
            elif entry.kind != "folder":
                hint = "look what it is, and remove it"
                raise Refused(f"{self._at(path)} is no folder, but a {entry.kind}", hint)
            elif (entry.owner, entry.group, entry.mode) != wanted[1:]:
                wrong.append(path)
        return missing, wrong


def _made(path: str, owner: str) -> Command:
    """A folder made by root; for the second time: what lies there is one that a grant made.

    Not ``mkdir -p``: the primary could put a link, or a folder to exchange, in its way.
    """
    ours = " ".join(f"-e {shlex.quote(f'directory:{name}')}" for name in sorted({"root", owner}))
    done = f"stat -c %F:%U {shlex.quote(path)} 2>/dev/null | grep -Fqx {ours}"
    return unless(done, ("mkdir", "-m", "0700", path))


def _sentence(paths: Sequence[str], wanted: Wanted) -> str:
    folder, _, first = paths[0].rpartition("/")
    more = ", ".join((first, *(path.rpartition("/")[2] for path in paths[1:])))
    plural = "s" if len(paths) > 1 else ""
    return f"folder{plural} {folder}/{more}: {wanted.owner}:{wanted.group} {wanted.mode:04o}"
