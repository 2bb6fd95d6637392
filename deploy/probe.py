"""What there is on a host: runs there, by the host's own Python, and only looks.

``survey`` sends this file to a ``python3 -``, with a last line that calls ``main``. It must
run from Python 3.8 on, so that an older Python than ours can say that it is too old, and
needs the standard library alone. With root it runs by sudo.
"""

from __future__ import annotations

import glob
import grp
import importlib.util
import json
import os
import platform
import pwd
import shutil
import stat
import subprocess
import sys
import time
from typing import Any

MARK = "modelrunner found: "  # before the answer, in one line: a login may say more
OLDEST = (3, 11)
NEEDED = ("ctypes", "hashlib", "sqlite3", "ssl", "venv")  # which a small Python may lack
SKEW = 300  # seconds
ROOM = 1 << 30  # bytes
LARGEST = 1 << 20  # bytes of a text
PATIENCE = 20  # seconds for a program
ACCOUNT = "Model Runner worker "  # the comment of a worker's account, before its name
KEY = " modelrunner worker "  # the comment of a worker's key, before its name
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


def main(request: dict[str, Any]) -> None:
    """Print what was found, after MARK: an object as deploy.found.Found has it.

    ``request``: as survey.Request has it; {home} and {user} in its texts are the login's.
    """
    print(MARK + json.dumps(look(request)))


def look(request: dict[str, Any]) -> dict[str, Any]:
    user = _login()
    root = os.geteuid() == 0
    ask = _filled(request["system" if root else "user"], user)
    problems = [*_python_problems(root), *_disk_problems(ask)]
    manager, linger = _manager(user, root)
    systemd = manager == "system" or (manager == "user" and linger)
    services = _systemd(ask["services"], manager, user) if systemd else _supervised(ask["status"])
    version, versions = _versions(ask["base"])
    entries = {path: _entry(path, path in ask["texts"], problems) for path in ask["looks"]}
    return {
        "uid": user.pw_uid,
        "user": user.pw_name,
        "home": user.pw_dir,
        "root": root,
        "system": _system(),
        "machine": platform.machine(),
        "libc": _libc(),
        "python": sys.executable,
        "python_version": "{}.{}".format(*sys.version_info),
        "manager": manager,
        "linger": linger,
        "programs": _programs(ask["programs"]),
        "debian": shutil.which("apt-get", path=PATH) is not None,
        "accounts": _accounts(ask["accounts"]),
        "groups": _groups(ask["groups"]),
        "entries": {path: entry for path, entry in entries.items() if entry},
        "services": services,
        "versions": versions,
        "version": version,
        "models": _models(ask["base"]),
        "host_keys": _host_keys(),
        "port": request["port"],
        "free": _free(ask["var"]),
        "let_in": _let_in(user, root),
        "reboot_line": _has_line(_said("crontab", "-l"), request["reboot_mark"]),
        "problems": problems,
        "notes": [*_clock_notes(request["now"]), *_disk_notes(ask), *_other_notes()],
    }


def _login() -> pwd.struct_passwd:
    """Who logged in, also where sudo made us root."""
    return pwd.getpwuid(int(os.environ.get("SUDO_UID") or os.getuid()))


def _filled(ask: dict[str, Any], user: pwd.struct_passwd) -> dict[str, Any]:
    def fill(value: Any) -> Any:
        if isinstance(value, str):
            home = user.pw_dir.rstrip("/")
            return value.replace("{home}", home).replace("{user}", user.pw_name)
        return [fill(one) for one in value]

    return {key: fill(value) for key, value in ask.items()}


# --- the machine -------------------------------------------------------------------


def _system() -> str:
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        for line in _text(path).splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip("\"'")
    return platform.system()


def _libc() -> str:
    try:
        name = os.confstr("CS_GNU_LIBC_VERSION")
    except (OSError, ValueError):
        name = None
    if name:
        return name
    return "musl" if glob.glob("/lib/ld-musl-*") else "unknown"


def _programs(names: list[str]) -> dict[str, str]:
    found = {name: shutil.which(name, path=PATH) for name in names}
    return {name: path for name, path in found.items() if path}


def _accounts(names: list[str]) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = _group(pwd.getpwnam(name).pw_gid)
        except KeyError:
            continue
    return found


def _groups(names: list[str]) -> dict[str, list[str]]:
    found = {}
    for name in names:
        try:
            found[name] = sorted(grp.getgrnam(name).gr_mem)
        except KeyError:
            continue
    return found


def _let_in(user: pwd.struct_passwd, root: bool) -> list[str]:
    """The workers that reach the spool of this host: with root by accounts, else by keys.

    A worker that was shut out keeps its account, without its groups.
    """
    if root:
        able = {name for group in grp.getgrall() for name in group.gr_mem}
        said = [one.pw_gecos for one in pwd.getpwall() if one.pw_name in able]
        return sorted(text[len(ACCOUNT) :] for text in said if text.startswith(ACCOUNT))
    lines = _text(user.pw_dir + "/.ssh/authorized_keys").splitlines()
    return sorted(line.rpartition(KEY)[2] for line in lines if KEY in line and line[0] != "#")


def _host_keys() -> list[str]:
    lines = [_text(path).split() for path in sorted(glob.glob("/etc/ssh/ssh_host_*_key.pub"))]
    return [" ".join(words[:2]) for words in lines if len(words) > 1]


# --- services ----------------------------------------------------------------------


def _manager(user: pwd.struct_passwd, root: bool) -> tuple[str, bool]:
    """Who would keep services, and whether the user's own does so without a login."""
    linger = os.path.exists("/var/lib/systemd/linger/" + user.pw_name)
    if not os.path.isdir("/run/systemd/system"):
        return "none", linger
    if root:
        return "system", linger
    answers = _said("systemctl", "--user", "show", "--property=Version", user=user)
    return ("user" if answers.startswith("Version=") else "none"), linger


def _systemd(names: list[str], manager: str, user: pwd.struct_passwd) -> dict[str, Any]:
    kept = ["Id", "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload"]
    since = "StateChangeTimestampMonotonic"
    own = [] if manager == "system" else ["--user"]
    command = ["systemctl", *own, "show", "--property=" + ",".join([*kept, since])]
    said = _said(*command, *(name + ".service" for name in names), user=user)
    found = {}
    for block in said.split("\n\n"):
        facts = dict(line.partition("=")[::2] for line in block.splitlines())
        name = facts.get("Id", "")[: -len(".service")]
        if name not in names or facts.get("LoadState") == "not-found":
            continue
        found[name] = {
            "active": facts.get("ActiveState", "unknown"),
            "enabled": facts.get("UnitFileState") == "enabled",
            "since": _since(facts.get(since, "0")),
            "stale": facts.get("NeedDaemonReload") == "yes",
        }
    return found


def _since(microseconds: str) -> str:
    """From systemd's monotonic clock to ISO, UTC: its dates are in the host's own zone."""
    if not microseconds.isdigit() or microseconds == "0":
        return ""
    then = time.time() - time.monotonic() + int(microseconds) / 1e6
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(then))


def _supervised(command: list[str]) -> dict[str, Any]:
    """The services that we keep ourselves, as deploy.supervise says of them."""
    if not os.path.exists(command[0]):
        return {}
    try:
        found = json.loads(_said(*command))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


# --- what was installed ------------------------------------------------------------


def _has_line(table: str, mark: str) -> bool:
    lines = [line.strip() for line in table.splitlines()]
    return any(line.endswith(mark) and not line.startswith("#") for line in lines)


def _versions(base: str) -> tuple[str | None, list[str]]:
    """The one in use, and all that were installed whole."""
    whole = glob.glob(os.path.join(glob.escape(base), "versions", "*", ".complete"))
    target = _target(os.path.join(base, "current"))
    current = os.path.basename(target.rstrip("/")) if target else None
    # Its Python leads to the system's, which an upgrade of that may have taken away.
    folders = [folder for folder in map(os.path.dirname, whole) if _has_python(folder)]
    return current, sorted(map(os.path.basename, folders))


def _has_python(version: str) -> bool:
    return os.path.exists(os.path.join(version, "bin", "python"))


def _models(base: str) -> dict[str, str]:
    """``models/<m>`` leads to ``model-versions/<m>-<version>``."""
    found = {}
    for link in sorted(glob.glob(os.path.join(glob.escape(base), "models", "*"))):
        name, target = os.path.basename(link), os.path.basename(_target(link) or "")
        if target.startswith(name + "-") and os.path.isdir(link):
            found[name] = target[len(name) + 1 :]
    return found


def _target(link: str) -> str | None:
    try:
        return os.readlink(link)
    except OSError:
        return None


def _entry(path: str, wants_text: bool, problems: list[str]) -> dict[str, Any] | None:
    try:
        info = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as e:
        problems.append(f"{path}: cannot be looked at: {e.strerror}")
        return None
    kinds = {stat.S_IFDIR: "folder", stat.S_IFREG: "file", stat.S_IFLNK: "link"}
    kind = kinds.get(stat.S_IFMT(info.st_mode), "other")
    small = kind == "file" and info.st_size <= LARGEST
    return {
        "kind": kind,
        "owner": f"{_user(info.st_uid)}:{_group(info.st_gid)}",
        "mode": stat.S_IMODE(info.st_mode),
        "text": _text(path) if wants_text and small and os.access(path, os.R_OK) else None,
        "target": _target(path) if kind == "link" else None,
        # Later than now: the clock was put back since, and it tells nothing.
        "changed": info.st_mtime if info.st_mtime <= time.time() else 0.0,
    }


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


# --- what is wrong -----------------------------------------------------------------


def _python_problems(root: bool) -> list[str]:
    shown = "{} is Python {}.{}".format(sys.executable, *sys.version_info)
    if sys.version_info < OLDEST:
        wanted = "{}.{}".format(*OLDEST)
        return [f"{shown}, too old: install Python {wanted} or newer beside it"]
    lacking = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if lacking:
        names = ", ".join(lacking)
        return [f"{shown} without {names}: install all of it (on Debian: apt-get install python3)"]
    private = _private(sys.executable) or _private(sys.base_prefix)
    if root and private:
        return [
            f"{shown}, and {private} lets no other account in: services that are not root's "
            "could not use it; install a Python for all accounts"
        ]
    return []


def _private(path: str) -> str | None:
    """The folder on the way to ``path`` that lets in nobody but its owner, if there is one."""
    path = os.path.dirname(os.path.realpath(path) + "/")
    while path != "/":
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & stat.S_IXOTH:
            return path
    return None


def _above(path: str) -> str:
    """The path, or the nearest folder above it that is there."""
    while path != "/" and not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _disk_problems(ask: dict[str, Any]) -> list[str]:
    found = []
    for path in (ask["base"], ask["etc"], ask["var"]):
        above = _above(path)
        flags = os.statvfs(above).f_flag
        if flags & os.ST_RDONLY:
            found.append(f"{above} is on a file system that is read-only: {path} cannot be made")
        elif not os.access(above, os.W_OK | os.X_OK):
            found.append(f"{above} is not ours to write: {path} cannot be made in it")
        elif flags & os.ST_NOEXEC and path == ask["base"]:
            found.append(f"{above} is mounted noexec: nothing in {path} could run; mount it exec")
    return found


def _free(path: str) -> int:
    info = os.statvfs(_above(path))
    return info.f_bavail * info.f_frsize


def _disk_notes(ask: dict[str, Any]) -> list[str]:
    paths = [path for path in (ask["base"], ask["var"]) if _free(path) < ROOM]
    return [f"only {_free(path) >> 20} MiB are free for {path}" for path in paths[:1]]


def _clock_notes(now: float) -> list[str]:
    """``now``: the keeper's clock, seconds ago."""
    off = time.time() - now
    if abs(off) <= SKEW:
        return []
    way = "ahead of" if off > 0 else "behind"
    return [f"its clock is {abs(off) / 60:.0f} minutes {way} yours: times in logs will mislead"]


def _other_notes() -> list[str]:
    if _text("/sys/fs/selinux/enforce").strip() == "1":
        return ["SELinux is enforcing: what it denies is in its audit log (ausearch -m avc)"]
    return []


# --- programs and files ------------------------------------------------------------


def _text(path: str) -> str:
    """ "" where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(LARGEST)
    except OSError:
        return ""


def _said(*command: str, user: pwd.struct_passwd | None = None) -> str:
    """What a program prints; "" if it fails, is not there, or does not answer."""
    environment = dict(os.environ, PATH=PATH, LC_ALL="C")
    if user is not None:
        environment.setdefault("XDG_RUNTIME_DIR", f"/run/user/{user.pw_uid}")
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            env=environment,
            cwd="/",
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace")
