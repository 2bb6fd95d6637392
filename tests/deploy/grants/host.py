"""A machine to grant on: accounts, /etc, /run and /srv of its own, and a real sshd.

It is this machine in a mount namespace of its own: /etc is a copy, /run is
empty, /srv is a folder of the test's, root's all the way up, as a chroot needs it.
Accounts made there by the real useradd are seen nowhere else. Ids are shared with
the machine, since there is no user namespace: choose names, not numbers.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.sshd import SSHD, free_port, make_key
from tests.system import ROOT, wait_for

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PRIMARY = "modelrunner"  # the account that runs the primary, not root
DATA = "/srv/modelrunner/data"  # its data directory; it owns /srv/modelrunner as well


class Host:
    """``srv`` is the folder that is /srv inside. Nothing is granted, and no sshd runs yet."""

    def __init__(self, folder: Path, *, prefix: Sequence[str] = ()) -> None:
        """``prefix`` goes before sshd's command, such as ``ip netns exec NAME``."""
        self.folder = folder
        self.srv = folder / "srv"
        self.port = 0
        self.address = "127.0.0.1"
        self._prefix = list(prefix)
        self._sshd: subprocess.Popen[bytes] | None = None
        self.srv.mkdir(parents=True)
        shutil.copytree("/etc", folder / "etc", symlinks=True)
        _copy_owners(Path("/etc"), folder / "etc")
        for old in (folder / "etc/ssh").glob("ssh_host_*"):
            old.unlink()
        make_key(folder / "etc/ssh/ssh_host_ed25519_key")
        self._holder = self._hold()

    def run(
        self, *argv: str, user: str | None = None, check: bool = True, text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root or as ``user`` with all its groups; ``text`` is its input.

        Accounts that sshd would let in only for SFTP can be tried here without it.
        """
        ended = subprocess.run(
            self.command(*argv, user=user),
            input=text or "",
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            env=self.environment(),
        )
        if check and ended.returncode != 0:
            raise AssertionError(f"{shlex.join(argv)}\n{ended.stdout}\n{ended.stderr}")
        return ended

    def command(self, *argv: str, user: str | None = None) -> list[str]:
        """What runs ``argv`` inside, for a Popen of one's own."""
        inside = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", f"--wdns={ROOT}"]
        if user is not None:
            group = self.run("id", "-g", user).stdout.strip()
            inside += ["setpriv", "--reuid", user, "--regid", group, "--init-groups"]
        return [*inside, *argv]

    def environment(self) -> dict[str, str]:
        return {"PATH": PATH, "LC_ALL": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}

    def modelrunner(
        self, *args: str, user: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run the real command line inside."""
        return self.run(sys.executable, "-m", "modelrunner", *args, user=user, check=check)

    def path(self, inside: str) -> Path:
        """Where a file inside can be found by the test, links not followed."""
        return Path(f"/proc/{self._holder.pid}/root{inside}")

    def add_primary(self, *models: str, user: str = PRIMARY, data: str = DATA) -> None:
        """The account that runs the primary, and a data directory as its primary laid it out."""
        if self.run("id", user, check=False).returncode != 0:
            self.run("useradd", "--system", "--user-group", "--no-create-home", user)
        parent = str(Path(data).parent)
        self.run("install", "-d", "-o", user, "-g", user, "-m", "0755", parent, data)
        code = (
            "import sys; from pathlib import Path; from spool.dispatch import Dispatch; "
            "data = Path(sys.argv[1]); (data / 'jobs').mkdir(mode=0o700, exist_ok=True); "
            "Dispatch(data / 'spool').lay_out(sys.argv[2:])"
        )
        self.run(sys.executable, "-c", code, data, *models, user=user)

    # --- its sshd ------------------------------------------------------------------

    def start_sshd(self, *options: str) -> None:
        """Start sshd with the configuration in /etc/ssh, on a free port (the same as before)."""
        for _ in range(20):
            port = self.port or free_port(self.address, self._prefix)
            words = ["-D", "-e", "-o", f"Port={port}", "-o", f"ListenAddress={self.address}"]
            words += ["-o", "PidFile=/run/sshd.pid", "-o", "LogLevel=VERBOSE", *options]
            with (self.folder / "sshd.log").open("wb") as log:
                command = [*self._prefix, *self.command(SSHD, *words)]
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            said = f"Server listening on {self.address} port {port}."
            self._await(said, process)
            if process.poll() is None:
                self._sshd, self.port = process, port
                return
        raise AssertionError(f"sshd does not start:\n{self.log()}")

    def reload_sshd(self) -> None:
        """As ``systemctl reload ssh`` does it."""
        assert self._sshd is not None
        said = f"Server listening on {self.address}"
        before = self.log().count(said)
        self._sshd.send_signal(signal.SIGHUP)
        wait_for(lambda: self.log().count(said) > before, "sshd to read its configuration")

    def _await(self, said: str, process: subprocess.Popen[bytes]) -> None:
        wait_for(lambda: said in self.log() or process.poll() is not None, "sshd to listen")

    def stop_sshd(self) -> None:
        """End it with all its sessions."""
        if self._sshd is not None:
            for pid in [*_below(self._sshd.pid), self._sshd.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._sshd.wait()
            self._sshd = None

    def log(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace")

    def key(self, name: str) -> Path:
        """A private key (with its .pub) of somebody outside; made at the first call."""
        key = self.folder / "keys" / name
        if not key.exists():
            key.parent.mkdir(exist_ok=True)
            make_key(key)
        return key

    def known_hosts(self) -> Path:
        public = (self.folder / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
        path = self.folder / "known_hosts"
        path.write_text(f"[{self.address}]:{self.port} {' '.join(public)}\n")
        return path

    def ssh(self, program: str, account: str, name: str, *args: str) -> list[str]:
        """A command line of ssh or sftp for ``account`` with the key of ``name``."""
        options = {
            "IdentityFile": str(self.key(name)),
            "UserKnownHostsFile": str(self.known_hosts()),
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "ControlPath": "none",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        login = f"{account}@{self.address}"
        return [program, "-F", "none", *words, "-o", f"Port={self.port}", *args, login]

    def sftp(self, account: str, name: str, *commands: str) -> subprocess.CompletedProcess[str]:
        """What sftp(1) does with ``commands``; it goes on after one that fails."""
        batch = "\n".join(f"-{command}" for command in commands)
        return subprocess.run(
            self.ssh("sftp", account, name, "-b", "-"),
            input=batch,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    def stop(self) -> None:
        """End it, and whatever still runs inside, such as a runner that outlived its agent."""
        self.stop_sshd()
        for pid in self._inside():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._holder.communicate()

    def _inside(self) -> Iterator[int]:
        """The processes in its mount namespace: nobody else's can be there."""
        try:
            mine = os.readlink(f"/proc/{self._holder.pid}/ns/mnt")
        except FileNotFoundError:  # it was ended by somebody else: nothing tells who was inside
            return
        for pid in (int(name) for name in os.listdir("/proc") if name.isdigit()):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/mnt") == mine:
                    yield pid

    # --- inside --------------------------------------------------------------------

    def _hold(self) -> subprocess.Popen[bytes]:
        """The process that keeps the namespace; it has it when it says so."""
        here = shlex.quote(str(self.folder))
        script = "\n".join(
            (
                "set -e",
                *_readable(self.folder),
                f"mount --bind {here}/etc /etc",
                f"mount --bind {here}/srv /srv",
                "mount -t tmpfs -o mode=755 none /run",
                "mkdir -m 755 /run/sshd",
                "echo ready",
                "exec sleep infinity",
            )
        )
        holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
        )
        assert holder.stdout is not None
        if holder.stdout.readline() != b"ready\n":
            holder.kill()
            holder.communicate()
            raise AssertionError("no mount namespace of its own")
        return holder


@contextlib.contextmanager
def host(folder: Path, *, prefix: Sequence[str] = ()) -> Iterator[Host]:
    made = Host(folder, prefix=prefix)
    try:
        yield made
    finally:
        made.stop()


def _readable(folder: Path) -> Iterator[str]:
    """Shell lines that let every account read Python, its packages and the repository.

    What lies under a folder that is closed to others is mounted there anew, alone.
    """
    wanted = {Path(p).resolve() for p in (sys.base_prefix, sys.prefix, ROOT)}
    wanted = {p for p in wanted if not any(q in p.parents for q in wanted)}
    closed: dict[Path, list[Path]] = {}
    for path in sorted(wanted):
        shut = [p for p in reversed((path, *path.parents)) if not p.stat().st_mode & 0o001]
        if shut and shut[0] != path:
            closed.setdefault(shut[0], []).append(path)
    for number, (outer, paths) in enumerate(closed.items()):
        held = folder / f"held{number}"
        for index, path in enumerate(paths):
            kept = shlex.quote(f"{held}/{index}")
            yield f"mkdir -p {kept} && mount --bind {shlex.quote(str(path))} {kept}"
        yield f"mount -t tmpfs -o mode=755 none {shlex.quote(str(outer))}"
        for index, path in enumerate(paths):
            kept, there = shlex.quote(f"{held}/{index}"), shlex.quote(str(path))
            yield f"mkdir -p {there} && mount --move {kept} {there}"


def _copy_owners(source: Path, target: Path) -> None:
    """shutil copies modes, but not owners: /etc/shadow must stay its group's."""
    for path in [source, *source.rglob("*")]:
        info = path.lstat()
        with contextlib.suppress(FileNotFoundError):
            os.chown(
                target / path.relative_to(source),
                info.st_uid,
                info.st_gid,
                follow_symlinks=False,
            )


def _below(pid: int) -> list[int]:
    """The pids of all processes below one."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    try:
        pids = [int(word) for word in children.read_text().split()]
    except FileNotFoundError:
        return []
    return [p for child in pids for p in (*_below(child), child)]
