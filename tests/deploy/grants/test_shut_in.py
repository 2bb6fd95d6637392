"""What accounts that were granted can do and cannot, with real accounts and a real sshd."""

from __future__ import annotations

import contextlib
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest

from tests.deploy.grants.conftest import OTHER
from tests.deploy.grants.host import DATA, PRIMARY, Host

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("openssh-server"),
    pytest.mark.needs("passwd"),
    pytest.mark.needs("util-linux"),
]

SPOOL = "/srv/data-spool"
JOB = "11111111-2222-3333-4444-555555555555"


@contextlib.contextmanager
def sftp(host: Host, account: str, name: str) -> Iterator[paramiko.SFTPClient]:
    client = paramiko.SSHClient()
    client.load_host_keys(str(host.known_hosts()))
    try:
        client.connect(
            host.address,
            host.port,
            account,
            key_filename=str(host.key(name)),
            allow_agent=False,
            look_for_keys=False,
        )
        with client.open_sftp() as session:
            yield session
    finally:
        client.close()


# --- modes -------------------------------------------------------------------------

# What mr-gpu1, mr-gpu2, mr-bob and the primary's account may do in each folder.
RIGHTS = {
    "": ("--x", "--x", "--x", "r-x"),
    "models": ("--x", "--x", "--x", "rwx"),
    "models/count": ("--x", "--x", "--x", "rwx"),
    "models/count/new": ("rwx", "rwx", "---", "rwx"),
    "models/count/drop": ("---", "---", "rwx", "rwx"),
    f"models/{OTHER}": ("--x", "--x", "--x", "rwx"),
    f"models/{OTHER}/new": ("---", "rwx", "---", "rwx"),
    f"models/{OTHER}/drop": ("---", "---", "---", "rwx"),
    "workers": ("--x", "--x", "--x", "rwx"),
    "workers/gpu1": ("--x", "--x", "--x", "r-x"),
    "workers/gpu2": ("--x", "--x", "--x", "r-x"),
    **{
        f"workers/gpu1/{folder}": ("rwx", "---", "---", "rwx")
        for folder in ("cur", "tmp", "log", "out", "reports")
    },
    **{
        f"workers/gpu2/{folder}": ("---", "rwx", "---", "rwx")
        for folder in ("cur", "tmp", "log", "out", "reports")
    },
    "workers/gpu1/stop": ("r-x", "---", "---", "rwx"),
    "workers/gpu2/stop": ("---", "r-x", "---", "rwx"),
}
ACCESS = """
for path do
    for right in r w x; do
        if [ -$right "$path" ]; then printf %s $right; else printf -- -; fi
    done
    echo
done
"""


@pytest.mark.parametrize("column", range(4), ids=["gpu1", "gpu2", "bob", "primary"])
def test_who_may_do_what_in_which_folder(granted: Host, column: int) -> None:
    """Asked of the kernel, with the account's own ids."""
    account = ("mr-gpu1", "mr-gpu2", "mr-bob", PRIMARY)[column]
    paths = [f"{SPOOL}/{path}" for path in RIGHTS]
    said = granted.run("sh", "-c", ACCESS, "sh", *paths, user=account).stdout.split()
    assert dict(zip(RIGHTS, said, strict=True)) == {p: r[column] for p, r in RIGHTS.items()}


def test_every_folder_is_in_the_table(granted: Host) -> None:
    found = granted.run("find", SPOOL, "-type", "d", "-not", "-name", ".*", "-printf", "%P\n")
    assert set(found.stdout.split("\n")[:-1]) == set(RIGHTS)


def test_the_rest_of_the_data_is_the_primary_s(granted: Host) -> None:
    said = granted.run("sh", "-c", ACCESS, "sh", f"{DATA}/jobs", user="mr-gpu2").stdout
    assert said == "---\n"


# --- sessions ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(granted: Host) -> str:
    """An account that sshd does not shut in: what it can do shows that the others cannot."""
    granted.run("useradd", "--create-home", "--home-dir", "/srv/plain", "--shell", "/bin/sh",
                "--password", "*", "plain")  # fmt: skip
    granted.run("install", "-d", "-o", "plain", "-m", "0700", "/srv/plain/.ssh")
    keys = granted.path("/srv/plain/.ssh/authorized_keys")
    keys.write_text(Path(f"{granted.key('plain')}.pub").read_text())
    keys.chmod(0o644)
    return "plain"


def session(host: Host, account: str, *options: str, command: str = "") -> tuple[int, str]:
    """(exit code, what it said) of ssh(1)."""
    name = account.removeprefix("mr-")
    words = [*host.ssh("ssh", account, name, *options), *([command] if command else [])]
    ended = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )
    return ended.returncode, ended.stdout + ended.stderr


@pytest.fixture(scope="module", autouse=True)
def unrestricted(granted: Host) -> None:
    """gpu2's key line says nothing: what it cannot do, sshd's configuration alone forbids."""
    line = granted.path("/etc/ssh/modelrunner/mr-gpu2")
    text = line.read_text()
    assert text.startswith("restrict ssh-ed25519 ")
    line.write_text(text.removeprefix("restrict "))


ACCOUNTS = pytest.mark.parametrize("account", ["mr-gpu1", "mr-gpu2", "mr-bob"])


@ACCOUNTS
def test_no_command_and_no_shell(granted: Host, plain: str, account: str) -> None:
    assert session(granted, plain, command="echo here; id -un") == (0, "here\nplain\n")
    for options in ((), ("-T",)):
        _, said = session(granted, account, *options, command="echo here; id -un")
        assert "here" not in said
        assert account not in said


@ACCOUNTS
def test_no_terminal(granted: Host, plain: str, account: str) -> None:
    assert "PTY allocation request failed" not in session(granted, plain, "-tt", command="true")[1]
    assert "PTY allocation request failed" in session(granted, account, "-tt")[1]


@ACCOUNTS
def test_no_forwarding_to_other_machines(granted: Host, plain: str, account: str) -> None:
    """What -W asks for is what connections through -L and -D ask for as well."""
    to = ("-W", f"127.0.0.1:{granted.port}")  # sshd's own port: it greets, whoever comes
    code, said = session(granted, plain, *to)
    assert (code, said.startswith("SSH-2.0-")) == (0, True)
    code, said = session(granted, account, *to)
    assert code != 0
    assert "administratively prohibited" in said
    assert "SSH-2.0-" not in said


@ACCOUNTS
def test_no_forwarding_back(granted: Host, plain: str, account: str, tmp_path: Path) -> None:
    options = ("-o", "ExitOnForwardFailure=yes", "-f", "-N")
    for remote in ("0:127.0.0.1:9", f"/srv/{tmp_path.name}:127.0.0.1:9"):
        code, said = session(granted, account, *options, "-R", remote)
        assert code != 0
        assert "remote port forwarding failed" in said
    # without -N and -f it ends by itself; the forwarding was allowed
    code, said = session(granted, plain, *options[:2], "-R", "0:127.0.0.1:9", command="true")
    assert (code, "failed" in said) == (0, False)


@ACCOUNTS
def test_no_agent_is_taken_along(granted: Host, plain: str, account: str) -> None:
    def asked(who: str) -> bool:
        """Whether the server grants auth-agent-req@openssh.com."""
        transport = paramiko.Transport((granted.address, granted.port))
        try:
            transport.start_client(timeout=30)
            name = who.removeprefix("mr-")
            transport.auth_publickey(who, paramiko.Ed25519Key(filename=str(granted.key(name))))
            channel = transport.open_session(timeout=30)
            request = paramiko.Message()
            request.add_byte(bytes([98]))  # SSH_MSG_CHANNEL_REQUEST
            request.add_int(channel.remote_chanid)
            request.add_string("auth-agent-req@openssh.com")
            request.add_boolean(True)
            channel._event_pending()  # type: ignore[attr-defined]
            transport._send_user_message(request)  # type: ignore[attr-defined]
            try:
                channel._wait_for_event()  # type: ignore[attr-defined]
            except paramiko.SSHException:
                return False
            return True
        finally:
            transport.close()

    assert asked(plain)
    assert not asked(account)


def test_only_its_own_key_lets_in(granted: Host) -> None:
    for name in ("gpu2", "plain", "nobody"):
        ended = subprocess.run(
            granted.ssh("sftp", "mr-gpu1", name, "-b", "-"),
            input="pwd\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode != 0
        assert "Permission denied (publickey)" in ended.stderr


# --- verbs -------------------------------------------------------------------------

Verb = Callable[[paramiko.SFTPClient, str], object]

VERBS: dict[str, Verb] = {
    "mkdir": lambda s, at: s.mkdir(f"{at}/new-folder"),
    "rmdir": lambda s, at: s.rmdir(f"{at}/folder"),
    "symlink": lambda s, at: s.symlink("file", f"{at}/new-link"),
    "readlink": lambda s, at: s.readlink(f"{at}/link"),
    "hardlink": lambda s, at: s._request(  # type: ignore[attr-defined]
        paramiko.sftp.CMD_EXTENDED, "hardlink@openssh.com", f"{at}/file", f"{at}/new-hard"
    ),
    "rename": lambda s, at: s.rename(f"{at}/file", f"{at}/file2"),
    "setstat": lambda s, at: s.chmod(f"{at}/file", 0o640),
    "fsetstat": lambda s, at: _fsetstat(s, f"{at}/file"),
}
# Where each may do something by the folder's modes, and which verbs it then may use.
HOME = {
    "mr-gpu1": ("workers/gpu1/tmp", set[str]()),
    "mr-gpu2": ("workers/gpu2/tmp", set[str]()),
    "mr-bob": ("models/count/drop", {"rename", "setstat", "fsetstat"}),
}


def _fsetstat(session: paramiko.SFTPClient, path: str) -> None:
    with session.open(path, "r+") as file:
        file.chmod(0o640)


@pytest.mark.parametrize("verb", VERBS)
@ACCOUNTS
def test_verbs_that_are_not_on_the_list_are_denied(granted: Host, account: str, verb: str) -> None:
    """Each in a folder in which the account may do all that the modes are asked for."""
    folder, allowed = HOME[account]
    inside = f"{SPOOL}/{folder}"
    prepare = f"cd {inside} && echo x >file && mkdir folder && ln -s file link"
    granted.run("sh", "-c", prepare, user=account)
    try:
        with sftp(granted, account, account.removeprefix("mr-")) as session:
            if verb in allowed:
                VERBS[verb](session, f"/{folder}")
            else:
                before = granted.run("ls", "-lA", inside).stdout
                with pytest.raises(PermissionError):
                    VERBS[verb](session, f"/{folder}")
                assert granted.run("ls", "-lA", inside).stdout == before
    finally:
        granted.run("sh", "-c", f"rm -rf {inside}/*")


def test_the_modes_alone_would_let_it(granted: Host) -> None:
    """What is denied above is denied by the list: without it, the same account may."""
    made = f"{SPOOL}/workers/gpu1/tmp"
    script = f"cd {made} && echo x >file && mkdir folder && ln -s file link && rmdir folder && \
        ln file hard && mv file file2 && chmod 600 file2 && readlink link"
    granted.run("sh", "-c", script, user="mr-gpu1")
    granted.run("sh", "-c", f"rm -rf {made}/*")


def test_the_work_of_a_worker(granted: Host) -> None:
    """Claim, read, write, move; and what is written belongs to the primary's group."""
    name = f"{1:020d}.1-{JOB}-{'0' * 64}.zip"
    new = granted.path(f"{SPOOL}/models/count/new")
    granted.run("sh", "-c", f"echo input > {SPOOL}/models/count/new/{name}; "
                f"chmod 0440 {SPOOL}/models/count/new/{name}", user=PRIMARY)  # fmt: skip
    assert (new / name).stat().st_gid == new.stat().st_gid
    with sftp(granted, "mr-gpu1", "gpu1") as gpu1:
        assert gpu1.listdir("/models/count/new") == [name]
        claim = f"/workers/gpu1/cur/{name}~{'a' * 16}"
        gpu1.posix_rename(f"/models/count/new/{name}", claim)
        with gpu1.open(claim) as file:
            assert file.read() == b"input\n"
        with pytest.raises(PermissionError):
            gpu1.open(claim, "r+")
        for folder, file_name in (("out", f"{JOB}.1.zip"), ("reports", f"{JOB}.1.3-final")):
            with gpu1.open("/workers/gpu1/tmp/half", "w") as file:
                file.write(b"results")
            gpu1.posix_rename("/workers/gpu1/tmp/half", f"/workers/gpu1/{folder}/{file_name}")
            info = granted.path(f"{SPOOL}/workers/gpu1/{folder}/{file_name}").stat()
            assert stat.S_IMODE(info.st_mode) == 0o640
            granted.run("cat", f"{SPOOL}/workers/gpu1/{folder}/{file_name}", user=PRIMARY)
        with pytest.raises(PermissionError):
            gpu1.open("/workers/gpu1/stop/x", "w")
        with pytest.raises(PermissionError):
            gpu1.open("/workers/gpu1/x", "w")
        with pytest.raises(PermissionError):
            gpu1.open("/bell", "r+")
    # the primary retires the attempt
    for path in (f"cur/{name}~{'a' * 16}", f"out/{JOB}.1.zip", f"reports/{JOB}.1.3-final"):
        granted.run("rm", f"{SPOOL}/workers/gpu1/{path}", user=PRIMARY)


def test_what_is_another_s_is_out_of_reach(granted: Host) -> None:
    """Also for who knows its name."""
    granted.run("sh", "-c", f"echo secret > {SPOOL}/workers/gpu2/out/x.zip", user="mr-gpu2")
    granted.run("sh", "-c", f"echo secret > {SPOOL}/models/{OTHER}/new/t.zip", user=PRIMARY)
    with sftp(granted, "mr-gpu1", "gpu1") as gpu1:
        for path in ("/workers/gpu2/out/x.zip", f"/models/{OTHER}/new/t.zip"):
            for attempt in (
                lambda p=path: gpu1.open(p),
                lambda p=path: gpu1.stat(p),
                lambda p=path: gpu1.remove(p),
                lambda p=path: gpu1.posix_rename(p, "/workers/gpu1/tmp/x"),
                lambda p=path: gpu1.open(f"{p}.new", "w"),
                lambda p=path: gpu1.listdir(str(Path(p).parent)),
            ):
                with pytest.raises(PermissionError):
                    attempt()
        for path in ("/", "/models", "/models/count", "/workers", "/workers/gpu2"):
            with pytest.raises(PermissionError):
                gpu1.listdir(path)
        # the folders above its own cannot be rearranged
        for path, target in (
            ("/workers/gpu1", "/models/count/new/moved"),
            ("/workers/gpu1/stop", "/workers/gpu1/tmp/moved"),
            ("/workers/gpu1/cur", "/workers/gpu1/tmp/moved"),
            ("/models/count", "/workers/gpu1/tmp/moved"),
        ):
            with pytest.raises(PermissionError):
                gpu1.posix_rename(path, target)
        with pytest.raises(FileNotFoundError):
            gpu1.stat("/etc/passwd")


def test_a_colleague_puts_a_zip_and_takes_the_results(granted: Host, tmp_path: Path) -> None:
    """With sftp(1), as a person would."""
    zipped = tmp_path / "my input.zip"
    zipped.write_bytes(b"PK...")
    zipped.chmod(0o644)
    drop = f"{SPOOL}/models/count/drop"
    said = granted.sftp("mr-bob", "bob", "pwd", f'put -p "{zipped}"', "ls")
    assert "Remote working directory: /models/count/drop" in said.stdout
    assert "my input.zip" in said.stdout
    assert said.stderr == ""
    # The primary takes it and answers; it need not be in the group for that: see layout
    granted.run("sh", "-c", f"cd {drop} && cat 'my input.zip' && mv 'my input.zip' .taken && "
                "rm .taken && umask 027 && echo results > my.output.zip", user=PRIMARY)  # fmt: skip
    got = tmp_path / "got"
    said = granted.sftp("mr-bob", "bob", f"get my.output.zip {got}", "rm my.output.zip", "ls")
    assert got.read_text() == "results\n"
    assert said.stderr == ""
    assert granted.run("ls", "-A", drop).stdout == ""
    said = granted.sftp(
        "mr-bob", "bob", "ls /", "ls /models", "ls /models/count", "ls ../new",
        f"ls /models/{OTHER}/drop", "ls /workers", "ls /workers/gpu1", "put -p /etc/hostname ../x",
    )  # fmt: skip
    assert said.stderr.count("ermission denied") == 8
    assert said.stdout.replace("sftp>", "").count("zip") == 0


def test_a_dropped_zip_can_be_read_before_the_primary_s_restart(
    granted: Host, tmp_path: Path
) -> None:
    """It runs without its new groups until then."""
    zipped = tmp_path / "early.zip"
    zipped.write_bytes(b"PK")
    zipped.chmod(0o644)
    granted.sftp("mr-bob", "bob", f"put {zipped}")
    path = f"{SPOOL}/models/count/drop/early.zip"
    ids = ("setpriv", "--reuid", PRIMARY, "--regid", PRIMARY, "--clear-groups")
    assert granted.run(*ids, "cat", path).stdout == "PK"
    granted.run(*ids, "rm", path)


def test_winscp_s_way_to_upload(granted: Host) -> None:
    """Under another name first, then a plain rename, time and mode set by hand."""
    with sftp(granted, "mr-bob", "bob") as bob:
        assert bob.normalize(".") == "/models/count/drop"
        with bob.open("a.zip.filepart", "w") as file:
            file.write(b"PK")
        bob.rename("a.zip.filepart", "a.zip")
        bob.utime("a.zip", (1, 1))
        bob.chmod("a.zip", 0o644)
        assert bob.stat("a.zip").st_mtime == 1
        bob.remove("a.zip")


def test_clients_are_here() -> None:
    """Else nothing of this was asked of OpenSSH."""
    assert shutil.which("ssh") and shutil.which("sftp")
