"""The file system of a Debian machine, made once by debootstrap and kept in ``build/``.

Bare as a keeper would rent it: systemd, sshd, Python without pip or venv, sudo,
cron and nginx. Two accounts: ``keeper`` may use sudo without a password, ``plain``
may not. Machines are layers over it and never write to it.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.system import ROOT

SUITE = "bookworm"
KEEPER, PLAIN = "keeper", "plain"  # accounts
PACKAGES = (
    *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "openssh-server", "python3"),
    *("sudo", "cron", "nginx-light", "iproute2"),
)
# What nobody waits for here, and what would go on in the background of a measurement.
MASKED = (
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "fstrim.timer"),
    *("e2scrub_all.timer", "e2scrub_reap.service", "systemd-tmpfiles-clean.timer"),
    *("systemd-networkd.service", "systemd-networkd-wait-online.service"),
    *("console-getty.service", "getty@.service", "getty.target"),
)
PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
SECONDS = 240  # for debootstrap, which downloads 60 MB


def image() -> Path:
    """The root of the file system; made in about a minute where it is not there yet.

    Raises AssertionError with the end of debootstrap's log.
    """
    # getsource: whoever changes what is made gets a new one
    recipe = repr((SUITE, PACKAGES, MASKED)) + inspect.getsource(_furnish)
    kept = ROOT / "build" / "machines"
    made = kept / hashlib.sha256(recipe.encode()).hexdigest()[:12]
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / "LOCK").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another test run may be making it
        if not made.exists():
            half = made.with_suffix(".half")
            shutil.rmtree(half, ignore_errors=True)
            _bootstrap(half)
            _furnish(half)
            half.rename(made)
    return made


def _bootstrap(root: Path) -> None:
    log = root.with_suffix(".log")
    # mounts of its own: one that is killed leaves no /proc in what is removed before the next
    command = ["unshare", "--mount", "--propagation=private", "debootstrap", "--variant=minbase"]
    command += [f"--include={','.join(PACKAGES)}", SUITE, str(root), *_source()]
    with log.open("wb") as output:
        ended = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            timeout=SECONDS,
            env={**os.environ, "DEBIAN_FRONTEND": "noninteractive", "PATH": PATH},
        )
    said = log.read_text(errors="replace").splitlines()
    if ended.returncode != 0:
        inner = root / "debootstrap" / "debootstrap.log"
        said += inner.read_text(errors="replace").splitlines() if inner.exists() else []
        raise AssertionError("debootstrap failed:\n" + "\n".join(said[-40:]))


def _source() -> list[str]:
    """Where this machine's own apt gets that suite from; debootstrap's default else."""
    asked = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages"],
        capture_output=True,
        text=True,
    )
    found = (line.split() for line in asked.stdout.splitlines())
    return next(([words[0]] for words in found if words[1:] == [SUITE]), [])


def _furnish(root: Path) -> None:
    """What makes it boot in two seconds, and lets each machine be its own."""
    units = root / "etc/systemd/system"
    for unit in MASKED:
        (units / unit).unlink(missing_ok=True)
        (units / unit).symlink_to("/dev/null")
    for key in (root / "etc/ssh").glob("ssh_host_*"):
        key.unlink()
    for name in (KEEPER, PLAIN):
        _in(root, "useradd", "--create-home", "--shell", "/bin/bash", name)
        _in(root, "install", "-d", "-m", "700", "-o", name, "-g", name, f"/home/{name}/.ssh")
    _in(root, "install", "-d", "-m", "700", "/root/.ssh")
    allowed = root / "etc/sudoers.d/keeper"
    allowed.write_text(f"{KEEPER} ALL=(ALL) NOPASSWD: ALL\n")
    allowed.chmod(0o440)
    shutil.rmtree(root / "var/cache/apt/archives", ignore_errors=True)
    for path in (root / "var/lib/apt/lists").glob("*_*"):
        path.unlink()


def _in(root: Path, *command: str) -> None:
    environment = {"PATH": PATH}
    command = ("chroot", str(root), *command)
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, env=environment)


if __name__ == "__main__":  # a test run of its own may want it early
    sys.stdout.write(f"{image()}\n")
