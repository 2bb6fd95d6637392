"""One fleet's deployment: look, plan, carry out; and back again where a new version fails."""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from deploy import modelfolders, release, services, switching
from deploy.admitting import grant_command, is_listed, public_key, remote_workers
from deploy.desired import Wanted, desired, mode_of, paths_of
from deploy.fleet import Fleet
from deploy.found import Found
from deploy.install import bundle
from deploy.plan import plan, plan_model, plan_upgrade
from deploy.push import News, Outcome, carry_out
from deploy.remote import Remote
from deploy.removal import plan_removal
from deploy.steps import Bundle, HostPlan, Phase
from deploy.survey import Trouble, survey
from deploy.targets import Target
from spool.errors import Refused

Plans = Mapping[str, HostPlan]

KEY_BYTES = 24  # of an admin key: 32 characters


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """What is shipped. ``checkout``: of which version; ``wheels``: folders to look in first."""

    checkout: Path
    cache: Path
    wheels: tuple[Path, ...] = ()
    offline: bool = False


class Deployment:
    """``look`` comes first; what it found is what the plans are made of."""

    def __init__(self, fleet: Fleet, remotes: Mapping[str, Remote], sources: Sources) -> None:
        self.fleet, self.remotes = fleet, remotes
        self.found: dict[str, Found] = {}
        self._sources = sources
        self._version = ""
        self._releases: dict[Target, release.Release] = {}

    # --- looking -------------------------------------------------------------------

    def look(self) -> tuple[Trouble, ...]:
        """Look at all hosts; those that could not be looked at."""
        seen = survey(self.fleet, lambda host: self.remotes[host.name])
        self.found = {name: one for name, one in seen.items() if isinstance(one, Found)}
        return tuple(one for one in seen.values() if isinstance(one, Trouble))

    def granted(self) -> dict[str, bool]:
        """By the workers' hosts: whether the primary lets their keys in as they shall be."""
        return {host.name: self._is_granted(host.name) for host in remote_workers(self.fleet)}

    def _is_granted(self, name: str) -> bool:
        there = self.found[self.fleet.primary.name]
        host = next(host for host in self.fleet.hosts if host.name == name)
        key = public_key(host, self.found)
        if key is None or there.version is None:
            return False
        if mode_of(there) == "user":
            entry = there.entries.get(f"{there.home}/.ssh/authorized_keys")
            return entry is not None and is_listed(key, entry.text or "")
        # The command itself knows best, and changes nothing here.
        command = grant_command(self.fleet, host, there, dry_run=True)
        remote = self.remotes[self.fleet.primary.name]
        ended = remote.run(command, input=f"{key}\n".encode(), root=True)
        return ended.code == 0 and bool(ended.out.startswith(b"nothing to do"))

    # --- planning ------------------------------------------------------------------

    def plan(self) -> Plans:
        """What ``apply`` would do. Raises Refused."""
        return plan(self._wanted(), self.found, self.granted())

    def plan_upgrade(self) -> Plans:
        """The version alone. Raises Refused."""
        return plan_upgrade(self._wanted(), self.found)

    def plan_model(self, name: str) -> Plans:
        """One model alone. Raises Refused."""
        if name not in self.fleet.names:
            known = ", ".join(self.fleet.names)
            raise Refused(f"no host runs a model {name!r}", f"hosts.toml names: {known}")
        return plan_model(self._wanted(), name, self.found)

    def plan_removal(self) -> Plans:
        """What takes all away but the data."""
        return plan_removal(self.fleet, self.found)

    @property
    def version(self) -> str:
        """Of the checkout. Raises Refused."""
        if not self._version:
            self._version = release.version_of(self._sources.checkout)
        return self._version

    def notes(self) -> tuple[str, ...]:
        """What the keeper may not know of the models. Raises Refused."""
        folder = self.fleet.models
        return tuple(
            note for name in self.fleet.names for note in modelfolders.notes(folder / name)
        )

    def _wanted(self) -> Wanted:
        folder, names = self.fleet.models, self.fleet.names
        return Wanted(
            fleet=self.fleet,
            version=self.version,
            models={name: modelfolders.version_of(folder / name) for name in names},
            new_key=secrets.token_urlsafe(KEY_BYTES),
            offline=self._sources.offline,
        )

    # --- carrying out --------------------------------------------------------------

    def linger(self) -> bool:
        """Have the users' own systemd live on without a login, where that is not so yet.

        Whether it is so now somewhere: then all has to be looked at again.
        """
        asked = [
            name
            for name, here in self.found.items()
            if here.manager == "user" and not here.linger and here.version is None
        ]
        ended = [self.remotes[name].run(services.linger(self.found[name].user)) for name in asked]
        return any(one.code == 0 for one in ended)

    def prepare(self, plans: Plans, said: Callable[[str], None]) -> None:
        """Make here what will be sent, before anything is changed anywhere. Raises Refused."""
        for name, one in plans.items():
            if any(step.input == Bundle("release", name) for step in one.steps):
                self._release(name, said)

    def carry_out(self, plans: Plans, news: News) -> Outcome:
        """All steps, as far as they go."""
        return carry_out(tuple(plans.values()), self.remotes, self._supply, news)

    def back(self, plans: Plans, ended: Outcome, news: News) -> Outcome | None:
        """Every host that had another version goes back to it.

        None if there is none, or nothing was switched yet.
        """
        wanted = self._wanted()
        ways: list[HostPlan] = []
        if not _switched(plans, ended):
            return None
        for host in self.fleet.hosts:
            here = self.found[host.name]
            if plans[host.name].steps and here.version not in (None, wanted.version):
                steps = tuple(switching.back(desired(wanted, host, self.found), here))
                ways.append(HostPlan(host=host.name, steps=steps))
        return carry_out(ways, self.remotes, self._supply, news) if ways else None

    def _supply(self, wanted: Bundle) -> Iterator[bytes]:
        if wanted.kind == "model":
            return modelfolders.bundle(self.fleet.models / wanted.name)
        return bundle(self._releases[_target(self.found[wanted.name])])

    def _release(self, name: str, said: Callable[[str], None]) -> None:
        target = _target(self.found[name])
        if target in self._releases:
            return
        made = release.build(
            self._sources.checkout,
            target,
            self._sources.cache,
            offline=self._sources.offline,
            said=said,
            folders=self._sources.wheels,
        )
        if made.version != self.version:
            raise Refused("the checkout was changed meanwhile", "try again")
        self._releases[target] = made


def key_command(here: Found) -> str:
    """What shows the admin key, on the primary's host."""
    sudo = "sudo " if here.root and here.uid != 0 else ""
    return f"{sudo}cat {shlex.quote(paths_of(here).primary_env)}"


def _target(here: Found) -> Target:
    return Target(python=here.python_version, machine=here.machine, libc=here.libc)


def touched(plans: Plans) -> Sequence[str]:
    """The hosts for which there is something to do."""
    return [name for name, one in plans.items() if one.steps]


def _switched(plans: Plans, ended: Outcome) -> bool:
    """Whether any host has begun to change what runs."""
    begun = {(f.host, f.sentence) for f in ended.failed}
    begun |= {(name, sentence) for name, done in ended.done.items() for sentence in done}
    return any(
        (name, step.sentence) in begun
        for name, one in plans.items()
        for step in one.steps
        if step.phase in (Phase.PRIMARY, Phase.WORKERS)
    )
