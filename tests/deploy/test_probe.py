"""What hosts say of themselves: the probe run for real, here and over a real sshd."""

from __future__ import annotations

import ast
import getpass
import os
import pwd
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from deploy import interpreter, placing, probe
from deploy.fleet import Fleet, Host, Primary, Worker
from deploy.found import Entry, Found, ServiceState
from deploy.interpreter import python
from deploy.paths import Paths, paths
from deploy.remote import Remote
from deploy.survey import Ask, Request, Trouble, program_for, request, survey
from tests.sshd import Sshd, make_key, sshd

HOST = Host(name="alpha", address="10.0.0.1", primary=Primary(), worker=Worker())
ROOT = os.geteuid() == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    root = tmp_path_factory.mktemp("host")
    (root / "served").mkdir()
    with sshd(root / "sshd", root / "served", chroot=False) as running:
        yield running


def said(asked: Request, change: Mapping[str, str] | None = None) -> Found:
    """What this machine's own probe answers; ``change``: words of its program that differ."""
    program = program_for(asked).decode()
    for old, new in (change or {}).items():
        assert old in program
        program = program.replace(old, new)
    done = subprocess.run(
        [sys.executable, "-I", "-"],
        input=program.encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return msgspec.json.decode(done.stdout.partition(probe.MARK.encode())[2], type=Found)


def asked(root: Path, **other: Any) -> Request:
    """About a host whose folders all lie below ``root``."""
    where = paths("user", str(root), getpass.getuser())
    ask: dict[str, Any] = {
        "base": where.base,
        "etc": where.etc,
        "var": where.var,
        **dict.fromkeys(("looks", "texts", "programs", "accounts", "groups"), ()),
        "services": (),
        "status": (f"{where.current}/bin/python", "status"),
    }
    ask |= {key: value for key, value in other.items() if key in Ask.__struct_fields__}
    whole = Ask(**ask)
    now = other.get("now", time.time())
    return Request(now=now, port=22, reboot_mark="# ours", system=whole, user=whole)


def test_a_host_is_looked_at_over_ssh(server: Sshd, tmp_path: Path) -> None:
    make_key(tmp_path / "id_ed25519")
    alpha = Host(**{**msgspec.structs.asdict(HOST), "address": server.host, "port": server.port})
    beta = msgspec.structs.replace(alpha, name="beta", primary=None)
    gone = msgspec.structs.replace(beta, name="gone", port=1)
    fleet = Fleet(hosts=(alpha, beta, gone), models=tmp_path, names=())
    folders = {"alpha": server.ssh, "beta": tmp_path, "gone": server.ssh}
    opened = {host.name: Remote(host, folders[host.name]) for host in fleet.hosts}
    try:
        found = survey(fleet, lambda host: opened[host.name])
    finally:
        for remote in opened.values():
            remote.close()
    here = found["alpha"]
    assert isinstance(here, Found), here
    assert (here.uid, here.user, here.port) == (os.getuid(), getpass.getuser(), server.port)
    assert here.root == ROOT and here.home == pwd.getpwuid(os.getuid()).pw_dir
    assert here.machine == os.uname().machine and here.libc.startswith("glibc 2.")
    assert Path(here.python).is_absolute() and here.free > 0
    assert here.programs["tar"].endswith("/tar")
    unknown, silent = found["beta"], found["gone"]
    assert isinstance(unknown, Trouble) and "beta: " in unknown.what and "known" in unknown.what
    assert f"[{server.host}]:{server.port} ssh-ed25519" in unknown.hint
    assert isinstance(silent, Trouble) and "cannot be reached" in silent.what and silent.hint


def test_the_paths_asked_for_are_the_logins_own() -> None:
    whole = request(HOST, 22)
    assert "/etc/modelrunner/primary.env" in whole.system.looks
    assert "/etc/nginx/conf.d/modelrunner.conf" in whole.system.texts
    assert "{home}/.local/etc/modelrunner/ssh/config" in whole.user.texts
    assert set(whole.user.texts) <= set(whole.user.looks)
    for ask in (whole.system, whole.user):
        assert not [path for path in ask.texts if path.endswith(("primary.env", "id_ed25519"))]
    looks = ("{home}/marked", "{home}/none")
    filled = msgspec.structs.replace(whole.user, looks=looks, services=())
    found = said(msgspec.structs.replace(whole, user=filled, system=filled))
    assert not found.entries
    assert found.home and "{home}" not in str(found)


def test_entries_are_told_as_they_lie(tmp_path: Path) -> None:
    where = paths("user", str(tmp_path), "")
    (tmp_path / "file").write_text("grün\n")
    (tmp_path / "file").chmod(0o640)
    (tmp_path / "link").symlink_to("nowhere")
    (tmp_path / "large").write_bytes(b"x" * (probe.LARGEST + 1))
    os.mkfifo(tmp_path / "pipe")
    looks = [str(tmp_path / name) for name in ("file", "link", "large", "pipe", "none", ".")]
    whole = asked(tmp_path, looks=looks, texts=looks)
    entries = said(whole).entries
    owner = f"{pwd.getpwuid(os.getuid()).pw_name}:{group()}"
    written = os.stat(looks[0]).st_mtime
    assert entries[looks[0]] == Entry(
        kind="file", owner=owner, mode=0o640, text="grün\n", changed=written
    )
    assert (entries[looks[1]].kind, entries[looks[1]].target) == ("link", "nowhere")
    assert (entries[looks[2]].kind, entries[looks[2]].text) == ("file", None)
    assert entries[looks[3]].kind == "other" and entries[looks[5]].kind == "folder"
    assert looks[4] not in entries and where.base not in entries
    without = said(asked(tmp_path, looks=looks[:1])).entries
    assert without[looks[0]].text is None


def group() -> str:
    return subprocess.run(["id", "-gn"], capture_output=True, text=True, check=True).stdout.strip()


def test_versions_and_models_are_those_that_were_installed_whole(tmp_path: Path) -> None:
    where = paths("user", str(tmp_path), "")
    install(where, "0.1.0+aaa", "0.1.0+bbb")
    Path(where.version("0.1.0+half")).mkdir()
    install_version(where, "0.1.0+old").joinpath("bin/python").unlink()  # with the system's
    found = said(asked(tmp_path))
    assert (found.versions, found.version) == (("0.1.0+aaa", "0.1.0+bbb"), "0.1.0+aaa")
    assert found.models == {"spring-2": "0123abcd"}


def install_version(where: Paths, version: str) -> Path:
    folder = Path(where.version(version))
    (folder / "bin").mkdir(parents=True)
    (folder / "bin/python").touch()
    (folder / ".complete").touch()
    return folder


def install(where: Paths, *versions: str) -> None:
    """Versions, the first in use; a model, a broken link, and a folder that is no link."""
    for version in versions:
        install_version(where, version)
    Path(where.current).symlink_to(f"versions/{versions[0]}")
    Path(where.model_versions, "spring-2-0123abcd").mkdir(parents=True)
    Path(where.models).mkdir()
    Path(where.models, "spring-2").symlink_to("../model-versions/spring-2-0123abcd")
    Path(where.models, "gone").symlink_to("../model-versions/gone-0123abcd")
    Path(where.models, "own").mkdir()


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="systemd is who says it here")
def test_where_no_systemd_is_the_version_in_use_says_what_runs(tmp_path: Path) -> None:
    where = paths("user", str(tmp_path), "")
    install(where, "0.1.0+aaa")
    answer = '{"modelrunner-worker": {"active": "active", "enabled": true, "since": "2030"}}'
    fake(Path(where.current, "bin", "python"), f"echo {shlex.quote(answer)}")
    state = ServiceState(active="active", enabled=True, since="2030")
    found = said(asked(tmp_path))
    assert (found.manager, found.services) == ("none", {"modelrunner-worker": state})
    fake(Path(where.current, "bin", "python"), "echo no json; exit 1")
    assert said(asked(tmp_path)).services == {}


SHOW = """\
Id=modelrunner-primary.service
LoadState=loaded
ActiveState=active
UnitFileState=enabled
NeedDaemonReload=yes
StateChangeTimestampMonotonic=1000000

Id=modelrunner-worker.service
LoadState=not-found
ActiveState=inactive
UnitFileState=
NeedDaemonReload=no
StateChangeTimestampMonotonic=0

Id=nginx.service
LoadState=loaded
ActiveState=failed
UnitFileState=disabled
NeedDaemonReload=no
StateChangeTimestampMonotonic=0
"""


def test_systemds_words_are_understood(tmp_path: Path) -> None:
    fake(tmp_path / "bin" / "systemctl", f"cat <<'END'\nVersion=252\n\n{SHOW}END")
    names = ("modelrunner-primary", "modelrunner-worker", "nginx")
    change = {
        'os.environ.get("PATH", "") + "': f'"{tmp_path}/bin:/usr/bin:/bin" + "',
        '"/run/systemd/system"': repr(str(tmp_path)),
        '"/var/lib/systemd/linger/" + user.pw_name': repr(str(tmp_path)),
    }
    found = said(asked(tmp_path, services=names), change)
    assert (found.manager, found.linger) == ("system" if ROOT else "user", True)
    assert set(found.services) == {"modelrunner-primary", "nginx"}
    primary = found.services["modelrunner-primary"]
    assert primary == ServiceState(active="active", enabled=True, since=primary.since, stale=True)
    booted = time.strftime("%Y-%m-%dT", time.gmtime(time.time() - time.monotonic() + 1))
    assert primary.since.startswith(booted) and primary.since.endswith("Z")
    assert found.services["nginx"] == ServiceState(active="failed", enabled=False)


def test_our_line_in_the_crontab_is_seen(tmp_path: Path) -> None:
    change = {'os.environ.get("PATH", "") + "': f'"{tmp_path}/bin:/usr/bin:/bin" + "'}
    fake(tmp_path / "bin" / "crontab", "echo '@reboot start  # ours'")
    assert said(asked(tmp_path), change).reboot_line
    fake(tmp_path / "bin" / "crontab", "echo '#@reboot start  # ours'; echo '* * * * * x'")
    assert not said(asked(tmp_path), change).reboot_line


def test_the_workers_that_are_let_in_are_told(tmp_path: Path) -> None:
    lines = [
        'restrict,command="internal-sftp" ssh-ed25519 AAAA modelrunner worker beta',
        "# ssh-ed25519 AAAA modelrunner worker commented",
        "ssh-ed25519 AAAA ann@laptop",
    ]
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/authorized_keys").write_text("\n".join(lines))
    here = {
        "_let_in(user, root)": "_let_in(user, False)",
        "user.pw_dir + ": f"{str(tmp_path)!r} + ",
    }
    assert said(asked(tmp_path), here).let_in == ("beta",)
    name = "mr-somebody"
    accounts = f"[type('A', (), dict(pw_name={name!r}, pw_gecos='Model Runner worker x.y'))]"
    for members, expected in (([name], ("x.y",)), ([], ())):
        with_root = {
            "_let_in(user, root)": "_let_in(user, True)",
            "pwd.getpwall()": accounts,
            "grp.getgrall()": f"[type('G', (), dict(gr_mem={members!r}))]",
        }
        assert said(asked(tmp_path), with_root).let_in == expected


def test_what_would_break_is_said(tmp_path: Path) -> None:
    for_all = {"if root and private": "if False"}  # whoever runs the tests, with which Python
    assert said(asked(tmp_path), for_all).problems == ()
    old = said(asked(tmp_path), {"OLDEST = (3, 11)": "OLDEST = (3, 99)"}).problems
    assert len(old) == 1 and "too old: install Python 3.99" in old[0]
    small = said(asked(tmp_path), {'"venv")': '"no_such_module")'}).problems
    assert len(small) == 1 and "without no_such_module" in small[0]
    for flag, wrong in (("RDONLY", "is read-only"), ("NOEXEC", "is mounted noexec")):
        sealed = said(asked(tmp_path), {"os.statvfs(above).f_flag": f"os.ST_{flag}"})
        assert any(wrong in problem for problem in sealed.problems)
    late = said(asked(tmp_path, now=time.time() - 3600)).notes
    assert any("60 minutes ahead of yours" in note for note in late)
    full = said(asked(tmp_path), {"ROOM = 1 << 30": "ROOM = 1 << 70"}).notes
    assert any("MiB are free" in note for note in full)


@pytest.mark.root
def test_a_python_that_only_root_may_use_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    (tmp_path / "python3").symlink_to(sys.executable)
    change = {"_private(sys.executable)": f"_private({str(tmp_path / 'x')!r})"}
    (problem,) = said(asked(tmp_path), change).problems
    assert f"{tmp_path} lets no other account in" in problem


@pytest.mark.parametrize("module", [probe, placing], ids=["probe", "placing"])
def test_what_hosts_run_is_read_by_python_3_8(module: Any) -> None:
    """So that an old Python says that it is too old. The walk finds what grammar lets pass."""
    tree = ast.parse(Path(module.__file__).read_text(), feature_version=(3, 8))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert not names & {"removeprefix", "removesuffix", "UTC", "batched", "pairwise"}
    imported = {n.name for i in ast.walk(tree) if isinstance(i, ast.Import) for n in i.names}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


# --- which Python ----------------------------------------------------------------------


def test_the_first_python_that_is_new_enough_is_taken(tmp_path: Path) -> None:
    fake(tmp_path / "usr" / "bin" / "python3", "exit 1")  # every question is answered by no
    fake(tmp_path / "bin" / "python3", "exit 1")
    fake(tmp_path / "bin" / "python3.12", f'exec {sys.executable} "$@"')
    found = find(tmp_path, "-c", "import sys; print(sys.argv[1:])", "a b")
    assert (found.returncode, found.stdout) == (0, "['a b']\n")
    old = 'case "$*" in *"(3, 11)"*) exit 1;; *"(3, 8)"*) exit 0;; *) echo "old: $*";; esac'
    fake(tmp_path / "bin" / "python3.12", old)
    assert find(tmp_path, "-").stdout == "old: -I -\n"
    fake(tmp_path / "bin" / "python3.12", "exit 1")
    none = find(tmp_path, "-")
    assert (none.returncode, none.stderr) == (interpreter.NONE, "there is no Python 3 here\n")


def find(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """As on a machine whose programs all lie below ``root``."""
    command = [word.replace("/usr/", f"{root}/usr/") for word in python(*arguments)]
    return subprocess.run(
        ["/bin/sh", *command[1:]],
        env={"PATH": f"{root}/bin", "HOME": str(root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def fake(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)  # it may be a link to the real one
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
