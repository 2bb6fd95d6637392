"""A real OpenSSH server for tests: an ordinary process, its own keys, a free port.

As root it has a mount namespace of its own, in which the served folder is
``/mnt`` and every login is chrooted there, as the hardened layout does it (the
parents of a chroot must belong to root, and those of a temporary folder do not).
Else it serves the user who runs the tests, and paths are the machine's own.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin") or "sshd"
PATIENCE = 60.0  # seconds
CHROOT = "/mnt"
ROOT = os.geteuid() == 0

# The verbs that the transport uses; the hardened layout allows no others.
VERBS = (
    "open,close,read,write,lstat,stat,fstat,opendir,readdir,remove,realpath,"
    "posix-rename,fsync,statvfs,limits"
)


class Sshd:
    """An sshd over ``served``. ``ssh`` is a folder like ``~/.ssh``, with key and known hosts."""

    def __init__(
        self,
        folder: Path,
        served: Path,
        *,
        more: str = "",
        options: str = "",
        size: str = "",
        chroot: bool = ROOT,
        host: str = "127.0.0.1",
        prefix: Sequence[str] = (),
    ) -> None:
        """``more``: further lines of configuration; ``options``: of internal-sftp;
        ``size``: as root, a disk of its own of that size, such as ``4m``, is served.

        ``prefix`` goes before the server's command, such as ``ip netns exec NAME``.
        """
        self.host = host
        self.user = getpass.getuser()
        self.folder = folder
        self.served = served
        self.ssh = folder / "ssh"
        self.ssh.mkdir(parents=True, mode=0o700)
        self.key = self.ssh / "id_ed25519"
        make_key(self.key)
        make_key(folder / "host_key")
        self._prefix = list(prefix)
        self._more = more
        self._options = options
        self._size = size
        self._chroot = chroot
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        self.start()

    @property
    def path(self) -> str:
        """Where a client finds ``served``."""
        return "/" if self._chroot else str(self.served)

    @property
    def url(self) -> str:
        return f"sftp://{self.user}@{self.host}:{self.port}{self.path}"

    def start(self) -> None:
        """Start it, on the same port as before if there was one."""
        for _ in range(20):
            port = self.port or free_port(self.host, self._prefix)
            self._configure(port)
            process = self._launch()
            if self._listens(process, port):
                self.port, self._process = port, process
                return
        raise AssertionError(f"sshd does not start:\n{self.log()}")

    def stop(self) -> None:
        """End it with all its sessions."""
        if self._process is None:
            return
        for process in [*self.sessions(), psutil.Process(self._process.pid)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)
                process.kill()
        self._process.wait()
        self._process = None

    def trust(self, port: int) -> str:
        """Its address by way of another port of this machine, whose host key is known then."""
        public = (self.folder / "host_key.pub").read_text().split()[:2]
        with (self.ssh / "known_hosts").open("a") as file:
            file.write(f"[{self.host}]:{port} {' '.join(public)}\n")
        return f"sftp://{self.user}@{self.host}:{port}{self.path}"

    def sessions(self) -> list[psutil.Process]:
        """The living processes of its connections, parents first."""
        assert self._process is not None
        found = psutil.Process(self._process.pid).children(recursive=True)
        return [p for p in found if _living(p)]

    def log(self) -> str:
        path = self.folder / "sshd.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def environment(self, home: Path) -> dict[str, str]:
        """The environment of a process whose ``~/.ssh`` is ours."""
        home.mkdir(exist_ok=True)
        if not (home / ".ssh").exists():
            shutil.copytree(self.ssh, home / ".ssh")
        return {**os.environ, "HOME": str(home), "SSH_AUTH_SOCK": ""}

    # --- inside --------------------------------------------------------------------

    def _configure(self, port: int) -> None:
        (self.folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        public = (self.folder / "host_key.pub").read_text().split()[:2]
        name = self.host if port == 22 else f"[{self.host}]:{port}"
        (self.ssh / "known_hosts").write_text(f"{name} {' '.join(public)}\n")
        chroot = f"ChrootDirectory {CHROOT}\n" if self._chroot else ""
        (self.folder / "sshd_config").write_text(
            f"Port {port}\nListenAddress {self.host}\nHostKey {self.folder}/host_key\n"
            f"PidFile none\nAuthorizedKeysFile {self.folder}/authorized_keys\n"
            "StrictModes no\nUsePAM no\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            "MaxStartups 200:30:400\nLogLevel VERBOSE\n"
            f"Subsystem sftp internal-sftp {self._options}\n{chroot}{self._more}\n"
        )

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [SSHD, "-D", "-e", "-f", str(self.folder / "sshd_config")]
        if ROOT:
            source = f"--bind {shlex.quote(str(self.served))}"
            if self._size:
                source = f"-t tmpfs -o mode=755,size={self._size} none"
            script = (
                f"mount -t tmpfs none /run && mkdir -m 755 /run/sshd && "
                f"mount {source} {CHROOT} && "
                f"exec {shlex.join(command)}"
            )
            command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", script]
        with (self.folder / "sshd.log").open("wb") as log:
            return subprocess.Popen(
                [*self._prefix, *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def _listens(self, process: subprocess.Popen[bytes], port: int) -> bool:
        until = time.monotonic() + PATIENCE
        said = f"Server listening on {self.host} port {port}."
        while time.monotonic() < until:
            if said in self.log():
                return True
            if process.poll() is not None:
                return False
            time.sleep(0.02)
        process.kill()
        process.wait()
        return False


def make_key(path: Path) -> None:
    """An ed25519 key without a passphrase, and its ``.pub``."""
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)],
        check=True,
        stdin=subprocess.DEVNULL,
    )


def free_port(host: str = "127.0.0.1", prefix: Sequence[str] = ()) -> int:
    """A port that was free a moment ago; in another network namespace any will do."""
    with socket.socket() as probe:
        probe.bind((host if not prefix else "127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def sshd(
    folder: Path,
    served: Path,
    *,
    more: str = "",
    options: str = "",
    size: str = "",
    chroot: bool = ROOT,
) -> Iterator[Sshd]:
    server = Sshd(folder, served, more=more, options=options, size=size, chroot=chroot)
    try:
        yield server
    finally:
        server.stop()


def _living(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
