"""Debian machines for tests, booted by systemd-nspawn: each with its own systemd and sshd.

A machine is a layer over ``tests.image``, kept in memory, so that what it wrote
outlives its power; a network namespace; and a cgroup, which also tells what a killed
test run left behind. Needs root.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psutil

from tests import network
from tests.image import KEEPER, PLAIN, image
from tests.lan import Lan
from tests.sshd import make_key
from tests.system import wait_for

_CGROUPS = Path("/sys/fs/cgroup")
_PLACE = Path("/run")  # not pytest's folders: it removes old ones, and would meet mounts there
_REBOOT = 133  # nspawn's exit code when PID 1 asked for a reboot
_OURS = f"{network.PREFIX}-"
_MEMORY = "8g"  # at most, of what all machines of a test wrote


class Machine:
    """One of them. ``root`` is its file system, also while it is off."""

    def __init__(self, name: str, folder: Path, keys: str, lan: Lan) -> None:
        self.name = name
        self.folder = folder
        self.root = folder / "root"
        self.log = folder / "console.log"
        self._lan = lan
        self._stem = f"{lan.stem}-{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self.address, self._network = lan.join(name)
        _layer(folder, self._stem)
        self._personal(keys)

    # --- power -------------------------------------------------------------------------

    def switch_on(self) -> None:
        """Let it boot; ``wait_up`` waits for that."""
        assert self._process is None, f"{self.name} is on"
        command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"]
        command += ["--console=read-only", "--settings=no", "--link-journal=no"]
        command += ["--resolv-conf=off", "--timezone=off", f"--machine={self._stem}"]
        command += [f"--hostname={self.name}", f"--directory={self.root}"]
        command += [f"--network-namespace-path={self._network}"]
        # a cgroup of its own: nspawn would put all machines into the same
        folders = [group / self._stem for group in _hierarchies()]
        for group in folders:
            group.mkdir(exist_ok=True)
        enter = "".join(f"echo $$ > {group}/cgroup.procs && " for group in folders)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", f'{enter} exec "$@"', "sh", *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def wait_up(self) -> None:
        """Until its sshd answers."""
        wait_for(self._answers, f"{self.name} to boot")

    def power_off(self) -> None:
        """As its power button does it."""
        self.run("systemctl", "poweroff", "--no-block")
        self._wait_off(0)

    def pull_plug(self) -> None:
        """It is off at once, and had no time to say so."""
        if self._process is None:
            return
        with suppress(AssertionError, ProcessLookupError):  # it is off already
            os.kill(self.leader, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        _end_group(self._stem)
        self._process = None

    def reboot(self) -> None:
        """Until its sshd answers again."""
        self.run("systemctl", "reboot", "--no-block")
        self._wait_off(_REBOOT)
        self.switch_on()
        self.wait_up()

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def leader(self) -> int:
        """Its PID 1, as we see it."""
        found = self._leaders()
        assert found, f"{self.name} is off"
        return found[0]

    def said(self) -> str:
        """On its console, all the times that it was on."""
        return self.log.read_text(errors="replace")

    # --- network -----------------------------------------------------------------------

    def cut(self) -> None:
        """Every packet is lost, and nobody is told."""
        self._lan.cut(self.name)

    def mend(self) -> None:
        self._lan.mend(self.name)

    # --- inside it ---------------------------------------------------------------------

    def run(self, *command: str, check: bool = True) -> str:
        """What it prints, run as root; with ``check``, it must end well."""
        enter = ["nsenter", f"--target={self.leader}", "--mount", "--uts", "--ipc", "--net"]
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        ended = subprocess.run(
            [*enter, "--pid", "--root", "--wd", "--", "env", "-i", path, "LC_ALL=C", *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        said = ended.stdout + ended.stderr
        assert ended.returncode == 0 or not check, f"{self.name}: {command}: {said}"
        return ended.stdout

    def path(self, path: str) -> Path:
        """Where a path of the machine lies for us; links to absolute paths mislead."""
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str:
        return self.path(path).read_text()

    # --- making it ---------------------------------------------------------------------

    def _personal(self, keys: str) -> None:
        """What tells one machine from another, and who may log in."""
        self.path("etc/hostname").write_text(f"{self.name}\n")
        self.path("etc/hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n")
        self.path("etc/machine-id").write_text(f"{uuid.uuid4().hex}\n")
        subprocess.run(["ssh-keygen", "-A", "-f", str(self.root)], check=True, capture_output=True)
        for home in ("root", f"home/{KEEPER}", f"home/{PLAIN}"):
            folder = self.path(home) / ".ssh"
            (folder / "authorized_keys").write_text(keys)
            owner = folder.stat()
            os.chown(folder / "authorized_keys", owner.st_uid, owner.st_gid)

    def _wait_off(self, code: int) -> None:
        assert self._process is not None
        ended = self._process.wait(timeout=60)
        self._process = None
        assert ended == code, f"{self.name} went off with {ended}:\n{self.said()}"

    def _leaders(self) -> list[int]:
        if not self.is_on:
            return []
        assert self._process is not None
        with suppress(psutil.NoSuchProcess):
            children = psutil.Process(self._process.pid).children()
            return [child.pid for child in children if child.name() == "systemd"]
        return []

    def _answers(self) -> bool:
        assert self.is_on, f"{self.name} did not boot:\n{self.said()}"
        where = (self.address, 22)
        with (
            suppress(OSError),
            self._lan.inside(),
            socket.create_connection(where, timeout=2) as sshd,
        ):
            if sshd.recv(4) == b"SSH-":
                # while that file is there, only root may log in
                return not Path(f"/proc/{self.leader}/root/run/nologin").exists()
        return False


class Machines:
    """Machines in one network, and a keeper who may log in to each.

    ``ssh`` is the keeper's folder like ``~/.ssh``, which knows every machine.
    """

    def __init__(self, folder: Path, names: Sequence[str]) -> None:
        sweep()
        self.ssh = folder / "ssh"
        self.ssh.mkdir(mode=0o700, parents=True)
        make_key(self.ssh / "id_ed25519")
        keys = (self.ssh / "id_ed25519.pub").read_text()
        self.lan = Lan()
        self.machines: dict[str, Machine] = {}
        try:
            place = _PLACE / self.lan.stem
            place.mkdir()
            _mount("tmpfs", self.lan.stem, place, f"size={_MEMORY},mode=755")
            for name in names:
                self.machines[name] = Machine(name, place / name, keys, self.lan)
            self._know()
            for machine in self.machines.values():
                machine.switch_on()
            for machine in self.machines.values():
                machine.wait_up()
        except BaseException:
            self.close()
            raise

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def login(self, who: str, name: str, command: str, *, check: bool = True) -> str:
        """What a command of an account prints, over SSH: with a session, as a person has it."""
        options = ["-F", str(self.ssh / "config"), "-o", "BatchMode=yes", "-o", "LogLevel=ERROR"]
        ended = subprocess.run(
            [*self.lan.on_keeper, "ssh", *options, f"{who}@{self[name].address}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        said = ended.stdout + ended.stderr
        assert ended.returncode == 0 or not check, f"{who}@{name}: {command}: {said}"
        return ended.stdout

    def close(self) -> None:
        for machine in self.machines.values():
            machine.pull_plug()
        _remove(self.lan.stem)
        self.lan.close()

    def _know(self) -> None:
        known = []
        for machine in self.machines.values():
            public = machine.read("etc/ssh/ssh_host_ed25519_key.pub").split()[:2]
            known.append(f"{machine.address} {' '.join(public)}\n")
        (self.ssh / "known_hosts").write_text("".join(known))
        (self.ssh / "config").write_text(
            f"IdentityFile {self.ssh}/id_ed25519\nIdentitiesOnly yes\n"
            f"UserKnownHostsFile {self.ssh}/known_hosts\n"
        )


@contextmanager
def machines(folder: Path, *names: str) -> Iterator[Machines]:
    """Booted and reachable."""
    made = Machines(folder, names)
    try:
        yield made
    finally:
        made.close()


def sweep() -> None:
    """End what test runs left that were killed: the process in the name has ended."""
    names = {path.name for root in (*_hierarchies(), _PLACE) for path in root.glob(f"{_OURS}*")}
    for name in names:
        pid = name.removeprefix(_OURS).split("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            _remove(name)
    network.sweep()


# --- mounts and cgroups ----------------------------------------------------------------


def _layer(folder: Path, name: str) -> None:
    for part in ("upper", "work", "root"):
        (folder / part).mkdir(parents=True)
    options = f"lowerdir={image()},upperdir={folder}/upper,workdir={folder}/work"
    _mount("overlay", name, folder / "root", options)


def _mount(kind: str, name: str, place: Path, options: str) -> None:
    subprocess.run(["mount", "-t", kind, "-o", options, name, str(place)], check=True)


def _mounts() -> list[tuple[str, str]]:
    """(source, place) of all of ours, the innermost first."""
    rows = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [(row[0], row[1]) for row in reversed(rows) if row[0].startswith(_OURS)]


def _hierarchies() -> list[Path]:
    """Where nspawn looks for its cgroup: one tree, or systemd's own two."""
    pair = [_CGROUPS / "systemd", _CGROUPS / "unified"]
    found = [group for group in pair if (group / "cgroup.procs").exists()]
    return found or [_CGROUPS]


def _remove(stem: str) -> None:
    """Everything whose name begins so: processes, mounts, cgroups."""
    groups = {path.name for root in _hierarchies() for path in root.glob(f"{stem}*")}
    for name in groups:
        _end_group(name)
    for source, place in _mounts():
        if source.startswith(stem):
            subprocess.run(["umount", "--lazy", place], check=True)
    for left in _PLACE.glob(f"{stem}*"):
        left.rmdir()
    for left in Path("/run/systemd/nspawn/propagate").glob(f"{stem}*"):
        shutil.rmtree(left, ignore_errors=True)


def _end_group(name: str) -> None:
    """Kill what is in a cgroup, and remove it."""
    for root in _hierarchies():
        folder = root / name
        wait_for(partial(_empty, folder), f"the end of all in {folder}")
        for path in sorted(folder.rglob("*/"), reverse=True):
            path.rmdir()
        with suppress(FileNotFoundError):
            folder.rmdir()


def _empty(folder: Path) -> bool:
    pids = [int(pid) for path in folder.rglob("cgroup.procs") for pid in path.read_text().split()]
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not pids
