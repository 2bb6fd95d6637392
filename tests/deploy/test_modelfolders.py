"""Models as they are shipped and installed: real folders, a real tar, the real installer."""

from __future__ import annotations

import io
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy import modelinstaller
from deploy.fleet import Fleet, Host, Primary, Worker
from deploy.modelfolders import (
    bundle,
    install_command,
    notes,
    on_host,
    prune_command,
    version_of,
)
from deploy.paths import Paths
from primary.shelf import Shelf
from spool import manifest
from spool.errors import Refused
from tests.system import System, wait_for

ENDED = subprocess.CompletedProcess[str]


def model(root: Path, name: str = "test", setup: str | None = None, script: str = "exit 0") -> Path:
    folder = root / "mine" / name
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True)
    (folder / "model.toml").write_text('command = ["./run.sh"]\n')
    (folder / "data" / "table.csv").write_text("a,b\n")
    write(folder / "run.sh", script)
    if setup is not None:
        write(folder / "setup", setup)
    return folder


def write(file: Path, script: str) -> None:
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def paths_in(root: Path, mode: str = "user", account: str = "") -> Paths:
    return Paths(
        mode="system" if mode == "system" else "user",
        base=f"{root}/base",
        etc=f"{root}/etc",
        var=f"{root}/var",
        units=f"{root}/units",
        account=account,
    )


class Place:
    """A host's folders, here."""

    def __init__(self, root: Path, mode: str = "user", account: str = "") -> None:
        self.root = root
        self.paths = paths_in(root, mode, account)
        self.models, self.versions = Path(self.paths.models), Path(self.paths.model_versions)
        self.models.mkdir(parents=True)

    def command(self, folder: Path, version: str, seconds: float = 30.0) -> tuple[str, ...]:
        return install_command(sys.executable, self.paths, folder.name, version, seconds=seconds)

    def install(
        self, folder: Path, *, data: bytes = b"", bare: str = "", seconds: float = 30.0
    ) -> ENDED:
        ended = subprocess.run(
            self.command(folder, version_of(folder) + bare, seconds),
            input=data or b"".join(bundle(folder)),
            capture_output=True,
            check=False,
            timeout=60,
            env={**os.environ, "SECRET": "of the login"},
        )
        out, err = ended.stdout.decode(), ended.stderr.decode()
        return subprocess.CompletedProcess((), ended.returncode, out, err)

    def installed(self, folder: Path) -> Path:
        """Install it, which must go well; where its link leads."""
        ended = self.install(folder)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        return (self.models / folder.name).resolve()

    def all(self) -> dict[str, str]:
        """Everything there, as paths and what links say."""
        found = Path(self.paths.base).rglob("*")
        return {str(p): os.readlink(p) if p.is_symlink() else "" for p in found}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "host")


@pytest.fixture
def roots_place() -> Iterator[Place]:
    """A host's folders with root, which other accounts can reach."""
    folder = Path(tempfile.mkdtemp(prefix="mrtest-"))
    folder.chmod(0o755)
    try:
        yield Place(folder, "system", "nobody")
    finally:
        shutil.rmtree(folder)


# --- which version -----------------------------------------------------------------


def test_a_version_changes_with_what_is_shipped_alone(tmp_path: Path) -> None:
    folder = model(tmp_path)
    first = version_of(folder)
    assert len(first) == 12

    os.utime(folder / "run.sh", (1, 1))
    (folder / "run.sh~").write_text("before")
    for left_out in (".git", "__pycache__", "data/__pycache__"):
        (folder / left_out).mkdir()
        (folder / left_out / "x.py").touch()
    (folder / "env").mkdir()
    (folder / "env" / "pyvenv.cfg").touch()
    assert version_of(folder) == first
    assert version_of(Path(shutil.copytree(folder, tmp_path / "copy"))) == first

    seen = {first}
    for change in (
        lambda: (folder / "data" / "table.csv").write_text("b,a\n"),
        lambda: (folder / "run.sh").chmod(0o644),
        lambda: (folder / "run.sh").rename(folder / "go.sh"),
        lambda: (folder / "empty").mkdir(),
        lambda: (folder / "link").symlink_to("data/table.csv"),
    ):
        change()
        seen.add(version_of(folder))
    assert len(seen) == 6


def test_the_tar_is_the_same_for_the_same_model(tmp_path: Path) -> None:
    folder = model(tmp_path)
    long = folder / "data" / ("ä" * 100)
    long.write_bytes(b"x" * 3_000_000)
    (folder / os.fsdecode(b"latin-\xe4")).touch()
    first = b"".join(bundle(folder))
    os.utime(long, (1, 1))
    assert b"".join(bundle(folder)) == first
    with tarfile.open(fileobj=io.BytesIO(first)) as tar:
        members = {member.name: member for member in tar}
        held = tar.extractfile(f"model/data/{long.name}")
        assert held is not None and held.read() == long.read_bytes()
    assert {(m.uid, m.gid, m.uname, m.mtime) for m in members.values()} == {(0, 0, "root", 0)}
    assert oct(members["model/run.sh"].mode) == "0o755"
    assert oct(members["model/model.toml"].mode) == "0o644"
    assert os.fsdecode(b"model/latin-\xe4") in members


def test_what_no_host_would_have_is_refused(tmp_path: Path) -> None:
    folder = model(tmp_path)
    (tmp_path / "mine" / "shared").mkdir()
    for target in ("/etc/passwd", "../shared", "data/../../shared"):
        (folder / "link").symlink_to(target)
        with pytest.raises(Refused, match=r"test: link is a link that leads out of the folder"):
            version_of(folder)
        (folder / "link").unlink()
    os.mkfifo(folder / "pipe")
    with pytest.raises(Refused, match=r"test: pipe is no file, folder or link"):
        version_of(folder)
    with pytest.raises(Refused, match=r"model gone cannot be read: .*No such file"):
        version_of(tmp_path / "gone")


def test_what_the_keeper_may_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path, setup="exit 0")
    assert notes(folder) == ()
    (folder / "setup").chmod(0o644)
    monkeypatch.setattr("deploy.modelfolders.LARGE", 30)
    executable, large = notes(folder)
    assert "its file setup is not executable, so no host runs it" in executable
    assert "each host gets all of it" in large
    assert modelinstaller.SETUP == manifest.SETUP


def test_a_primary_that_becomes_a_worker_gets_another_version(tmp_path: Path) -> None:
    alpha = Host(name="alpha", address="a", primary=Primary())
    both = Host(name="alpha", address="a", primary=Primary(), worker=Worker(models=("x",)))
    beta = Host(name="beta", address="b", worker=Worker(models=("y",)))
    fleet = Fleet(hosts=(alpha, beta), models=tmp_path, names=("x", "y"))
    versions = {"x": "1", "y": "2"}
    assert on_host(fleet, alpha, versions) == {"x": "1-bare", "y": "2-bare"}
    assert on_host(fleet, both, versions) == {"x": "1", "y": "2-bare"}
    assert on_host(fleet, beta, versions) == {"y": "2"}


# --- installing --------------------------------------------------------------------


def test_a_model_is_installed_and_set_up(place: Place, tmp_path: Path) -> None:
    setup = 'echo "for $MODELRUNNER_MODEL in $PWD"; env >env.txt; chmod a-w data; mkfifo pipe'
    folder = model(tmp_path, setup=setup)
    where = place.installed(folder)
    assert where.name == f"test-{version_of(folder)}"
    assert os.readlink(place.models / "test") == f"../model-versions/{where.name}"
    # it runs where it stays: what it makes may hold its own path
    told = where.with_name(f"{where.name}.installed").read_text()
    assert told == f"for test in {where}\n"
    environment = dict(line.split("=", 1) for line in (where / "env.txt").read_text().splitlines())
    assert environment.pop("HOME") == str(Path.home())
    assert environment.pop("PATH").startswith("/usr/local/bin:/usr/bin:")
    assert environment.keys() <= {"LANG", "MODELRUNNER_MODEL", "PWD", "OLDPWD", "SHLVL", "_"}
    assert os.access(where / "run.sh", os.X_OK)

    before = place.all()
    (where / "env.txt").write_text("kept")
    assert place.installed(folder) == where
    assert place.all() == before
    assert (where / "env.txt").read_text() == "kept", "setup ran again"


FAILURES = {
    "exit code": ("echo first; mkdir -m 0 closed; echo; echo 'no compiler'; exit 3", "code 3"),
    "a signal": ("kill -9 $$", "code -9"),
    "no program": ("rm run.sh", "no program ./run.sh now, which is the command in its model.toml"),
    "cannot start": ("#", "setup of model test cannot be started: No such file"),
}


@pytest.mark.parametrize(("setup", "said"), FAILURES.values(), ids=FAILURES.keys())
def test_a_setup_that_fails_changes_nothing(
    setup: str, said: str, place: Place, tmp_path: Path
) -> None:
    good = place.installed(model(tmp_path))
    before = place.all()
    folder = model(tmp_path, setup=setup)
    if said.endswith("file"):
        (folder / "setup").write_text("#!/nowhere/python\n")
    ended = place.install(folder)
    assert ended.returncode == 1
    assert said in ended.stderr.splitlines()[-1]
    assert ("no compiler" in ended.stderr) == ("compiler" in setup)
    assert place.all() == before
    assert (place.models / "test").resolve() == good


def test_a_setup_that_takes_too_long_is_ended_with_all_that_it_started(
    place: Place, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    folder = model(tmp_path, setup=f"sleep 600 & echo $! >{pids}; sleep 600")
    ended = place.install(folder, seconds=0.3)
    assert ended.returncode == 1
    assert "took longer than 0 s, and was ended" in ended.stderr
    child = pids.read_text().strip()
    wait_for(lambda: _is_gone(child), "what setup started to be gone")
    assert not [*place.versions.iterdir()]


def _is_gone(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_what_did_not_arrive_whole_is_not_installed(place: Place, tmp_path: Path) -> None:
    folder = model(tmp_path)
    (folder / "zz").write_text("the last file")
    whole = b"".join(bundle(folder))
    # at an entry's end tar sees nothing wrong with it
    cut = whole[: whole.index(b"model/zz\0")]
    ended = place.install(folder, data=cut)
    assert ended.returncode == 1
    assert "did not arrive as it was planned" in ended.stderr
    assert place.install(folder, data=whole[:5000]).returncode != 0
    assert not [*place.versions.iterdir()]
    assert not [*place.models.iterdir()]


def test_an_install_that_was_killed_is_none(place: Place, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    folder = model(tmp_path, setup=f"[ -e {mark} ] || {{ echo $PPID >{mark}; sleep 600; }}")
    process = subprocess.Popen(
        place.command(folder, version_of(folder)), stdin=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(b"".join(bundle(folder)))
    process.stdin.close()
    wait_for(lambda: mark.exists() and mark.read_text().strip(), "setup to begin")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (place.models / "test").exists()
    where = place.installed(folder)
    assert (where / "run.sh").exists()
    assert where.with_name(f"{where.name}.installed").exists()


def test_without_setup_what_it_would_make_may_be_missing(place: Place, tmp_path: Path) -> None:
    folder = model(tmp_path, setup="mv source made")
    (folder / "model.toml").write_text('command = ["./made"]\n')
    (folder / "run.sh").rename(folder / "source")
    ended = place.install(folder, bare="-bare")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert manifest.load_all(place.models)[1].keys() == {"test"}
    (bare,) = manifest.load_all(place.models, runs=False)[0].values()
    assert not Path(bare.command[0]).exists()
    place.installed(folder)
    (made,) = manifest.load_all(place.models)[0].values()
    assert Path(made.command[0]).exists()
    assert made.folder == bare.folder.with_name(f"test-{version_of(folder)}")


def test_something_else_in_the_place_of_the_link_stays(place: Place, tmp_path: Path) -> None:
    (place.models / "test").mkdir()
    ended = place.install(model(tmp_path))
    assert ended.returncode == 1
    assert f"{place.models}/test is no link of ours" in ended.stderr
    assert (place.models / "test").is_dir()


# --- what nothing uses any more ----------------------------------------------------


def test_old_versions_go_when_nothing_uses_them(place: Place, tmp_path: Path) -> None:
    wheres = []
    for script in ("exit 1", "exit 2", "exit 3"):
        wheres.append(place.installed(model(tmp_path, script=script)))
    order = Path(place.paths.state, "runs", "key", "order.json")
    order.parent.mkdir(parents=True)
    order.write_text(f'{{"cwd":"{wheres[1]}"}}')

    def there() -> list[bool]:
        return [where.exists() for where in wheres]

    user = subprocess.Popen(["sleep", "600"], cwd=wheres[0])
    try:
        # an hour later: a process works in one, an order waits for one, one has no user
        wheres.append(place.installed(model(tmp_path, script="exit 4")))
        age(place, wheres[:3])
        wheres.append(place.installed(model(tmp_path, script="exit 5")))
        assert there() == [True, True, False, True, True], "the last but one is spared"
        order.unlink()
        prune(place)
        assert there() == [True, False, False, True, True]
    finally:
        user.kill()
        user.wait()
    age(place, [wheres[0], *wheres[3:]])
    prune(place)
    assert there() == [False, False, False, False, True]
    place.installed(model(tmp_path, name="other"))
    prune(place, drop=("test",))
    assert [link.name for link in place.models.iterdir()] == ["other"]
    assert len([*place.versions.iterdir()]) == 2, "the other, and its mark"


def age(place: Place, wheres: list[Path]) -> None:
    """They were installed, or were in use, more than an hour ago."""
    for where in wheres:
        os.utime(place.versions / f"{where.name}.installed", (1, 1))


def prune(place: Place, drop: tuple[str, ...] = ()) -> None:
    command, script = prune_command(sys.executable, place.paths, drop)
    subprocess.run(command, input=script.data, check=True, timeout=30)


def test_a_run_ends_in_the_version_that_it_began_with(place: Place, tmp_path: Path) -> None:
    """The link is switched in the middle of a run: it goes on with the old, the next is new."""
    go = tmp_path / "go"
    # as Python's imports do, it finds its other files by its own path, and late
    run = f'echo started; while [ ! -e {go} ]; do sleep 0.02; done; . "$(dirname "$0")/say.sh"'
    folder = model(tmp_path, script=run)
    write(folder / "say.sh", 'echo old >"$2/said"')
    old = place.installed(folder)
    (tmp_path / "system").mkdir()
    system = System(tmp_path / "system")
    system.models.rmdir()
    system.models.symlink_to(place.models)
    try:
        system.start(slots=1)
        first = system.submit("test", system.zip(x="1"))
        system.wait_status(first, "RUNNING")
        write(folder / "say.sh", 'echo new >"$2/said"')
        (folder / "model.toml").write_text('command = ["./run.sh"]\ntitle = "renewed"\n')
        new = place.installed(folder)
        assert new != old
        wait_for(lambda: system.client.models()[0]["title"] == "renewed", "the primary to see it")
        version = manifest.load(place.models / "test").version
        wait_for(
            lambda: system.client.status()[1]["models"] == {"test": version}, "the worker to see it"
        )
        age(place, [old])
        prune(place)
        go.touch()
        system.wait_status(first, "COMPLETE")
        assert system.output(first) == {"said": "old\n"}
        second = system.submit("test", system.zip(x="1"))
        system.wait_status(second, "COMPLETE")
        assert system.output(second) == {"said": "new\n"}
        assert system.client.job(second)["attempt"] == 1
    finally:
        system.end()


def test_a_primary_sees_a_switch_to_a_file_of_the_same_age_and_size(
    place: Place, tmp_path: Path
) -> None:
    folder = model(tmp_path)
    old = place.installed(folder)
    shelf = Shelf(place.models)
    assert not shelf.refresh()
    (folder / "run.sh").write_text("#!/bin/sh\nexit 1\n")
    new = place.installed(folder)
    info = (old / "model.toml").stat()
    os.utime(new / "model.toml", ns=(info.st_atime_ns, info.st_mtime_ns))
    assert shelf.refresh()
    assert shelf.models()["test"].folder == new


# --- with root ---------------------------------------------------------------------


@pytest.mark.root
def test_with_root_setup_runs_as_the_service_and_all_becomes_roots(
    roots_place: Place, tmp_path: Path
) -> None:
    secret = roots_place.root / "secret"
    secret.write_text("root's")
    secret.chmod(0o600)
    setup = f"id -u >who; pwd >where; touch $HOME/x; umask 077; mkdir made; echo x >made/file; \
        chmod 4755 run.sh; ln -s {secret} made/link; cat {secret} 2>&1; :"
    folder = model(tmp_path, setup=setup)
    where = roots_place.installed(folder)
    assert (where / "who").read_text() == f"{pwd.getpwnam('nobody').pw_uid}\n"
    assert (where / "where").read_text() == f"{where}\n"
    assert "Permission denied" in where.with_name(f"{where.name}.installed").read_text()
    found = {str(p.relative_to(where)): p.lstat() for p in (where, *where.rglob("*"))}
    assert {(info.st_uid, info.st_gid) for info in found.values()} == {(0, 0)}
    modes = {name: oct(info.st_mode & 0o7777) for name, info in found.items()}
    del modes["made/link"]
    assert {modes.pop(name) for name in (".", "made", "data", "run.sh", "setup")} == {"0o755"}
    assert set(modes.values()) == {"0o644"}
    assert oct(secret.stat().st_mode & 0o777) == "0o600"
    left = {p.name for p in roots_place.versions.iterdir()}
    assert left == {where.name, f"{where.name}.installed"}


@pytest.mark.root
def test_with_root_setup_cannot_make_root_open_a_file_of_others(
    roots_place: Place, tmp_path: Path
) -> None:
    """Where the kernel lets it link files of others (protected_hardlinks = 0), root refuses."""
    theirs = roots_place.root / "theirs"
    theirs.write_text("root's")
    theirs.chmod(0o600)
    folder = model(tmp_path, setup="touch mine")
    target = roots_place.root / "given"
    shutil.copytree(folder, target)
    os.link(theirs, target / "linked")
    nobody = pwd.getpwnam("nobody")
    for path in (target, *target.rglob("*")):
        if path.name != "linked":
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
    with pytest.raises(modelinstaller.Failed, match="linked belongs to another account"):
        modelinstaller.give(target, from_=nobody.pw_uid, to=(0, 0))
    assert oct(theirs.stat().st_mode & 0o777) == "0o600"


@pytest.mark.root
def test_with_root_an_account_that_is_not_there_is_told(tmp_path: Path) -> None:
    place = Place(tmp_path / "host", "system", "nobody-at-all")
    ended = place.install(model(tmp_path, setup="exit 0"))
    assert ended.returncode == 1
    assert ended.stderr == "Error:  there is no account nobody-at-all, which would run setup\n"
    assert not [*place.versions.iterdir()]
