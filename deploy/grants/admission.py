"""What lets somebody in: groups and account, sshd's configuration, the key. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Sequence

import msgspec

from deploy.grants import layout
from deploy.grants.facts import Entry, Machine, Spool
from deploy.grants.keys import PublicKey
from deploy.grants.steps import Command, File, Step, unless
from spool.errors import Refused

# That what we wrote is what sshd does with this account.
_IN_FORCE = """\
for line in "$2" "$3" "$4"; do
    sshd -T -C "user=$1,host=localhost,addr=127.0.0.1" | grep -Fqx -- "$line" || {
        echo "sshd would not do this for $1: $line (something before our file in \
/etc/ssh gets in its way; see sshd -T -C user=$1)" >&2
        exit 1
    }
done"""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Who is to be let in. ``drop``: the model of a colleague; else it is a worker.

    ``models`` empty: all that the spool has at present.
    """

    name: str
    key: PublicKey | None = None
    drop: str | None = None
    models: tuple[str, ...] = ()
    account: str | None = None
    spool_home: str | None = None

    @property
    def who(self) -> str:
        return f"worker {self.name}" if self.drop is None else f"{self.name}, for {self.drop}"

    @property
    def comment(self) -> str:
        """What the account's comment says."""
        if self.drop is not None:
            return layout.drop_comment(self.drop, self.name)
        return layout.worker_comment(self.name)


def groups_for(grant: Grant, models: Sequence[str]) -> tuple[str, ...]:
    """The groups that the account has to be in."""
    if grant.drop is not None:
        return (layout.DROPS_GROUP, layout.drop_group(grant.drop))
    return (layout.WORKERS_GROUP, *map(layout.model_group, models))


def members(
    grant: Grant, account: str, groups: Sequence[str], machine: Machine, spool: Spool
) -> Iterator[Step]:
    """The groups, the account, and who is in which."""
    for group in groups:
        if group not in machine.groups:
            yield Step(f"group {group} made", (_new("group", group, "groupadd", "--system"),))
    if account not in machine.accounts:
        # "*" is no password, but not a locked account either, which sshd without PAM refuses.
        place = layout.drop_home(grant.drop) if grant.drop is not None else layout.NO_HOME
        command = _new(
            *("passwd", account, "useradd", "--system", "--user-group", "--no-create-home"),
            *("--home-dir", place, "--shell", layout.NOLOGIN, "--password", "*"),
            *("--comment", grant.comment),
        )
        yield Step(f"account {account} made: no shell, no password, no home", (command,))
    lacking = [group for group in groups if not machine.is_in(account, group)]
    if lacking:
        command = ("usermod", "-a", "-G", ",".join(lacking), account)
        yield Step(f"account {account} put into {', '.join(lacking)}", (command,))
    if lacking := _owner_lacks(groups, machine, spool):
        command = ("usermod", "-a", "-G", ",".join(lacking), spool.owner.name)
        yield Step(f"account {spool.owner.name} put into {', '.join(lacking)}", (command,))


def _new(database: str, name: str, *command: str) -> Command:
    """``command NAME``, but for where getent knows the name already."""
    return unless(f"getent {database} {shlex.quote(name)} >/dev/null", (*command, name))


def _owner_lacks(groups: Sequence[str], machine: Machine, spool: Spool) -> list[str]:
    """The groups of models and drops that the primary's account is not in."""
    if spool.owner.name == "root":
        return []
    return [group for group in groups[1:] if not machine.is_in(spool.owner.name, group)]


def check_only(machine: Machine, allowed: Collection[str]) -> None:
    """Raises Refused if workers are let into another spool than those ``allowed``."""
    other = layout.chroot_in(machine.files.get(layout.SSHD_FILE, ""))
    if other is not None and other not in allowed:
        raise Refused(
            f"{layout.SSHD_FILE} lets workers into {other}, and one machine has one spool for them",
            "if that primary is no more, remove the file and its accounts",
        )


def sshd(grant: Grant, account: str, chroot: str, machine: Machine, spool: Spool) -> Iterator[Step]:
    """sshd's configuration, where it is not so yet. Raises Refused for another spool's."""
    text = layout.sshd_file(chroot)
    old = machine.files.get(layout.SSHD_FILE)
    if old == text:
        return
    check_only(machine, {chroot, spool.path})
    group = layout.WORKERS_GROUP if grant.drop is None else layout.DROPS_GROUP
    in_force = (
        *("sh", "-c", _IN_FORCE, "sh", account, f"chrootdirectory {chroot}"),
        f"forcecommand {layout.command_for(text, group)}",
        f"authorizedkeysfile {layout.KEYS}/%u",
    )
    checks = [("sshd", "-t"), in_force]
    sentence = f"{layout.SSHD_FILE} written, and checked by sshd"
    if machine.unit is not None:
        # With the checks: where this fails, the next grant must do it again.
        checks.append(("systemctl", "try-reload-or-restart", machine.unit))
        sentence += ", which has read it"
    commands = []
    if not machine.sshd_folder:
        commands.append(("mkdir", "-p", "/run/sshd"))
    commands.append(("mkdir", "-p", layout.SSHD_FILE.rpartition("/")[0]))
    file = File(path=layout.SSHD_FILE, text=text, checks=tuple(checks))
    yield Step(sentence, tuple(commands), file)


def key(grant: Grant, account: str, machine: Machine) -> Iterator[Step]:
    """The key, in a file of root's: who comes with it may do nothing but SFTP."""
    if machine.key_folder is None:
        command = unless(f"test -d {layout.KEYS}", ("mkdir", "-m", "0755", layout.KEYS))
        yield Step(f"folder {layout.KEYS} made", (command,))
    elif machine.key_folder != Entry("folder", "root", "root", 0o755):
        raise Refused(
            f"{layout.KEYS} is not a folder of root's with the mode 0755",
            f"look what it is; then chown root:root {layout.KEYS} and chmod 0755 {layout.KEYS}",
        )
    path = f"{layout.KEYS}/{account}"
    if grant.key is None:
        if path not in machine.files:
            raise Refused(f"{grant.name} has no key any more", "give --key FILE.pub")
        return
    text = f"restrict {grant.key}\n"
    old = machine.files.get(path)
    if old != text:
        done = "written" if old is None else "replaced"
        sentence = f"key {grant.key.fingerprint} {done}: {path}"
        yield Step(sentence, (), File(path=path, text=text))


def beyond(machine: Machine) -> Iterator[str]:
    """What sshd's file changes for those who have nothing to do with the spool."""
    if layout.MAX_STARTUPS not in machine.files.get(layout.SSHD_FILE, "").splitlines():
        yield (
            f"sshd is told {layout.MAX_STARTUPS} (in {layout.SSHD_FILE}): that holds for all "
            "logins on this machine"
        )


def notes(
    grant: Grant,
    account: str,
    groups: Sequence[str],
    machine: Machine,
    spool: Spool,
    chroot: str,
) -> Iterator[str]:
    """What somebody should know, or do, besides."""
    owner = spool.owner
    if _owner_lacks(groups, machine, spool):
        yield (
            f"restart the primary when it suits: {owner.name} is in the new groups then, and "
            "files are closed by their own modes too, not by their folders alone"
        )
    if grant.drop is None and not grant.models:
        yield "models that come later need another grant; granting again only adds"
    lacking = [group for group in groups if not machine.is_in(account, group)]
    if account in machine.accounts and lacking:
        yield (
            f"a session of {account} that is open gets the new rights when it comes anew; "
            f"this ends it: pkill -KILL -u {account}"
        )
    text = machine.files.get(layout.SSHD_FILE)
    if machine.unit is None and text != layout.sshd_file(chroot):
        yield (
            "there is no systemd: tell sshd yourself to read its configuration anew, such as by "
            "kill -HUP $(cat /run/sshd.pid)"
        )
    for gate in machine.gates:
        yield f"{gate}: this may keep {account} out; see that it is let in there"
    others = {a.name for a in machine.accounts.values() if a.group == owner.group}
    others = (others | machine.groups.get(owner.group, frozenset())) - {owner.name}
    if others:
        yield (
            f"{', '.join(sorted(others))} can read and write all that workers deliver: "
            f"they are in {owner.group}, the group of {owner.name}"
        )
